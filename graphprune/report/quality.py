"""What pruning cost, as plain data: the report's ``quality``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Meaning = Literal["logits", "probabilities", "values", "integers"]
FEW, FAR = 0.9, 0.3
"""Below this share of first classes that stay, and from this relative error on, a warning is due."""


@dataclass(frozen=True)
class OutputQuality:
    """How an output of the pruned model compares with the original's, as means over samples.

    ``cosine`` and ``relative`` (the norm of the difference over the norm of the original's answer) are taken of each
    sample's whole output. Where it holds classes, ``top1`` is the share of samples (tokens) whose first class is the
    same, and ``kl`` the divergence KL(original || pruned) of the two distributions, in nats. Of integers, which count
    where no output is floating, ``top1`` is the share that stays the same. ``classes`` counts the classes that come
    first in the original's answers: where it is one, that it stays says little. Places where the original is infinite
    (logarithms of zero, masks) are left out. None stands for no number.
    """

    name: str
    meaning: Meaning
    cosine: float | None
    relative: float | None
    top1: float | None = None
    kl: float | None = None
    classes: int | None = None


@dataclass(frozen=True)
class Quality:
    """What pruning cost on ``samples`` samples that no score, choice or repair has seen.

    ``accuracy`` is the share of labels that the original's and the pruned model's first output of classes meet, where
    the samples have labels of class numbers. ``alike`` tells that the original answers all samples alike, though there
    are several: then they say nothing of what pruning cost.
    """

    samples: int
    outputs: tuple[OutputQuality, ...]
    accuracy: tuple[float, float] | None = None
    alike: bool = False

    @property
    def main(self) -> OutputQuality | None:
        """The output that tells most: the first that holds classes, else the first."""
        return next((o for o in self.outputs if o.top1 is not None), self.outputs[0] if self.outputs else None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for a report."""
        return asdict(self)

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Quality:
        """Return it from its plain data."""
        accuracy = body["accuracy"]
        outputs = tuple(OutputQuality(**o) for o in body["outputs"])
        pair = None if accuracy is None else (accuracy[0], accuracy[1])
        return cls(body["samples"], outputs, pair, body.get("alike", False))


def in_words(quality: Quality) -> str:
    """Return what pruning cost in a sentence, of the output that tells most."""
    main = quality.main
    if main is None:
        return "The outputs hold no numbers to compare sample by sample."
    samples = f"{quality.samples} sample{'s' if quality.samples != 1 else ''} held out"
    if main.meaning == "integers":
        return f"Cost: on {samples}, {100 * (main.top1 or 0.0):.1f}% of the numbers in {main.name} stay the same."
    told = f"cosine {_number(main.cosine)}, relative error {_number(main.relative)}"
    if main.top1 is not None:
        told = f"the first class stays in {100 * main.top1:.1f}%, KL {_number(main.kl)}; {told}"
    if quality.accuracy is not None:
        before, after = (100 * a for a in quality.accuracy)
        told = f"accuracy {before:.2f}% -> {after:.2f}%; {told}"
    return f"Cost: on {samples}, {told} (output {main.name})."


def warnings(quality: Quality | None) -> tuple[str, ...]:
    """Say in plain words that the outputs have changed much, and what can be done; nothing where they have not."""
    main = None if quality is None else quality.main
    hint = "give a larger budget, more samples, or fine-tune the result (graphprune finetune)"
    if quality is None or main is None:
        return ()
    if quality.alike:
        words = "the original gives one answer to all samples held out, so they say nothing of what pruning cost"
        return (f"{words}: give samples that differ, prepared as the model wants them",)
    if main.meaning == "integers":
        changed = 100 * (1 - (main.top1 or 0.0))
        words = f"{changed:.1f}% of the numbers in {main.name} are others on the samples held out: {hint}"
        return (words,) if main.top1 is not None and main.top1 < FEW else ()
    if main.relative is None:
        return (f"the pruned model's {main.name} holds values that are no numbers on the samples held out: {hint}",)
    if main.top1 is not None and main.top1 < FEW and not _no_worse(quality):
        return (f"{100 * (1 - main.top1):.1f}% of the samples held out get another first class: {hint}",)
    if main.top1 is None and main.relative > FAR:
        return (f"{main.name} is off by {100 * main.relative:.0f}% on the samples held out: {hint}",)
    if main.classes == 1 and quality.samples > 1:
        words = "the original puts all samples held out in one class, so that it stays first says little"
        return (f"{words}: judge by KL and the relative error, or give samples of other classes too",)
    return ()


def _no_worse(quality: Quality | None) -> bool:
    """Tell whether labels are met as often as by the original: then other answers are no loss (it was trained)."""
    return quality is not None and quality.accuracy is not None and quality.accuracy[1] >= quality.accuracy[0]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
