from __future__ import annotations

import importlib
import importlib.metadata
import json
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
from graphprune.passes import Magnitude

from graphprune import registry
from graphprune.errors import GraphpruneError, UsageError
from graphprune.registry import RegistryError

BUILT_IN = {"magnitude", "l1", "l2", "lamp", "fpgm", "random", "bn"}

PASS = """
from dataclasses import dataclass
from typing import ClassVar, Literal
from graphprune.scores import Scores

@dataclass(frozen=True)
class Mine:
    samples: int
    mode: Literal["fast", "slow"] = "fast"
    name: ClassVar[str] = "mine"
    needs: ClassVar[str] = "data"
    summary: ClassVar[str] = "what a stranger wrote"
    scale_equivariant: ClassVar[bool] = False

    def __call__(self, graph, groups):
        return Scores({}, "mine")

@dataclass(frozen=True)
class Mute:
    name: ClassVar[str] = "mute"
    needs: ClassVar[str] = "data"
    scale_equivariant: ClassVar[bool] = False

    def __call__(self, graph, groups): ...

@dataclass(frozen=True)
class Idle(Mute):
    summary: ClassVar[str] = "cannot be called"
    __call__ = None

@dataclass(frozen=True)
class Greedy(Mute):
    summary: ClassVar[str] = "needs what nobody has"
    needs: ClassVar[str] = "money"

text = "not a class"
"""


