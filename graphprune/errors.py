"""The errors a user can meet: each has a code, says where and what happened, and what to do about it."""

from __future__ import annotations


class GraphpruneError(Exception):
    """Base of every error that is the user's to mend.

    ``code`` names the kind in kebab-case, ``where`` the file, node or option, ``hint`` what to do.
    ``exit_status`` is what the command line exits with: 1 when a budget is out of reach or a check failed,
    2 for wrong usage or an unreadable model.
    """

    exit_status = 2

    def __init__(self, code: str, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        """Return place, message and help in the order a reader wants them."""
        place = f"{self.where}: " if self.where else ""
        advice = f"\nhelp: {self.hint}" if self.hint else ""
        return f"{place}{self.message}{advice}"


class UsageError(GraphpruneError):
    """An option or argument is not what it should be."""


class ModelError(GraphpruneError):
    """The model cannot be read, is invalid, or cannot be run."""


class PlanError(GraphpruneError):
    """A plan cannot be read or does not belong to the model."""


class OutputError(GraphpruneError):
    """The output cannot be written."""


class BudgetError(GraphpruneError):
    """The budget is out of reach; the message says what is reachable."""

    exit_status = 1


class VerificationError(GraphpruneError):
    """The pruned model does not compute the masked original; nothing was written."""

    exit_status = 1


def reason_of(error: Exception) -> str:
    """Say in plain words why a file, or the text in it, could not be read."""
    from json import JSONDecodeError

    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, KeyError):
        return f"it has no {error}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "it is no text"
    if isinstance(error, JSONDecodeError):
        return f"it is no JSON: {error}"
    if isinstance(error, (TypeError, AttributeError)):
        return "its parts are not of the kinds they should be"
    return str(error)
