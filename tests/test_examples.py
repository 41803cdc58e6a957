"""Every script in examples/ runs as a user would run it, and the model that ships is the one its README names."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
MODEL = EXAMPLES / "text_direction.onnx"


def run(script: Path, *arguments: str, folder: Path) -> str:
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    command = [sys.executable, str(script), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def widths_of_convolutions(path: Path) -> list[int]:
    graph = onnx.load(path).graph
    shapes = {n.output[0]: n.attribute[0].t.dims for n in graph.node if n.op_type == "Constant"}
    return [shapes[n.input[1]][0] for n in graph.node if n.op_type == "Conv"]


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda p: p.name)
def test_script_writes_a_smaller_model(script: Path, tmp_path: Path) -> None:
    words = run(script, "out.onnx", folder=tmp_path)
    assert "wrote out.onnx" in words
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
