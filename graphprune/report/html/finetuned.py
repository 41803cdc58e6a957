"""The page of a model that was fine-tuned: what it gained, and how the loss fell."""

from __future__ import annotations

from collections.abc import Iterator

from ...finetune.report import Epoch, FinetuneReport, Score
from .charts import Axis, Mark, line_chart
from .document import document
from .markup import Html, element, joined
from .page import base_name, made, warnings_section
from .tables import Column, scrolling, section, table


def finetune_page(report: FinetuneReport) -> str:
    """Return the page of a run of fine-tuning."""
    name = base_name(str((report.input or {}).get("path") or ""))
    head = _headline(report)
    sections = [warnings_section(report.warnings), _gains(report), _history(report), _made(report)]
    over = joined(["Fine-tuned ", element("b", name)])
    counts = report.samples
    lede = (
        f"{report.steps} steps on {counts.get('trained', 0)} samples, measured on {counts.get('held out', 0)} others."
    )
    return document(f"{name}: {head}", over, head, sections, lede=lede, version=report.version)


def _headline(report: FinetuneReport) -> str:
    before, after = report.before, report.after
    if before is None or after is None:
        return f"Trained for {len(report.history)} epochs"
    if after.accuracy is not None and before.accuracy is not None:
        return f"Accuracy {100 * before.accuracy:.1f}% → {100 * after.accuracy:.1f}%"
    if after.agreement is not None and before.agreement is not None:
        return f"Agreement with the teacher {100 * before.agreement:.1f}% → {100 * after.agreement:.1f}%"
    return f"Held-out loss {before.loss:.3g} → {after.loss:.3g}"


def _gains(report: FinetuneReport) -> Html:
    columns = (Column("On samples held out", "text"), Column("Before"), Column("After"))
    rows = list(_scores(report.before, report.after))
    if not rows:
        return section("totals", "Before and after", lede="No samples were held out to measure on.")
    lede = None if report.measure is None else f"Agreement with the teacher is the {report.measure}."
    body = table("gains", "Scores before and after", columns, rows, sorts=False, kind="totals")
    return section("totals", "Before and after", body, lede=lede)


def _scores(before: Score | None, after: Score | None) -> Iterator[tuple[str, str, str]]:
    if before is None or after is None:
        return
    yield "Loss", f"{before.loss:.4g}", f"{after.loss:.4g}"
    for words, key in (("Agreement with the teacher", "agreement"), ("Accuracy", "accuracy")):
        pair = getattr(before, key), getattr(after, key)
        if None not in pair:
            yield words, *(f"{100 * value:.2f}%" for value in pair)  # type: ignore[misc]


def _history(report: FinetuneReport) -> Html | None:
    """Return the loss after every epoch, while training and on the samples held out."""
    epochs = report.history
    if not epochs:
        return None
    columns = (
        Column("Epoch", "text"),
        Column("Training loss"),
        Column("Held-out loss"),
        Column("Agreement", wide=True),
    )
    rows = [_row(epoch, report.best_epoch) for epoch in epochs]
    body = table("history", "Loss after every epoch", columns, rows, sorts=False)
    picture = scrolling(_chart(epochs), "Loss over epochs") if len(epochs) > 1 else None
    lede = "The line is the loss while training, the dashed one that on samples held out." if picture else None
    return section("losses", "How it went", picture, body, lede=lede)


def _row(epoch: Epoch, best: int) -> tuple[str, str, str, str]:
    held = epoch.held_out
    agreement = "–" if held is None or held.agreement is None else f"{100 * held.agreement:.2f}%"
    mark = " (kept)" if epoch.epoch == best else ""
    return f"{epoch.epoch}{mark}", f"{epoch.loss:.4g}", "–" if held is None else f"{held.loss:.4g}", agreement


def _chart(epochs: tuple[Epoch, ...]) -> Html:
    trained = [Mark(e.epoch, e.loss, f"epoch {e.epoch}: {e.loss:.4g} while training") for e in epochs]
    held = [
        Mark(e.epoch, e.held_out.loss, f"epoch {e.epoch}: {e.held_out.loss:.4g} held out")
        for e in epochs
        if e.held_out is not None
    ]
    top = max(mark.y for mark in (*trained, *held)) or 1.0
    across = Axis(epochs[0].epoch, epochs[-1].epoch, "epoch", percent=False)
    return line_chart(trained, across, Axis(0.0, top * 1.05, "loss", percent=False), "Loss over epochs", more=held)


def _made(report: FinetuneReport) -> Html:
    files = {
        f"{side} {key}": (of or {}).get(key)
        for side, of in (("input", report.input), ("teacher", report.teacher), ("output", report.output))
        for key in ("path", "sha256")
    }
    settings = {key.replace("_", " "): value for key, value in report.settings.items() if value is not None}
    facts = {"loss": report.loss, "device": report.device, "precision": report.precision, **settings, **files}
    return made(report.command, {key: value for key, value in facts.items() if value is not None})
