"""Fisher scores against single samples' gradients by hand, exact divergences, and what removing a unit truly does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gradient_nets import blobs, changes, divergence, log_softmax, opened, samples, squares, stored, trained, two_layers
from graphprune.passes.fisher import Fisher, obd
from models import mlp, residual_cnn
from onnx import TensorProto
from onnx_models import Net
from scipy.stats import spearmanr

from graphprune.errors import UsageError
from graphprune.gradients.per_sample import Task
from graphprune.interpret import to_torch

EXACT: dict[str, Any] = {"dtype": "float64"}
LABELS = np.random.default_rng(5).integers(0, 3, 24)
POINTS = {"x": samples(24, 4), "labels": LABELS}


def by_hand(w: dict[str, Any], x: Any, labels: Any) -> tuple[Any, Any]:
    """Return h and dL/dh, both (samples, units), of cross entropy behind two layers with tanh between."""
    h = np.tanh(x @ w["one.weight"].T + w["one.bias"])
    off = np.exp(log_softmax(h @ w["two.weight"].T + w["two.bias"]))
    off[np.arange(len(labels)), labels] -= 1
    return h, off


def test_the_group_form_by_hand() -> None:
    """dL_n/dm_k = (p - y)' W2[:, k] h_k, sample by sample."""
    model = two_layers()
    graph, groups = opened(model)
    w = stored(model)
    h, off = by_hand(w, POINTS["x"], LABELS)
    wanted = np.square((off @ w["two.weight"]) * h).sum(axis=0) / (2 * 24)
    for size in (1, 7, 24):
        scores = Fisher(data=POINTS, batch_size=size, **EXACT)(graph, groups)
        np.testing.assert_allclose(scores["one"], wanted, rtol=1e-9)
    assert (scores.objective, scores.notes) == ("sum", ())


def test_the_diagonal_form_by_hand() -> None:
    """F_w w^2 over W1's rows, b1 and W2's columns, with the mean of each sample's squared derivative."""
    model = two_layers()
    graph, groups = opened(model)
    w = stored(model)
    x = POINTS["x"].astype(np.float64)
    h, off = by_hand(w, x, LABELS)
    back = (off @ w["two.weight"]) * (1 - h**2)
    fisher = {
        "one.weight": np.square(back[:, :, None] * x[:, None, :]).mean(axis=0),
        "one.bias": np.square(back).mean(axis=0),
        "two.weight": np.square(off[:, :, None] * h[:, None, :]).mean(axis=0),
    }
    saliency = {n: f * w[n] ** 2 for n, f in fisher.items()}
    wanted = saliency["one.weight"].sum(axis=1) + saliency["one.bias"] + saliency["two.weight"].sum(axis=0)
    np.testing.assert_allclose(obd(data=POINTS, batch_size=5, **EXACT)(graph, groups)["one"], wanted / 2, rtol=1e-9)


def two_readers(factor: float) -> Any:
    """A hidden layer that two layers read, the second with ``factor`` times the weights of the first, and added up."""
    net = Net(seed=3)
    x = net.op("Tanh", net.gemm(net.input("n", 4, name="x"), 4, 6, "one"))
    weight = net.random(3, 6)
    parts = [net.op("Gemm", x, net.stored(weight * f, f"w{k}"), transB=1) for k, f in enumerate((1.0, factor))]
    return net.model(net.op("MatMul", net.op("Add", *parts), net.stored(np.eye(3, dtype=np.float32), "eye")))


def test_places_are_added_inside_the_square() -> None:
    """A second reader that undoes half of the first leaves a quarter; one that doubles it makes it four times."""

    def linear(outputs: Any, _targets: Any, labels: torch.Tensor) -> torch.Tensor:
        return outputs[0].gather(1, labels[:, None])[:, 0]

    alone, half, double = (
        Fisher(data=POINTS, loss=linear, **EXACT)(*opened(two_readers(f)))["one"] for f in (0.0, -0.5, 1.0)
    )
    assert (alone > 0).all()
    np.testing.assert_allclose(half, alone / 4, rtol=1e-6)
    np.testing.assert_allclose(double, alone * 4, rtol=1e-6)


