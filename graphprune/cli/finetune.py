"""``graphprune finetune MODEL --data D``: train a pruned model to do what its original does, and write it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ..errors import UsageError
from .command import command_words
from .options import Quiet, Switch, Verbose
from .output import emit

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..backends.save import Encoded
    from ..finetune import FinetuneReport, Place, Progress, Settings, Tuned
    from ..frontends.files.load import Loaded

    Tell = Callable[[Progress], None]


@Parameter(name="*")
@dataclass(frozen=True)
class FinetuneOptions:
    """Options of fine-tuning, as given; ``help.FINETUNE`` says what each does."""

    data: str | None = None
    teacher: Path | None = None
    labels: str | None = None
    preprocess: str | None = None
    loss: str = "auto"
    temperature: float = 1.0
    label_weight: float = 0.5
    epochs: int = 3
    lr: float | None = None
    optimizer: str = "adamw"
    weight_decay: float = 0.01
    warmup: float = 0.05
    batch_size: int = 32
    precision: str = "auto"
    seed: int = 0
    holdout: float = 0.1
    patience: int | None = None
    batch_norm: str = "auto"
    device: str = "auto"
    checkpoint: Path | None = None
    checkpoint_every: float = 60.0
    restart: Switch = False
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None
    report: Path | None = None
    html: Path | None = None
    force: Switch = False
    json: Switch = False
    quiet: Quiet = False
    verbose: Verbose = False


DEFAULTS = FinetuneOptions()


def finetune(model: Path, /, *, options: FinetuneOptions = DEFAULTS) -> int:
    """Train a model on data, from a teacher, labels or both, and write the trained one."""
    if options.data is None:
        hint = "--data train.npz; graphprune finetune --help says what else can be given"
        raise UsageError("data-missing", "no data is given", where="--data", hint=hint)
    from ..finetune import Given, Settings, run
    from ..frontends.files.load import load

    settings = Settings(**{field.name: getattr(options, field.name) for field in fields(Settings)})
    loaded, teacher = load(model), None if options.teacher is None else load(options.teacher)
    output = options.output or default_output(model)
    _check_outputs(loaded, teacher, output, options)
    given = Given(loaded, options.data, teacher, options.labels, options.preprocess)
    with told(quiet=options.quiet, verbose=options.verbose) as tell:
        try:
            tuned = run(given, settings, place_of(options), tell)
        except (KeyboardInterrupt, SystemExit):
            if options.checkpoint is not None and options.checkpoint.exists():
                print(f"the same command goes on from {options.checkpoint}", file=sys.stderr)
            raise
    if tuned.writes:
        report = _write(tuned, settings, loaded, teacher, output, options)
        _tell(report, output, options)
    return 0


def default_output(model: Path) -> Path:
    """Return the output beside the input: a.pruned.onnx gives a.pruned.finetuned.onnx."""
    stem = model.name.removesuffix(".onnx")
    return model.with_name(f"{stem or model.name}.finetuned.onnx")


def place_of(options: FinetuneOptions) -> Place | None:
    """Return where checkpoints go; raises UsageError for an interval that is negative or no number."""
    from ..finetune import Place

    if options.checkpoint is None:
        if options.restart:
            words, hint = "there is no checkpoint to disregard", "give --checkpoint FILE, or leave --restart away"
            raise UsageError("checkpoint-missing", words, where="--restart", hint=hint)
        return None
    if not options.checkpoint_every >= 0:
        words = f"{options.checkpoint_every} is not a number of seconds"
        hint = "give 0 for every step, or some seconds"
        raise UsageError("bad-checkpoint-every", words, where="--checkpoint-every", hint=hint)
    return Place(options.checkpoint, options.checkpoint_every, not options.restart)


def _inputs(loaded: Loaded, teacher: Loaded | None, options: FinetuneOptions) -> tuple[Path, ...]:
    data = Path(options.data or "")
    return *loaded.files, *(teacher.files if teacher else ()), *([data] if data.is_file() else [])


def _check_outputs(loaded: Loaded, teacher: Loaded | None, output: Path, options: FinetuneOptions) -> None:
    """Make sure before any long work that everything can be written."""
    from ..backends.files import check_target
    from ..backends.save import data_paths

    inputs = _inputs(loaded, teacher, options)
    outputs = [output, *data_paths(output, loaded.external), *filter(None, [options.report, options.html])]
    targets = [check_target(path, force=options.force, protect=inputs) for path in outputs]
    if options.checkpoint is not None:
        targets.append(check_target(options.checkpoint, force=True, protect=inputs))
    if len(set(targets)) < len(targets):
        words = "two of the files to be written have the same name"
        raise UsageError("output-twice", words, where=str(output), hint="give each its own name")


def _write(
    tuned: Tuned, settings: Settings, loaded: Loaded, teacher: Loaded | None, output: Path, options: FinetuneOptions
) -> FinetuneReport:
    """Write the model, and the report if that is asked for, all or nothing; return the report on what was written."""
    from ..backends.files import File, write_files
    from ..backends.save import encode

    encoded = encode(tuned.model, output, external=loaded.external)
    report = replace(
        tuned.report,
        input=_side(loaded),
        teacher=None if teacher is None else _side(teacher),
        output=_written(encoded, output),
        command=command_words(),
    )
    files = [] if options.report is None else [File(options.report, (report.to_json().encode(),))]
    if options.html is not None:
        from ..report.html.finetuned import finetune_page

        files.append(File(options.html, (finetune_page(report).encode(),)))
    write_files([*files, *encoded.files], force=options.force, protect=_inputs(loaded, teacher, options))
    return report


def _side(loaded: Loaded) -> Mapping[str, Any]:
    return {"path": str(loaded.path), "sha256": loaded.sha256, "bytes": loaded.bytes}


def _written(encoded: Encoded, output: Path) -> Mapping[str, Any]:
    return {"path": str(output), "sha256": encoded.sha256, "bytes": encoded.bytes}


@contextmanager
def told(*, quiet: bool, verbose: bool) -> Iterator[Tell]:
    """Give what is called as training goes on: a line on stderr for every epoch, and on a terminal for every step.

    With ``verbose`` ten steps of every epoch have a line as well; of several processes the first one talks.
    """
    import os

    if quiet or sys.stderr is None or os.environ.get("RANK", "0") != "0":
        yield lambda _progress: None
    elif sys.stderr.isatty():
        from rich.console import Console

        console = Console(stderr=True)
        with console.status("reading model and data") as status:

            def on_terminal(progress: Progress) -> None:
                status.update(in_words(progress))
                if progress.held_out is not None or progress.step == progress.steps:
                    console.print(in_words(progress), highlight=False)

            yield on_terminal
    else:
        yield lambda progress: _line(progress, verbose=verbose)


def _line(progress: Progress, *, verbose: bool) -> None:
    tenth = verbose and progress.step % max(progress.steps // 10, 1) == 0
    if progress.held_out is not None or tenth:
        print(in_words(progress), file=sys.stderr, flush=True)


def in_words(progress: Progress) -> str:
    """Return a line: ``epoch 1/3: loss 0.123, held-out loss 0.118, agreement 97.50%``."""
    from ..finetune.report import in_words as score_in_words

    where = f"epoch {progress.epoch}/{progress.epochs}" if progress.epoch else "as given"
    if progress.held_out is None and progress.epoch:
        where += f", step {progress.step}/{progress.steps}"
    parts = [] if progress.loss is None else [f"loss {progress.loss:.4g}"]
    parts += [] if progress.held_out is None else [score_in_words(progress.held_out)]
    return f"{where}: {', '.join(parts)}" if parts else where


def _tell(report: FinetuneReport, output: Path, options: FinetuneOptions) -> None:
    """Print the report: as JSON on stdout with --json, in words on stdout (or stderr, with --json) unless --quiet."""
    if options.json:
        emit(report.to_json())
    if options.quiet:
        return
    text = (
        "\n".join([*summary(report), f"wrote {', '.join(str(p) for p in (output, options.report, options.html) if p)}"])
        + "\n"
    )
    print(text, end="", file=sys.stderr) if options.json else emit(text)


def summary(report: FinetuneReport) -> Sequence[str]:
    """Return the report in a few lines."""
    from ..finetune.report import in_words as score_in_words

    counts, settings = report.samples, report.settings
    lines = [f"loss {report.loss}"]
    lines.append(
        f"trained on {counts['trained']} samples for {report.steps} steps (seed {settings['seed']}), "
        f"measured on {counts['held out']} others"
    )
    if report.measure is not None:
        lines.append(f"agreement with the teacher is the {report.measure}")
    lines += [f"before: {score_in_words(report.before)}", f"after:  {score_in_words(report.after)}"]
    if report.best_epoch != len(report.history):
        lines.append(f"the weights are those of epoch {report.best_epoch} of {len(report.history)}, the best one")
    return [*lines, *(f"warning: {words}" for words in report.warnings)]
