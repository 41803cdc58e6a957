"""The scripts in examples/reproduce: what they measure, what they are fed, and that each runs in its reduced form."""

import gzip
import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from graphprune.errors import UsageError

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples" / "reproduce"
DOCS = ROOT / "docs" / "reproduced"
SCRIPTS = sorted({p.stem for p in FOLDER.glob("*.py") if "\ndef main(" in p.read_text()} - {"all"})

QUICK = {"coreset", "lenet_300_100_itpruner", "lenet_300_100_vib"}
"""Scripts whose reduced form takes a few seconds; the others run with -m slow."""


@pytest.fixture(autouse=True)
def _on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    sys.path.insert(0, str(FOLDER))
    folder = tmp_path_factory.mktemp("reproduce")
    yield import_module("common").start("", ["--data", "synthetic", "--reduced", "--cache", str(folder)])
    sys.path.remove(str(FOLDER))


# The columns of the papers, as printed there (methods that list their widths)
LENET_300 = {
    (512, 114, 72): (25.28, 58.95),
    (278, 98, 13): (10.76, 32.85),
    (311, 86, 14): (10.55, 34.71),
    (219, 214, 100): (26.02, 45.02),
    (266, 88, 33): (10.01, 32.69),
    (97, 71, 33): (3.59, 16.98),
}
LENET_5 = {
    (7, 13, 208, 16): (1.38, 32.00, 0.250),
    (3, 12, 192, 500): (23.69, 19.35, 0.202),
    (14, 19, 242, 131): (9.29, 60.78, 0.660),
    (3, 18, 284, 283): (19.66, 21.15, 0.213),
    (8, 13, 88, 13): (0.95, 35.03, 0.283),
    (5, 10, 76, 16): (0.64, 22.80, 0.153),
    (20, 25, 45, 462): (8.92, 85.82, 1.113),
    (9, 18, 65, 25): (1.43, 40.66, 0.391),
}
VGG_ALLOCATION = (44, 35, 71, 71, 145, 104, 145, 290, 205, 325, 432, 429, 469)


@pytest.mark.parametrize(("widths", "columns"), LENET_300.items())
def test_the_columns_of_lenet_300_100_are_the_published_ones(
    widths: tuple[int, ...], columns: tuple[float, ...]
) -> None:
    metrics, nets = import_module("metrics"), import_module("nets")
    net = nets.NETS["lenet-300-100"]
    found = (metrics.weights_kept(net, widths), metrics.activations_kept(net, widths))
    assert found == pytest.approx(columns, abs=0.005)


@pytest.mark.parametrize(("widths", "columns"), LENET_5.items())
def test_the_columns_of_lenet_5_are_the_published_ones(widths: tuple[int, ...], columns: tuple[float, ...]) -> None:
    metrics, nets = import_module("metrics"), import_module("nets")
    net = nets.NETS["lenet-5-caffe"]
    assert metrics.weights_kept(net, widths) == pytest.approx(columns[0], abs=0.005)
    assert metrics.activations_kept(net, widths) == pytest.approx(columns[1], abs=0.005)
    assert metrics.macs_of(net, widths) / 1e6 == pytest.approx(columns[2], abs=0.0005)


def test_sbp_saves_the_macs_it_says() -> None:
    metrics, net = import_module("metrics"), import_module("nets").NETS["lenet-500-300"]
    ratios = [metrics.macs_of(net, net.full) / metrics.macs_of(net, w) for w in ((537, 217, 130), (245, 160, 55))]
    assert ratios == pytest.approx([3.73, 11.23], abs=0.005)


def test_the_published_vgg_costs_what_it_says() -> None:
    metrics, net = import_module("metrics"), import_module("nets").NETS["vgg-16"]
    assert metrics.macs_of(net, net.full) / 1e6 == pytest.approx(313.5, abs=0.05)
    assert metrics.macs_of(net, (*VGG_ALLOCATION, 512)) / 1e6 == pytest.approx(99.5, abs=0.05)


