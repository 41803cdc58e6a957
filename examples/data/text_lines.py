"""Draw lines of text to calibrate and measure with: python examples/data/text_lines.py [OUT.npz] [COUNT] [SEED]

The model that ships tells upright lines (class 0) from upside-down ones (class 1). Nobody's photographs are needed:
words are drawn with the font that Pillow brings, in sizes, greys, blur and noise of chance, and half of the lines are
turned.
OUT.npz holds ``x`` (COUNT, 3, 48, 192), float32 in -1..1, and ``labels`` (COUNT,).
"""

from __future__ import annotations

import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

HEIGHT, WIDTH = 48, 192
SYLLABLES = [
    *("an", "be", "ca", "do", "el", "fi", "gu", "he", "in", "jo", "ka", "lu", "me", "no", "ow", "pi", "qu", "ra", "su"),
    *("te", "un", "ve", "wi", "xa", "yo", "zi", "20", "47", "9.", "A-", "B&", "Co"),
]


def words(random: np.random.Generator) -> str:
    """Return one to four made-up words."""
    made = ("".join(random.choice(SYLLABLES, random.integers(1, 5))) for _ in range(random.integers(1, 5)))
    return " ".join(word.capitalize() if random.random() < 0.4 else word for word in made)


def line(random: np.random.Generator) -> Image.Image:
    """Return one line, upright, scaled to the height and padded with black on the right, as the model wants it."""
    font = ImageFont.load_default(int(random.integers(24, 40)))
    text = words(random)
    width = int(font.getlength(text)) + 12
    paper, ink = sorted(int(g) for g in random.integers(0, 256, 2))[:: -1 if random.random() < 0.8 else 1]
    paper, ink = (paper, ink) if abs(paper - ink) > 80 else (240, 20)
    image = Image.new("L", (width, HEIGHT), paper)
    ImageDraw.Draw(image).text((6, HEIGHT // 2), text, fill=ink, font=font, anchor="lm")
    return image.filter(ImageFilter.GaussianBlur(random.uniform(0, 1.0)))


def sample(random: np.random.Generator, *, turned: bool) -> np.ndarray:
    """Return a line as the model is fed it, shape (3, HEIGHT, WIDTH)."""
    image = line(random).rotate(180) if turned else line(random)
    image = image.resize((min(WIDTH, image.width), HEIGHT))
    grey = np.zeros((HEIGHT, WIDTH), np.float32)
    noise = random.normal(0, 4, (HEIGHT, image.width))
    grey[:, : image.width] = np.clip(np.rint(np.asarray(image) + noise), 0, 255) / 127.5 - 1
    return np.repeat(grey[None], 3, axis=0)


def main(out: str = "lines.npz", count: int = 320, seed: int = 0) -> None:
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    x = np.stack([sample(random, turned=bool(label)) for label in labels])
    np.savez_compressed(out, x=x, labels=labels)
    print(f"wrote {out}: {count} lines of text, half of them upside down")


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:4]))
