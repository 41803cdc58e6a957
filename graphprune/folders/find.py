"""What is in a folder: the model to prune, configurations that describe it, files to take along, other weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from ..errors import ModelError

CONFIGS = ("config.json", "genai_config.json")
"""Configurations that state a model's widths: of Hugging Face's libraries, and of onnxruntime-genai."""
PLACES = ("", "onnx")
"""Folders in which a model may lie: the folder itself, or optimum's sub-folder."""
WEIGHTS = (
    "*.onnx", "*.onnx_data*", "*.onnx.data*", "*.ort", "*.safetensors", "*.safetensors.index.json", "pytorch_model*",
    "model*.bin", "openvino_*", "*.h5", "*.msgpack", "*.ot", "*.pt", "*.pth", "*.ckpt", "*.gguf", "*.tflite",
)  # fmt: skip
"""Files that hold the weights of the model as it was."""


@dataclass(frozen=True)
class Folder:
    """A folder, and what is in it, as paths relative to it.

    ``configs`` state the widths of the ``model``; files to be ``copied`` as they are hold tokenizers, labels,
    preprocessing; files ``left`` out hold weights of the unpruned model.
    """

    root: Path
    model: Path
    configs: tuple[Path, ...]
    copied: tuple[Path, ...]
    left: tuple[Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the folder, which an output must not touch."""
        return tuple(self.root / p for p in (self.model, *self.configs, *self.copied, *self.left))


def is_described(root: Path) -> bool:
    """Tell whether a folder has a configuration that states a model's widths."""
    return root.is_dir() and any((root / name).is_file() for name in CONFIGS)


def root_of(model: Path) -> Path | None:
    """Return the described folder that a model's file lies in, itself or in its ``onnx``; None where there is none."""
    parents = [model.parent, *([model.parent.parent] if model.parent.name == PLACES[1] else [])]
    return next((p for p in parents if is_described(p)), None)


def open_folder(root: Path, model: Path | None = None) -> Folder:
    """Look through a folder; ``model`` is the file in it to prune, where more than one might be meant.

    Raises ModelError where no model is there, or several that are no variants of one.
    """
    files = sorted(p.relative_to(root) for p in _walk(root))
    chosen = _chosen(root, [p for p in files if p.suffix == ".onnx"]) if model is None else model.relative_to(root)
    configs = [p for p in files if p.name in CONFIGS and p.parent == Path()]
    rest = [p for p in files if p != chosen and p not in configs]
    left = [p for p in rest if any(fnmatchcase(p.name, pattern) for pattern in WEIGHTS)]
    return Folder(root, chosen, tuple(configs), tuple(p for p in rest if p not in left), tuple(left))


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and its sub-folders; what begins with a dot is a tool's own business."""
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)
        elif path.is_file():
            yield path


def _chosen(root: Path, models: Sequence[Path]) -> Path:
    """Return the model that is meant: ``model.onnx``, or the only one there is."""
    here = [p for p in models if str(p.parent) in (".", *PLACES)]
    parts = [p for p in here if p.name.startswith(("encoder", "decoder"))]
    plain = [p for place in PLACES for p in here if p == Path(place, "model.onnx")]
    if plain and not parts:
        return plain[0]
    if len(here) == 1:
        return here[0]
    if not here:
        words, hint = "there is no ONNX model in this folder", "export one to it, or give the model's file"
        raise ModelError("model-missing", words, where=str(root), hint=hint)
    listed = ", ".join(map(str, here[:6])) + (", ..." if len(here) > 6 else "")
    hint = f"name one, and a folder for it with -o: graphprune {root / here[0]} -o {root.name}.pruned"
    raise ModelError("folder-ambiguous", f"there are several models: {listed}", where=str(root), hint=hint)
