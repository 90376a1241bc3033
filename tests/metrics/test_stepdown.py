"""Testing together: laws that hold for any statistics and draws."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evenhand.metrics.permutation import AdjustedP, step_down

DRAWS = 40
SIZES = st.floats(0, 5, width=16)


@st.composite
def problems(draw):
    """Statistics ``(m,)`` and their draws ``(m, B)``."""
    m = draw(st.integers(1, 6))
    return draw(arrays(float, m, elements=SIZES)), draw(arrays(float, (m, DRAWS), elements=SIZES))


def together(observed, drawn) -> AdjustedP:
    return step_down(observed, drawn.__getitem__, DRAWS)


@given(problems())
def test_adjusting_never_makes_surer_and_keeps_the_order(problem):
    observed, drawn = problem
    result = together(observed, drawn)
    assert (result.p_adjusted >= result.p).all()
    assert (np.diff(result.p_adjusted[np.argsort(-observed, kind="stable")]) >= 0).all()


@given(problems())
def test_a_single_step_is_never_surer(problem):
    observed, drawn = problem
    single = (1 + (drawn.max(axis=0) >= observed[:, None]).sum(axis=1)) / (1 + DRAWS)
    assert (together(observed, drawn).p_adjusted <= single + 1e-12).all()


@given(problems())
def test_one_difference_alone_is_the_plain_test(problem):
    observed, drawn = problem
    result = together(observed[:1], drawn[:1])
    plain = (1 + np.count_nonzero(drawn[0] >= observed[0])) / (1 + DRAWS)
    assert result.p[0] == result.p_adjusted[0] == plain


@given(problems(), st.randoms(use_true_random=False))
def test_the_order_in_which_differences_are_named_does_not_matter(problem, random):
    observed, drawn = problem
    observed = observed + 1e-6 * np.arange(len(observed))  # no ties
    order = list(range(len(observed)))
    random.shuffle(order)
    np.testing.assert_array_equal(
        together(observed[order], drawn[order]).p_adjusted,
        together(observed, drawn).p_adjusted[order],
    )


def test_a_draw_that_a_difference_lacks_is_left_out():
    drawn = np.array([[1.0, np.nan, np.nan, 3.0]])
    result = step_down(np.array([2.0]), drawn.__getitem__, 4)
    assert result.p[0] == result.p_adjusted[0] == 2 / 3


def test_draws_that_only_others_have_make_no_difference_surer():
    drawn = np.array([[0.0, 0.0, 0.0, 0.0], [5.0, np.nan, np.nan, np.nan]])
    result = step_down(np.array([1.0, 2.0]), drawn.__getitem__, 4)
    assert result.p[1] == result.p_adjusted[1] == 1


def test_one_block_at_a_time_by_hand(monkeypatch):
    """The largest of all smaller statistics is carried from block to block, past missing draws."""
    monkeypatch.setattr("evenhand.metrics.permutation.BLOCK", 4)  # one test in each block
    drawn = np.array([[9.0, 0.0, 0.0, 0.0], [0.0, 9.0, np.nan, 0.0], [0.0, 0.0, 9.0, 0.0]])
    result = step_down(np.array([1.0, 2.0, 3.0]), drawn.__getitem__, 4)
    np.testing.assert_allclose(result.p, [2 / 5, 2 / 4, 2 / 5])
    np.testing.assert_allclose(result.p_adjusted, [4 / 5, 4 / 5, 4 / 5])
    np.testing.assert_array_equal(result.largest, [9, 9, 9, 0])


def test_tests_that_say_the_same_cost_nothing():
    """Where Holm's adjustment would ask for half the p-value."""
    null = np.abs(np.random.default_rng(0).normal(size=(1, 999))).repeat(2, axis=0)
    result = step_down(np.array([2.1, 2.1]), null.__getitem__, 999)
    np.testing.assert_array_equal(result.p_adjusted, result.p)
