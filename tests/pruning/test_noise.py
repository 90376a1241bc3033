"""How noisy hutchinson is, and how many draws it would need."""

from __future__ import annotations

import logging

import pytest
import torch
from scipy.stats import spearmanr
from tests.pruning.networks import make
from tests.pruning.test_curvature import curvature

from evenhand.pruning.curvature.hutchinson import draws_needed, rank_correlation


def test_the_correlation_is_spearmans():
    first, second = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    assert rank_correlation(first, second) == pytest.approx(spearmanr(first, second).statistic)


def test_so_many_draws_bring_estimates_of_a_known_noise_to_that_agreement():
    """Truth plus noise: halves of 8 draws agree by some r, and twice the answer by .8 together."""
    rng = torch.Generator().manual_seed(0)
    truth = torch.randn(20_000, generator=rng)

    def estimate(draws: int) -> torch.Tensor:
        return truth + 6 * torch.randn(20_000, generator=rng) / draws**0.5

    needed = round(draws_needed(rank_correlation(estimate(4), estimate(4)), 8))
    assert rank_correlation(estimate(needed), estimate(needed)) == pytest.approx(0.8, abs=0.03)


def test_hutchinson_says_how_noisy_it_is(caplog):
    network, inputs, labels = make("residual")
    with caplog.at_level(logging.WARNING):
        curvature("hutchinson", network, inputs, labels, draws=6)
        curvature("hutchinson", network, inputs, labels, draws=1)
    several, item = (record.message for record in caplog.records)
    assert "two halves of its 6 draws correlate by" in several
    assert "(a)" in several
    assert "(b)" in several
    assert "draws are needed for a correlation of 0.8" in several
    assert "the noise of a single draw is unknown" in item
