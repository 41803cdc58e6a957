"""A module's forward captured by running it once without data: what ``torch.export`` writes, many times faster.

The forward runs on tensors that have sizes, types and a device but no data, under a dispatch mode that sees every
operator before it is decomposed; each is written down, and its result's sizes come from torch's own kernels for the
meta device, once for each distinct call. Whatever would make the graph less than the truth raises UncapturableError, or
an error of torch's own, and the module is exported instead: values that steer the forward, autocast
switched on inside it, operators that change what they are given other than in place.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch._dispatch.python import enable_python_dispatcher
from torch._export.utils import _compiling_state_context

from .fx_dataless import UncapturableError
from .fx_mode import Capture
from .fx_program import Program


def capture(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Program:
    """Capture a forward by running it once without data.

    Raises UncapturableError, or whatever torch raises, where that does not do: then the module must be exported.
    """
    mode = Capture(module)
    mode.hold()
    leaves, spec = torch.utils._pytree.tree_flatten((args, dict(kwargs)))
    titles = _titles(module, args, kwargs)
    with torch.no_grad():
        fed = [mode.input(t, v) for t, v in zip(titles, leaves, strict=True)]
    held_args, held_kwargs = torch.utils._pytree.tree_unflatten(fed, spec)
    with ExitStack() as stack:
        stack.enter_context(_untouched(module))
        stack.enter_context(_hooks(mode))
        stack.enter_context(_without_fast_path())
        stack.enter_context(_compiling_state_context())
        stack.enter_context(enable_python_dispatcher())
        stack.enter_context(mode)
        result = module(*held_args, **held_kwargs)
    if mode.unfinished:
        raise UncapturableError(f"the forward goes on after {mode.unfinished[-1]} failed")
    results, out_spec = torch.utils._pytree.tree_flatten(result)
    mode.finish(results)
    return Program(mode.graph, mode.origins, mode.tensors, spec, out_spec)


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
    before = []
    for m in module.modules():
        state = vars(m)
        held = {k: v.copy() for k, v in state.items() if type(v) in (dict, list, set)}
        before.append((state, dict(state), held))
    try:
        yield
    finally:
        for state, attributes, held in before:
            state.clear()
            state.update(attributes)
            for name, content in held.items():
                _restore(state[name], content)


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
