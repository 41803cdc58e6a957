"""What a file that is not an ONNX model seems to be, so that the error can say it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ...errors import ModelError

GIVE_A_MODEL = "give the .onnx file that an exporter wrote"
SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the model itself", "fetch the file with: git lfs pull"),
    (b"PK\x03\x04", "a zip archive (a PyTorch checkpoint or a Keras file?)", "export the model to ONNX first"),
    (b"\x80\x02", "a Python pickle (a PyTorch checkpoint?)", "export the model to ONNX first"),
    (b"\x80\x04", "a Python pickle", "export the model to ONNX first"),
    (b"\x89HDF\r\n", "an HDF5 file (a Keras model?)", "export the model to ONNX first"),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"\x93NUMPY", "a NumPy array", GIVE_A_MODEL),
)


def not_a_model(data: bytes, path: Path) -> ModelError:
    """Return the error for bytes that no model could be decoded from, with a guess at what they are."""
    where = str(path)
    if not data:
        return ModelError("model-empty", "the file is empty", where=where, hint=GIVE_A_MODEL)
    for signature, words, hint in SIGNATURES:
        if data.startswith(signature):
            return ModelError("not-onnx", f"this is {words}", where=where, hint=hint)
    if data[4:8] == b"ORTM":
        words = "this is an onnxruntime .ort file, not ONNX"
        return ModelError("not-onnx", words, where=where, hint="give the .onnx file it was made from")
    if _is_text(data[:4096]):
        return ModelError("not-onnx", "this is a text file, not an ONNX model", where=where, hint=GIVE_A_MODEL)
    kind = _other_message(data)
    if kind:
        words = f"this is {kind}, not an ONNX model"
        return ModelError("not-a-model", words, where=where, hint="give the model, not a part of it or its test data")
    missing = _missing_bytes(data)
    if missing:
        words = f"the file is truncated: it announces at least {missing:,} bytes more than it has"
        return ModelError("model-truncated", words, where=where, hint="copy or download it again")
    words = "this is not an ONNX model, or a damaged one: the protobuf data cannot be decoded"
    return ModelError("not-onnx", words, where=where, hint=GIVE_A_MODEL)


def _other_message(data: bytes) -> str:
    """Name the kind of ONNX message, other than a model, that bytes decode as; nothing if they do not."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from onnx import GraphProto, TensorProto

    with suppress(DecodeError):
        tensor = TensorProto.FromString(data)
        if tensor.data_type in TensorProto.DataType.values() and (tensor.name or tensor.dims):
            return "an ONNX tensor"
    with suppress(DecodeError):
        graph = GraphProto.FromString(data)
        if graph.output and (graph.node or graph.initializer):
            return "an ONNX graph"
    return ""


def _is_text(head: bytes) -> bool:
    """Tell whether bytes read as text: UTF-8 (a cut character at the end allowed) without control characters."""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:
            return False
        text = head[: error.start].decode("utf-8")
    return all(c.isprintable() or c in "\t\r\n\f" for c in text)


def _missing_bytes(data: bytes) -> int:
    """Return how far the last top-level field of a model reaches past the end, 0 if it does not or is no field."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        kind = tag & 7
        if not 1 <= tag >> 3 <= 64 or kind not in (0, 2):
            return 0
        value, position = _varint(data, position)
        position += value if kind == 2 else 0
    return position - len(data)


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Decode a protobuf varint; one cut off by the end of the data counts as a missing byte."""
    value = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position
    return value, position + 1
