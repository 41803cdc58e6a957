"""A folder is pruned: its model by the pipeline, its configurations by what the plan says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backends.files import File
from ..backends.save import Encoded, encode
from ..frontends.files.load import load
from ..frontends.onnx.trace import trace
from ..pipeline.opening import groups_of_plan
from ..pipeline.run import run, version
from ..pipeline.settings import silent
from ..report.report import Report
from .find import Folder
from .mend import Mended, mend
from .write import config_file, copies, read_config

if TYPE_CHECKING:
    from ..frontends.files.load import Loaded
    from ..pipeline.run import Pruned
    from ..pipeline.settings import Settings


@dataclass(frozen=True)
class PrunedFolder:
    """A folder's model pruned, and its configurations mended, by their paths in the folder. Nothing is written yet."""

    folder: Folder
    loaded: Loaded = field(repr=False)
    pruned: Pruned = field(repr=False)
    configs: Mapping[Path, Mended]

    @property
    def report(self) -> Report:
        """The report, with what a user should know of the configurations and of files that were left out."""
        warnings = [line for path, mended in self.configs.items() for line in mended.warnings(str(path))]
        left = ", ".join(map(str, self.folder.left))
        notes = [f"not copied, as they hold weights of the model as it was: {left}"] if left else []
        report = self.pruned.report
        return replace(report, warnings=(*report.warnings, *warnings), notes=(*report.notes, *notes))

    def encoded(self, target: Path) -> Encoded:
        """Return the model as files in a folder."""
        return encode(self.pruned.model, target / self.folder.model, external=self.loaded.external)

    def files(self, target: Path, encoded: Encoded) -> list[File]:
        """Return everything that goes to a folder, the configurations last."""
        mended = [config_file(target / path, m.config) for path, m in self.configs.items()]
        return [*copies(self._without_data(), target), *encoded.files, *mended]

    def _without_data(self) -> Folder:
        """Return the folder without the model's own external data, which is written anew."""
        data = {p.resolve() for p in self.loaded.files}
        return replace(
            self.folder, copied=tuple(p for p in self.folder.copied if (self.folder.root / p).resolve() not in data)
        )


def prune_folder(folder: Folder, settings: Settings, progress: Callable[[str], None] = silent) -> PrunedFolder:
    """Prune a folder's model and mend its configurations; nothing is written.

    Raises what ``pipeline.run.run`` raises, and ModelError for a configuration that is no JSON object.
    """
    configs = {path: read_config(folder.root / path) for path in folder.configs}
    progress("load")
    loaded = load(folder.root / folder.model)
    pruned = run(loaded, settings, progress)
    progress("mend the configuration")
    graph = trace(loaded, input_shapes=settings.input_shapes)
    groups = groups_of_plan(graph, pruned.plan, settings)
    matrices = {t.name for t in graph.parameters if len(t.shape or ()) > 1}
    facts = _facts(pruned.report, folder)
    part = next((word for word in ("encoder", "decoder") if folder.model.name.startswith(word)), "")
    mended = {path: mend(body, groups, pruned.plan.keep, matrices, facts, part) for path, body in configs.items()}
    return PrunedFolder(folder, loaded, pruned, mended)


def _facts(report: Report, folder: Folder) -> dict[str, Any]:
    return {
        "version": version(), "model": folder.model.as_posix(), "method": report.method, "seed": report.seed,
        "budget": dict(report.budget), "sha256_before": report.input.sha256,
    }  # fmt: skip
