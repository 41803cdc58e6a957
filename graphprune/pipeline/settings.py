"""What a run is asked to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..budget import Budget
from ..errors import UsageError
from ..latency.machine import Machine
from .calibration import Calibration

if TYPE_CHECKING:
    from ..latency.profile import Profile
    from ..plan import Plan
    from ..scoring import ScoringPass
    from ..solver.rules import Multiple
    from .stepwise import Train

Progress = Callable[[str], None]


def silent(_stage: str) -> None:
    """Report no progress."""


@dataclass(frozen=True)
class Settings:
    """What a run is asked to do; see ``prune``. ``options`` are those of a method that is given by name.

    ``machine`` is what latency is measured on, ``profile`` one taken elsewhere that latency is planned by.
    """

    budget: Budget | None = None
    method: str | ScoringPass = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 1
    seed: int = 0
    min_width: int = 1
    multiple: Multiple = "auto"
    time_limit: float | None = None
    keep: tuple[str, ...] = ()
    allow_inexact: bool = False
    input_shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    plan: Plan | None = None
    train: Train | None = None
    prune: tuple[str, ...] = ()
    calibration: Calibration = field(default_factory=Calibration)
    machine: Machine = field(default_factory=Machine)
    profile: Profile | None = None

    @property
    def times(self) -> bool:
        """Whether the budget limits latency, so that models are to be timed."""
        return self.budget is not None and self.budget.latency is not None

    @classmethod
    def of(cls, **given: Any) -> Settings:
        """Return the settings of ``prune``'s arguments, whatever is given of them; what it has not is the method's.

        Raises UsageError for values that make no sense.
        """
        from ..kinds import wanted_kinds

        names = {f.name for f in fields(cls)} - {"options", "calibration", "machine"}
        own, rest = ({k: v for k, v in given.items() if (k in names) is mine} for mine in (True, False))
        own["machine"] = Machine(**{f.name: rest.pop(f.name) for f in fields(Machine) if f.name in rest})
        own["profile"] = profile_of(own.get("profile"))
        samples = {f.name for f in fields(Calibration)} - {"seed"}
        if isinstance(rest.get("data"), Iterator):  # it is gone through more than once
            rest["data"] = list(rest["data"])
        calibration = Calibration(**{k: rest.pop(k) for k in samples & rest.keys()}, seed=given.get("seed", 0))
        budget = own.get("budget")
        own["budget"] = budget if budget is None or isinstance(budget, Budget) else Budget.parse(budget)
        own["keep"], own["prune"] = tuple(own.get("keep", ())), wanted_kinds(own.get("prune", ()))
        own["input_shapes"] = dict(own.get("input_shapes") or {})
        return cls(**own, options=rest, calibration=calibration)


def profile_of(given: Any) -> Profile | None:
    """Read a profile that is a path; raises UsageError for a file that is none."""
    if not isinstance(given, (str, Path)):
        profile: Profile | None = given
        return profile
    from ..latency.profile import Profile as Read

    return Read.load(given)


def check_settings(settings: Settings) -> None:
    """Raise UsageError for settings that make no sense whatever the model is, before any work."""
    from ..solver.proof import effort_of
    from .fitting import chooses, scoring_pass

    settings.calibration.check()
    effort_of(settings.time_limit, monotonic)
    if settings.plan is None and settings.budget is None and not (settings.steps == 1 and chooses(settings)):
        hint = "--budget 0.5 keeps half of the MACs; graphprune --help says more"
        raise UsageError("budget-missing", "no budget is given", where="--budget", hint=hint)
    if settings.train is not None and settings.steps == 1:
        words, hint = "there are no steps to train between", "give --steps 2 or more, or train the result"
        raise UsageError("train-without-steps", words, where="train", hint=hint)
    if settings.plan is None:
        scoring_pass(settings)
    elif settings.steps != 1:
        words, hint = "a plan is applied at once", "give a plan or a number of steps"
        raise UsageError("plan-in-steps", words, where="--steps", hint=hint)
