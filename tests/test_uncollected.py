"""Steps pause the garbage collector, and leave it as they found it."""

from __future__ import annotations

import gc

import pytest
from models import mlp

import graphprune as gp
from graphprune.errors import UsageError
from graphprune.uncollected import uncollected


@pytest.fixture(autouse=True)
def collecting() -> object:
    gc.enable()
    yield
    gc.enable()


def test_it_is_off_inside_and_on_again_after() -> None:
    assert uncollected(gc.isenabled)() is False
    assert gc.isenabled()


def test_it_is_on_again_after_an_error() -> None:
    with pytest.raises(UsageError):
        gp.couple(gp.trace(mlp()), keep=["nothing like this"])
    assert gc.isenabled()


def test_a_user_who_switched_it_off_keeps_it_off() -> None:
    gc.disable()
    gp.couple(gp.trace(mlp()))
    assert not gc.isenabled()


def test_names_and_documents_stay() -> None:
    assert gp.couple.__name__ == "couple"
    assert "groups of units" in (gp.couple.__doc__ or "")
