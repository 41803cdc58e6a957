"""Folders of images, and how images become numbers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from graphprune.data import InputSpec, Preprocess, open_samples
from graphprune.data.preprocess import CLIP, IMAGENET, from_file, preprocess
from graphprune.errors import UsageError

F32 = np.dtype(np.float32)
SPEC = InputSpec("pixels", F32, (None, 3, 8, 8))


def picture(seed: int, height: int = 8, width: int = 8) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def put(path: Path, array: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write(folder: Path, **table: Any) -> Path:
    path = folder / "way.json"
    path.write_text(json.dumps(table))
    return path


def test_pixels_are_scaled_and_normalised(tmp_path: Path) -> None:
    put(tmp_path / "a.png", picture(0))
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    way = write(tmp_path, mean=mean, std=std)
    found = open_samples(tmp_path, [SPEC], preprocess=way).take(np.arange(1)).inputs["pixels"]
    expected = (picture(0) / 255 - np.array(mean)) / np.array(std)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], expected.transpose(2, 0, 1), rtol=1e-5, atol=1e-6)


def test_layout_channel_order_and_scale(tmp_path: Path) -> None:
    put(tmp_path / "a.png", picture(0))
    spec = InputSpec("x", F32, (None, 8, 8, 3))
    way = write(tmp_path, layout="nhwc", channels="bgr", scale=1, mean=10)
    found = open_samples(tmp_path, [spec], preprocess=str(way)).take(np.arange(1)).inputs["x"]
    np.testing.assert_array_equal(found[0], picture(0)[..., ::-1].astype(np.float32) - 10)
    gray = InputSpec("x", F32, (None, 1, 8, 8))
    found = open_samples(tmp_path, [gray], preprocess=write(tmp_path, channels="gray", scale=1)).take(np.arange(1))
    np.testing.assert_array_equal(found.inputs["x"][0, 0], np.asarray(Image.fromarray(picture(0)).convert("L")))


def test_resize_of_the_shorter_side_and_crop_of_the_middle() -> None:
    image = Image.fromarray(np.arange(6 * 12 * 3, dtype=np.uint8).reshape(6, 12, 3))
    way = Preprocess(size=6, crop=(4, 6), scale=1)
    np.testing.assert_array_equal(way(image), np.asarray(image)[1:5, 3:9].astype(np.float32).transpose(2, 0, 1))
    assert Preprocess(size=3)(image).shape == (3, 3, 6)
    assert Preprocess(size=(5, 7))(image).shape == (3, 5, 7)
    padded = Preprocess(crop=(8, 12), scale=1)(image)
    assert not padded[:, 0].any()
    np.testing.assert_array_equal(padded[:, 1:7], np.asarray(image).astype(np.float32).transpose(2, 0, 1))


def test_a_named_way_fits_the_models_size() -> None:
    assert preprocess("imagenet", InputSpec("x", F32, (None, 3, 224, 224))) == IMAGENET
    assert preprocess("clip", InputSpec("x", F32, (1, 3, None, None))) == CLIP
    large = preprocess("imagenet", InputSpec("x", F32, (None, 3, 336, 336)))
    assert (large.size, large.crop) == (384, (336, 336))
    last = preprocess("imagenet", InputSpec("x", F32, (None, 64, 64, 3)))
    assert (last.layout, last.crop) == ("nhwc", (64, 64))
    image = Image.fromarray(picture(0, 300, 400))
    assert large(image).shape == (3, 336, 336)
    assert last(image).shape == (64, 64, 3)
    wide = preprocess("imagenet", InputSpec("x", F32, (None, 3, 32, 64)))
    assert wide(image).shape == (3, 32, 64)


def test_sub_folders_are_classes_in_order_of_their_names(tmp_path: Path) -> None:
    for k, name in enumerate(("dog/2.png", "cat/b.png", "cat/a.png", "dog/deep/1.JPG")):
        put(tmp_path / name, picture(k))
    (tmp_path / "empty").mkdir()
    samples = open_samples(tmp_path, [SPEC], preprocess=write(tmp_path / "empty", scale=1))
    batch = samples.take(np.arange(4))
    assert batch.labels is not None
    assert batch.labels.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(batch.inputs["pixels"][0], picture(2).transpose(2, 0, 1))
    np.testing.assert_array_equal(batch.inputs["pixels"][2], picture(0).transpose(2, 0, 1))
    assert "0 cat, 1 dog" in samples.notes[0]


def test_images_of_a_data_set_from_python() -> None:
    class Pictures:
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> dict[str, Any]:
            return {"image": Image.fromarray(picture(index)), "label": index}

    batch = open_samples(Pictures(), [SPEC], preprocess=Preprocess(scale=1)).take(np.array([2, 0]))
    np.testing.assert_array_equal(batch.inputs["pixels"][0], picture(2).transpose(2, 0, 1))
    assert batch.labels is not None
    assert batch.labels.tolist() == [2, 0]
    with pytest.raises(UsageError) as caught:
        open_samples(Pictures(), [SPEC])
    assert caught.value.code in ("data-shape", "data-dtype")


def test_toml_says_the_same_as_json(tmp_path: Path) -> None:
    path = tmp_path / "way.toml"
    path.write_text(
        'size = 9\ncrop = [8, 8]\nmean = [0.5, 0.5, 0.5]\nstd = 0.25\nlayout = "nchw"\nfilter = "bicubic"\n'
    )
    expected = Preprocess(9, (8, 8), (0.5, 0.5, 0.5), (0.25,), filter="bicubic")
    assert from_file(path) == expected
    same = write(tmp_path, size=9, crop=8, mean=[0.5] * 3, std=0.25, filter="bicubic")
    assert from_file(same) == expected


@pytest.mark.parametrize(
    ("table", "code", "word"),
    [
        ({"means": 1}, "preprocess-key", "means"),
        ({"mean": [1, 2]}, "preprocess-value", "mean"),
        ({"std": 0}, "preprocess-value", "std"),
        ({"std": "wide"}, "preprocess-value", "std"),
        ({"size": 0}, "preprocess-value", "size"),
        ({"crop": [1, 2, 3]}, "preprocess-value", "crop"),
        ({"scale": [1, 2]}, "preprocess-value", "scale"),
        ({"layout": "chw"}, "preprocess-value", "layout"),
        ({"channels": "rgba"}, "preprocess-value", "channels"),
        ({"crop": 9}, "preprocess-mismatch", "3 x 9 x 9"),
        ({"channels": "gray"}, "preprocess-mismatch", "1 x"),
    ],
)
def test_wrong_files(tmp_path: Path, table: dict[str, Any], code: str, word: str) -> None:
    put(tmp_path / "a.png", picture(0))
    with pytest.raises(UsageError) as caught:
        open_samples(tmp_path, [SPEC], preprocess=write(tmp_path, **table))
    assert caught.value.code == code
    assert word in str(caught.value)


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    put(tmp_path / "a.png", picture(0))
    for way, code in ((None, "preprocess-missing"), ("imagnet", "preprocess-unreadable")):
        with pytest.raises(UsageError) as caught:
            open_samples(tmp_path, [SPEC], preprocess=way)
        assert caught.value.code == code
    with pytest.raises(UsageError, match="models of one input"):
        open_samples(tmp_path, [SPEC, InputSpec("ids", F32, (None,))], preprocess="clip")


def test_a_bad_image_is_named(tmp_path: Path) -> None:
    put(tmp_path / "a.png", picture(0))
    put(tmp_path / "b.png", picture(0, 9, 8))
    (tmp_path / "c.png").write_text("no image")
    samples = open_samples(tmp_path, [SPEC], preprocess=write(tmp_path, scale=1))
    for index, name, code in ((1, "b.png", "data-shape"), (2, "c.png", "data-unreadable")):
        with pytest.raises(UsageError, match=name) as caught:
            samples.take(np.array([index]))
        assert caught.value.code == code


def test_pillow_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "a.png", picture(0))
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UsageError, match="needs Pillow") as caught:
        open_samples(tmp_path, [SPEC], preprocess="imagenet")
    assert "graphprune[images]" in str(caught.value)


def test_arrays_are_not_silently_left_as_they_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((2, *(SPEC.shape or ())[1:]), np.float32))
    for place in (tmp_path, tmp_path / "d.npz"):
        with pytest.raises(UsageError, match="taken as they are") as caught:
            open_samples(place, [SPEC], preprocess="imagenet")
        assert caught.value.code == "preprocess-unused"
