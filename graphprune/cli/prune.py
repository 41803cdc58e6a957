"""``graphprune MODEL --budget B``: prune a model and write the smaller one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from .folder import prune_in_folder, wanted_folder
from .options import Options, default_output
from .outcome import tell, texts
from .progress import progress
from .wanted import settings_from

if TYPE_CHECKING:
    from ..frontends.files.load import Loaded
    from ..pipeline.run import Pruned
    from ..report.report import Report

DEFAULTS = Options()


def prune(model: Path, /, *, options: Options = DEFAULTS) -> int:
    """Prune a model to a budget and write the smaller one."""
    from ..frontends.files.load import load
    from ..pipeline.run import run

    inside = wanted_folder(model, options)
    if inside is not None:
        return prune_in_folder(*inside, options)
    settings = settings_from(model, options)
    with progress(quiet=options.quiet, verbose=options.verbose) as step:
        step("load")
        loaded = load(model)
        output = options.output or default_output(model)
        _check_outputs(loaded, output, options)
        done = run(loaded, settings, step)
        step("write")
        report = _write(done, loaded, output, options)
    tell(report, output, options)
    return 0


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
    files = [*texts(report, done.plan, options), *encoded.files]
    write_files(files, force=options.force, protect=(*loaded.files, *filter(None, [options.plan])))
    return report
