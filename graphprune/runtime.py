"""onnxruntime behind one door: sessions that do not chatter, random inputs that fit a model, errors with one name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Timer
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from .errors import ModelError
from .frontends.files.mapped import array_of, is_mapped
from .frontends.files.tensors import weights_as_inputs
from .upcast import BFLOAT, computes_in, in_float32, stores
from .upcast import HALVES as HALF_TYPES

Feeds = dict[str, NDArray[Any]]


def runtime_errors() -> tuple[type[Exception], ...]:
    """Return what onnxruntime raises when a model cannot be loaded or run."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = (
        "Fail",
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "NotImplemented",
        "RuntimeException",
        "NoSuchFile",
    )
    return (*(getattr(state, n) for n in names if hasattr(state, n)), RuntimeError, ValueError)


RUNTIME_ERRORS = runtime_errors()
HALVES = ("float16", "bfloat16")
LOOP_SECONDS = 600.0


@dataclass
class Session:
    """A model loaded into onnxruntime, on the CPU.

    ``weights`` are mapped tensors that are fed from their files at every run: onnxruntime uses such memory where it
    lies, but would copy initializers. ``widened`` tells that float32 takes the place of float16 and bfloat16. A model
    that ``loops`` may run for LOOP_SECONDS, since nothing else tells whether it ends.
    """

    inner: Any
    weights: Sequence[onnx.TensorProto] = ()
    widened: bool = False
    loops: bool = False

    def close(self) -> None:
        """Let go of the model; it cannot be run any more."""
        self.inner = None

    def get_inputs(self) -> list[Any]:
        """Return what onnxruntime says of the inputs, weights that are fed left out."""
        fed = {t.name for t in self.weights}
        return [i for i in self.inner.get_inputs() if i.name not in fed]

    def run(self, names: Sequence[str] | None, inputs: Mapping[str, NDArray[Any]], options: Any = None) -> list[Any]:
        """Return the outputs of these names, or all; ``options`` are onnxruntime's. Raises one of RUNTIME_ERRORS."""
        if self.widened:
            inputs = {name: x.astype(np.float32) if x.dtype.name in HALVES else x for name, x in inputs.items()}
        if self.loops:
            with _ending(options or _run_options()) as ending:
                return self._run(names, inputs, ending)
        return self._run(names, inputs, options)

    @property
    def binds(self) -> bool:
        """Whether ``run_into`` can be used: inputs are fed as they are, and nothing else is."""
        return not (self.weights or self.widened or self.loops)

    def run_into(
        self, outputs: Mapping[str, NDArray[Any]], inputs: Mapping[str, NDArray[Any]], options: Any = None
    ) -> None:
        """Run and write outputs into arrays, C order, of their types and shapes. Raises one of RUNTIME_ERRORS."""
        binding = self.inner.io_binding()
        fed = [np.ascontiguousarray(x) for x in inputs.values()]
        for name, x in zip(inputs, fed, strict=True):
            binding.bind_cpu_input(name, x)
        for name, x in outputs.items():
            binding.bind_output(name, "cpu", 0, x.dtype.type, x.shape, x.ctypes.data)
        self.inner.run_with_iobinding(binding, options)

    def _run(self, names: Sequence[str] | None, inputs: Mapping[str, NDArray[Any]], options: Any) -> list[Any]:
        if not self.weights:
            return list(self.inner.run(names, inputs, options))
        held = {name: _value(x) for name, x in inputs.items()}
        held |= {t.name: _value(array_of(t), t.data_type) for t in self.weights}
        names = [o.name for o in self.inner.get_outputs()] if names is None else list(names)
        return [value.numpy() for value in self.inner.run_with_ort_values(names, held, options)]


def _run_options() -> Any:
    import onnxruntime

    return onnxruntime.RunOptions()


@contextmanager
def _ending(options: Any) -> Iterator[Any]:
    """Give run options under which a run ends after LOOP_SECONDS, with a RuntimeError that says why."""

    def end() -> None:
        options.terminate = True

    timer = Timer(LOOP_SECONDS, end)
    timer.daemon = True
    timer.start()
    try:
        yield options
    except RUNTIME_ERRORS as error:
        if not options.terminate:
            raise
        raise RuntimeError(f"it did not end within {LOOP_SECONDS:g} s: one of its loops may never end") from error
    finally:
        timer.cancel()


def _value(array: NDArray[Any], element: int | None = None) -> Any:
    """Return an array as onnxruntime's own value, which uses its memory."""
    import onnxruntime

    kind = helper.np_dtype_to_tensor_dtype(array.dtype) if element is None else element
    if array.dtype.kind in "OSU":
        return onnxruntime.OrtValue.ortvalue_from_numpy(array)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(np.ascontiguousarray(array), kind)


