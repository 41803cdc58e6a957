"""Every ATen operator a thread calls, answered by a handler before torch takes it apart: what ``torch.export`` sees.

torch's own way there, a mode on the stack of its key ``PreDispatch``, costs ten times as much a call: it flattens the
arguments, pops the mode and pushes it again. Here the python dispatcher is given the handler as the operator's kernel.
That stack is one for all threads, too; here the operators of other threads stay torch's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch._C import DispatchKey
from torch._dispatch.python import enable_python_dispatcher
from torch._ops import OpOverload

Handler = Callable[..., Any]
"""Called with an operator and its arguments, defaults at the end left out; returns what the operator is to return."""

_PLAIN = OpOverload._get_dispatch
_HIDING = (DispatchKey.Python, DispatchKey.FuncTorchDynamicLayerFrontMode)
"""Keys that are off where torch works for itself: the first below modes, the second while it prints a tensor."""
_here = threading.local()
_turn = threading.RLock()
"""What a capture sets for the whole process (this, and torch's own flags) allows one at a time."""


@contextmanager
def answered_by(handler: Handler) -> Iterator[None]:
    """Let a handler answer the operators of this thread; those that it calls itself are answered by torch.

    Threads take turns.
    """
    with _turn:
        before, _here.handler = getattr(_here, "handler", None), handler
        seen = torch._C._dispatch_tls_is_dispatch_key_included(DispatchKey.PreDispatch)
        OpOverload._get_dispatch = _kernel_of
        torch._C._dispatch_tls_set_dispatch_key_included(DispatchKey.PreDispatch, True)
        try:
            with enable_python_dispatcher():
                yield
        finally:
            torch._C._dispatch_tls_set_dispatch_key_included(DispatchKey.PreDispatch, seen)
            OpOverload._get_dispatch = _PLAIN if before is None else _kernel_of
            _here.handler = before


def handler() -> Any:
    """Return the handler that answers now; None where there is none."""
    return getattr(_here, "handler", None)


def _kernel_of(operator: Any, key: Any) -> Any:
    """Return what the python dispatcher is to call for an operator at a key; torch asks anew at every call."""
    if key != DispatchKey.PreDispatch or handler() is None:
        return _PLAIN(operator, key)
    hidden = any(map(torch._C._dispatch_tls_is_dispatch_key_excluded, _HIDING))
    return _PLAIN(operator, key) if hidden else partial(_answer, operator)


def _answer(operator: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Have the handler answer, with operators as they are while it does."""
    torch._C._dispatch_tls_set_dispatch_key_included(DispatchKey.PreDispatch, False)
    try:
        return _here.handler(operator, args, kwargs)
    finally:
        torch._C._dispatch_tls_set_dispatch_key_included(DispatchKey.PreDispatch, True)
