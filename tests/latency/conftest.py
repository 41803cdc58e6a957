"""The fake clock, for the tests of this folder."""

from __future__ import annotations

from fake_clock import fake

__all__ = ["fake"]