def session(model: onnx.ModelProto, *, optimise: bool = True, widen: bool = False) -> Session:
    """Return a CPU session of a model held in memory; its weights may be mapped.

    What is in bfloat16, which onnxruntime hardly computes in, runs in a float32 copy where it does not run as it is;
    with ``widen`` that is so at once, for float16 as well. Mapped weights of half precision are widened one by one, as
    onnxruntime would widen all of them at the start.
    """
    large = any(is_mapped(t) for t in model.graph.initializer)
    if widen or computes_in(model, HALF_TYPES if large else [BFLOAT]):
        return _loaded(in_float32(model), optimise, widened=True)
    if not stores(model, [BFLOAT]):
        return _loaded(model, optimise, widened=False)
    try:
        return _loaded(model, optimise, widened=False)
    except RUNTIME_ERRORS:
        return _loaded(in_float32(model), optimise, widened=True)


def _loaded(model: onnx.ModelProto, optimise: bool, *, widened: bool) -> Session:
    mapped = [t for t in model.graph.initializer if is_mapped(t)]
    light = weights_as_inputs(model, is_mapped) if mapped else model
    # Weights that are fed are used where they lie, but whatever is made of them would be a copy.
    held = (model.graph.node, *(function.node for function in model.functions))
    loops = any(node.op_type == "Loop" for nodes in held for node in _nodes(nodes))
    return Session(_inference_session(light, optimise and not mapped, frugal=bool(mapped)), mapped, widened, loops)


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Yield nodes, and those of the bodies that they hold."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g.node)


def _inference_session(model: onnx.ModelProto, optimise: bool, *, frugal: bool) -> Any:
    import onnxruntime

    data, providers = serialised(model), ["CPUExecutionProvider"]
    signed = stores(model, [TensorProto.INT8])
    if not signed or not _has_scales_alone(model):
        try:
            return onnxruntime.InferenceSession(data, _options(optimise, frugal, exact_bytes=True), providers=providers)
        except RUNTIME_ERRORS:
            # onnxruntime 1.31 fails for some models where it has to convert signed bytes for that.
            if not signed:
                raise
    return onnxruntime.InferenceSession(data, _options(optimise, frugal, exact_bytes=False), providers=providers)


def _has_scales_alone(model: onnx.ModelProto) -> bool:
    """Tell whether codes have a scale for each index of an axis and no zero points: onnxruntime 1.31 makes one.

    It then has one for all in front of a vector of scales, and fails as the model runs.
    """
    long = {t.name for t in model.graph.initializer if any(n > 1 for n in t.dims)}
    read = [list(n.input) for n in model.graph.node if n.op_type == "DequantizeLinear"]
    return any(len(names) < 3 and names[1] in long for names in read)


def _options(optimise: bool, frugal: bool, *, exact_bytes: bool) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Threads that spin while they wait would take the other core from whatever runs beside.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Products of bytes saturate on older processors, by pairs, unless told not to: what comes out would then depend on
    # what lies beside.
    options.add_session_config_entry("session.x64quantprecision", "1" if exact_bytes else "0")
    # By default, data is quantised on the way into products that onnxruntime fuses with a dequantisation in blocks.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    # A plan of the memory is one more piece of it for every size of batch, all of its pages new.
    options.enable_mem_pattern = False
    if frugal:  # memory goes back to the system as soon as a tensor is not needed any more
        options.enable_cpu_mem_arena = False
        # Nodes run in the order of the file then: by default, whatever needs only weights would run first.
        options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def serialised(model: onnx.ModelProto) -> bytes:
    """Return a model as bytes; raises ModelError where it is too large for that."""
    from google.protobuf.message import EncodeError  # type: ignore[import-untyped]

    try:
        data: bytes = model.SerializeToString()
    except (EncodeError, ValueError) as error:
        hint = "save it with external data and give the file: weights of 2 GiB and more are then left in their files"
        words = f"a model in memory may take 2 GiB at most: {error}"
        raise ModelError("model-too-large", words, hint=hint) from error
    return data


def first_line(error: Exception) -> str:
    """Return what onnxruntime says, cut to a readable length."""
    return str(error).splitlines()[0][:400]


def real_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs a caller must feed: those that are not initializers as well."""
    stored = {t.name for t in model.graph.initializer}
    return [i for i in model.graph.input if i.name not in stored]


def feeds(
    model: onnx.ModelProto,
    sizes: Mapping[str, Sequence[int]],
    seed: int,
    limits: Mapping[str, int] | None = None,
    *,
    positive: bool = False,
) -> Feeds:
    """Return random inputs: Gaussian floats (or uniform ones, if ``positive``) and integers below ``limits``.

    Where no limit is known an integer is 1: most often it is a mask or a length, and a mask of zeros makes NaN.
    """
    rng = np.random.default_rng(seed)
    result: Feeds = {}
    for value in real_inputs(model):
        if value.name not in sizes:
            continue
        dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        shape = tuple(sizes[value.name])
        if dtype.kind in "biu":
            top = (limits or {}).get(value.name)
            result[value.name] = (np.ones(shape) if top is None else rng.integers(0, top, shape)).astype(dtype)
        else:
            result[value.name] = (rng.random(shape) if positive else rng.standard_normal(shape)).astype(dtype)
    return result
