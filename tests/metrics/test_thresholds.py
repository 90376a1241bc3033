from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, roc_curve

from evenhand.errors import EvenhandError
from evenhand.metrics import groups_of, policy, thresholds_by_group, youden

rows = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 20).map(lambda k: k / 20)), min_size=4, max_size=60
).filter(lambda pairs: len({label for label, _ in pairs}) == 2)


def rates(labels, scores, threshold):
    flagged = scores >= threshold
    return flagged[labels == 1].mean(), (~flagged)[labels == 0].mean()


def arrays(pairs):
    labels, scores = zip(*pairs, strict=True)
    return np.array(labels), np.array(scores)


@given(rows)
def test_youden_is_the_best_of_scikit_learns_curve(pairs):
    labels, scores = arrays(pairs)
    fpr, tpr, _ = roc_curve(labels, scores)
    sensitivity, specificity = rates(labels, scores, youden(labels, scores))
    assert sensitivity + specificity - 1 == pytest.approx((tpr - fpr).max(), abs=1e-12)


@given(rows)
def test_best_f1_is_the_best_of_all_cuts(pairs):
    labels, scores = arrays(pairs)
    chosen = f1_score(labels, scores >= policy("f1").choose(labels, scores))
    assert chosen == pytest.approx(max(f1_score(labels, scores >= cut) for cut in scores))


@given(rows, st.sampled_from([0.5, 0.8, 0.9, 1.0]))
def test_targets_are_met_at_the_least_cost(pairs, target):
    labels, scores = arrays(pairs)
    cut = policy(f"sensitivity={target}").choose(labels, scores)
    assert rates(labels, scores, cut)[0] >= target - 1e-9
    higher = [other for other in scores if other > cut]
    assert all(rates(labels, scores, other)[0] < target for other in higher)
    cut = policy(f"specificity={target}").choose(labels, scores)
    assert rates(labels, scores, cut)[1] >= target - 1e-9
    lower = [other for other in scores if other < cut]
    assert all(rates(labels, scores, other)[1] < target for other in lower)


@pytest.mark.parametrize("name", ["youden", "f1", "sensitivity=0.9", "specificity=0.9"])
@pytest.mark.parametrize("label", [0, 1])
def test_one_class_leaves_a_half(name, label):
    cut = policy(name).choose(np.full(3, label), np.array([0.1, 0.6, 0.7]))
    alone_is_enough = {"f1": 1, "sensitivity=0.9": 1, "specificity=0.9": 0}
    assert (cut == 0.5) == (alone_is_enough.get(name) != label)


def many(times):
    labels = np.tile([0, 1], times)
    return labels, np.tile([0.3, 0.6], times) + np.arange(2 * times) / 1000


def test_a_group_with_too_few_rows_takes_the_threshold_of_all():
    labels, scores = many(24)
    groups = groups_of(["a"] * 20 + ["b"] * 18 + ["c"] * 10)
    of_all, own = thresholds_by_group(policy("youden"), labels, scores, groups)
    assert own == {"a": youden(labels[:20], scores[:20])}  # b has 9 positives
    assert of_all == youden(labels, scores)


@pytest.mark.parametrize(
    ("name", "positives", "negatives"),
    [("youden", 10, 10), ("f1", 10, 0), ("sensitivity=0.9", 10, 0), ("specificity=0.9", 0, 10)],
)
def test_a_threshold_is_chosen_on_enough_rows_only(name, positives, negatives):
    rule, rng = policy(name), np.random.default_rng(0)
    for few, lacking in ((0, False), (1, True)):
        for short in ((few, 0), (0, few)):
            n_pos, n_neg = max(positives - short[0], 0), max(negatives - short[1], 0)
            labels = np.repeat([1, 0], [n_pos, n_neg])
            scores = 0.8 + 0.1 * rng.random(len(labels))
            lacks = n_pos < positives or n_neg < negatives
            assert (rule.why_too_few(labels) is not None) == lacks
            assert (rule.threshold_on(labels, scores) == 0.5) == lacks
            assert lacking or not lacks


def test_three_validation_rows_choose_nothing():
    assert policy("youden").threshold_on([0, 0, 1], [0.1, 0.2, 0.97]) == 0.5
    assert policy("youden").why_too_few([0, 0, 1]) == (
        "1 positive and 2 negatives, and 10 of each are needed"
    )
    assert policy("0.3").threshold_on([], []) == 0.3


@pytest.mark.parametrize("text", ["yuden", "1.5", "sensitivity=2", "sensitivity", "recall=0.9", ""])
def test_policies_that_there_are_not(text):
    with pytest.raises(EvenhandError, match="is no threshold policy"):
        policy(text)
