"""What is called collapsed, and what is not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evenhand.pretraining.collapse import Embeddings, effective_rank, embedding_spread


def drawn(count, width, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_the_spread_is_that_of_embeddings_of_length_one():
    rows = drawn(50, 6).double() + 1
    unit = rows.numpy() / np.linalg.norm(rows.numpy(), axis=1, keepdims=True)
    assert embedding_spread(rows) == pytest.approx(math.sqrt((unit.std(axis=0) ** 2).sum()))
    assert embedding_spread(3 * rows) == pytest.approx(embedding_spread(rows))
    assert embedding_spread(torch.ones(9, 4)) == pytest.approx(0, abs=1e-7)
    assert embedding_spread(torch.cat([torch.eye(8), -torch.eye(8)])) == pytest.approx(1)


def test_the_effective_rank_is_that_of_the_paper():
    rows = drawn(40, 5).double()
    values = np.linalg.svd(rows.numpy(), compute_uv=False)
    share = values / values.sum()
    assert effective_rank(rows) == pytest.approx(np.exp(-(share * np.log(share)).sum()))


@settings(max_examples=20)
@given(st.integers(1, 6))
def test_directions_of_equal_weight_are_counted(count):
    rows = torch.zeros(12, 8)
    rows[:, :count] = torch.linalg.qr(drawn(12, count))[0]
    assert effective_rank(rows) == pytest.approx(count, rel=1e-5)


def test_nothing_and_what_is_not_finite_have_no_error():
    assert effective_rank(torch.zeros(5, 3)) == pytest.approx(1)
    assert math.isnan(effective_rank(torch.full((5, 3), torch.nan)))
    assert math.isnan(embedding_spread(torch.full((5, 3), torch.nan)))
    assert not Embeddings(math.nan, math.nan).collapsed


@pytest.mark.parametrize(
    ("embeddings", "collapsed"),
    [
        (Embeddings(0.004, 1.3, 16.6), True),
        (Embeddings(0.18, 1.9, 39.6), True),  # all in one direction, which says two things
        (Embeddings(0.88, 9.9, 39.6), False),
        (Embeddings(0.11, 1.5, 2.2), False),  # few directions, as before training
    ],
)
def test_collapsed_is_a_small_spread_or_a_rank_that_fell(embeddings, collapsed):
    assert embeddings.collapsed == collapsed
    assert [*embeddings.sentences("It")] == [] or "It has collapsed" in next(
        embeddings.sentences("It")
    )
    assert bool([*embeddings.sentences("It")]) == collapsed
