"""Every script in examples/ runs as a user would run it, and the model that ships is the one its README names."""

import hashlib
import json
import re
from pathlib import Path

import onnx
import pytest
from example_outputs import EXAMPLES, NEEDS, PAGE, differences, documented, missing, run

MODEL = EXAMPLES / "text_direction.onnx"
LINES = 80
ELSEWHERE = ("latency_budget.py", "prune_module.py", "prune_text_direction.py")
"""Scripts with tests of their own, below and in latency/test_latency_example.py."""


def widths_of_convolutions(path: Path) -> list[int]:
    graph = onnx.load(path).graph
    shapes = {n.output[0]: n.attribute[0].t.dims for n in graph.node if n.op_type == "Constant"}
    return [shapes[n.input[1]][0] for n in graph.node if n.op_type == "Conv"]


def scripts() -> list[Path]:
    return sorted(p for p in EXAMPLES.glob("*.py") if not p.name.startswith("_"))


def test_every_script_is_run_here() -> None:
    assert {p.name for p in scripts()} == set(NEEDS)


@pytest.mark.parametrize("script", scripts(), ids=lambda p: p.name)
def test_a_script_is_short(script: Path) -> None:
    assert len(script.read_text(encoding="utf-8").splitlines()) <= LINES


def test_every_script_has_its_output_in_the_documents() -> None:
    assert set(documented(PAGE.read_text(encoding="utf-8"))) == set(NEEDS)


@pytest.mark.parametrize("script", [s for s in NEEDS if s not in ELSEWHERE])
def test_a_script_prints_what_the_documents_say(script: str, tmp_path: Path) -> None:
    if lacking := missing(script):
        pytest.skip(f"needs {', '.join(lacking)}: pip install '.[examples]'")
    said = documented(PAGE.read_text(encoding="utf-8"))[script]
    assert not differences(said, run(script, folder=tmp_path))
    assert not list(tmp_path.iterdir())


def test_differences_are_found() -> None:
    said = "accuracy 99.0% of 1,000, loss 2.50, took ~3 ms\n"
    assert not differences(said, "accuracy 97.0% of 1,000, loss 2.60, took ~9 ms\n")
    assert differences(said, "accuracy 95.0% of 1,000, loss 2.50, took ~3 ms\n") == [
        "99.0% is documented, 95.0% is printed"
    ]
    assert differences(said, "accuracy 99.0% of 1,000, loss 3.50, took ~3 ms\n")
    assert differences(said, "accuracy 99.0% of 1,000, loss 2.50, took 3 ms\n")
    assert differences(said, "error 99.0% of 1,000, loss 2.50, took ~3 ms\n")
    assert differences(said, "accuracy 99.0% of 1,000, loss 2.50\n")


def test_a_module_is_pruned_trained_saved_and_loaded(tmp_path: Path) -> None:
    words = run("prune_module.py", folder=tmp_path)
    part = dict(re.findall(r"^(\S+): +([\d.]+)%", words, re.MULTILINE))
    accuracy = {name: float(value) for name, value in part.items()}
    assert list(accuracy) == ["trained", "pruned", "fine-tuned", "loaded"]
    assert accuracy["trained"] > 95
    assert accuracy["pruned"] > 90  # repaired: without, it is near chance
    assert accuracy["fine-tuned"] == accuracy["loaded"] >= accuracy["pruned"]
    assert "a module class: Stripes" in words
    assert not list(tmp_path.iterdir())
    assert not differences(documented(PAGE.read_text(encoding="utf-8"))["prune_module.py"], words)


def test_the_steps_write_a_smaller_model(tmp_path: Path) -> None:
    words = run("prune_text_direction.py", "out.onnx", folder=tmp_path)
    assert "wrote out.onnx" in words
    said = documented(PAGE.read_text(encoding="utf-8"))["prune_text_direction.py"]
    assert not differences(said, words.replace("out.onnx", "text_direction.small.onnx"))
    onnx.checker.check_model(onnx.load(tmp_path / "out.onnx"))
    before, after = widths_of_convolutions(MODEL), widths_of_convolutions(tmp_path / "out.onnx")
    assert len(before) == len(after) == 53
    assert sum(after) < sum(before)
    assert min(after) >= 2
    plan = json.loads((tmp_path / "out.plan.json").read_text())
    for group in plan["groups"].values():
        assert len(group["keep"]) >= min(4, group["size"])
    assert plan["costs"]["params"] <= 0.9 * 133_700


def test_the_model_is_the_one_its_readme_names() -> None:
    data = MODEL.read_bytes()
    readme = (EXAMPLES / "README.md").read_text()
    assert hashlib.sha256(data).hexdigest() in readme
    assert f"{len(data):,} bytes" in readme
    assert len(data) < 1_000_000
