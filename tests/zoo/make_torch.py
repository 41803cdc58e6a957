"""Exports from torch: python make_torch.py DIR [GROUP|NAME ...] .

pip install torch torchvision timm transformers ultralytics

Groups: own, timm, transformers, detection, yolo. Weights are random. SPEC in NAME.SPEC.onnx is the exporter (ts: the
TorchScript one, dy: dynamo), the opset, and "d" where the batch is open. Every export runs in a process of its own;
what is there already stays.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from make_torch_own import OWN
from make_torch_sources import DETECTION, TIMM, TRANSFORMERS, Made, Picked, of_detection, of_timm, of_transformers
from torch import Tensor

with contextlib.suppress(ImportError):
    import tvshim  # noqa: F401  where torchvision was built for another torch

DYNAMO = ("hrnet_w18_small", "fastvit_t8", "mixnet_s", "sequencer2d_s", "coat_tiny", "mambaout_femto")
"""Those that are exported by dynamo as well."""


YOLO: dict[str, dict[str, Any]] = {
    "yolov3-tiny": {}, "yolov5n": {}, "yolov6n": {}, "yolov8n-seg": {}, "yolov8n-pose": {}, "yolov8n-cls": {},
    "yolov8n-obb": {}, "yolov8n": {"nms": True}, "yolov9t": {}, "yolov10n": {}, "yolo11n-seg": {},
    "yolo11n": {"nms": True, "dynamic": True}, "yolo12n": {}, "rtdetr-l": {}, "yolov8-rtdetr": {},
}  # fmt: skip


def yolo(name: str, folder: Path) -> None:
    """Export by ultralytics' own exporter, suppression included where asked for."""
    from ultralytics import RTDETR
    from ultralytics import YOLO as Model  # noqa: N811

    more = YOLO[name]
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        model = (RTDETR if "rtdetr" in name else Model)(f"{name}.yaml")
        made = model.export(format="onnx", imgsz=160, opset=17, simplify=False, **more)
        letters = "ts17" + "d" * bool(more.get("dynamic"))
        out = folder / f"yolo_{name}{'_nms' if more.get('nms') else ''}.{letters}.onnx"
        shutil.copyfile(made, out)
        if more.get("dynamic"):
            out.with_suffix(".sizes.json").write_text('{"images": [1, 3, 160, 160]}', encoding="utf-8")


NEEDS = {"timm": "timm", "transformers": "transformers", "detection": "torchvision", "yolo": "ultralytics"}
LONGEST = 400
"""Seconds an export may take."""
GROUPS: dict[str, tuple[list[str], Callable[[str], Made] | None]] = {
    "own": (list(OWN), lambda name: OWN[name]()),
    "timm": (TIMM, of_timm),
    "transformers": (list(TRANSFORMERS), of_transformers),
    "detection": (list(DETECTION), of_detection),
    "yolo": (list(YOLO), None),
}


def export(group: str, name: str, folder: Path) -> None:
    """Write one model, by one exporter or both."""
    torch.manual_seed(0)
    make = GROUPS[group][1]
    if make is None:
        yolo(name, folder)
        return
    dynamo = group in ("own", "transformers") or name in DYNAMO
    exporters = ("ts", "dy") if dynamo else ("ts",)
    for exporter in exporters:
        model, inputs = make(name)
        enliven(model)
        try:
            one_export(group, name, exporter, model.eval(), inputs, folder)
        except Exception as error:  # whatever an exporter raises: the other one may manage
            print("not made", name, exporter, repr(error)[:200], flush=True)


def enliven(model: Any) -> None:
    """Make what is constant as initialised random: a wrong slice of it, or behind a scale of 1e-6, would not show."""
    with torch.no_grad():
        for vector in (*model.parameters(), *model.buffers()):
            if vector.is_floating_point() and vector.numel() > 1 and bool((vector == vector.flatten()[0]).all()):
                vector.copy_(torch.rand_like(vector) + 0.5 if vector.abs().max() else 0.1 * torch.randn_like(vector))


def one_export(group: str, name: str, exporter: str, model: Any, inputs: tuple[Tensor, ...], folder: Path) -> None:
    """Write one export; the batch is open, and the sequence too, but for detectors."""
    names = [f"x{k}" for k in range(len(inputs))]
    words = all(x.dtype == torch.int64 for x in inputs)
    axes = {n: {0: "batch", **({1: f"length{n}" if "bart" in name else "length"} if words else {})} for n in names}
    spec = f"{exporter}{17 if exporter == 'ts' else 18}"
    still = group == "detection"
    path = folder / f"{group}_{name}.{spec}{'' if still else 'd'}.onnx"
    options: dict[str, Any] = {"input_names": names, "opset_version": int(spec[2:])}
    if exporter == "ts":
        torch.onnx.export(model, inputs, str(path), dynamo=False, dynamic_axes=None if still else axes, **options)
    else:
        shapes = tuple(dict.fromkeys(axes[n], torch.export.Dim.AUTO) for n in names)
        shapes = (shapes,) if isinstance(model, Picked) else shapes
        torch.onnx.export(model, inputs, str(path), dynamo=True, dynamic_shapes=shapes, external_data=False,
                          verbose=False, **options)  # fmt: skip
    sizes = ", ".join(f'"{n}": {list(x.shape)}' for n, x in zip(names, inputs, strict=True))
    path.with_suffix(".sizes.json").write_text(f"{{{sizes}}}", encoding="utf-8")


def forked(group: str, name: str, folder: Path) -> str:
    """Export in a copy of this process, which may die or take too long; return what became of it."""
    process = os.fork()
    if not process:
        signal.alarm(LONGEST)
        status = 1
        with contextlib.suppress(Exception), contextlib.redirect_stdout(sys.stderr):
            try:
                export(group, name, folder)
                status = 0
            except BaseException as error:
                print("not made:", name, repr(error)[:300], file=sys.stderr, flush=True)
                raise
            finally:
                os._exit(status)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return "done" if code == 0 else f"failed ({code})"


def main() -> None:
    """Export all models, or the groups and names that are given."""
    folder, asked = Path(sys.argv[1]).resolve(), sys.argv[2:]
    folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    os.environ.update({"HF_HUB_OFFLINE": "1", "YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "0"})
    for group in [g for g in asked if g in GROUPS] or GROUPS:
        names = GROUPS[group][0]
        wanted = [n for n in asked if n in names] or names
        if group in NEEDS:
            importlib.import_module(NEEDS[group])
        for name in wanted:
            if not list(folder.glob(f"{group}_{name}.*.onnx")):
                print(group, name, forked(group, name, folder), flush=True)


if __name__ == "__main__":
    main()
