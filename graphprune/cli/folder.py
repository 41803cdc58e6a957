"""``graphprune FOLDER --budget B``: prune the model of a folder, and write a folder whose configuration is true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .options import Options
from .outcome import tell, texts
from .progress import progress
from .wanted import settings_from

if TYPE_CHECKING:
    from ..backends.files import File


def wanted_folder(model: Path, options: Options) -> tuple[Path, Path | None] | None:
    """Return the folder to prune, and the model in it where one is named; None where a file alone is meant.

    A folder is meant by its name, if it has a configuration, and by a model in such a folder where ``-o`` names a
    folder: one that exists, or a name without an ending.
    """
    from ..folders.find import is_described, root_of

    if is_described(model):
        return model, None
    output = options.output
    if output is None or not model.is_file() or not (output.is_dir() or not output.suffix):
        return None
    root = root_of(model)
    return None if root is None else (root, model)


def prune_in_folder(root: Path, model: Path | None, options: Options) -> int:
    """Prune a folder's model and write a folder."""
    from ..backends.files import check_target
    from ..folders.find import open_folder
    from ..folders.run import prune_folder
    from ..folders.write import check_folder, default_folder, write_folder

    folder = open_folder(root, model)
    settings = settings_from(root / folder.model, options)
    target = options.output or default_folder(root)
    check_folder(target, folder, force=options.force)
    protect = (*folder.files, *filter(None, [options.plan]))
    for path in filter(None, (options.report, options.html, options.save_plan)):
        check_target(path, force=options.force, protect=protect)
    with progress(quiet=options.quiet, verbose=options.verbose) as step:
        done = prune_folder(folder, settings, step)
        report = done.report
        if not options.dry_run:
            step("write")

            def made(place: Path) -> tuple[Sequence[File], Sequence[File]]:
                nonlocal report
                encoded = done.encoded(place)
                path = str(target / folder.model)
                side = replace(report.output, path=path, sha256=encoded.sha256, bytes=encoded.bytes)
                report = replace(report, output=side)
                return done.files(place, encoded), texts(report, done.pruned.plan, options)

            write_folder(target, made, force=options.force, protect=protect)
    tell(report, target, options)
    return 0
