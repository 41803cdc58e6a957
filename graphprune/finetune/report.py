"""What fine-tuning did, as plain data with a JSON form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import UsageError, reason_of
from ..report.typed import typed

SCHEMA = "graphprune.finetune/1"


@dataclass(frozen=True)
class Score:
    """How a model does on the held-out samples.

    ``agreement`` with the teacher is the share of samples (or tokens) with the same first class, or the mean cosine
    between outputs; ``accuracy`` the share of labels met. None where there is nothing to measure by.
    """

    loss: float
    agreement: float | None = None
    accuracy: float | None = None


@dataclass(frozen=True)
class Epoch:
    """An epoch: the mean loss while training, and the score on the held-out samples after it (None without any)."""

    epoch: int
    loss: float
    held_out: Score | None


@dataclass(frozen=True)
class FinetuneReport:
    """What a run was asked, what it trained on, and what it gained.

    ``samples`` counts those trained on and those held out, on which ``before`` and ``after`` are measured: the model as
    given, and with the weights returned, those of ``best_epoch`` (0: as given, for training never did better).
    ``loss`` says which loss was used and why, ``measure`` what agreement means here. ``input``, ``teacher`` and
    ``output`` hold path, sha256 and bytes of files, ``command`` the words of the command line (none from Python).
    """

    settings: Mapping[str, Any]
    loss: str
    measure: str | None
    samples: Mapping[str, int]
    before: Score | None
    after: Score | None
    history: tuple[Epoch, ...]
    best_epoch: int
    stopped_early: bool
    steps: int
    resumed_at: int | None
    processes: int
    device: str
    precision: str
    warnings: tuple[str, ...] = ()
    input: Mapping[str, Any] | None = None
    teacher: Mapping[str, Any] | None = None
    output: Mapping[str, Any] | None = None
    version: str = ""
    command: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the report as JSON text, one line for every entry."""
        body = {"schema": SCHEMA, **asdict(self)}
        lines = [f" {json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in body.items()]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text: str, where: str = "report") -> FinetuneReport:
        """Read it from JSON text; raises UsageError when it is none of this version."""
        try:
            body: dict[str, Any] = json.loads(text)
            if body.pop("schema") != SCHEMA:
                raise UsageError("report-schema", f"this is not a {SCHEMA!r} file", where=where, hint="make it again")
            scores = {key: score_of(body[key]) for key in ("before", "after")}
            history = tuple(epoch_of(entry) for entry in body["history"])
            words = {key: tuple(map(str, body.get(key, ()))) for key in ("warnings", "command")}
            return typed(cls(**(body | scores | words | {"history": history})))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            hint = "give a file that graphprune finetune --report wrote"
            why = f"not a report: {reason_of(error)}"
            raise UsageError("report-unreadable", why, where=where, hint=hint) from error


def epoch_of(entry: Mapping[str, Any]) -> Epoch:
    """Return an epoch from its plain data."""
    return Epoch(entry["epoch"], entry["loss"], score_of(entry["held_out"]))


def score_of(entry: Mapping[str, Any] | None) -> Score | None:
    """Return a score from its plain data."""
    return None if entry is None else Score(**entry)


def in_words(score: Score | None) -> str:
    """Return a score in words: ``held-out loss 0.123, agreement 98.1%``."""
    if score is None:
        return "nothing held out"
    parts = [f"held-out loss {score.loss:.4g}"]
    parts += [f"agreement {100 * score.agreement:.2f}%"] if score.agreement is not None else []
    parts += [f"accuracy {100 * score.accuracy:.2f}%"] if score.accuracy is not None else []
    return ", ".join(parts)