@pytest.mark.parametrize(
    ("name", "widths"),
    [("lenet-300-100", (97, 71, 33)), ("lenet-500-300", (784, 9, 4)), ("lenet-5-caffe", (3, 18, 284, 283)),
     ("vgg-16", (4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17))],
)  # fmt: skip
def test_a_module_is_measured_as_its_widths_say(name: str, widths: tuple[int, ...], small_run: Any) -> None:
    metrics, net = import_module("metrics"), import_module("nets").NETS[name]
    data = small_run.data.reduced(10, 10)
    data = data.at_32() if name == "vgg-16" else data
    found = metrics.measure(net, net.make(widths), data, seed=3)
    assert (found.seed, found.kept, found.macs) == (3, widths, metrics.macs_of(net, widths))
    assert found.rw == pytest.approx(metrics.weights_kept(net, widths))
    weights = [p.numel() for n, p in net.make(widths).named_parameters() if n.endswith("weight") and p.ndim > 1]
    assert found.rw == pytest.approx(100 * sum(weights) / sum(net.products(net.full)))
    assert 0 <= found.error <= 100


def test_activations_are_those_a_forward_pass_makes() -> None:
    nets = import_module("nets")
    net, seen = nets.NETS["vgg-16"], []
    module = net.make((2,) * 14).eval()
    for layer in (m for m in module.modules() if isinstance(m, (nn.Conv2d, nn.MaxPool2d)) or m is module.fc1):
        layer.register_forward_hook(lambda _m, _i, out: seen.append(out.numel()))
    module(torch.zeros(1, 3, 32, 32))
    assert sum(seen) == 2 * sum(net.activations)


