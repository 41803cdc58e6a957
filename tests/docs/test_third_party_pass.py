"""The example of a pass in a package of its own installs, is found, and prunes, without touching this environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from docs_pages import ROOT
from models import residual_cnn

import graphprune as gp
from graphprune.cli import main

PACKAGE = ROOT / "examples" / "third_party_pass"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install a copy of the package, without its dependencies and without the network; return where."""
    folder = tmp_path_factory.mktemp("third_party")
    shutil.copytree(PACKAGE, folder / "source", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", folder / "site"]
    command = [sys.executable, "-m", "pip", "install", *options, folder / "source"]
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


@pytest.fixture
def beside(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process find the package, as if it were installed here."""
    monkeypatch.syspath_prepend(site)


def test_it_is_a_package_of_its_own(site: Path) -> None:
    assert {p.name for p in site.iterdir()} >= {"graphprune_chain.py", "graphprune_chain-0.1.0.dist-info"}
    assert not (site / "graphprune").exists()


@pytest.mark.usefixtures("beside")
def test_the_method_is_listed_with_its_package_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["passes", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    (chain,) = [p for p in body["passes"] if p["name"] == "chain"]
    assert chain["package"] == "graphprune-chain"
    assert [(o["name"], o["default"]) for o in chain["options"]] == [("sharpness", 1.0)]


@pytest.mark.usefixtures("beside")
def test_the_method_prunes_through_its_entry_point(tmp_path: Path) -> None:
    model, report = tmp_path / "m.onnx", tmp_path / "r.json"
    model.write_bytes(residual_cnn().SerializeToString())
    options = ["--method", "chain", "--option", "sharpness=2", "--report", str(report)]
    assert main([str(model), "--budget", "0.5", *options]) == 0
    body = json.loads(report.read_text())
    assert body["method"] == "chain"
    assert body["output"]["macs"] <= body["input"]["macs"] / 2
    assert (tmp_path / "m.pruned.onnx").exists()


@pytest.mark.usefixtures("beside")
def test_scores_are_the_products_of_relative_energies() -> None:
    from graphprune_chain import Chain  # type: ignore[import-not-found]

    graph = gp.trace(residual_cnn())
    groups = gp.couple(graph)
    scores = Chain()(graph, groups)
    first = graph.parameter("block.first.weight").astype(np.float64)
    second = graph.parameter("block.second.weight").astype(np.float64)
    gamma = graph.parameter("block.first.gamma").astype(np.float64)
    places = [(first**2).sum(axis=(1, 2, 3)), (second**2).sum(axis=(0, 2, 3)), gamma**2]
    expected = np.prod([p / p.mean() for p in places], axis=0) ** (1 / len(places))
    place = ("block.first.weight", 0)
    (group,) = [g.id for g in groups.values() if place in [(m.tensor, m.axis) for m in g.members]]
    np.testing.assert_allclose(scores[group], expected, rtol=1e-6)
