"""Methods: their losses, against cases worked by hand, and what a new one has to do."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from evenhand.errors import UnknownNameError
from evenhand.pretraining.objectives.barlow import barlow_twins
from evenhand.pretraining.objectives.simclr import nt_xent
from evenhand.pretraining.objectives.vicreg import vicreg
from evenhand.pretraining.registry import SSL_OBJECTIVES


def test_nt_xent_of_a_case_worked_by_hand():
    first = torch.tensor([[2.0, 0.0], [0.0, 3.0]])  # lengths do not matter
    second = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    # Cosines / .1. Views a, b | A, B with a = A = B along x, and b along y.
    # a: partner A at 10 among b 0, A 10, B 10.   b: partner B at 0 among a 0, A 0, B 0.
    # A: partner a at 10 among a 10, b 0, B 10.   B: partner b at 0 among a 10, b 0, A 10.
    two_of_three = math.log(2 * math.exp(10) + 1)
    wanted = ((two_of_three - 10) + math.log(3) + (two_of_three - 10) + two_of_three) / 4
    assert nt_xent(first, second).item() == pytest.approx(wanted, rel=1e-5)


def test_nt_xent_is_the_mean_over_views():
    first, second = torch.randn(2, 8, 5, generator=torch.Generator().manual_seed(0))
    views = torch.nn.functional.normalize(torch.cat([first, second]), dim=1)
    total = 0.0
    for i in range(16):
        others = [j for j in range(16) if j != i]
        alike = torch.stack([views[i] @ views[j] / 0.1 for j in others])
        total -= alike.log_softmax(0)[others.index((i + 8) % 16)].item()
    assert nt_xent(first, second).item() == pytest.approx(total / 16, rel=1e-5)


def test_vicreg_is_small_for_views_that_agree_and_spread():
    generator = torch.Generator().manual_seed(0)
    spread = 1.2 * torch.randn(4000, 4, generator=generator)
    assert vicreg(spread, spread).item() < 0.05
    assert vicreg(spread, spread.roll(1, 0)).item() > 20  # they do not agree
    assert vicreg(torch.ones(50, 4), torch.ones(50, 4)).item() > 20  # they do not spread
    repeated = spread[:, :1].expand(-1, 4)
    assert vicreg(repeated, repeated).item() > 5  # they repeat each other


def test_nt_xent_of_a_lower_temperature_weighs_the_likest_views_more():
    first, second = torch.randn(2, 8, 5, generator=torch.Generator().manual_seed(0))
    views = torch.nn.functional.normalize(torch.cat([first, second]), dim=1)
    likest = (views[0] @ views.T).index_fill(0, torch.tensor([0, 8]), -2).argmax()

    def pull(temperature):
        """The share of all negatives' gradient that the likest one has, for the first view."""
        near = views.clone().requires_grad_()
        alike = torch.nn.functional.normalize(first[:1], dim=1) @ near.T / temperature
        return alike[0].index_fill(0, torch.tensor([0, 8]), -torch.inf).softmax(0)[likest].item()

    assert pull(0.05) > pull(0.1) > pull(0.5)
    assert nt_xent(first, second, 0.1) != nt_xent(first, second, 0.5)


def test_vicreg_has_the_scaling_of_the_authors_code_not_of_the_equations():
    first, second = torch.randn(2, 12, 6, generator=torch.Generator().manual_seed(0)).double()
    item, other = first.numpy(), second.numpy()

    def regular(views):
        spread = np.sqrt(views.var(axis=0, ddof=1) + 1e-4)
        covariance = np.cov(views.T)
        apart = (covariance**2).sum() - (np.diag(covariance) ** 2).sum()
        return np.maximum(0, 1 - spread).mean(), apart / views.shape[1]

    (v, c), (v_other, c_other) = regular(item), regular(other)
    code = 25 * ((item - other) ** 2).mean() + 25 * (v + v_other) / 2 + c + c_other
    equations = 25 * ((item - other) ** 2).sum(axis=1).mean() + 25 * (v + v_other) + c + c_other
    assert vicreg(first, second).item() == pytest.approx(code, rel=1e-6)
    assert abs(equations - code) > 1


def test_barlow_twins_of_a_case_worked_by_hand():
    first, second = torch.randn(2, 12, 5, generator=torch.Generator().manual_seed(0)).double()
    both = np.corrcoef(first.numpy().T, second.numpy().T)[:5, 5:]
    agree = ((1 - np.diag(both)) ** 2).sum()
    repeat = (both**2).sum() - (np.diag(both) ** 2).sum()
    assert barlow_twins(first, second).item() == pytest.approx(agree + 5.1e-3 * repeat, rel=1e-4)
    wanted = agree + 2 * repeat
    assert barlow_twins(first, second, redundancy=2.0).item() == pytest.approx(wanted, rel=1e-4)


def test_barlow_twins_is_small_for_views_that_agree_and_do_not_repeat():
    spread = torch.randn(4000, 4, generator=torch.Generator().manual_seed(0))
    assert barlow_twins(spread, spread).item() < 0.01
    repeated = spread[:, :1].expand(-1, 4)
    assert barlow_twins(repeated, repeated).item() == pytest.approx(12 * 5.1e-3, rel=0.01)
    assert barlow_twins(spread, spread.roll(1, 0)).item() > 3
    assert barlow_twins(torch.ones(50, 4), torch.ones(50, 4)).item() == pytest.approx(4)


@pytest.mark.parametrize("name", ["simclr", "vicreg", "barlow"])
def test_every_method_has_a_head_and_a_loss_that_can_be_learnt_from(name):
    method = SSL_OBJECTIVES.find(name)
    head = method.head(7)
    first, second = head(torch.randn(6, 7)), head(torch.randn(6, 7))
    method.loss(first, second).backward()
    assert first.shape == (6, method.widths[-1])
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())


def test_the_published_head():
    assert sum(p.numel() for p in SSL_OBJECTIVES.find("simclr").head(96).parameters()) == 64_178


def test_an_unknown_method():
    with pytest.raises(
        UnknownNameError, match=r"no SSL objective 'simcrl'; there are: barlow, .*simclr, .*vicreg"
    ):
        SSL_OBJECTIVES.find("simcrl")
