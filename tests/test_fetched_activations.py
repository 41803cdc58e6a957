"""Activations by group: at the right places, of every feature once, in onnxruntime and in torch."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from activation_nets import chain, module_and_groups, opened, samples
from graphprune.passes.itpruner import ITPruner
from onnx_models import Net
from torch import nn

import graphprune as gp
from graphprune import activations
from graphprune.dependence import gram, nhsic
from graphprune.errors import ModelError, UsageError
from graphprune.runtime import session
from graphprune.verification.watching import with_outputs


def test_sites_are_the_units_own_positions() -> None:
    net = Net(seed=2)
    one = net.op("Relu", net.conv(net.input(1, 3, 4, 4, name="x"), 3, 5, name="one"))
    model = net.model(net.gemm(net.op("Flatten", one), 80, 6, "head"))
    graph, groups = opened(model)
    (site,) = activations.sites(graph, groups).values()
    assert site.axis == 1
    assert site.index.tolist() == list(range(80))


@pytest.mark.parametrize("room", [20_000, 100_001, 1 << 29])
@pytest.mark.parametrize("batch", ["n", 1, 4])
def test_features_come_whole_however_the_model_is_run(room: int, batch: int | str) -> None:
    graph, groups = opened(chain(batch))
    shown = activations.sites(graph, groups)
    made = activations.runner(graph, {"x": samples(40)})
    parts: dict[str, list[np.ndarray]] = {}
    for name, values in activations.features(graph, shown, made.samples, made.run, room):
        assert values.nbytes <= room
        parts.setdefault(name, []).append(values)
    reference, _ = opened(chain())
    names = tuple(s.tensor for s in shown.values())
    wanted = session(with_outputs(reference.source.model, names)).run(list(names), {"x": samples(40)})
    assert list(parts) == list(shown)
    for (name, site), value in zip(shown.items(), wanted, strict=True):
        own = value.take(site.index, axis=site.axis).reshape(40, -1)
        np.testing.assert_allclose(np.concatenate(parts[name], axis=1), own, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_module_shows_what_its_export_shows(batch: int, tmp_path: Path) -> None:
    """The same dependence by torch on the module and by onnxruntime on the file that torch writes of it."""
    module, graph, groups = module_and_groups(batch)
    file = tmp_path / "m.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (torch.randn(1, 3, 8, 8),), file, dynamo=False, input_names=["x"],
                          dynamic_axes={"x": {0: "n"}})  # fmt: skip
    exported = gp.trace(file)
    others = gp.couple(exported)
    assert groups.sizes.tolist() == others.sizes.tolist()
    found = ITPruner(data={"x": samples()}, device="cpu").dependence(graph, groups)
    wanted = ITPruner(data={"x": samples()}).dependence(exported, others)
    assert len(found) == len(groups)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_in_place_changes_do_not_reach_what_was_seen() -> None:
    """The first group is seen after its ReLU, before the second is added to."""
    module, graph, groups = module_and_groups()
    made = activations.runner(graph, {"x": samples()}, device="cpu")
    shown = activations.sites(graph, groups)
    first = next(iter(shown))
    parts = [v for n, v in activations.features(graph, shown, made.samples, made.run) if n == first]
    with torch.no_grad():
        one = module.one(torch.from_numpy(samples())).relu()
        two = (module.norm(module.two(one)) + one).relu()
    wanted = [t.reshape(24, -1).numpy() for t in (one, two)]
    assert any(np.allclose(np.concatenate(parts, axis=1), w, atol=1e-5) for w in wanted)


def test_data_that_does_not_fit_a_module_is_told() -> None:
    _, graph, groups = module_and_groups()
    with pytest.raises(UsageError):
        ITPruner(data={"x": samples(8, 3, 4, 4)}, device="cpu")(graph, groups)


def test_a_module_that_does_not_run_on_the_data_is_told() -> None:
    class Picky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Embedding(5, 6), nn.Linear(6, 4)

        def forward(self, words: torch.Tensor) -> torch.Tensor:
            return self.two(self.one(words).relu())

    graph = gp.trace(Picky().eval(), torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(ModelError, match="does not run on the data"):
        ITPruner(data=np.full((6, 3), 99), device="cpu")(graph, gp.couple(graph))


def test_a_model_that_shows_nothing_by_sample_is_told() -> None:
    net = Net(seed=6)
    turned = net.op("Transpose", net.input("n", 6, 2, name="x"), perm=[1, 0, 2])
    hidden = net.op("Relu", net.op("MatMul", turned, net.weight(2, 8)))
    model = net.model(net.op("Transpose", net.op("MatMul", hidden, net.weight(8, 2)), perm=[1, 0, 2]))
    graph, groups = opened(model)
    assert len(groups) == 1
    with pytest.raises(ModelError, match="no activation shows"):
        ITPruner(data={"x": samples(8, 6, 2)})(graph, groups)


def test_a_first_axis_that_only_looks_like_the_batch_is_told() -> None:
    """Traced at a batch of one, a sequence of one has the batch's size, but does not grow with it."""
    net = Net(seed=7)
    turned = net.op("Transpose", net.input("n", 1, 2, name="x"), perm=[1, 0, 2])
    hidden = net.op("Relu", net.op("MatMul", turned, net.weight(2, 8)))
    model = net.model(net.op("Transpose", net.op("MatMul", hidden, net.weight(8, 2)), perm=[1, 0, 2]))
    graph, groups = opened(model)
    with pytest.raises(ModelError, match="no activation shows"):
        ITPruner(data={"x": samples(8, 1, 2)})(graph, groups)