class Site:
    """A folder of installed packages in front of the real ones."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.monkeypatch = monkeypatch
        monkeypatch.syspath_prepend(path)

    def install(self, package: str, module: str, **passes: str) -> None:
        self.monkeypatch.delitem(sys.modules, package, raising=False)
        (self.path / f"{package}.py").write_text(module)
        info = self.path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in passes.items()]
        (info / "entry_points.txt").write_text("\n".join(["[graphprune.passes]", *lines]) + "\n")
        importlib.invalidate_caches()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


def test_built_in_passes_are_registered_and_sound() -> None:
    assert set(registry.names()) >= BUILT_IN
    assert list(registry.names()) == sorted(registry.names())
    assert not [p for p in registry.problems() if p["name"] in BUILT_IN]


def test_listing_names_imports_neither_numpy_nor_a_pass() -> None:
    code = (
        "import sys\nfrom graphprune import registry\nassert registry.names()\n"
        "heavy = {'numpy', 'graphprune.passes', 'torch', 'onnx'} & set(sys.modules)\nassert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_describe_is_plain_data() -> None:
    described = {d["name"]: d for d in json.loads(json.dumps(registry.describe()))}
    assert set(described) >= BUILT_IN
    assert described["random"]["needs"] == "nothing"
    assert described["random"]["options"] == [
        {"name": "seed", "type": "int", "default": 0, "choices": [], "required": False}
    ]
    norm = described["magnitude"]["options"][0]
    assert norm == {"name": "norm", "type": "int", "default": 2, "choices": [1, 2], "required": False}


def test_options_say_what_they_may_be_not_how_the_code_calls_it() -> None:
    told = {(d["name"], o["name"]): o for d in registry.describe() for o in d["options"]}
    assert told["coreset", "mode"]["choices"] == ["sample", "topk", "refit"]
    assert told["coreset", "kernel"]["choices"] == ["sum", "max"]
    assert told["coreset", "beta"]["type"] == "float | auto | data"
    assert told["vib", "kl"]["type"] == "float | None"
    known = {"Any", "Callable", "Mapping", "None", "ScoringPass", "auto", "bool", "data", "float", "int", "str"}
    assert {word for o in told.values() for word in o["type"].split(" | ")} <= known


def test_an_alias_is_described_with_what_it_fixes() -> None:
    l1 = next(d for d in registry.describe() if d["name"] == "l1")
    assert "norm=1" in l1["summary"]
    assert "norm" not in [o["name"] for o in l1["options"]]


def test_options_are_passed_on() -> None:
    assert registry.get("magnitude", norm=1, aggregate="max") == Magnitude(norm=1, aggregate="max")


@pytest.mark.parametrize(("typo", "meant"), [("magnitud", "magnitude"), ("LAMP", "lamp"), ("fpmg", "fpgm")])
def test_an_unknown_name_gets_did_you_mean(typo: str, meant: str) -> None:
    with pytest.raises(UsageError) as caught:
        registry.get(typo)
    assert caught.value.where == typo
    assert f"did you mean '{meant}'?" in str(caught.value)
    assert caught.value.exit_status == 2


def test_a_name_like_no_other_gets_the_list() -> None:
    with pytest.raises(UsageError) as caught:
        registry.get("zzzzzz")
    assert "did you mean" not in str(caught.value)
    assert all(name in str(caught.value) for name in BUILT_IN)


@pytest.mark.parametrize(("method", "option"), [("random", "sed"), ("l1", "norm"), ("bn", "norm")])
def test_an_unknown_option_is_refused(method: str, option: str) -> None:
    with pytest.raises(UsageError, match=f"{method} has no option '{option}'"):
        registry.get(method, **{option: 1})


def test_a_strangers_pass_is_found_described_and_made(site: Site) -> None:
    site.install("stranger", PASS, mine="stranger:Mine")
    assert set(registry.names()) >= BUILT_IN | {"mine"}
    mine = next(d for d in registry.describe() if d["name"] == "mine")
    assert mine == {
        "name": "mine",
        "needs": "data",
        "summary": "what a stranger wrote",
        "package": "stranger",
        "options": [
            {"name": "samples", "type": "int", "default": None, "choices": [], "required": True},
            {"name": "mode", "type": "str", "default": "fast", "choices": ["fast", "slow"], "required": False},
        ],
    }
    assert registry.get("mine", samples=3).needs == "data"


def test_an_option_without_a_default_must_be_given(site: Site) -> None:
    site.install("stranger", PASS, mine="stranger:Mine")
    with pytest.raises(UsageError, match="mine needs the option 'samples'"):
        registry.get("mine")


@pytest.mark.parametrize(
    ("module", "value", "says"),
    [
        ("import no_such_module_anywhere", "broken:Mine", "no_such_module_anywhere"),
        ("def", "broken:Mine", "SyntaxError"),
        ("raise RuntimeError('no licence')", "broken:Mine", "no licence"),
        ("1 / 0", "broken:Mine", "ZeroDivisionError"),
        (PASS, "broken:Missing", "Missing"),
        (PASS, "nowhere_at_all:Mine", "nowhere_at_all"),
        (PASS, "broken:text", "not a dataclass"),
        (PASS, "broken:Mute", "no summary"),
        (PASS, "broken:Idle", "cannot be called"),
        (PASS, "broken:Greedy", "needs is none of"),
    ],
)
def test_a_broken_plug_in_is_reported_and_breaks_nothing_else(site: Site, module: str, value: str, says: str) -> None:
    site.install("broken", module, bad=value)
    (problem,) = registry.problems()
    assert (problem["name"], problem["package"]) == ("bad", "broken")
    assert says in problem["message"]
    assert "uninstall broken" in problem["hint"]
    assert {d["name"] for d in registry.describe()} >= BUILT_IN
    assert registry.get("lamp").name == "lamp"
    with pytest.raises(RegistryError) as caught:
        registry.get("bad")
    assert caught.value.where == value


def test_a_name_registered_twice_is_an_error_that_names_both(site: Site) -> None:
    site.install("rival", PASS, lamp="rival:Mine")
    for ask in (registry.names, registry.describe, lambda: registry.get("random")):
        with pytest.raises(GraphpruneError) as caught:
            ask()
        assert caught.value.code == "duplicate-pass"
        assert "rival:Mine of rival" in str(caught.value)
        assert "graphprune.passes.lamp:LAMP of graphprune" in str(caught.value)


@pytest.mark.parametrize("others", [[], [EntryPoint("mine", "stranger:Mine", registry.ENTRY_POINTS)]])
def test_a_source_tree_that_is_not_installed_says_so(others: list[EntryPoint], monkeypatch: pytest.MonkeyPatch) -> None:
    found = EntryPoints(others)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: found)
    with pytest.raises(RegistryError, match="pip install") as caught:
        registry.names()
    assert caught.value.code == "not-installed"


def test_classes_are_importable_by_name() -> None:
    passes = importlib.import_module("graphprune.passes")
    assert all(isinstance(getattr(passes, name), type) and name in dir(passes) for name in passes.__all__)
    with pytest.raises(AttributeError, match="Nonsense"):
        _ = passes.Nonsense
