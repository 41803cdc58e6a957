"""Losses against closed forms in float64, and the rules by which they are chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from graphprune.errors import GraphpruneError, ModelError, UsageError
from graphprune.losses import mixed, resolve, variances
from graphprune.outputs import OutputSpec, describe_outputs

RNG = np.random.default_rng(0)
OURS, THEIRS = (torch.from_numpy(RNG.standard_normal((5, 4))) for _ in range(2))


def spec(kind: Any, rank: int = 2, size: int = 4, axis: int | None = None) -> OutputSpec:
    return OutputSpec("y", kind, rank - 1 if axis is None else axis, size, rank, "told so")


LOGITS, VALUES, PROBABILITIES = (spec(kind) for kind in ("logits", "values", "probabilities"))


def softmax(x: Any, axis: int = -1) -> Any:
    e = np.exp(np.asarray(x) - np.max(np.asarray(x), axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def kl(theirs: Any, ours: Any, axis: int = -1) -> Any:
    return (theirs * np.log(theirs / ours)).sum(axis)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_kl_of_logits(temperature: float) -> None:
    loss = resolve("auto", [LOGITS], False, temperature=temperature)
    p, q = (softmax(t.numpy() / temperature) for t in (THEIRS, OURS))
    np.testing.assert_allclose(loss((OURS,), (THEIRS,)), temperature**2 * kl(p, q), rtol=1e-12)
    np.testing.assert_allclose(loss((THEIRS,), (THEIRS,)), np.zeros(5), atol=1e-15)
    assert (loss.name, loss.needs_targets, loss.needs_labels) == ("kl", True, False)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_kl_of_probabilities_and_their_logarithms_is_that_of_the_logits(temperature: float) -> None:
    expected = resolve("kl", [LOGITS], False, temperature=temperature)((OURS,), (THEIRS,))
    shapes = {"probabilities": lambda t: t.softmax(1), "log-probabilities": lambda t: t.log_softmax(1)}
    for kind, turned in shapes.items():
        loss = resolve("auto", [spec(kind)], False, temperature=temperature)
        torch.testing.assert_close(loss((turned(OURS),), (turned(THEIRS),)), expected)


def test_probabilities_of_zero_are_no_trouble() -> None:
    ours = torch.tensor([[0.0, 1.0]], requires_grad=True)
    loss = resolve("kl", [spec("probabilities", size=2)], False)((ours,), (torch.tensor([[1.0, 0.0]]),))
    loss.sum().backward()
    assert bool(torch.isfinite(loss).all())
    assert ours.grad is not None
    assert bool(torch.isfinite(ours.grad).all())


def test_kl_of_tokens_and_of_maps_is_a_mean_over_positions() -> None:
    ours, theirs = (torch.from_numpy(RNG.standard_normal((2, 3, 4))) for _ in range(2))
    found = resolve("auto", [spec("logits", rank=3)], False)((ours,), (theirs,))
    np.testing.assert_allclose(found, kl(softmax(theirs), softmax(ours)).mean(1), rtol=1e-12)
    ours, theirs = (t.reshape(2, 3, 2, 2) for t in (ours, theirs))
    found = resolve("kl", [spec("values", rank=4, size=3, axis=1)], False)((ours,), (theirs,))
    np.testing.assert_allclose(found, kl(softmax(theirs, 1), softmax(ours, 1), 1).mean((1, 2)), rtol=1e-12)


def test_mse_and_several_outputs() -> None:
    other, target = (torch.from_numpy(RNG.standard_normal((5, 2, 3))) for _ in range(2))
    expected = (OURS - THEIRS).square().mean(1)
    torch.testing.assert_close(resolve("mse", [LOGITS], False)((OURS,), (THEIRS,)), expected)
    outputs = [LOGITS, spec("values", rank=3), spec("not floating")]
    whole = (OURS, other, torch.ones(5, dtype=torch.int64)), (THEIRS, target, torch.ones(5, dtype=torch.int64))
    scales = variances(whole[1])
    np.testing.assert_allclose(scales[1], target.numpy().var(), rtol=1e-12)
    loss = resolve("auto", outputs, False, scales=scales)
    second = (other - target).square().flatten(1).mean(1) / scales[1]
    first = resolve("kl", [LOGITS], False)((OURS,), (THEIRS,))
    torch.testing.assert_close(loss(*whole), first + second)
    assert loss.name == "kl+mse"
    assert variances((torch.ones(3, 2),)) == (1.0,)


def test_an_output_whose_first_axis_is_no_batch() -> None:
    ours, theirs = OURS[:4], THEIRS[:4]
    loss = resolve("mse", [VALUES], False)
    expected = (ours - theirs).square().reshape(2, -1).mean(1)
    torch.testing.assert_close(loss((ours,), (theirs,), batch=2), expected)
    torch.testing.assert_close(loss((ours[0, 0],), (theirs[0, 0],), batch=2), (ours - theirs)[0, 0].square().expand(2))


def test_cross_entropy() -> None:
    labels = torch.tensor([3, 0, 1, 2, 3])
    expected = -np.log(softmax(OURS)[np.arange(5), labels])
    for name in ("auto", "ce"):
        np.testing.assert_allclose(resolve(name, [LOGITS], True)((OURS,), None, labels), expected, rtol=1e-12)
    np.testing.assert_allclose(resolve("ce", [VALUES], True)((OURS,), None, labels[:, None]), expected, rtol=1e-12)
    probabilities = resolve("auto", [PROBABILITIES], True)((OURS.softmax(1),), None, labels)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-12)
    soft = torch.from_numpy(softmax(THEIRS))
    found = resolve("auto", [LOGITS], True)((OURS,), None, soft)
    np.testing.assert_allclose(found, -(soft * OURS.log_softmax(1)).sum(1), rtol=1e-12)


def test_cross_entropy_of_tokens_skips_padding() -> None:
    ours, labels = torch.from_numpy(RNG.standard_normal((2, 3, 4))), torch.tensor([[1, 2, -100], [-100, -100, -100]])
    found = resolve("ce", [spec("logits", rank=3)], True)((ours,), None, labels)
    logs = np.log(softmax(ours))
    np.testing.assert_allclose(found, [-(logs[0, 0, 1] + logs[0, 1, 2]) / 2, 0.0], rtol=1e-12)


def test_labels_of_a_regression() -> None:
    labels = torch.linspace(0, 1, 5, dtype=torch.float64)
    loss = resolve("auto", [spec("values", size=1)], True)
    torch.testing.assert_close(loss((OURS[:, :1],), None, labels), (OURS[:, 0] - labels).square())
    assert loss.name == "mse"


def test_labels_that_do_not_fit() -> None:
    with pytest.raises(UsageError, match="labels of shape"):
        resolve("ce", [LOGITS], True)((OURS,), None, torch.zeros(3, dtype=torch.int64))
    with pytest.raises(UsageError, match="labels of shape"):
        resolve("auto", [VALUES], True)((OURS,), None, torch.zeros(3))


def test_mixed() -> None:
    labels = torch.tensor([3, 0, 1, 2, 3])
    one, other = resolve("kl", [LOGITS], False), resolve("ce", [LOGITS], True)
    both = mixed(one, other, 0.3)
    expected = 0.7 * one((OURS,), (THEIRS,)) + 0.3 * other((OURS,), None, labels)
    torch.testing.assert_close(both((OURS,), (THEIRS,), labels), expected)
    assert (both.needs_targets, both.needs_labels) == (True, True)


def test_losses_add_up_over_any_cut_of_a_batch() -> None:
    labels = torch.tensor([3, 0, 1, 2, 3])
    for name, has_labels in (("kl", False), ("mse", False), ("ce", True)):
        loss = resolve(name, [LOGITS], has_labels)
        whole = loss((OURS,), (THEIRS,), labels)
        parts = [loss((OURS[s],), (THEIRS[s],), labels[s]) for s in (slice(0, 2), slice(2, 5))]
        torch.testing.assert_close(whole, torch.cat(parts))


def test_losses_fit_per_sample_gradients() -> None:
    labels = torch.tensor([3, 0, 1, 2, 3])
    loss = mixed(resolve("kl", [LOGITS], False), resolve("ce", [LOGITS], True), 0.5)

    def one(ours: Tensor, theirs: Tensor, label: Tensor) -> Tensor:
        return loss((ours[None],), (theirs[None],), label[None]).squeeze(0)

    found = torch.func.vmap(torch.func.grad(one))(OURS, THEIRS, labels)
    leaf = OURS.clone().requires_grad_()
    loss((leaf,), (THEIRS,), labels).sum().backward()
    torch.testing.assert_close(found, leaf.grad)


def test_half_precision_is_widened() -> None:
    found = resolve("kl", [LOGITS], False)((OURS.half(),), (THEIRS.half(),))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, kl(softmax(THEIRS), softmax(OURS)), rtol=5e-3)


def test_a_users_own_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_losses_of_test.py").write_text(
        "def each(outputs, targets, labels): return (outputs[0] - targets[0]).abs().sum(1)\n"
        "def mean(outputs, targets, labels): return each(outputs, targets, labels).mean()\n"
        "def wrong(outputs, targets, labels): return outputs[0]\n"
    )
    expected = (OURS - THEIRS).abs().sum(1)
    torch.testing.assert_close(resolve("my_losses_of_test:each", [LOGITS], False)((OURS,), (THEIRS,)), expected)
    mean = resolve("my_losses_of_test:mean", [LOGITS], False)((OURS,), (THEIRS,))
    torch.testing.assert_close(mean, expected.mean().expand(5))
    torch.testing.assert_close(resolve(lambda o, t, y: o[0].sum(1), [LOGITS], False)((OURS,)), OURS.sum(1))
    with pytest.raises(UsageError, match=r"shape \(5, 4\)"):
        resolve("my_losses_of_test:wrong", [LOGITS], False)((OURS,), (THEIRS,))


@pytest.mark.parametrize(
    ("name", "outputs", "options", "code"),
    [
        ("hinge", [LOGITS], {}, "unknown-loss"),
        ("ce", [LOGITS], {}, "labels-missing"),
        ("nowhere:loss", [LOGITS], {}, "function-missing"),
        ("kl", [spec("values", rank=1, axis=0)], {}, "loss-mismatch"),
        ("auto", [LOGITS], {"temperature": 0.0}, "bad-temperature"),
        ("auto", [LOGITS], {"temperature": float("nan")}, "bad-temperature"),
        ("auto", [spec("not floating")], {}, "no-floating-output"),
    ],
)
def test_wrong_losses(name: str, outputs: list[OutputSpec], options: dict[str, Any], code: str) -> None:
    with pytest.raises(GraphpruneError) as caught:
        resolve(name, outputs, False, **options)
    assert caught.value.code == code
    assert caught.value.hint
    assert isinstance(caught.value, (UsageError, ModelError))


class Ends(nn.Module):
    """Several ends on one stem."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear, self.scale = nn.Conv2d(3, 6, 1), nn.Linear(6, 4), nn.Parameter(torch.tensor(2.0))
        self.norm = nn.LayerNorm(4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = self.conv(x)
        tokens = self.linear(maps.flatten(2).transpose(1, 2))
        pooled = self.linear(maps.mean((2, 3)))
        return {
            "classifier": pooled,
            "scaled": (pooled * self.scale).view(-1, 2, 2).flatten(1) / 2 + self.linear.bias.view(1, 4),
            "tokens": tokens,
            "fully convolutional": self.conv(x[:, :, :1, :1]).flatten(1),
            "bare product": maps.mean((2, 3)) @ self.linear.weight.t(),
            "softmax": pooled.softmax(1),
            "log-softmax": tokens.log_softmax(2),
            "softmax of a map": maps.softmax(1),
            "hidden": self.norm(tokens),
            "map": maps,
            "activated": pooled.relu(),
            "residual": pooled + pooled.tanh(),
            "one number": pooled[:, :1],
            "sigmoid": pooled.sigmoid(),
            "class": pooled.argmax(1),
        }


def test_what_outputs_mean() -> None:
    torch.manual_seed(0)
    outputs = Ends()(torch.randn(3, 3, 2, 2))
    found = {s.name: (s.kind, s.axis) for s in describe_outputs(list(outputs.values()), list(outputs))}
    assert found == {
        "classifier": ("logits", 1),
        "scaled": ("logits", 1),
        "tokens": ("logits", 2),
        "fully convolutional": ("logits", 1),
        "bare product": ("logits", 1),
        "softmax": ("probabilities", 1),
        "log-softmax": ("log-probabilities", 2),
        "softmax of a map": ("probabilities", 1),
        "hidden": ("values", 2),
        "map": ("values", 1),
        "activated": ("values", 1),
        "residual": ("values", 1),
        "one number": ("values", 1),
        "sigmoid": ("values", 1),
        "class": ("not floating", 0),
    }
    assert [s.size for s in describe_outputs([outputs["classifier"], outputs["map"]])] == [4, 6]


def test_without_gradients_values_are_assumed() -> None:
    with torch.no_grad():
        outputs = Ends()(torch.randn(3, 3, 2, 2))
    assert describe_outputs([outputs["classifier"]])[0].kind == "values"
    assert describe_outputs([outputs["softmax"]])[0].kind == "probabilities"
