"""Same function, in torch: a pruned module against the masked original, on the example's inputs and on random ones.

On random inputs the weights that say nothing are given something to say: biases that are still zero, a head that was
never trained, layer scales of a millionth would hide a wrong slice behind them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from ..backends.fx.cuts import Cuts, cuts_of, sliced
from ..backends.fx.masked import Masks, run_graph
from ..errors import ModelError, VerificationError
from ..frontends.fx.program import inference_mode
from ..frontends.fx.trace import TorchSource, array_of
from ..graph import Graph
from ..groups import Groups
from ..layout import kept_by
from ..plan import Plan
from .differences import TOLERANCE, Difference, Outputs, agreement, says_something, worst
from .verify import Verification, integer_limits, is_exact

RUN_ERRORS = (
    RuntimeError, ValueError, TypeError, IndexError, AttributeError, KeyError, AssertionError, NotImplementedError,
    ArithmeticError,
)  # fmt: skip
"""What running a module may raise when its sizes do not fit."""
SILENT = 1e-3
"""Weights none of which is larger than this are given other values for the random inputs."""


@dataclass(frozen=True)
class Case:
    """A call, what the masked original gives for it, and what the original gives; tensors only, as arrays.

    ``weights`` are stored tensors that have other values in this case, uncut.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    wanted: Outputs
    original: Outputs
    weights: Mapping[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Reference:
    """Calls to compare a pruned module on, and what the plan keeps of the stored tensors."""

    cases: tuple[Case, ...]
    cuts: Cuts


def reference_of(graph: Graph, groups: Groups, plan: Plan, *, seed: int = 0) -> Reference:
    """Run the masked original, and the original, on the example and on random inputs of its sizes.

    Raises ModelError when the captured model does not run on its own example, VerificationError when it gives no
    number to compare.
    """
    source: TorchSource = graph.source
    kept = kept_by(groups, plan)
    masks, cuts = Masks(graph, groups, kept), cuts_of(graph, groups, kept)
    leaves, spec = pytree.tree_flatten((source.args, dict(source.kwargs)))
    cases = []
    with exactly():
        try:
            cases.append(_case(source, masks, leaves, spec, {}))
        except RUN_ERRORS as error:
            hint = "check that the model runs by itself on these inputs, in eval mode"
            raise ModelError("model-does-not-run", f"the captured model fails: {_line(error)}", hint=hint) from error
        cases += _random_cases(graph, masks, leaves, spec, seed)
    if not any(all(says_something(y) for y in case.wanted) for case in cases):
        raise VerificationError(
            "nothing-to-compare", "the model gives no finite number, so the pruned one cannot be checked",
            hint="give example inputs on which it does",
        )  # fmt: skip
    return Reference(tuple(cases), cuts)


def agreeing_with(graph: Graph, reference: Reference) -> Reference:
    """Return the reference with another original: the graph that a pass was given, where it changed the model."""
    source: TorchSource = graph.source
    cases = []
    with exactly():
        for case in reference.cases:
            leaves, _ = pytree.tree_flatten((case.args, dict(case.kwargs)))
            cases.append(replace(case, original=_arrays(run_graph(source, leaves, weights=case.weights))))
    return replace(reference, cases=tuple(cases))


def _random_cases(graph: Graph, masks: Masks, leaves: Sequence[Any], spec: Any, seed: int) -> list[Case]:
    """Return a case on random inputs, positive ones where others give no number; none where the model refuses."""
    source: TorchSource = graph.source
    generator = torch.Generator().manual_seed(seed)
    weights = {n: _noise(t, generator) for n, t in source.parameters.items() if _is_silent(t)}
    limits = integer_limits(graph)
    names = dict(zip(source.inputs, graph.inputs, strict=True))
    of_leaf = [names.get(n, "") for n in source.program.graph.nodes if _is_input(source, n)]
    for positive in (False, True):
        drawn = [_drawn(x, limits.get(n), generator, positive=positive) for x, n in zip(leaves, of_leaf, strict=True)]
        try:
            case = _case(source, masks, drawn, spec, weights)
        except RUN_ERRORS:
            return []
        if all(says_something(y) for y in case.wanted):
            return [case]
    return []


def _is_input(source: TorchSource, node: Any) -> bool:
    origin = source.program.origins.get(node.name)
    return node.op == "placeholder" and (origin is None or origin.kind != "tensor")


def _is_silent(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, nn.Parameter) and tensor.is_floating_point() and float(tensor.abs().max()) < SILENT


def _noise(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    fan = math.prod(tensor.shape[1:]) if tensor.dim() > 1 else 4
    drawn = torch.randn(tensor.shape, generator=generator) / math.sqrt(max(fan, 1))
    return drawn.to(tensor.device, tensor.dtype)


def _drawn(leaf: Any, limit: int | None, generator: torch.Generator, *, positive: bool) -> Any:
    """Return a random input like an example: normal numbers, integers within the range of the example's."""
    if not isinstance(leaf, torch.Tensor) or not leaf.numel() or leaf.dtype == torch.bool or leaf.is_complex():
        return leaf
    if leaf.is_floating_point():
        drawn = torch.randn(leaf.shape, generator=generator)
        return (drawn.abs() if positive else drawn).to(leaf.device, leaf.dtype)
    low, high = (0, limit - 1) if limit else (int(leaf.min()), int(leaf.max()))
    return torch.randint(low, high + 1, leaf.shape, generator=generator).to(leaf.device, leaf.dtype)


def _case(
    source: TorchSource, masks: Masks, leaves: Sequence[Any], spec: Any, weights: Mapping[str, torch.Tensor]
) -> Case:
    args, kwargs = pytree.tree_unflatten(list(leaves), spec)
    wanted = masks.run(leaves, weights)
    original = run_graph(source, leaves, weights=weights)
    return Case(args, kwargs, _arrays(wanted), _arrays(original), weights)


@contextmanager
def exactly() -> Iterator[None]:
    """Run without gradients, and without the shortened factors that GPUs may multiply with."""
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, convolution.allow_tf32
    matmul.allow_tf32 = convolution.allow_tf32 = False
    try:
        with torch.no_grad():
            yield
    finally:
        matmul.allow_tf32, convolution.allow_tf32 = before


def _arrays(outputs: Any) -> Outputs:
    return [array_of(x) for x in pytree.tree_leaves(outputs) if isinstance(x, torch.Tensor)]


def outputs_of(module: nn.Module, case: Case, cuts: Cuts) -> Outputs:
    """Run a pruned module on a case in inference mode; raises one of RUN_ERRORS where its sizes do not fit."""
    weights = {n: sliced(t, cuts.by_name.get(n, {})) for n, t in case.weights.items()}
    weights |= {c: sliced(case.weights[n], cut) for c, (n, cut) in cuts.copies.items() if n in case.weights}
    leaves, spec = pytree.tree_flatten((case.args, dict(case.kwargs)))
    args, kwargs = pytree.tree_unflatten([x.clone() if isinstance(x, torch.Tensor) else x for x in leaves], spec)
    with exactly(), inference_mode(module):
        result = torch.func.functional_call(module, weights, args, kwargs) if weights else module(*args, **kwargs)
    return _arrays(result)


def matches(module: nn.Module, reference: Reference) -> str:
    """Tell how a pruned module differs from the masked original; "" where it does not."""
    for case in reference.cases:
        try:
            mine = outputs_of(module, case, reference.cuts)
        except RUN_ERRORS as error:
            return f"it fails ({_line(error)})"
        if len(mine) != len(case.wanted):
            return f"it gives {len(mine)} tensors instead of {len(case.wanted)}"
        found = _found(mine, case)
        if not found.within:
            return f"outputs differ by {found.relative:.3g} of their range"
    return ""


def _found(mine: Outputs, case: Case) -> Difference:
    return worst(mine, case.wanted, [True] * len(mine))


def verify_module(
    graph: Graph, groups: Groups, plan: Plan, small: nn.Module, *, seed: int = 0, reference: Reference | None = None
) -> Verification:
    """Run a pruned module and the masked original on the example and on random inputs and compare every output.

    ``reference`` may have been made before. Raises VerificationError when an output differs or the pruned module does
    not run, ModelError when the model itself does not run.
    """
    reference = reference or reference_of(graph, groups, plan, seed=seed)
    why = matches(small, reference)
    if why:
        raise VerificationError(
            "not-the-same-function", f"the pruned module is not the masked original: {why}",
            hint="nothing was changed; protect what makes it with keep=..., and please report this with the model",
        )  # fmt: skip
    mine = [outputs_of(small, case, reference.cuts) for case in reference.cases]
    found = [_found(y, case) for y, case in zip(mine, reference.cases, strict=True)]
    most = max(found, key=lambda d: d.relative / d.tolerance, default=Difference(0.0, 0.0, TOLERANCE["float32"]))
    cosines = [agreement(y, case.original) for y, case in zip(mine, reference.cases, strict=True)]
    agreed = [c for c in cosines if c is not None]
    mean = float(np.mean(agreed)) if agreed else None
    return Verification(most.absolute, most.relative, len(found), most.tolerance, mean, is_exact(groups, plan))


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
