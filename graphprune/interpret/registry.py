"""Which function computes which ONNX operator: one table, filled by decorators.

An operator is a plain function. It takes the ONNX inputs in order (``None`` for an absent one) and the ONNX attributes
as keyword arguments under their own names, and returns a tensor, or a tuple if registered with ``several=True``:

    @register("Elu")
    def elu(x, *, alpha=1.0):
        return torch.nn.functional.elu(x, alpha)

An operator that behaves differently while training is an ``nn.Module`` class instead: made with the attributes, called
with the inputs. Three keyword names are filled in by the interpreter where a signature has them: ``like``, an empty
tensor of the device and floating type that the module has been moved to; ``outputs``, how many outputs the node has;
``opset``, the version of the node's operator set.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeVar

import torch
from torch import nn

from ..errors import ModelError

Implementation = Callable[..., Any]
F = TypeVar("F", bound=Implementation)


@dataclass(frozen=True, slots=True)
class Operator:
    """How to compute an operator from opset ``since`` on.

    ``host`` are the positions of the inputs wanted as Python numbers and lists, ``either`` those taken as they come,
    ``fixed`` those whose constants are never trained, ``carried`` those that may be integers carried as floats (see
    ops_quantize), ``updated`` those that it changes while training. ``keywords`` are the names it knows. ``makes`` is
    the integer type of a first output that is carried, or the position of the input that has it.
    """

    function: Implementation
    since: int
    several: bool
    host: frozenset[int]
    either: frozenset[int]
    fixed: frozenset[int]
    carried: frozenset[int]
    updated: frozenset[int]
    keywords: frozenset[str]
    makes: torch.dtype | int | None

    @property
    def is_module(self) -> bool:
        """Tell whether the operator is a module class, which knows whether it is being trained."""
        return isinstance(self.function, type) and issubclass(self.function, nn.Module)


ANY = "**"
"""Among the keywords of an operator: it takes any attribute."""
BUILT_IN = frozenset({"Constant", "Identity", "If", "Loop", "Scan"})
"""What the interpreter itself takes care of."""
_TABLE: dict[tuple[str, str], list[Operator]] = {}


def register(
    op_type: str | Iterable[str], domain: str = "", *, since: int = 1, several: bool = False,
    host: Iterable[str] = (), either: Iterable[str] = (), fixed: Iterable[str] = (),
    carried: Iterable[str] = (), updated: Iterable[str] = (), makes: torch.dtype | str | None = None,
) -> Callable[[F], F]:  # fmt: skip
    """Return a decorator that makes a function compute an ONNX operator (or each of several).

    ``since`` is the first opset of the meaning implemented. ``several``: the function returns a tuple, one entry an
    output. ``host`` names the arguments wanted as Python numbers or lists of them (shapes, axes), ``either`` those that
    may be such or tensors, ``fixed`` more whose stored constants are not weights (bounds, running statistics).
    ``updated`` names those that a module changes while training: a tensor that several nodes store as one becomes one
    each. ``carried`` and ``makes`` are for quantised tensors, see ops_quantize. Registering an operator again replaces
    it.
    """

    def decorate(function: F) -> F:
        for name in [op_type] if isinstance(op_type, str) else op_type:
            entry = _operator(function, since, several, (host, either, fixed, carried, updated), makes)
            known = [o for o in _TABLE.get((domain, name), []) if o.since != since]
            _TABLE[domain, name] = sorted([*known, entry], key=lambda o: o.since)
        return function

    return decorate


def register_all(table: dict[str, Implementation], domain: str = "", *, since: int = 1) -> None:
    """Register a table of operators that need nothing said about them."""
    for name, function in table.items():
        register(name, domain, since=since)(function)


def _operator(
    function: Implementation,
    since: int,
    several: bool,
    named: tuple[Iterable[str], ...],
    makes: torch.dtype | str | None,
) -> Operator:
    is_module = isinstance(function, type) and issubclass(function, nn.Module)
    inputs = [*_parameters(function.forward)][1:] if is_module else [*_parameters(function)]  # type: ignore[attr-defined]
    host, either, fixed, carried, updated = (frozenset(inputs.index(n) for n in names) for names in named)
    made = inputs.index(makes) if isinstance(makes, str) else makes
    keywords = frozenset(_parameters(function))
    return Operator(function, since, several, host, either, fixed | host, carried, updated, keywords, made)


def _parameters(function: Implementation) -> Iterable[str]:
    """Return the names of a function's arguments, and ANY if it takes whatever keywords."""
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # built into torch: takes tensors only
        return ()
    return [ANY if p.kind is p.VAR_KEYWORD else name for name, p in parameters.items()]


def find(domain: str, op_type: str, version: int, where: str) -> Operator:
    """Return the newest meaning of an operator that is not newer than the model's opset.

    Raises ModelError ``operator-unknown`` naming the operator, its domain, the node, and how to register one.
    """
    known = [o for o in _TABLE.get((domain, op_type), []) if o.since <= version]
    if known:
        return known[-1]
    full = f"{domain}::{op_type}" if domain else op_type
    close = get_close_matches(op_type, [n for d, n in _TABLE if d == domain], n=1)
    near = f" (did you mean {close[0]}?)" if close else ""
    place = f'"{op_type}", domain="{domain}"' if domain else f'"{op_type}"'
    raise ModelError(
        "operator-unknown", f"no torch implementation of the ONNX operator {full}, opset {version}{near}",
        where=f"node {where!r}",
        hint=f"write a function of its inputs and attributes and put @graphprune.interpret.register({place}) above it",
    )  # fmt: skip


def is_registered(domain: str, op_type: str) -> bool:
    """Tell whether an operator has an implementation, of whatever opset."""
    return (domain, op_type) in _TABLE or (domain == "" and op_type in BUILT_IN)


def fixed_inputs(domain: str, op_type: str, versions: Mapping[str, int]) -> frozenset[int]:
    """Return the positions of the inputs whose constants are not weights; none for an unknown operator."""
    domain = "" if domain == "ai.onnx" else domain
    known = [o for o in _TABLE.get((domain, op_type), []) if o.since <= versions.get(domain, 1)]
    return known[-1].fixed if known else frozenset()


def operators() -> tuple[tuple[str, str], ...]:
    """Return every (domain, operator) that is registered."""
    return tuple(sorted(_TABLE))
