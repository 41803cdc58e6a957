"""What training can do besides minimising its loss: a penalty, rates of their own, a watcher. Nothing by default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from .job import Job
    from .state import State


@dataclass(frozen=True)
class Extras:
    """Additions to a run.

    - ``penalty`` is called once a step, with the number of steps done, and returns a scalar that is added to the mean
      loss of the step; on several processes each calls it, and it counts once.
    - ``rates``: parameters whose names begin so have so many times the learning rate, and no weight decay.
    - ``after_step`` is called after every step: to clamp parameters, say.
    - ``observe`` is called after every epoch, on every process, and returns plain data (JSON) that is kept with the run
      and its checkpoints, one entry an epoch. It may raise to end the run.
    - ``keep_last``: the result has the last epoch's weights, not those of the best held-out loss: with a penalty that
      grows, the best is the first.
    - ``made_with``: what a checkpoint must share with the run that takes it up, besides the settings.
    """

    penalty: Callable[[Job, int], Tensor] | None = None
    rates: Mapping[str, float] = field(default_factory=dict)
    after_step: Callable[[], None] | None = None
    observe: Callable[[Job, State], Mapping[str, Any]] | None = None
    keep_last: bool = False
    made_with: Mapping[str, Any] = field(default_factory=dict)

    def rate_of(self, name: str) -> float | None:
        """Return how many times the learning rate a parameter has by its name; None where it is one of the others."""
        return next((rate for begin, rate in self.rates.items() if name.startswith(begin)), None)


NOTHING = Extras()
