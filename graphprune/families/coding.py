"""How integers stored in a model stand for numbers: (code - zero point) times scale."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Coding:
    """Where a node that reads codes at one of its inputs finds what they stand for.

    ``scales`` are the positions of the inputs whose product is the scale (none: a later node scales), ``zero`` the
    position of the zero point (None: 0). A scale or zero point of several elements runs along ``axis`` of the codes;
    with ``block`` above zero each entry along ``axis`` serves that many codes. ``bits`` below eight with ``packed``
    mean that codes lie in bytes, several in each, the first in the lowest bits.
    """

    scales: tuple[int, ...] = ()
    zero: int | None = None
    axis: int = 0
    block: int = 0
    bits: int = 8
    packed: bool = False
