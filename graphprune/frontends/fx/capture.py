"""A module's forward captured by running it once without data: what ``torch.export`` writes, many times faster.

The forward runs on tensors that have sizes, types and a device but no data; every operator is seen before it is
decomposed and written down, and its result's sizes come by rule, or from torch's own kernels for the meta device, once
for each distinct call. Whatever would make the graph less than the truth raises UncapturableError, or
an error of torch's own, and the module is exported instead: values that steer the forward, autocast
switched on inside it, operators that change what they are given other than in place.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch._export.utils import _compiling_state_context

from .dataless import UncapturableError
from .dispatch import answered_by
from .following import Following
from .mode import Capture
from .modules import modules_of
from .program import Program


def capture(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Program:
    """Capture a forward by running it once without data.

    Raises UncapturableError, or whatever torch raises, where that does not do: then the module must be exported.
    """
    written = Capture(module)
    written.hold()
    leaves, spec = torch.utils._pytree.tree_flatten((args, dict(kwargs)))
    fed = [written.input(t, v) for t, v in zip(_titles(module, args, kwargs), leaves, strict=True)]
    with _hooks(written):
        results, out_spec = follow(written, fed, spec)
    written.finish(results)
    return Program(written.graph, written.origins, written.stored, spec, out_spec)


def follow(following: Following, fed: Sequence[Any], spec: Any) -> tuple[list[Any], Any]:
    """Run a forward on flat inputs that have no data, and return its flat results and their structure.

    ``following`` answers the operators. Raises UncapturableError where data would decide what comes next.
    """
    module = following.module
    args, kwargs = torch.utils._pytree.tree_unflatten(fed, spec)
    with ExitStack() as stack:
        stack.enter_context(answered_by(following))
        stack.enter_context(_untouched(module))
        stack.enter_context(_without_fast_path())
        stack.enter_context(_compiling_state_context())
        result = module(*args, **kwargs)
    if following.unfinished:
        raise UncapturableError(f"the forward goes on after {following.unfinished[-1]} failed")
    results, out_spec = torch.utils._pytree.tree_flatten(result)
    return results, out_spec


def _titles(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[str]:
    """Name the flat inputs after the parameters of the forward."""
    bound = inspect.signature(module.forward).bind(*args, **kwargs)
    names: list[str] = []
    for name, parameter in bound.signature.parameters.items():
        if name in bound.arguments and parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{name}_{k}" for k in range(len(bound.arguments[name]))]
        elif name in bound.arguments and parameter.kind is not parameter.VAR_KEYWORD and name not in kwargs:
            names.append(name)
    titles = []
    for name, value in [*zip(names, args, strict=True), *kwargs.items()]:
        keyed, _ = torch.utils._pytree.tree_flatten_with_path(value)
        for path, _ in keyed:
            parts = [str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k)))) for k in path]
            titles.append("_".join([name, *parts]))
    return titles


@contextmanager
def _untouched(module: nn.Module) -> Iterator[None]:
    """Give every module its attributes back: what a forward stores while it is captured has no data."""
    states = [(vars(m), dict(vars(m))) for _, m in modules_of(module)]
    containers = [v for _, attributes in states for v in attributes.values() if type(v) in (dict, list, set)]
    contents = [(c, c.copy()) for c in containers if c]
    empty = [c for c in containers if not c]
    try:
        yield
    finally:
        for state, attributes in states:
            state.clear()
            state.update(attributes)
        for container in empty:
            if container:
                container.clear()
        for container, content in contents:
            _restore(container, content)


def _restore(container: Any, content: Any) -> None:
    if isinstance(container, list):
        container[:] = content
    else:
        container.clear()
        container.update(content)


@contextmanager
def _hooks(mode: Capture) -> Iterator[None]:
    from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

    handles = [
        register_module_forward_pre_hook(mode.enter),
        register_module_forward_hook(mode.leave, always_call=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _without_fast_path() -> Iterator[None]:
    """Have attention and encoder layers take the way that is written in Python, as under ``torch.export``."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
