"""What the divergence of some groups counts more than that of others: SBPa's factors. Importing needs no torch.

SBPa is SBP with ten times the divergence on the first two convolutions of a VGG net and five times on the next two
(arXiv 1705.07283, section 5.3): what costs most to run is pushed hardest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from ..errors import UsageError

Multipliers = str | Mapping[str, float]
RANGE = re.compile(r"(\d+)(?:-(\d+))?")
HINT = "give PATTERN=FACTOR or FIRST-LAST=FACTOR, such as 'stage1.*=10,3-4=5'"


def factors(asked: Multipliers) -> dict[str, float]:
    """Return the factors by selector; raises UsageError for text or numbers that are no factors.

    ``asked`` maps selectors to factors, or spells that: "1-2=10,3-4=5". A selector is a place or a range of places in
    graph order, counted from 1, or a pattern of group ids with * and ?.
    """
    pairs = asked.items() if isinstance(asked, Mapping) else [_pair(part) for part in asked.split(",") if part.strip()]
    found = {}
    for selector, value in pairs:
        try:
            found[str(selector).strip()] = float(value)
        except (TypeError, ValueError) as error:
            raise _refused(f"{value!r} is no number") from error
        if not (math.isfinite(float(value)) and float(value) >= 0):
            raise _refused(f"{value!r} is not a finite number of at least 0")
    return found


def multiplied(weights: Mapping[str, float], asked: Multipliers) -> dict[str, float]:
    """Return weights by group id, in graph order, times what the selectors that apply say; the last one decides.

    Raises UsageError for a selector that applies to no group.
    """
    result = dict(weights)
    for selector, factor in factors(asked).items():
        chosen = _chosen(tuple(weights), selector)
        if not chosen:
            raise _refused(f"{selector!r} applies to none of the groups {', '.join(weights)}")
        result |= {name: weights[name] * factor for name in chosen}
    return result


def _chosen(names: Sequence[str], selector: str) -> list[str]:
    places = RANGE.fullmatch(selector)
    if places is None or selector in names:
        return [name for name in names if name == selector or fnmatchcase(name, selector)]
    first, last = int(places[1]), int(places[2] or places[1])
    return list(names[max(first, 1) - 1 : last])


def _pair(part: str) -> tuple[str, str]:
    selector, equals, value = part.rpartition("=")
    if not equals:
        raise _refused(f"{part.strip()!r} has no factor")
    return selector, value


def _refused(words: str) -> UsageError:
    return UsageError("bad-multipliers", words, where="multipliers", hint=HINT)
