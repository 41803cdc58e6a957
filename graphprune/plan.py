"""The plan: which units every group keeps. Plain data with a JSON round trip."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import PlanError, reason_of

SCHEMA = "graphprune.plan/1"
HINT = "give a file that --save-plan wrote"


def _number(value: Any, least: int = 0) -> int:
    if type(value) is not int or not least <= value < 2**63:
        raise ValueError(f"{value!r} is not a number of units, or a unit")
    return value


def _real(value: Any) -> float | None:
    return None if value is None else float(value)


def _option(name: str, value: Any) -> bool | list[str]:
    """Read what a model was coupled with: one switch, and lists of words."""
    if name == "allow_inexact":
        return bool(value)
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return value
    raise ValueError(f"{value!r} is not a list of words")


@dataclass(frozen=True)
class Plan:
    """The units kept in every group, ascending, with how they were chosen.

    ``keep[id]`` lists unit ordinals of group ``id``, ``sizes[id]`` how many it had. ``fingerprint`` is that of the
    groups the plan was made for. ``objective`` is the loss the solver reached, ``bound`` a lower bound on any plan
    within the budget from a relaxation, ``gap`` = (objective - bound) / max(abs(objective), tiny). ``costs`` are the
    predicted costs. ``coupling`` holds the options ("keep", "allow_inexact") the groups were coupled with.
    """

    keep: Mapping[str, tuple[int, ...]]
    sizes: Mapping[str, int]
    fingerprint: str
    method: str = ""
    seed: int = 0
    budget: Mapping[str, float | str] = field(default_factory=dict)
    objective: float | None = None
    bound: float | None = None
    gap: float | None = None
    costs: Mapping[str, float] = field(default_factory=dict)
    coupling: Mapping[str, Any] = field(default_factory=dict)

    @property
    def widths(self) -> dict[str, int]:
        """How many units every group keeps."""
        return {name: len(units) for name, units in self.keep.items()}

    def to_json(self) -> str:
        """Return the plan as JSON text."""
        body: dict[str, Any] = {
            "schema": SCHEMA,
            "fingerprint": self.fingerprint,
            "method": self.method,
            "seed": self.seed,
            "budget": dict(self.budget),
            "objective": self.objective,
            "bound": self.bound,
            "gap": self.gap,
            "costs": dict(self.costs),
            "coupling": dict(self.coupling),
            "groups": {name: {"size": self.sizes[name], "keep": list(units)} for name, units in self.keep.items()},
        }
        return json.dumps(body, indent=1)

    @classmethod
    def from_json(cls, text: str, where: str = "plan") -> Plan:
        """Read a plan from JSON text.

        Raises PlanError when the text is not a plan of this version.
        """
        try:
            body = json.loads(text)
            if body["schema"] != SCHEMA:
                raise PlanError(
                    "plan-schema",
                    f"this is a {body['schema']!r} file, not {SCHEMA!r}",
                    where=where,
                    hint="save it again with --save-plan of this version",
                )
            groups = body["groups"]
            return cls(
                keep={name: tuple(_number(u) for u in g["keep"]) for name, g in groups.items()},
                sizes={name: _number(g["size"]) for name, g in groups.items()},
                fingerprint=str(body["fingerprint"]),
                method=str(body["method"]),
                seed=_number(body["seed"], least=-(2**63)),
                budget=dict(body["budget"]),
                objective=_real(body["objective"]),
                bound=_real(body["bound"]),
                gap=_real(body["gap"]),
                costs=dict(body["costs"]),
                coupling={name: _option(name, value) for name, value in body["coupling"].items()},
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise PlanError("plan-unreadable", f"not a plan: {reason_of(error)}", where=where, hint=HINT) from error

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        from .notebooks.views import plan_html

        return plan_html(self)

    def save(self, path: str | Path) -> None:
        """Write the plan to a file."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a plan from a file.

        Raises PlanError when the file is missing or not a plan.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            words = f"cannot read the plan: {reason_of(error)}"
            raise PlanError("plan-unreadable", words, where=str(path), hint=HINT) from error
        return cls.from_json(text, where=str(path))
