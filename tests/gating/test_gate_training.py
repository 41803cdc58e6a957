"""Weights and gates trained together: what is found, what is paid, what is written back, and when it is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from gate_learning import labelled, learn, states
from gated_models import classes, conv_net
from models import mlp
from onnx import numpy_helper
from torch import nn

import graphprune as gp
from graphprune.errors import UsageError
from graphprune.finetune import Progress
from graphprune.gating.inputs import INPUTS
from graphprune.gating.options import GateTraining
from graphprune.gating.training import Penalty, Trained, factor_of
from graphprune.gating.vib import VibGate
from graphprune.gating.write_back import written_back
from graphprune.runtime import session


def fitted(net: nn.Module, fixed: Sequence[tuple[nn.Parameter, Any]]) -> nn.Module:
    """Train a net on the planted data, with some entries of its parameters at zero throughout."""
    data = planted_data()
    x, y = torch.from_numpy(data["input"]), torch.from_numpy(data["labels"])
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(60):
        with torch.no_grad():
            for parameter, where in fixed:
                parameter[where] = 0
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        for parameter, where in fixed:
            assert parameter.grad is not None
            parameter.grad[where] = 0
        optimizer.step()
    return net.requires_grad_(True)


def planted() -> nn.Module:
    """Twelve hidden units, of which six have no way to the output, and sixteen inputs, eight of them unread."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 4))
    return fitted(net, [(net[2].weight, np.s_[:, 6:]), (net[0].weight, np.s_[:, 8:])])


class Skipped(nn.Module):
    """A residual block whose branch gives nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(16, 8), nn.Linear(8, 4)
        self.inner, self.outer = nn.Linear(8, 6), nn.Linear(6, 8)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        x = self.first(input).relu()
        result: torch.Tensor = self.last(x + self.outer(self.inner(x).relu()))
        return result


def planted_data(count: int = 512) -> dict[str, Any]:
    """Four classes, told by the first eight features; the other eight are noise."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, count)
    x = rng.standard_normal((count, 16))
    x[:, :8] = 2 * np.random.default_rng(2).standard_normal((4, 8))[labels] + 0.3 * x[:, :8]
    return {"input": x.astype(np.float32), "labels": labels}


def test_planted_useless_units_and_features_are_found() -> None:
    trained = learn(
        planted(), planted_data(), torch.zeros(2, 16), epochs=12, batch_size=64, lr=1e-4, gate_lr=0.2, gate_inputs=True,
        kl=3e-3,
    )  # fmt: skip
    ratios = trained.log_ratios()
    (hidden,) = (ratios[name] for name in ratios if name != INPUTS)
    assert (hidden[6:] < 0).all()
    assert (hidden[:6] > 0).any()
    assert hidden[6:].max() < np.sort(hidden[:6])[-2:].min()
    assert (ratios[INPUTS][8:] < 0).all()
    assert (ratios[INPUTS][:8] > 0).sum() >= 2
    assert trained.report.after is not None and trained.report.after.accuracy == 1.0


def test_what_the_gates_cost() -> None:
    """1/2 log(1 + alpha), times what the group counts, times the share of the warm-up, over the samples."""

    class Run:
        def __init__(self, steps: int, epochs: int, samples: int) -> None:
            self.steps, self.train = steps, range(samples)
            self.settings = GateTraining(epochs=epochs)

    gates = {"a": VibGate(5, seed=1), "b": VibGate(3, seed=2)}
    run: Any = Run(steps=10, epochs=4, samples=160)
    alphas = {n: (g.mu.double() ** 2 + 1e-8) / g.logvar.double().exp() for n, g in gates.items()}
    whole = sum(w * 0.5 * float((1 + alphas[n]).log().sum().detach()) for n, w in (("a", 2.0), ("b", 0.5)))

    def paid(done: int, **options: Any) -> float:
        return Penalty(gates, {"a": 2.0, "b": 0.5}, GateTraining(**options))(run, done).item()

    assert paid(0) == pytest.approx(whole / 160)
    assert paid(7, kl=0.25) == pytest.approx(whole * 0.25)
    rising = [paid(done, kl=1.0, kl_warmup=0.5) / whole for done in (0, 9, 19, 20, 39)]
    assert rising == pytest.approx([1 / 20, 1 / 2, 1, 1, 1])
    assert factor_of(GateTraining(), 50) == 0.02


