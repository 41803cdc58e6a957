"""onnxruntime's execution providers, by the names that people give them."""

from __future__ import annotations

from .errors import UsageError

SHORT = {
    "acl": "ACL", "azure": "Azure", "cann": "CANN", "coreml": "CoreML", "cpu": "CPU", "cuda": "CUDA", "directml": "Dml",
    "dml": "Dml", "dnnl": "Dnnl", "migraphx": "MIGraphX", "nnapi": "Nnapi", "openvino": "OpenVINO", "qnn": "QNN",
    "rocm": "ROCM", "tensorrt": "Tensorrt", "webgpu": "WebGpu", "xnnpack": "Xnnpack",
}  # fmt: skip
"""Short names, and how onnxruntime's own begin."""


def full_name(name: str) -> str:
    """Return onnxruntime's name of a provider that is called by its short name, or by that."""
    short = SHORT.get(name.lower())
    return f"{short}ExecutionProvider" if short else name


def short_name(provider: str) -> str:
    """Return how we call a provider of onnxruntime's."""
    stem = provider.removesuffix("ExecutionProvider")
    return next((short for short, begin in SHORT.items() if begin == stem), provider)


def available(name: str) -> str:
    """Return onnxruntime's name of a provider; raises UsageError where it is not there, naming those that are."""
    import onnxruntime

    have = onnxruntime.get_available_providers()
    if full_name(name) not in have:
        names = ", ".join(short_name(p) for p in have)
        hint = f"this onnxruntime has {names}; other providers come with other onnxruntime packages"
        raise UsageError("provider-missing", f"onnxruntime has no provider {name!r}", where="--provider", hint=hint)
    return full_name(name)