class Windows(nn.Module):
    """Attention-like: windows of an image are folded into the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Linear(3, 8), nn.Linear(8, 6), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = x.view(len(x), 4, 5, 3).reshape(-1, 5, 3)
        hidden = self.two(self.one(parts).relu()).tanh()
        return self.three(hidden).view(len(x), 20, 2)


def test_windows_folded_into_the_batch_are_put_back_to_their_samples() -> None:
    torch.manual_seed(0)
    module = Windows().eval()
    graph = gp.trace(module, torch.randn(2, 20, 3))
    groups = gp.couple(graph)
    x = samples(12, 20, 3)
    found = ITPruner(data=x, debiased=False, device="cpu").dependence(graph, groups)
    with torch.no_grad():
        one = module.one(torch.from_numpy(x)).relu()
        two = module.two(one).tanh()
    np.testing.assert_allclose(found, nhsic([gram(one.numpy()), gram(two.numpy())]), atol=1e-5)


def test_states_of_a_written_size_keep_the_batch_of_the_example() -> None:
    """torch.ops.aten.lstm does not check the sizes of its states: more samples would read past their end."""

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(3, 6, batch_first=True)
            self.one, self.two = nn.Linear(6, 9), nn.Linear(9, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.two(self.one(self.lstm(x)[0]).relu())

    torch.manual_seed(0)
    module = Recurrent().eval()
    graph = gp.trace(module, torch.randn(2, 5, 3))
    shown = activations.sites(graph, gp.couple(graph))
    x = samples(8, 5, 3)
    made = activations.runner(graph, x, device="cpu")
    assert made.samples.fixed_batch == 2
    with torch.no_grad():
        wanted = module.one(module.lstm(torch.from_numpy(x))[0]).relu().reshape(8, -1).numpy()
    found = [values for _, values in activations.features(graph, shown, made.samples, made.run)]
    assert any(f.shape == wanted.shape and np.allclose(f, wanted, atol=1e-5) for f in found)


def test_memory_does_not_grow_with_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """However little is held at a time, dependence is the same to rounding."""
    graph, groups = opened(chain())
    made = ITPruner(data={"x": samples()})
    whole = made.dependence(graph, groups)
    monkeypatch.setattr(activations.features, "__defaults__", (12_345,))
    np.testing.assert_allclose(made.dependence(graph, groups), whole, rtol=1e-9)


def test_activations_that_are_not_finite_are_told() -> None:
    graph, groups = opened(chain())
    x = samples()
    x[3] = np.nan
    with pytest.raises(ModelError, match="not all finite"):
        ITPruner(data={"x": x})(graph, groups)


class LastState(nn.Module):
    """A recurrent layer whose initial state is zero, of the batch's size, and what its last state says."""

    def __init__(self) -> None:
        super().__init__()
        self.cells, self.hidden, self.head = nn.GRU(3, 8, batch_first=True), nn.Linear(8, 10), nn.Linear(10, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.hidden(self.cells(x)[1][0]).relu())  # type: ignore[no-any-return]


def test_an_initial_state_is_no_activation(tmp_path: Path) -> None:
    """Traced with one sample, its first axis is as long as the batch; it is summed over before any other."""
    torch.manual_seed(0)
    module = LastState().eval()
    file = str(tmp_path / "m.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (torch.randn(1, 5, 3),), file, dynamo=False, input_names=["x"],
                          dynamic_axes={"x": {0: "n"}})  # fmt: skip
    x = np.random.default_rng(0).standard_normal((20, 5, 3)).astype(np.float32)
    graph = gp.trace(file)
    groups = gp.couple(graph)
    assert sorted(groups.sizes.tolist()) == [8, 10]
    with torch.no_grad():
        state = module.cells(torch.from_numpy(x))[1][0]
        seen = [state.numpy(), module.hidden(state).relu().numpy()]
    wanted = nhsic([gram(values) for values in seen], debiased=True)
    np.testing.assert_allclose(ITPruner(data={"x": x}).dependence(graph, groups), wanted, atol=1e-4)