def test_a_pruned_selection_becomes_indices(small_run: Any) -> None:
    nets, pruning, training = (import_module(name) for name in ("nets", "pruning", "training"))
    net, widths = nets.NETS["lenet-5-caffe"], (4, 6, 50, 20)
    module = training.fresh(net.make(select=True), 0)
    small = pruning.to_widths(net, module, widths, "l1", small_run, 0)
    assert net.widths_of(small) == widths
    assert isinstance(small.select, nets.Gather)
    # The same units, masked by hand: of a channel, of an element of a map, of a neuron.
    channels = _rows_of(module.conv2.weight, small.conv2.weight, _rows_of(module.conv1.weight, small.conv1.weight))
    elements = [16 * channels[int(i) // 16] + int(i) % 16 for i in small.select.index]
    with torch.no_grad():
        x = small_run.data.test.images[:5]
        h = nn.functional.max_pool2d(torch.relu(module.conv1(x)), 2)
        dropped = sorted(set(range(20)) - set(_rows_of(module.conv1.weight, small.conv1.weight)))
        h[:, dropped] = 0
        flat = nn.functional.max_pool2d(torch.relu(module.conv2(h)), 2).flatten(1)
        neurons = _rows_of(module.fc1.weight, small.fc1.weight, elements)
        hidden = torch.relu(flat[:, elements] @ module.fc1.weight[neurons][:, elements].T + module.fc1.bias[neurons])
        wanted = hidden @ module.fc2.weight[:, neurons].T + module.fc2.bias
        torch.testing.assert_close(small(x), wanted, rtol=1e-4, atol=1e-5)


def _rows_of(full: torch.Tensor, cut: torch.Tensor, columns: list[int] | None = None) -> list[int]:
    """Find the rows of a weight in the one it was cut from."""
    narrow = full if columns is None else full[:, columns]
    return [int(torch.nonzero((narrow == row).flatten(1).all(dim=1))[0]) for row in cut]


def test_what_a_selection_keeps_of_removed_channels_goes_too() -> None:
    nets = import_module("nets")
    module = nets.LeNet5((20, 3, 48, 5), select=True)
    with torch.no_grad():
        module.select.weight[20] = 0  # what is left of an element whose channel is gone
    plain = nets.gathered(module)
    assert plain.fc1.weight.shape == (5, 47)
    assert 20 not in plain.select.index
    x = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(plain(x), module(x))
    with torch.no_grad():
        module.select.weight[3, 3] = 0.5
    with pytest.raises(ValueError, match="trained or scaled"):
        nets.gathered(module)


def test_large_units_are_kept_and_random_ones_follow_the_seed(small_run: Any) -> None:
    nets, pruning, training = (import_module(name) for name in ("nets", "pruning", "training"))
    net = nets.NETS["lenet-300-100"]
    module, widths = training.fresh(net.make(select=True), 0), (100, 30, 10)
    weight = module.fc1.weight.detach().abs()
    norms = weight.sum(dim=1) + module.fc1.bias.detach().abs() + module.fc2.weight.detach().abs().sum(dim=0)
    largest = norms.topk(30).indices.sort().values
    pixels = weight.sum(dim=0).topk(100).indices.sort().values
    small = pruning.to_widths(net, module, widths, "l1", small_run, 0)
    assert torch.equal(small.select.index, pixels)
    assert torch.equal(small.fc1.weight, module.fc1.weight[largest][:, pixels])
    drawn = [pruning.to_widths(net, module, widths, "random", small_run, seed).select.index for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_inputs_without_weight_are_not_read() -> None:
    nets = import_module("nets")
    module = nets.LeNet300((784, 5, 4))
    assert isinstance(nets.gathered(module).select, nn.Identity)
    module.fc1.weight.data[:, 100:] = 0
    plain = nets.gathered(nets.gathered(module))
    assert plain.fc1.weight.shape == (5, 100)
    x = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(plain(x), module(x))


@pytest.mark.parametrize(("name", "limit"), [("lenet-300-100", 3.59), ("lenet-5-caffe", 19.66), ("vgg-16", 5.4)])
def test_uniform_widths_use_up_the_weights_allowed(name: str, limit: float) -> None:
    metrics, pruning, net = import_module("metrics"), import_module("pruning"), import_module("nets").NETS[name]
    widths = pruning.uniform(net, limit)
    assert metrics.weights_kept(net, widths) <= limit
    more = [w if w in (f, 784, 16 * widths[1]) else w + 1 for w, f in zip(widths, net.full, strict=True)]
    if name == "lenet-5-caffe":
        more[2] = 16 * more[1]
    assert metrics.weights_kept(net, more) > limit


def test_dense_networks_are_trained_once(small_run: Any, tmp_path: Path) -> None:
    training = import_module("training")
    first = training.dense(small_run, "lenet-300-100", 0)
    files = list(small_run.cache.glob("lenet-300-100-*-s0.safetensors"))
    assert len(files) == 1
    stamp = files[0].stat().st_mtime_ns
    again = training.dense(small_run, "lenet-300-100", 0, select=True)
    assert files[0].stat().st_mtime_ns == stamp
    assert torch.equal(first.fc2.weight, again.fc2.weight)
    images = small_run.data.test.images
    torch.testing.assert_close(first(images), again(images))
    tuned = [training.tune(first, small_run, epochs=1, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(tuned[0].fc1.weight, tuned[1].fc1.weight)
    assert not torch.equal(tuned[0].fc1.weight, tuned[2].fc1.weight)
    metrics = import_module("metrics")
    assert metrics.error(tuned[0], small_run.data.train) < metrics.error(first, small_run.data.train) < 40


def test_data_are_read_from_npz_and_idx_files(tmp_path: Path) -> None:
    digits = import_module("digits")
    random = np.random.default_rng(0)
    arrays = {
        "x_train": random.integers(0, 256, (60, 28, 28), dtype=np.uint8), "y_train": np.arange(60, dtype=np.uint8) % 10,
        "x_test": random.integers(0, 256, (7, 28, 28), dtype=np.uint8), "y_test": np.arange(7, dtype=np.uint8),
    }  # fmt: skip
    np.savez(tmp_path / "some.npz", **arrays)
    for name, file in digits.FILES.items():
        head = b"\0\0\x08" + bytes([arrays[name].ndim]) + np.array(arrays[name].shape, ">u4").tobytes()
        (tmp_path / f"{file}.gz").write_bytes(gzip.compress(head + arrays[name].tobytes()))
    first, second = digits.load(tmp_path / "some.npz"), digits.load(str(tmp_path))
    assert first.digest == second.digest
    assert (len(first.train), len(first.validation), len(first.test)) == (50, 10, 7)
    np.testing.assert_allclose(first.validation.images[:, 0].numpy(), arrays["x_train"][50:] / 255, atol=1e-6)
    assert first.test.labels.tolist() == list(range(7))
    wide = first.at_32().test.images
    assert wide.shape == (7, 3, 32, 32)
    assert torch.equal(wide[:, 2, 2:30, 2:30], first.test.images[:, 0])


def test_missing_data_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    digits, common = import_module("digits"), import_module("common")
    monkeypatch.delenv(digits.VARIABLE, raising=False)
    (tmp_path / "bad.npz").write_bytes(b"no")
    for arguments in ([], ["--data", str(tmp_path / "none.npz")], ["--data", str(tmp_path)]):
        with pytest.raises(SystemExit) as ended:
            common.start("", arguments)
        assert ended.value.code == 2
        told = capsys.readouterr().err
        assert digits.VARIABLE in told
        assert "dataset-fashion-mnist" in told
    with pytest.raises(UsageError, match="cannot read the data"):
        digits.load(tmp_path / "bad.npz")
    monkeypatch.setenv(digits.VARIABLE, "synthetic")
    assert common.start("", ["--reduced"]).data.name == "synthetic"


def test_a_table_tells_means_and_spreads_and_reads_what_it_wrote(tmp_path: Path) -> None:
    tables, metrics = import_module("tables"), import_module("metrics")
    net = import_module("nets").NETS["lenet-300-100"]
    outcomes = [
        metrics.Outcome(s, (97, 71, 33), 3.5, 17.0, 9560, 9674, error, error) for s, error in ((0, 1.5), (1, 1.7))
    ]
    rows = (tables.published(net, "paper", (97, 71, 33), 1.6), tables.published(net, "vague", None, None, rw=0.83),
            tables.ours("mine", outcomes, note="why"))  # fmt: skip
    table = tables.Table("some", "Some table", net, rows, {"epochs": 3}, ("A note.",))
    table.write(tmp_path)
    text = (tmp_path / "some.md").read_text()
    assert "| *paper, published* | 97-71-33 | 3.59 | 16.98 | 0.0096 | 27.85 | 1.60 | – |" in text
    assert "| *vague, published* | – | 0.83 | – | – | – | – | – |" in text
    assert "| mine (why) | 97-71-33 | 3.50 | 17.00 | 0.0096 | 27.85 | 1.60 ± 0.14 | 2 |" in text
    assert tables.Table.read(tmp_path / "some.json").markdown() == text
    assert json.loads((tmp_path / "some.json").read_text())["rows"][2]["error"] == [1.5, 1.7]


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.json")), ids=lambda p: p.stem)
def test_the_tables_in_the_docs_say_what_was_measured(path: Path) -> None:
    if "net" not in json.loads(path.read_text()):
        return  # a table of another form
    table = import_module("tables").Table.read(path)
    assert table.markdown() == path.with_suffix(".md").read_text()
    assert "reduced" not in table.settings
    assert f"`{path.stem}`" in (DOCS / "README.md").read_text()


def test_all_finds_every_script() -> None:
    assert import_module("all").scripts() == SCRIPTS


@pytest.mark.parametrize(
    "script", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in SCRIPTS]
)
def test_the_reduced_form_of_every_script_writes_a_table(
    script: str, small_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import_module(script).main(
        ["--data", "synthetic", "--reduced", "--cache", str(small_run.cache), "--out", str(tmp_path)]
    )
    written = sorted(tmp_path.glob("*.json"))
    assert written
    assert {p.stem for p in written} == {p.stem for p in tmp_path.glob("*.md")}
    told = capsys.readouterr().out
    for path in written:
        assert path.with_suffix(".md").read_text().strip() in told
        assert json.loads(path.read_text())["settings"]