def test_batch_gradients_would_be_smaller() -> None:
    """The square of a batch's mean gradient shrinks with the batch; single samples' does not."""
    graph, groups = opened(two_layers())
    data = {"x": samples(512, 4), "labels": np.random.default_rng(1).integers(0, 3, 512)}
    small, large = (Fisher(data=data, batch_size=n, **EXACT)(graph, groups)["one"] for n in (1, 256))
    np.testing.assert_allclose(small, large, rtol=1e-9)


# torch.func against one sample at a time ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["group", "diagonal"])
@pytest.mark.parametrize("labelled", [True, False])
def test_all_at_once_is_one_by_one(form: Any, labelled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, groups = opened(residual_cnn(8, batch="n"))
    data = {"x": samples(10, 3, 8, 8)} | ({"labels": np.arange(10)} if labelled else {})
    fisher = Fisher(form=form, data=data, **EXACT)
    together = fisher(graph, groups)
    monkeypatch.setattr(Task, "_one_by_one", True)
    alone = fisher(graph, groups)
    for name in groups:
        np.testing.assert_allclose(together[name], alone[name], rtol=1e-9, atol=1e-18)


def test_what_vmap_cannot_do_is_done_one_by_one_and_said() -> None:
    def deciding(outputs: Any, _targets: Any, labels: torch.Tensor) -> torch.Tensor:
        factor = 2.0 if float(outputs[0].sum()) > 0 else 1.0  # vmap has no number to decide by
        return factor * torch.nn.functional.cross_entropy(outputs[0], labels, reduction="none")

    graph, groups = opened(two_layers())
    scores = Fisher(data=POINTS, loss=deciding, **EXACT)(graph, groups)
    assert "one by one" in scores.notes[0]
    model = stored(two_layers())
    h, off = by_hand(model, POINTS["x"], LABELS)
    positive = (h @ model["two.weight"].T + model["two.bias"]).sum(axis=1) > 0
    slope = (off @ model["two.weight"]) * h * np.where(positive, 2, 1)[:, None]
    np.testing.assert_allclose(scores["one"], np.square(slope).mean(axis=0) / 2, rtol=1e-9)


def test_gradients_of_many_weights_come_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, groups = opened(two_layers())
    whole = obd(data=POINTS, **EXACT)(graph, groups)["one"]
    monkeypatch.setattr("graphprune.gradients.per_sample.ROOM", 3 * 8 * (24 + 6 + 18))
    parts: list[int] = []
    real = Task.gradients

    def counted(self: Task, module: Any, variables: Any, examples: Any) -> Any:
        parts.append(examples.count)
        return real(self, module, variables, examples)

    monkeypatch.setattr(Task, "gradients", counted)
    np.testing.assert_allclose(obd(data=POINTS, **EXACT)(graph, groups)["one"], whole, rtol=1e-12)
    assert parts == [3] * 8


# Without labels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["Tanh", "Sigmoid"])
def test_the_second_order_is_the_change_itself_for_a_quadratic_loss(act: str) -> None:
    """One output, linear in the gates, mean squared: the score is the divergence without the unit."""
    graph, groups = opened(two_layers(outputs=1, act=act))
    data = {"x": samples(30, 4)}
    true = changes(graph, groups, data, squares)
    np.testing.assert_allclose(Fisher(data=data, **EXACT)(graph, groups)["one"], true["one"], rtol=1e-9)


def test_probes_have_the_mean_that_the_curvature_asks_for() -> None:
    """Kullback-Leibler: half of E[J' (diag(p) - pp') J], from labels drawn from the model's own distribution."""
    model = two_layers(outputs=5)
    graph, groups = opened(model)
    w, x = stored(model), samples(40, 4)
    h = np.tanh(x @ w["one.weight"].T + w["one.bias"])
    p = np.exp(log_softmax(h @ w["two.weight"].T + w["two.bias"]))
    jacobian = w["two.weight"][None] * h[:, None, :]
    wanted = (np.einsum("nc,nck->nk", p, jacobian**2) - np.einsum("nc,nck->nk", p, jacobian) ** 2).mean(axis=0) / 2
    many = {"x": np.tile(x, (100, 1))}
    scores = Fisher(data=many, batch_size=1000)(graph, groups)
    np.testing.assert_allclose(scores["one"], wanted, rtol=0.1)
    several = two_layers(outputs=7)
    mse = Fisher(data={"x": np.tile(x, (100, 1))}, loss="mse", batch_size=1000)(*opened(several))
    true = changes(*opened(several), {"x": x}, squares)
    np.testing.assert_allclose(mse["one"], true["one"], rtol=0.1)


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_scores_are_the_divergence_without_each_unit(kind: str) -> None:
    data, model = (
        (blobs(256, 16), mlp(16, batch="n")) if kind == "mlp" else (blobs(128, 3, 8, 8), residual_cnn(16, "n"))
    )
    graph, groups = opened(trained(model, data, 5))
    true = changes(graph, groups, data, divergence)
    inputs = {"x": data["x"]}
    for fisher, least in ((Fisher(data=inputs), 0.9), (obd(data=inputs), 0.8)):
        scores = fisher(graph, groups)
        assert "second order" in scores.notes[0]
        for name in groups:
            assert spearmanr(scores[name], true[name]).statistic > least
        ours, theirs = (np.concatenate([table[name] for name in groups]) for table in (scores, true))
        assert spearmanr(ours, theirs).statistic > least, "groups compare with each other"


def test_outputs_of_every_kind_add_up() -> None:
    """Maps, several outputs, integers among them: a probe for each that is floating."""
    net = Net(seed=2)
    x = net.op("Relu", net.conv(net.input("n", 3, 4, 4, name="x"), 3, 6, name="stem"))
    maps = net.conv(x, 6, 5, name="maps")
    classes = net.op("Softmax", net.gemm(net.op("Flatten", net.op("GlobalAveragePool", x)), 6, 4, "fc"), axis=-1)
    chosen = net.op("ArgMax", classes, axis=1)
    graph, groups = opened(net.model(maps, classes, chosen, **{chosen: TensorProto.INT64}))
    scores = Fisher(data={"x": samples(6, 3, 4, 4)})(graph, groups)
    assert (scores["stem"] > 0).all()
    assert all(words in scores.notes[0] for words in ("mse of 'maps", "kl of 'Softmax"))


def test_no_data_and_options_that_are_none() -> None:
    graph, groups = opened(two_layers())
    with pytest.raises(UsageError) as caught:
        Fisher()(graph, groups)
    assert caught.value.code == "data-missing"
    with pytest.raises(UsageError):
        Fisher(form="full")  # type: ignore[arg-type]


def test_batch_norms_take_their_stored_statistics() -> None:
    """Scores of a sample do not depend on what else is in the batch, and the copy is not in training mode."""
    graph, groups = opened(residual_cnn(8, batch="n"))
    assert to_torch(graph).training
    data = {"x": samples(6, 3, 8, 8), "labels": np.arange(6)}
    every = [Fisher(data={n: a[k : k + 1] for n, a in data.items()}, **EXACT)(graph, groups) for k in range(6)]
    whole = Fisher(data=data, **EXACT)(graph, groups)
    for name in groups:
        np.testing.assert_allclose(whole[name], np.mean([s[name] for s in every], axis=0), rtol=1e-9)


def test_an_input_that_all_samples_share() -> None:
    """A factor of rank 0 has no batch axis."""

    def model(shared: bool) -> Any:
        net = Net(seed=3)
        x = net.input("n", 4, name="x")
        x = net.op("Mul", x, net.input(name="factor")) if shared else net.op("Mul", x, net.scalar(0.5))
        return net.model(net.gemm(net.op("Tanh", net.gemm(x, 4, 6, "one")), 6, 3, "two"))

    wanted = Fisher(data=POINTS, **EXACT)(*opened(model(shared=False)))["one"]
    found = Fisher(data=POINTS | {"factor": np.float32(0.5)}, **EXACT)(*opened(model(shared=True)))["one"]
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
