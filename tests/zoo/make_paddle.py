"""Exports from PaddlePaddle: python make_paddle.py DIR (pip install paddlepaddle paddle2onnx setuptools).

Weights are random; the batch is open.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paddle
import paddle2onnx
from paddle import nn
from paddle.static import InputSpec
from paddle.vision import models as vision


class Residual(nn.Layer):
    """A block with squeeze and excite by hard-sigmoid, as PaddleOCR's backbones have it."""

    def __init__(self, wide: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2D(wide, 2 * wide, 1, bias_attr=False), nn.BatchNorm2D(2 * wide), nn.Hardswish(),
            nn.Conv2D(2 * wide, 2 * wide, 3, padding=1, groups=2 * wide), nn.BatchNorm2D(2 * wide), nn.Hardswish(),
        )  # fmt: skip
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2D(1), nn.Conv2D(2 * wide, wide // 2, 1), nn.ReLU(), nn.Conv2D(wide // 2, 2 * wide, 1),
            nn.Hardsigmoid(),
        )  # fmt: skip
        self.last = nn.Conv2D(2 * wide, wide, 1)

    def forward(self, x: Any) -> Any:
        y = self.body(x)
        return x + self.last(y * self.gate(y))


class Recogniser(nn.Layer):
    """Convolutions over a line of text, then a recurrent layer over its columns."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2D(3, 32, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2D(32, 64, 3, stride=2,
                                  padding=1), nn.ReLU(), Residual(64), nn.AvgPool2D((8, 1)))  # fmt: skip
        self.rnn = nn.LSTM(64, 48, direction="bidirect")
        self.last = nn.Linear(96, 40)

    def forward(self, x: Any) -> Any:
        y = paddle.transpose(paddle.squeeze(self.body(x), 2), [0, 2, 1])
        return nn.functional.softmax(self.last(self.rnn(y)[0]), -1)


class Segmenter(nn.Layer):
    """Pyramid of features, upsampled, concatenated and transposed back to the image."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.LayerList([nn.Sequential(nn.Conv2D(a, b, 3, stride=2, padding=1), nn.BatchNorm2D(b), nn.ReLU())
                                    for a, b in ((3, 16), (16, 32), (32, 64))])  # fmt: skip
        self.flat = nn.LayerList([nn.Conv2D(n, 32, 1) for n in (16, 32, 64)])
        self.up = nn.Conv2DTranspose(96, 16, 2, stride=2)
        self.last = nn.Conv2D(16, 1, 1)

    def forward(self, x: Any) -> Any:
        found = []
        for k, (stage, flat) in enumerate(zip(self.stages, self.flat)):  # noqa: B905 traced as text by paddle
            x = stage(x)
            found.append(nn.functional.interpolate(flat(x), scale_factor=2**k, mode="nearest") if k else flat(x))
        return nn.functional.sigmoid(self.last(nn.functional.relu(self.up(paddle.concat(found, 1)))))


def mlp() -> Any:
    return nn.Sequential(nn.Linear(30, 128), nn.ReLU(), nn.Linear(128, 64), nn.GELU(), nn.Linear(64, 4))


def cnn() -> Any:
    return nn.Sequential(nn.Conv2D(1, 16, 5, padding=2), nn.BatchNorm2D(16), nn.LeakyReLU(), nn.MaxPool2D(2),
                         nn.Conv2D(16, 32, 3), nn.PReLU(32), nn.MaxPool2D(2), nn.Flatten(),
                         nn.Linear(32 * 36, 64), nn.ReLU(), nn.Linear(64, 10))  # fmt: skip


def transformer() -> Any:
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128, normalize_before=True), 2)


def super_resolution() -> Any:
    return nn.Sequential(nn.Conv2D(1, 32, 5, padding=2), nn.Tanh(), nn.Conv2D(32, 16, 3, padding=1), nn.ReLU(),
                         nn.Conv2D(16, 4, 3, padding=1), nn.PixelShuffle(2))  # fmt: skip


def of_vision(name: str) -> Callable[[], Any]:
    return lambda: getattr(vision, name)(num_classes=20)


MODELS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "mlp": (mlp, (30,)),
    "cnn": (cnn, (1, 28, 28)),
    "recogniser": (Recogniser, (3, 32, 96)),
    "segmenter": (Segmenter, (3, 64, 64)),
    "transformer": (transformer, (12, 64)),
    "super_resolution": (super_resolution, (1, 24, 24)),
    "resnet18": (of_vision("resnet18"), (3, 64, 64)),
    "mobilenet_v1": (of_vision("mobilenet_v1"), (3, 64, 64)),
    "mobilenet_v2": (of_vision("mobilenet_v2"), (3, 64, 64)),
    "mobilenet_v3_small": (of_vision("mobilenet_v3_small"), (3, 64, 64)),
    "shufflenet_v2_x0_5": (of_vision("shufflenet_v2_x0_5"), (3, 64, 64)),
    "squeezenet1_1": (of_vision("squeezenet1_1"), (3, 64, 64)),
}


def export(name: str, folder: Path) -> None:
    """Write one model."""
    paddle.seed(0)
    build, shape = MODELS[name]
    model = build()
    model.eval()
    with tempfile.TemporaryDirectory() as scratch:
        place = f"{scratch}/model"
        paddle.jit.save(model, place, input_spec=[InputSpec([None, *shape], "float32", "x")])
        described = next(p for p in (f"{place}.json", f"{place}.pdmodel") if Path(p).exists())
        out = str(folder / f"paddle_{name}.p2o14d.onnx")
        paddle2onnx.export(described, f"{place}.pdiparams", out, opset_version=14)


def main() -> None:
    """Export all models, or those named."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:]:
        export(name, folder)
    for name in () if sys.argv[2:] else MODELS:  # the converter may end its process
        done = subprocess.run([sys.executable, __file__, str(folder), name], capture_output=True)
        print("not made" if done.returncode else "made", name, flush=True)


if __name__ == "__main__":
    main()