def test_the_graph_and_its_model_are_left_alone() -> None:
    model, net = mlp(batch="N"), conv_net()
    bytes_before, state_before = model.SerializeToString(), {k: v.clone() for k, v in net.state_dict().items()}
    learn(model, labelled())
    learn(net, classes(48, 3, 6, 6), torch.zeros(4, 3, 6, 6))
    assert model.SerializeToString() == bytes_before
    assert all(torch.equal(v, state_before[k]) for k, v in net.state_dict().items())
    assert not net.training and all(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("target", ["labels", "model"])
def test_what_it_learned_is_written_back(target: str) -> None:
    model, data = mlp(batch="N"), labelled()
    trained = learn(model, data, target=target)
    graph = gp.trace(model)
    tuned = written_back(graph, trained.model.module)
    held = dict(trained.model.module.named_parameters())
    names = {t.name for t in graph.parameters}
    assert names <= set(held)
    for name in names:
        np.testing.assert_array_equal(tuned.parameter(name), held[name].detach().numpy())
        assert not np.array_equal(tuned.parameter(name), graph.parameter(name))
    stored: onnx.ModelProto = tuned.source.model
    assert {t.name for t in stored.graph.initializer} == {t.name for t in model.graph.initializer}
    assert ("kl" in trained.report.loss) == (target == "model")


def test_of_torch_it_is_the_users_module_with_its_statistics() -> None:
    net, example = conv_net(), torch.zeros(4, 3, 6, 6)
    trained = learn(net, classes(64, 3, 6, 6), example)
    graph = gp.trace(net, example)
    tuned = written_back(graph, trained.model.module).source.module
    assert type(tuned) is type(net) and tuned is not net
    changed = {k for k, v in tuned.state_dict().items() if not torch.equal(v, net.state_dict()[k])}
    assert {"stem.weight", "head.bias", "norm.weight", "norm.running_mean", "norm.running_var"} <= changed
    held = dict(trained.model.module.named_buffers()) | dict(trained.model.module.named_parameters())
    assert torch.equal(tuned.norm.running_mean, held["norm.running_mean"])


def test_what_is_frozen_stays_as_it_is() -> None:
    net = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 10))
    net[0].requires_grad_(False)
    held = learn(net, {"input": labelled()["x"], "labels": labelled()["labels"]}, torch.zeros(2, 16)).model.module
    trained = dict(held.named_parameters())
    assert torch.equal(trained["0.weight"], net[0].weight) and not torch.equal(trained["2.weight"], net[2].weight)


def test_without_labels_the_original_is_followed() -> None:
    data = {"x": labelled()["x"]}
    trained = learn(mlp(batch="N"), data, epochs=3)
    assert trained.report.before is not None and trained.report.before.agreement == 1.0
    assert trained.report.after is not None and trained.report.after.agreement is not None
    assert trained.report.after.agreement > 0.5
    net = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 10))
    told = learn(net, {"input": data["x"]}, torch.zeros(2, 16)).report
    assert told.before is not None and told.before.loss == pytest.approx(0, abs=1e-5)


