"""``graphprune MODEL --budget B``: prune a model and write the smaller one."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from .command import command_words
from .folder import prune_in_folder, wanted_folder
from .options import Options, calibration, default_output, settings_of
from .output import emit
from .progress import progress

if TYPE_CHECKING:
    from onnx import ModelProto

    from ..backends.files import File
    from ..frontends.files.load import Loaded
    from ..pipeline.run import Pruned, Settings
    from ..pipeline.stepwise import Train
    from ..plan import Plan
    from ..report.report import Report

DEFAULTS = Options()


def prune(model: Path, /, *, options: Options = DEFAULTS) -> int:
    """Prune a model to a budget and write the smaller one."""
    from ..frontends.files.load import load
    from ..pipeline.run import run

    inside = wanted_folder(model, options)
    if inside is not None:
        return prune_in_folder(*inside, options)
    settings = _settings(model, options)
    with progress(quiet=options.quiet, verbose=options.verbose) as step:
        step("load")
        loaded = load(model)
        output = options.output or default_output(model)
        _check_outputs(loaded, output, options)
        done = run(loaded, settings, step)
        step("write")
        report = _write(done, loaded, output, options)
    _tell(report, output, options)
    return 0


def _settings(model: Path, options: Options) -> Settings:
    """Read what is wanted; raises GraphpruneError for values that make no sense for any model."""
    from ..budget import Budget
    from ..pipeline.run import check_settings
    from ..plan import Plan

    settings = settings_of(
        options,
        budget=Budget.parse(options.budget) if options.budget else None,
        steps=options.steps,
        plan=Plan.load(options.plan) if options.plan else None,
        train=_trainer(model, options),
    )
    check_settings(settings)
    return settings


def _trainer(model: Path, options: Options) -> Train | None:
    """Return what trains between steps, to do what the original does, if that is asked for; raises UsageError."""
    if not options.epochs:
        return None
    if options.epochs < 0:
        words, hint = f"{options.epochs} is negative", "give a number of epochs, such as 1"
        raise UsageError("bad-epochs", words, where="--epochs", hint=hint)
    if options.data is None:
        words, hint = "there is nothing to train on", "give samples by --data"
        raise UsageError("data-missing", words, where="--data", hint=hint)

    def train(small: ModelProto, step: int) -> ModelProto:
        from ..finetune import finetune

        trained, _ = finetune(
            small, data=calibration(options).seen, teacher=model, loss=options.loss or "auto", epochs=options.epochs,
            seed=options.seed + step,
        )  # fmt: skip
        return trained

    return train


def _check_outputs(loaded: Loaded, output: Path, options: Options) -> None:
    """Make sure before any long work that everything can be written."""
    from ..backends.files import check_target
    from ..backends.save import data_paths

    inputs = (*loaded.files, *filter(None, [options.plan]))
    outputs = [output, *data_paths(output, loaded.external), options.report, options.html, options.save_plan]
    targets = [check_target(p, force=options.force, protect=inputs) for p in outputs if p is not None]
    if len(set(targets)) < len(targets):
        words = "two of the files to be written have the same name"
        raise UsageError("output-twice", words, where=str(output), hint="give each its own name")


def _write(done: Pruned, loaded: Loaded, output: Path, options: Options) -> Report:
    """Write the model and whatever was asked for beside it, all or nothing; return the report on what was written."""
    from ..backends.files import write_files
    from ..backends.save import encode

    if options.dry_run:
        return done.report
    encoded = encode(done.model, output, external=loaded.external)
    side = replace(done.report.output, path=str(output), sha256=encoded.sha256, bytes=encoded.bytes)
    report = replace(done.report, output=side)
    files = [*_texts(report, done.plan, options), *encoded.files]
    write_files(files, force=options.force, protect=(*loaded.files, *filter(None, [options.plan])))
    return report


def _texts(report: Report, plan: Plan, options: Options) -> list[File]:
    from ..backends.files import File

    files = []
    report = replace(report, command=command_words())
    if options.report is not None:
        files.append(File(options.report, (report.to_json().encode(),)))
    if options.html is not None:
        from ..report.html.page import report_page

        files.append(File(options.html, (report_page(report).encode(),)))
    if options.save_plan is not None:
        files.append(File(options.save_plan, (plan.to_json().encode(), b"\n")))
    return files


def _tell(report: Report, output: Path, options: Options) -> None:
    """Print the report: as JSON on stdout with --json, in words on stdout (or stderr, with --json) unless --quiet."""
    if options.json:
        emit(replace(report, command=command_words()).to_json())
    if options.quiet:
        return
    from ..report.terminal import in_words, styled

    files = ", ".join(str(p) for p in (output, options.report, options.html, options.save_plan) if p is not None)
    last = f"dry run, not written: {files}" if options.dry_run else f"wrote {files}"
    stream = sys.stderr if options.json else sys.stdout
    text = styled([*in_words(report, verbose=options.verbose), last], stream)
    print(text, end="", file=sys.stderr) if options.json else emit(text)
