from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, roc_curve

from evenhand.errors import EvenhandError
from evenhand.measure import by_group, groups_of, policy, youden

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


def test_a_group_of_one_class_takes_the_threshold_of_all():
    labels, scores = np.array([0, 1, 0, 1, 1, 1]), np.array([0.1, 0.4, 0.5, 0.8, 0.2, 0.3])
    groups = groups_of(["a", "a", "b", "b", "c", "c"])
    of_all, own = by_group(policy("youden"), labels, scores, groups)
    assert own == {"a": 0.4, "b": 0.8}
    assert of_all == youden(labels, scores)


@pytest.mark.parametrize("text", ["yuden", "1.5", "sensitivity=2", "sensitivity", "recall=0.9", ""])
def test_policies_that_there_are_not(text):
    with pytest.raises(EvenhandError, match="no threshold policy"):
        policy(text)
