"""A module's forward captured by ``torch.export``, and what to tell a user when it cannot be."""

from __future__ import annotations

import inspect
import io
import logging
import os
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...errors import ModelError, UsageError
from .program import Program, program_of

FORWARD_ERRORS = (
    RuntimeError, TypeError, ValueError, AttributeError, LookupError, AssertionError, ArithmeticError, ImportError,
)  # fmt: skip
"""What a forward, or torch inside it, may raise."""

VALUES = (
    "data-dependent", "GuardOnDataDependent", "DataDependentOutput", ".numpy() is not supported", "_local_scalar_dense",
    "doesn't have storage", "FakeTensor",
)  # fmt: skip
"""Words by which torch says that the forward looks at the values of a tensor."""


def call_of(module: nn.Module, example_inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return positional and keyword arguments from a tensor, a tuple or a dict of examples.

    Raises UsageError where they are something else, or are not what the forward takes.
    """
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    if isinstance(example_inputs, torch.Tensor):
        args = (example_inputs,)
    elif isinstance(example_inputs, (tuple, list)):
        args = tuple(example_inputs)
    elif isinstance(example_inputs, Mapping):
        kwargs = {str(k): v for k, v in example_inputs.items()}
    else:
        given = "missing" if example_inputs is None else f"a {type(example_inputs).__name__}"
        raise UsageError(
            "example-inputs", f"example_inputs is {given}, so the forward cannot be run", where="example_inputs",
            hint="give a tensor, a tuple of positional arguments, or a dict of keyword arguments",
        )  # fmt: skip
    signature = inspect.signature(module.forward)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise UsageError(
            "example-inputs", f"the forward cannot be called so: {error}", where="example_inputs",
            hint=f"{type(module).__name__}.forward takes {signature}",
        ) from error  # fmt: skip
    return args, kwargs


def export(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], dynamic_shapes: Any) -> Program:
    """Capture a forward with ``torch.export``; the module should be in inference mode.

    Raises UsageError when the forward fails on the example itself, or ``dynamic_shapes`` do not fit it, and ModelError
    when torch cannot export it: with what torch said, where in the user's code, and what to change.
    """
    try:
        with _quiet():
            exported = torch.export.export(module, args, dict(kwargs), dynamic_shapes=dynamic_shapes, strict=False)
    except FORWARD_ERRORS as error:
        _check_it_runs(module, args, kwargs)
        raise _explained(module, error, dynamic_shapes) from error
    return program_of(exported)


def _check_it_runs(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Raise UsageError if the forward fails on the example without anybody tracing it."""
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            module(*args, **kwargs)
    except FORWARD_ERRORS as error:
        raise UsageError(
            "example-inputs", f"the forward fails on example_inputs: {_first_line(error)}", where=_place(module, error),
            hint="give an example that the module runs with",
        ) from error  # fmt: skip


def _explained(module: nn.Module, error: BaseException, dynamic_shapes: Any) -> ModelError | UsageError:
    """Return the error that says what torch said in one line, where, and what to change."""
    said, place = str(error), _place(module, error)
    name = type(error).__name__
    if dynamic_shapes and (
        "Constraints violated" in said or "dynamic_shapes" in said or name in ("IndexError", "UserError")
    ):
        fixes = [line.strip(" -") for line in said.splitlines() if line.startswith("  ")]
        return UsageError(
            "dynamic-shapes", f"dynamic_shapes do not fit the forward: {(fixes or [_first_line(error)])[0]}",
            where=place, hint="leave such axes out of dynamic_shapes: they keep the size they have in the example",
        )  # fmt: skip
    if any(word in said or word in name for word in VALUES):
        return ModelError(
            "data-dependent-forward",
            f"the forward looks at the values of a tensor, which torch.export cannot follow: {_first_line(error)}",
            where=place,
            hint="decide outside the forward and pass the decision in as a Python number, or compute both ways and "
            "choose with torch.where or torch.cond; keep .item(), .tolist() and .numpy() out of the forward",
        )
    if "known type" in said or "pytree" in said:
        return ModelError(
            "forward-result", f"torch.export cannot read what the forward takes or returns: {_first_line(error)}",
            where=place, hint="take and return tensors, or tuples, lists, dicts and named tuples of them",
        )  # fmt: skip
    return ModelError(
        "not-exportable", f"torch.export cannot follow the forward: {_first_line(error)}", where=place,
        hint="torch.export.draft_export(module, args) lists all that is in its way",
    )  # fmt: skip


def _first_line(error: BaseException) -> str:
    """Return the first line of what was said, short enough to stand in a sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    said = lines[0] if isinstance(error, RuntimeError) else f"{type(error).__name__}: {lines[0]}"
    return said if len(said) <= 200 else f"{said[:197]}..."


def _place(module: nn.Module, error: BaseException) -> str:
    """Return file:line of the innermost frame outside torch, the module's class where there is none."""
    inside = f"{Path(torch.__file__).parent}{os.sep}", f"{Path(__file__).parent}{os.sep}", "<"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(inside)]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else type(module).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from printing, logging and warning of what the error says anyway."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