def test_same_in_same_out() -> None:
    first, second, other = (states(learn(mlp(batch="N"), labelled(), seed=seed)) for seed in (3, 3, 4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


class BrokenError(Exception):
    """Stands for whatever ends a run."""


def at(step: int) -> Callable[[Progress], None]:
    def tell(progress: Progress) -> None:
        if progress.loss is not None and (progress.epoch, progress.step) == (2, step):
            raise BrokenError

    return tell


def test_a_broken_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    place, model = tmp_path / "run.ckpt", mlp(batch="N")
    whole = learn(model, labelled(), epochs=3)
    with pytest.raises(BrokenError):
        learn(model, labelled(), epochs=3, checkpoint=place, tell=at(2))
    resumed = learn(model, labelled(), epochs=3, checkpoint=place)
    assert resumed.report.resumed_at
    assert resumed.noted == whole.noted and len(whole.noted) == 3
    expected, found = states(whole), states(resumed)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    with pytest.raises(UsageError) as caught:
        learn(model, labelled(), epochs=3, checkpoint=place, kl=0.5)
    assert caught.value.code == "checkpoint-mismatch"


def test_gates_have_a_rate_of_their_own_and_no_decay() -> None:
    """With no rate to speak of and a strong decay the weights shrink, and the gates move by their own rate alone."""
    model = mlp(batch="N")
    slow = learn(model, labelled(), lr=1e-6, weight_decay=1e4, gate_lr=0.02, epochs=1, holdout=0.0)
    gate = next(iter(slow.model.gates.values()))
    assert isinstance(gate, VibGate)
    steps = -(-200 // 16)
    moved = gate.logvar.detach() - VibGate(len(gate.logvar), seed=_seed_of(slow)).logvar.detach()
    # Half a cosine over the steps, of a push that always goes the same way: about half of rate times steps.
    assert float(moved.abs().max()) <= 0.02 * steps
    assert float(moved.mean()) == pytest.approx(0.5 * 0.02 * steps, rel=0.2)
    before = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    after = dict(slow.model.module.named_parameters())
    matrix = next(name for name in before if before[name].ndim == 2)
    ratio = np.abs(after[matrix].detach().numpy()).sum() / np.abs(before[matrix]).sum()
    # The product of (1 - rate * decay) over the half cosine.
    shrunk = np.prod([1 - 1e-2 * 0.5 * (1 + np.cos(np.pi * k / steps)) for k in range(steps)])
    assert ratio == pytest.approx(shrunk, rel=1e-3)


def _seed_of(trained: Trained) -> int:
    from graphprune.gating.training import _seed

    return _seed(0, next(iter(trained.model.gates)))


def test_the_last_epoch_is_kept_not_the_best_on_held_out_samples() -> None:
    trained = learn(mlp(batch="N"), labelled(), epochs=4, gate_lr=0.05, kl=0.02)
    report = trained.report
    assert report.best_epoch == 4 and report.after == report.history[-1].held_out
    assert any(e.held_out is not None and report.after is not None and e.held_out.loss < report.after.loss
               for e in report.history) or report.before is not None  # fmt: skip
    last = {name: gate.log_ratio().numpy() for name, gate in trained.model.gates.items()}
    for name, values in last.items():
        assert trained.noted[-1]["groups"][name]["mean"] == pytest.approx(values.mean(), rel=1e-6)


def test_a_group_may_empty_where_the_net_lives_on() -> None:
    """The branch of a residual block that does nothing: its gates fall, and that is no collapse."""

    torch.manual_seed(0)
    net = Skipped()
    fitted(net, [(net.outer.weight, np.s_[:])])
    trained = learn(
        net, planted_data(), torch.zeros(2, 16), epochs=12, batch_size=64, lr=1e-5, gate_lr=0.2, kl=1e-3
    )  # fmt: skip
    empty = [name for name, values in trained.log_ratios().items() if not (values > 0).any()]
    assert empty == ["inner"]
    assert trained.report.after is not None and trained.report.after.accuracy == 1.0


class Recurrent(nn.Module):
    """A capture of it has first states of the example's batch written down."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 5, batch_first=True)
        self.hidden, self.last = nn.Linear(5, 6), nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.last(self.hidden(self.lstm(x)[0][:, -1]).relu())
        return result


def test_a_recurrent_module_is_trained_at_the_batch_it_was_captured_at() -> None:
    torch.manual_seed(0)
    trained = learn(Recurrent(), classes(40, 3, 4), torch.zeros(4, 3, 4), batch_size=8)
    assert trained.samples.fixed_batch == 4
    assert len(trained.report.history) == 2


def test_a_file_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(mlp(batch="N"), path)
    graph = gp.trace(path)
    trained = learn(path, labelled())
    tuned = written_back(graph, trained.model.module)
    x = labelled()["x"][:4]
    assert session(tuned.source.model).run(None, {"x": x})[0].shape == (4, 10)
