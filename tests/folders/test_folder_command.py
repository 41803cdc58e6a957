"""``graphprune FOLDER``: what the written folder holds, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hub_models import BERT, LLAMA, bert, folder, llama
from onnx_models import initializer

sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))
from commands import Shell

import graphprune as gp
from graphprune.backends.save import save
from graphprune.plan import Plan


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    """Give a folder with bert/ (model.onnx) and llama/ (onnx/model.onnx, as optimum lays it out)."""
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "bert", bert(), BERT)
    folder(tmp_path / "llama", llama(), LLAMA, "onnx/model.onnx")
    yield Shell(tmp_path, capfd)


def test_a_folder_becomes_a_folder(shell: Shell) -> None:
    before = shell.files()
    done = shell("bert", "--budget", "0.5", "--report", "r.json", "--save-plan", "p.json", "--html", "r.html")
    assert done.status == 0, done.err
    after = shell.files()
    assert {k: after[k] for k in before} == before
    new = {name.removeprefix("bert.pruned/"): after[name] for name in after if name.startswith("bert.pruned/")}
    assert new.keys() == {"model.onnx", "config.json", "tokenizer.json", "1_Pooling/config.json"}
    assert set(after) - set(before) == {"r.json", "p.json", "r.html", *(f"bert.pruned/{name}" for name in new)}
    for name in ("tokenizer.json", "1_Pooling/config.json"):
        assert new[name] == before[f"bert/{name}"]
    report, config = json.loads(after["r.json"]), json.loads(new["config.json"])
    assert report["output"]["path"] == str(Path("bert.pruned/model.onnx"))
    assert report["output"]["bytes"] == len(new["model.onnx"])
    assert config["graphprune"]["budget"] == {"macs": 0.5}
    assert config["graphprune"]["widths"] == {
        g["id"]: [g["size"], len(g["kept"])] for g in report["groups"] if len(g["kept"]) < g["size"]
    }
    assert "model.safetensors" in done.out
    assert "wrote bert.pruned" in done.out
    session = onnxruntime.InferenceSession(new["model.onnx"], providers=["CPUExecutionProvider"])
    assert session.run(None, {"input_ids": np.zeros((3, 8), np.int64)})[0].shape == (3, 8, 2)


def test_optimum_s_layout_and_a_variant_beside_it(shell: Shell) -> None:
    (shell.folder / "llama" / "onnx" / "model_quantized.onnx").write_bytes(b"old")
    done = shell("llama", "--budget", "0.6", "-o", "small", "-q")
    assert (done.status, done.out) == (0, "")
    assert {p.name for p in (shell.folder / "small" / "onnx").iterdir()} == {"model.onnx"}
    config = json.loads((shell.folder / "small" / "config.json").read_text())
    assert config["graphprune"]["model"] == "onnx/model.onnx"


def test_external_data_goes_along(shell: Shell) -> None:
    model = bert()
    path = shell.folder / "bert" / "model.onnx"
    path.unlink()
    onnx.save(model, path, save_as_external_data=True, location="model.onnx_data", size_threshold=100)
    assert shell("bert", "--budget", "0.5", "-q").status == 0
    there = {p.name for p in (shell.folder / "bert.pruned").iterdir()}
    assert there == {"model.onnx", "model.onnx.data", "config.json", "tokenizer.json", "1_Pooling"}
    small = onnx.load(shell.folder / "bert.pruned" / "model.onnx")
    assert initializer(small, "0.up.weight").shape[1] < 40
    onnxruntime.InferenceSession(shell.folder / "bert.pruned" / "model.onnx", providers=["CPUExecutionProvider"])


def test_a_model_in_a_folder_brings_it_along_when_a_folder_is_named(shell: Shell) -> None:
    shutil.copy("llama/onnx/model.onnx", "llama/onnx/other.onnx")
    assert shell("llama/onnx/other.onnx", "--budget", "0.6", "-o", "small", "-q").status == 0
    assert {str(p.relative_to("small")) for p in Path("small").rglob("*.onnx")} == {str(Path("onnx/other.onnx"))}
    assert shell("llama/onnx/other.onnx", "--budget", "0.6", "-q").status == 0
    assert Path("llama/onnx/other.pruned.onnx").is_file()


def test_dry_run_writes_nothing(shell: Shell) -> None:
    before = shell.files()
    done = shell("bert", "--budget", "0.5", "--dry-run")
    assert done.status == 0
    assert "dry run, not written: bert.pruned" in done.out
    assert shell.files() == before
    assert not Path("bert.pruned").exists()


def test_force_replaces_files_and_keeps_others(shell: Shell) -> None:
    assert shell("bert", "--budget", "0.5", "-q").status == 0
    (shell.folder / "bert.pruned" / "mine.txt").write_text("mine")
    shutil.rmtree("bert.pruned/1_Pooling")
    shell.fails("bert", "--budget", "0.6", code="output-exists")
    before = Path("bert.pruned/model.onnx").read_bytes()
    assert shell("bert", "--budget", "0.7", "--force", "-q").status == 0
    assert Path("bert.pruned/mine.txt").read_text() == "mine"
    assert Path("bert.pruned/1_Pooling/config.json").is_file()
    assert Path("bert.pruned/model.onnx").read_bytes() != before


def test_a_failure_leaves_nothing(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from graphprune.folders import write

    def full(*_args: object, **_more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "write_files", full)
    shell.fails("bert", "--budget", "0.5", code="disk-full")
    assert not [p for p in shell.folder.iterdir() if p.name.startswith(".bert")]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["bert", "--budget", "0.5", "-o", "bert"], "output-is-input"),
        (["bert", "--budget", "0.5", "-o", "bert/small"], "output-is-input"),
        (["bert", "--budget", "0.5", "-o", "."], "output-is-input"),
        (["bert", "--budget", "0.5", "-o", "none/small"], "folder-missing"),
        (["bert", "--budget", "0.5", "-o", "file"], "output-not-a-folder"),
        (["bert"], "budget-missing"),
        (["bert", "--budget", "0.5", "--report", "bert/config.json", "--force"], "output-is-input"),
        (["broken", "--budget", "0.5"], "config-unreadable"),
        (["list", "--budget", "0.5"], "config-unreadable"),
        (["pair", "--budget", "0.5"], "folder-ambiguous"),
        (["empty", "--budget", "0.5"], "model-missing"),
        (["plain", "--budget", "0.5"], "not-a-file"),
    ],
)
def test_refuses(shell: Shell, words: list[str], code: str) -> None:
    Path("file").write_text("")
    for name, text in (("broken", "{"), ("list", "[]"), ("pair", "{}"), ("empty", "{}"), ("plain", None)):
        Path(name).mkdir()
        if text is not None:
            Path(name, "config.json").write_text(text)
    for name in (
        "broken/model.onnx",
        "list/model.onnx",
        "pair/encoder_model.onnx",
        "pair/decoder_model.onnx",
        "plain/m.onnx",
    ):
        save(bert(), name)
    shell.fails(*words, code=code)


def test_the_configuration_of_onnxruntime_genai_is_mended_as_well(shell: Shell) -> None:
    told = {
        "hidden_size": 24,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_size": 6,
        "num_hidden_layers": 2,
    }
    body = {"model": {"type": "llama", "decoder": {"filename": "model.onnx", **told}, "vocab_size": 50}}
    root = folder(shell.folder / "genai", llama(), LLAMA)
    (root / "genai_config.json").write_text(json.dumps(body))
    (root / "config.json").unlink()
    plan_of_half(root / "model.onnx", "head").save("half.json")
    assert shell("genai", "--plan", "half.json", "-q").status == 0
    written = json.loads(Path("genai.pruned/genai_config.json").read_text())
    found = written["model"]["decoder"]
    assert {**found, "num_attention_heads": 4, "num_key_value_heads": 2} == {"filename": "model.onnx", **told}
    assert (found["num_attention_heads"], found["num_key_value_heads"]) == (1, 1)
    assert written["graphprune"]["changed"].keys() == {
        "model.decoder.num_attention_heads", "model.decoder.num_key_value_heads",
    }  # fmt: skip


def plan_of_half(model: Path, kind: str) -> Plan:
    """A plan that keeps half of every group of a kind."""
    groups = gp.couple(gp.trace(model))
    keep = {g.id: tuple(range((g.size + 1) // 2 if g.kind == kind else g.size)) for g in groups.groups}
    return Plan(keep, {g.id: g.size for g in groups.groups}, groups.fingerprint, coupling=groups.options)
