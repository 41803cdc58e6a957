"""The gate itself: its divergence, its noise, its range."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from graphprune.coupling import couple
from graphprune.frontends.fx.trace import trace
from graphprune.gating.gate import Gate
from graphprune.gating.vib import VibGate, worth
from graphprune.interpret.differentiable import differentiable
from graphprune.interpret.gates import insert_gates


def gate_at(mu: float | Tensor, logvar: float | Tensor, units: int = 1) -> VibGate:
    gate = VibGate(units)
    with torch.no_grad():
        gate.mu.copy_(torch.as_tensor(mu))
        gate.logvar.copy_(torch.as_tensor(logvar))
    return gate


def divergence(gate: VibGate) -> float:
    return float(gate.kl().detach())


def test_it_is_a_gate() -> None:
    assert isinstance(VibGate(3), Gate)


def test_the_vector_of_the_specification() -> None:
    assert divergence(gate_at(1.0, -9.0)) == pytest.approx(4.50006, abs=5e-6)
    assert divergence(gate_at(1.0, -9.0, 7)) == pytest.approx(7 * 4.50006, abs=5e-5)


@pytest.mark.parametrize(("mu", "logvar"), [(1.0, -1.0), (-0.7, 0.5), (0.2, 1.0), (2.0, -3.0)])
def test_the_closed_form_is_the_expected_divergence(mu: float, logvar: float) -> None:
    """E over h of KL(N(h mu, h^2 sigma^2) || N(0, xi)) at the best xi, less what depends on h alone; by sampling."""
    rng = np.random.default_rng(0)
    h = np.exp(0.4 * rng.standard_normal(400_000))  # the unit's values, any distribution will do
    sigma = math.exp(logvar / 2)
    z = h * (mu + sigma * rng.standard_normal(h.shape))
    xi = (mu**2 + sigma**2) * np.mean(h**2)  # what maximises the marginal's likelihood: the second moment of z
    assert np.mean(z**2) == pytest.approx(xi, rel=0.02)
    log_p = -0.5 * np.log(2 * np.pi * h**2 * sigma**2) - (z - h * mu) ** 2 / (2 * h**2 * sigma**2)
    log_q = -0.5 * np.log(2 * np.pi * xi) - z**2 / (2 * xi)
    of_h_alone = 0.5 * (np.log(np.mean(h**2)) - np.mean(np.log(h**2)))
    assert divergence(gate_at(mu, logvar)) == pytest.approx(np.mean(log_p - log_q) - of_h_alone, abs=0.01)


def test_what_a_unit_is_worth_adds_up_to_the_divergence() -> None:
    gate = VibGate(50, seed=3)
    with torch.no_grad():
        gate.logvar.uniform_(-12, 12)
    assert worth(gate).sum() == pytest.approx(divergence(gate), rel=1e-5)
    assert (np.diff(worth(gate)[np.argsort(gate.log_ratio().numpy())]) >= 0).all()


@pytest.mark.parametrize(("mu", "logvar"), [(0.0, 10.0), (0.0, -20.0), (1e3, -20.0), (1e-20, 0.0)])
def test_it_is_finite_at_the_ends(mu: float, logvar: float) -> None:
    gate = gate_at(mu, logvar)
    gate.kl().backward()
    assert math.isfinite(divergence(gate))
    assert torch.isfinite(gate.mu.grad).all() and torch.isfinite(gate.logvar.grad).all()
    assert torch.isfinite(gate.log_ratio()).all()


def test_it_begins_near_one_with_little_noise_by_its_seed() -> None:
    gate = VibGate(20_000, seed=5)
    for parameter, mean in ((gate.mu, 1.0), (gate.logvar, -9.0)):
        assert parameter.mean().item() == pytest.approx(mean, abs=1e-3)
        assert parameter.std().item() == pytest.approx(0.01, rel=0.05)
    assert torch.equal(gate.mu, VibGate(20_000, seed=5).mu)
    assert not torch.equal(gate.mu, VibGate(20_000, seed=6).mu)


def test_every_sample_and_unit_has_noise_of_its_own() -> None:
    torch.manual_seed(0)
    gate = gate_at(torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.0, -2.0, 1.0]), 3)
    drawn = gate(torch.zeros(200_000, 4)).detach()
    assert drawn.shape == (200_000, 3)
    np.testing.assert_allclose(drawn.mean(0), gate.mu.detach(), atol=0.02)
    np.testing.assert_allclose(drawn.var(0), gate.logvar.detach().exp(), rtol=0.02)
    independent = torch.corrcoef(torch.cat([drawn.T, drawn.roll(1, 0).T]))
    np.testing.assert_allclose(independent, torch.eye(6), atol=0.01)


def test_in_evaluation_it_is_its_mean_where_units_are_kept() -> None:
    gate = gate_at(torch.tensor([1.0, -2.0, 0.5]), 0.0, 3).eval()
    gate.kept.copy_(torch.tensor([True, True, False]))
    assert gate(torch.zeros(4, 2)).tolist() == [1.0, -2.0, 0.0]
    assert gate.expected().tolist() == [1.0, -2.0, 0.5] and gate.expected().dtype == torch.float64


def test_projection() -> None:
    gate = gate_at(torch.tensor([9.0, 1.0, 1.0]), torch.tensor([-30.0, 3.0, 12.0]), 3)
    gate.project()
    assert gate.logvar.tolist() == [-20.0, 3.0, 10.0] and gate.mu.tolist() == [9.0, 1.0, 1.0]
    assert gate.logvar.requires_grad and gate.logvar.grad_fn is None


class Difference(nn.Module):
    """Two layers of the same weights read one tensor, and are subtracted: zero if their noise is the same."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.left, self.right = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 3)
        self.right.load_state_dict(self.left.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).relu()
        result: Tensor = self.left(hidden) - self.right(hidden)
        return result


def test_all_places_of_a_group_have_the_same_noise() -> None:
    torch.manual_seed(0)
    net, x = Difference(), torch.randn(5, 4)
    graph = trace(net, x)
    gated = insert_gates(differentiable(graph), graph, couple(graph), make=lambda g: gate_at(1.0, 0.0, g.size))
    assert len(gated.sites) == 2 and len(gated.gates) == 1
    gated.module.train()
    (difference,) = gated.module(x)
    assert not difference.any()
    hidden = gated.module.get_parameter("left.weight")
    with torch.no_grad():
        hidden.mul_(2)
    drawn = [gated.module(x)[0] for _ in range(2)]
    assert drawn[0].any() and not torch.equal(drawn[0], drawn[1])
