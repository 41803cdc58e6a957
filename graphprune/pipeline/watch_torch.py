"""Timing torch modules where they lie, on a CPU or a GPU.

Nodes of a module are not measured one by one. The cost model is a simple one: a constant, seconds for every
multiply-accumulate and seconds for every byte of a tensor, fitted to the times of the whole module at a few uniform
widths. What it gets wrong, the loop of ``timed`` corrects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter, thread_time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ..cost import FloatArray, Latency, Polynomial
from ..errors import ModelError, UsageError
from ..frontends.fx.export import FORWARD_ERRORS
from ..frontends.fx.program import inference_mode
from ..frontends.fx.trace import TorchSource
from ..latency.clock import Effort, interleaved
from ..latency.machine import CPU, Lap, Machine, processor
from ..plan import Plan
from .watch import Watch, rescaled

if TYPE_CHECKING:
    from ..groups import Groups
    from .fitting import Apply
    from .opening import Opened
    from .settings import Settings

PARTS = (1.0, 0.7, 0.4)
"""Uniform widths at which a module is timed for its cost model."""
NOTE = "modules are timed whole: their cost model is fitted to uniform widths, and corrected by timing the plans"


def watching_module(opened: Opened, settings: Settings, apply: Apply, progress: Callable[[str], None]) -> Watch:
    """Time a module and a few uniformly pruned ones, and fit the cost model to them.

    Raises UsageError for settings that are onnxruntime's alone, ModelError where the module does not run.
    """
    _check(settings)
    source: TorchSource = opened.graph.source
    parts = PARTS if opened.groups.groups else PARTS[:1]
    plans = [_uniform(opened, part) for part in parts]
    progress("make uniform models")
    modules = [apply(opened, plan, lambda _stage: None).model.module for plan in plans]
    if source.module is not None:
        modules[0] = source.module
    device = _device(modules[0], source)
    threads = settings.machine.threads

    def lap(module: Any) -> Lap:
        return _lap(module, source, device, threads)

    progress("time uniform models")
    try:
        timing = interleaved([lap(m) for m in modules], Effort(seconds=10.0))
    except FORWARD_ERRORS as error:
        words = f"the module cannot be run on its example: {str(error).splitlines()[0]}"
        raise ModelError("model-does-not-run", words, where="example_inputs", hint="check that it runs") from error
    seconds = np.median(timing.seconds, axis=0)
    widths = np.array([[len(plan.keep[g.id]) for g in opened.groups.groups] for plan in plans], np.int64)
    latency = fitted_latency(opened.groups, widths.reshape(len(plans), -1), seconds)
    first = next((x for x in source.args if isinstance(x, torch.Tensor) and x.ndim), None)
    watch = Watch(
        lap, modules[0], latency, float(latency(opened.groups.sizes)), timing.spread(0), Machine(threads=threads),
        None if first is None else int(first.shape[0]), None, None, "torch", device.type,
        lambda: _signature(device, threads), None, notes=(NOTE,),
    )  # fmt: skip
    return rescaled(watch)


def fitted_latency(groups: Groups, widths: np.ndarray[Any, np.dtype[np.int64]], seconds: FloatArray) -> Latency:
    """Fit seconds, shape (models,), at widths of shape (models, groups), by non-negative least squares.

    The terms are a constant, the multiply-accumulates of the dearest way and the bytes of all activations.
    """
    from scipy.optimize import nnls

    costs, n = groups.costs, len(groups.sizes)
    dearest = costs.macs.row == int(np.argmax(costs.macs(groups.sizes)))
    macs = Polynomial(costs.macs.coefficient[dearest], costs.macs.factor[dearest], np.zeros(dearest.sum(), int), 1, n)
    moved = replace(costs.tensors, row=np.zeros_like(costs.tensors.row), rows=1)
    constant = Polynomial.stack([{(): 1}], n)
    terms = [p for p in (constant, macs, moved) if len(p.coefficient)]
    table = np.stack([p(widths)[..., 0] for p in terms], axis=1)
    scale = np.maximum(table.max(axis=0), 1e-30)
    # Every model's seconds count by how far they are off relatively.
    weight, _ = nnls(table / scale / seconds[:, None], np.ones(len(seconds)))
    return _summed([_times(p, w) for p, w in zip(terms, weight / scale, strict=True)], groups)


def _times(polynomial: Polynomial, factor: float) -> Polynomial:
    return replace(polynomial, coefficient=polynomial.coefficient * factor)


def _summed(parts: list[Polynomial], groups: Groups) -> Latency:
    """Add polynomials in the widths: every group has one gauge, its width itself."""
    n, degree = len(groups.sizes), max(p.factor.shape[1] for p in parts)
    factor = [np.pad(p.factor, ((0, 0), (0, degree - p.factor.shape[1])), constant_values=n) for p in parts]
    coefficient = np.concatenate([p.coefficient for p in parts])
    seconds = Polynomial(coefficient, np.concatenate(factor), np.zeros(len(coefficient), np.int64), 1, n)
    tables = tuple(np.arange(size + 1, dtype=np.float64) for size in groups.sizes)
    return Latency(seconds, np.arange(n), tables)


def _uniform(opened: Opened, part: float) -> Plan:
    """Keep the first units of every group, so many of a hundred."""
    keep = {g.id: tuple(range(max(round(g.size * part), 1))) for g in opened.groups.groups}
    sizes = {g.id: g.size for g in opened.groups.groups}
    return Plan(keep, sizes, opened.groups.fingerprint, coupling=opened.groups.options)


def _check(settings: Settings) -> None:
    machine = settings.machine
    if machine.provider.lower() != CPU:
        words, hint = "a module is timed by torch, where it lies", "move the module and its example to the device"
        raise UsageError("torch-provider", words, where="provider", hint=hint)
    if machine.batch is not None:
        hint = "give example_inputs of that many samples"
        raise UsageError("torch-batch", "a module is timed on its example", where="batch", hint=hint)
    if settings.profile is not None:
        words, hint = "a profile is of an ONNX model's nodes", "export the module and prune the ONNX model"
        raise UsageError("torch-profile", words, where="profile", hint=hint)


def _device(module: nn.Module, source: TorchSource) -> torch.device:
    leaves = torch.utils._pytree.tree_leaves((source.args, dict(source.kwargs)))
    tensors = (*module.parameters(), *module.buffers(), *(x for x in leaves if isinstance(x, torch.Tensor)))
    return tensors[0].device if tensors else torch.device("cpu")


def _lap(module: nn.Module, source: TorchSource, device: torch.device, threads: int) -> Lap:
    """Return what times a module on its example, without gradients and as in inference."""
    on_gpu = device.type == "cuda"
    clock = thread_time if threads == 1 and not on_gpu else perf_counter

    def lap(runs: int) -> float:
        with _threads(threads), inference_mode(module), torch.inference_mode():
            if on_gpu:
                torch.cuda.synchronize(device)
            start = clock()
            for _ in range(runs):
                module(*source.args, **source.kwargs)
            if on_gpu:
                torch.cuda.synchronize(device)
            return clock() - start

    return lap


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let torch work with so many threads; 0 leaves it as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _signature(device: torch.device, threads: int) -> Mapping[str, str]:
    name, sets = processor()
    gpu = {"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}
    said = {"cpu": name, "instructions": " ".join(sets), **gpu, "torch": torch.__version__}
    return said | {"device": str(device), "threads": str(threads)}
