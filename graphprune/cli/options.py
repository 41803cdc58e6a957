"""The options of the pruning command, and the ones that are read here: shapes, alignment, file names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ..errors import UsageError

if TYPE_CHECKING:
    from ..pipeline.calibration import Calibration
    from ..pipeline.settings import Settings

Switch = Annotated[bool, Parameter(negative=())]
Many = Annotated[list[str] | None, Parameter(negative=())]
Quiet = Annotated[bool, Parameter(name=("--quiet", "-q"), negative=())]
Verbose = Annotated[bool, Parameter(name=("--verbose", "-v"), negative=())]


@Parameter(name="*")
@dataclass(frozen=True)
class Choosing:
    """The options of all commands that choose units, as given; ``help.MAIN`` says what each does."""

    method: str = "auto"
    data: str | None = None
    labels: str | None = None
    preprocess: str | None = None
    loss: str | None = None
    samples: int | None = None
    holdout: float | None = None
    repair: Literal["auto", "none", "bias", "least-squares", "blocks"] = "auto"
    option: Many = None
    seed: int = 0
    min_width: int = 1
    multiple: str = "auto"
    time_limit: float | None = None
    keep: Many = None
    allow_inexact: Switch = False
    prune: Many = None
    provider: str = "cpu"
    threads: int = 1
    batch: int | None = None
    profile: Path | None = None
    report: Path | None = None
    html: Path | None = None
    json: Switch = False
    input_shape: Many = None
    force: Switch = False
    quiet: Quiet = False
    verbose: Verbose = False


@Parameter(name="*")
@dataclass(frozen=True)
class Options(Choosing):
    """Options of the pruning command."""

    budget: Many = None
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None
    steps: int = 1
    epochs: int = 0
    save_plan: Path | None = None
    plan: Path | None = None
    dry_run: Switch = False


@Parameter(name="*")
@dataclass(frozen=True)
class SweepOptions(Choosing):
    """Options of the sweep; ``help.SWEEP`` says what each does."""

    budgets: Many = None
    svg: Path | None = None


def calibration(options: Choosing) -> Calibration:
    """Return the samples and what is done with them; their values are checked with the other settings."""
    from ..pipeline.calibration import Calibration

    return Calibration(
        options.data, options.labels, options.preprocess, options.samples, options.holdout, options.repair, options.seed
    )  # fmt: skip


def settings_of(options: Choosing, **more: Any) -> Settings:
    """Return what a run is asked to do; raises GraphpruneError for values that make no sense for any model."""
    from ..kinds import wanted_kinds
    from ..latency.machine import Machine
    from ..pipeline.settings import Settings, profile_of

    if options.min_width < 0:
        hint = "give the least number of units a group may keep"
        raise UsageError("bad-width", f"{options.min_width} is negative", where="--min-width", hint=hint)
    return Settings(
        method=options.method, options=method_options(options, training=bool(more.get("train"))), seed=options.seed,
        min_width=options.min_width, multiple=alignment(options.multiple), time_limit=options.time_limit,
        keep=tuple(options.keep or ()),
        allow_inexact=options.allow_inexact, input_shapes=input_shapes(options.input_shape or ()),
        prune=wanted_kinds(options.prune or ()), calibration=calibration(options),
        machine=Machine(options.provider, options.threads, options.batch), profile=profile_of(options.profile), **more,
    )  # fmt: skip


def method_options(options: Choosing, *, training: bool = False) -> dict[str, Any]:
    """Return the options that are the method's own, those that are given; what ``training`` uses need not be its.

    Raises UsageError for an --option that is no KEY=VALUE, or given twice.
    """
    from ..registry import options_of

    named: dict[str, Any] = {}
    if options.loss is not None and ("loss" in options_of(calibration(options).method(options.method)) or not training):
        named["loss"] = options.loss
    for text in options.option or ():
        name, value = _key_value(text)
        if name in named:
            hint = "give each of the method's options once"
            raise UsageError("option-twice", f"{name!r} is given twice", where="--option", hint=hint)
        named[name] = value
    return named


def _key_value(text: str) -> tuple[str, Any]:
    """Read KEY=VALUE: a number, true, false, null or a list as in JSON, and else text; dashes in the key will do."""
    name, equals, value = text.partition("=")
    name = name.strip().replace("-", "_")
    if not equals or not name.isidentifier():
        hint = "write KEY=VALUE, such as beta=231; graphprune passes METHOD lists them"
        raise UsageError("bad-option", f"{text!r} is not a key with a value", where="--option", hint=hint)
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value.strip()


def input_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Read NAME=1,3,224,224, also with x between the sizes; a scalar is NAME=.

    Raises UsageError for other texts and for a name given twice.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, equals, sizes = text.rpartition("=")
        parts = [part.strip() for part in sizes.lower().replace("x", ",").split(",")] if sizes.strip() else []
        if not equals or not name or not all(part.isdecimal() and int(part) > 0 for part in parts):
            hint = "write NAME=1,3,224,224 with one positive size an axis"
            raise UsageError("bad-shape", f"{text!r} is not a name with sizes", where="--input-shape", hint=hint)
        if name in shapes:
            words = f"the shape of {name!r} is given twice"
            raise UsageError("bad-shape", words, where="--input-shape", hint="give each input once")
        shapes[name] = tuple(map(int, parts))
    return shapes


def alignment(text: str) -> int | Literal["auto"]:
    """Read the value of --multiple: a positive number, or "auto"; raises UsageError for anything else."""
    if text == "auto":
        return "auto"
    if not (text.isdecimal() and int(text) > 0):
        words = f"{text!r} is neither a positive number nor auto"
        hint = "auto aligns widths to what kernels like, 1 leaves them free"
        raise UsageError("bad-multiple", words, where="--multiple", hint=hint)
    return int(text)


def default_output(model: Path) -> Path:
    """Return the output beside the input: a.b.onnx gives a.b.pruned.onnx."""
    name = model.name
    stem = name[: -len(".onnx")] if name.lower().endswith(".onnx") and len(name) > len(".onnx") else name
    return model.with_name(f"{stem}.pruned.onnx")
