from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from evenhand.errors import EvenhandError
from evenhand.methods.afterwards.recalibrate import recalibrate
from evenhand.methods.arrays import logit
from evenhand.methods.offset_logistic import fit_offset_logistic


def world(seed: int, n: int = 6000, factor: float = 2.0):
    """Scores of one feature whose Bayes logit is 2x; the minority's are ``factor`` times that."""
    rng = np.random.default_rng(seed)
    group = np.where(rng.random(n) < 0.5, "minority", "majority")
    label = rng.integers(2, size=n)
    log_odds = 2 * rng.normal(2 * label - 1, 1)
    return expit(np.where(group == "minority", factor, 1.0) * log_odds), label, group


def slope_of(scores, labels):
    model = LogisticRegression(C=np.inf).fit(logit(scores)[:, None], labels)
    return float(model.coef_[0, 0])


def test_a_planted_slope_is_repaired_on_other_rows_and_the_others_stay():
    scores, labels, groups = world(0)
    new_scores, new_labels, new_groups = world(1)
    minority = new_groups == "minority"
    assert slope_of(new_scores[minority], new_labels[minority]) == pytest.approx(0.5, abs=0.05)
    repaired = recalibrate(scores, labels, groups).apply(new_scores, new_groups)
    assert slope_of(repaired[minority], new_labels[minority]) == pytest.approx(1, abs=0.1)
    assert slope_of(repaired[~minority], new_labels[~minority]) == pytest.approx(1, abs=0.1)


def test_the_order_inside_a_group_stays():
    scores, labels, groups = world(2)
    new = recalibrate(scores, labels, groups).apply(scores, groups)
    for level in ("minority", "majority"):
        member = groups == level
        before = roc_auc_score(labels[member], scores[member])
        assert roc_auc_score(labels[member], new[member]) == pytest.approx(before, abs=1e-12)


def test_a_small_group_is_drawn_towards_everybody():
    scores, labels, groups = world(3, n=400, factor=1.0)
    weak = recalibrate(scores, labels, groups, ridges=(1e-3,))
    strong = recalibrate(scores, labels, groups, ridges=(1e6,))
    far = max(abs(line.slope - weak.pooled.slope) for line in weak.groups.values())
    near = max(abs(line.slope - strong.pooled.slope) for line in strong.groups.values())
    assert near < 1e-3 < far


def test_the_solver_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 3))
    labels = (features @ [1.0, -2.0, 0.5] + rng.logistic(size=300) > 0).astype(np.int64)
    ours = fit_offset_logistic(features, labels, np.zeros(300), 2.0)
    theirs = LogisticRegression(C=0.5, fit_intercept=False, tol=1e-10, max_iter=1000)
    np.testing.assert_allclose(ours, theirs.fit(features, labels).coef_[0], atol=1e-5)


def test_a_group_with_one_label_is_refused_by_name():
    with pytest.raises(EvenhandError, match="b has 0 rows of class 1"):
        recalibrate([0.1, 0.9, 0.3, 0.4], [0, 1, 0, 0], ["a", "a", "b", "b"])


def test_the_ridge_is_chosen_by_what_other_patients_show():
    apart = recalibrate(*world(5, factor=4.0), ridges=(0.1, 1e6))
    alike = recalibrate(*world(5, n=80, factor=1.0), ridges=(0.001, 1e6))
    assert (apart.ridge, alike.ridge) == (0.1, 1e6)


def test_lines_are_those_of_scikit_learn_in_each_group():
    scores, labels, groups = world(4)
    shifted = expit(logit(scores) + np.where(groups == "minority", 1.5, -0.5))
    fit = recalibrate(shifted, labels, groups, ridges=(1e-9,))
    for level in ("minority", "majority"):
        own = groups == level
        model = LogisticRegression(C=np.inf, tol=1e-8).fit(
            logit(shifted[own])[:, None], labels[own]
        )
        line = fit.groups[level]
        assert line.slope == pytest.approx(model.coef_[0, 0], abs=1e-3)
        assert line.intercept == pytest.approx(model.intercept_[0], abs=1e-3)
        repaired = fit.apply(shifted[own], groups[own])
        assert repaired.mean() == pytest.approx(labels[own].mean(), abs=1e-3)
