"""In how many blocks the moments of a consumer's inputs are kept: its own, or more where memory asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from .consumer import Consumer
from .settings import Settings

NARROWEST = 64
"""Columns below which blocks are not made narrower to save memory."""


def blocks_of(consumer: Consumer, settings: Settings) -> int:
    """Return how many blocks a consumer's moments have: its own, or more so that none is too wide."""
    if settings.kind == "diagonal":
        return consumer.columns
    inputs = consumer.width // consumer.area
    fitting = (d for d in divisors(inputs) if inputs // d * consumer.area <= settings.widest)
    return consumer.blocks * next(fitting, inputs)


def within_memory(settings: Settings, consumers: Sequence[Consumer]) -> Settings:
    """Return settings whose blocks are narrow enough for the moments of all consumers to fit the memory allowed."""
    distinct = list({c.key: c for c in consumers}.values())
    while settings.widest > NARROWEST and sum(_bytes_of(c, settings) for c in distinct) > settings.memory:
        settings = replace(settings, widest=settings.widest // 2)
    return settings


def _bytes_of(consumer: Consumer, settings: Settings) -> int:
    blocks = blocks_of(consumer, settings)
    return 8 * blocks * (consumer.columns // blocks) ** 2


def in_blocks(consumers: Sequence[Consumer], settings: Settings) -> Iterator[str]:
    """Say of how many layers covariances are kept in part, if of any."""
    split = {c.key for c in consumers if settings.kind == "full" and blocks_of(c, settings) > c.blocks}
    if split:
        yield f"of {len(split)} layers' inputs covariances are kept in blocks of at most {settings.widest} columns"


def divisors(number: int) -> Iterator[int]:
    """Yield the divisors of a number, ascending."""
    yield from (d for d in range(1, number + 1) if number % d == 0)
