from __future__ import annotations

import numpy as np
import pytest

from evenhand.errors import EvenhandError
from evenhand.methods.afterwards.dfr import balanced_rows, cross_fit, refit_last_layer
from evenhand.methods.arrays import check_rows


def world(n: int, tilt: float, seed: int):
    """Disease in the first feature, the attribute in the second; P(y=1|a) = .5 -/+ tilt/2."""
    rng = np.random.default_rng(seed)
    attribute = rng.integers(2, size=n)
    label = (rng.random(n) < 0.5 + tilt * (attribute - 0.5)).astype(int)
    features = np.column_stack([rng.normal(2 * label - 1, 1), rng.normal(2 * attribute - 1, 0.3)])
    return features, label, np.where(attribute == 1, "b", "a")


def gap(layer, features, labels, groups):
    flagged = layer.scores(features)[:, 1] > 0.5
    sick = labels == 1
    return flagged[sick & (groups == "b")].mean() - flagged[sick & (groups == "a")].mean()


def test_a_tilt_is_unlearnt():
    layer = refit_last_layer(*world(3000, 0.6, 2))
    disease, attribute = layer.weight[1] - layer.weight[0]
    assert abs(attribute) < 0.15 < 1 < disease
    assert abs(gap(layer, *world(40000, 0.0, 1))) < 0.03


def test_the_mean_of_single_fits_is_one_linear_layer():
    features, labels, groups = world(600, 0.3, 0)
    parts = [
        refit_last_layer(features, labels, groups, strengths=(0.3,), subsets=1, seed=seed)
        for seed in range(3)
    ]
    mean = np.mean([part.logits(features) for part in parts], axis=0)
    weight = np.mean([part.weight for part in parts], axis=0)
    bias = np.mean([part.bias for part in parts], axis=0)
    np.testing.assert_allclose(features @ weight.T + bias, mean, atol=1e-6)


def test_standardisation_is_folded_into_the_layer():
    features, labels, groups = world(600, 0.3, 0)
    moved = features * [100.0, 0.01] + [5.0, -3.0]
    plain = refit_last_layer(features, labels, groups, strengths=(0.3,))
    folded = refit_last_layer(moved, labels, groups, strengths=(0.3,))
    np.testing.assert_allclose(folded.scores(moved), plain.scores(features), atol=1e-3)


def test_subsets_hold_as_many_rows_of_each_label_in_each_group():
    labels = np.array([0] * 10 + [1] * 3 + [0] * 4 + [1] * 8 + [1])
    groups = np.array(["a"] * 13 + ["b"] * 12 + ["unknown"])
    rows = check_rows(labels, groups)
    drawn = balanced_rows(rows, np.random.default_rng(0))
    assert len(drawn) == len(set(drawn.tolist())) == 12
    assert {
        int(((rows.groups == g) & (rows.labels == y))[drawn].sum()) for g in "ab" for y in (0, 1)
    } == {3}


def test_a_group_without_a_class_is_refused_by_name():
    features, labels, groups = world(60, 0.0, 0)
    with pytest.raises(EvenhandError, match="b has 0 rows of class 1"):
        refit_last_layer(features, np.where(groups == "b", 0, labels), groups)


def test_three_classes():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=900)
    features = rng.normal(np.eye(3)[labels] * 3, 1)
    layer = refit_last_layer(features, labels, rng.choice(["a", "b"], 900))
    assert (layer.scores(features).argmax(axis=1) == labels).mean() > 0.8
    assert layer.weight.shape == (3, 3)


def test_a_class_of_one_patient_keeps_its_place():
    """Half of the patients lack the middle class; its number must not be taken for another's."""
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1, 2], 60)
    patients = np.where(label == 1, 0, np.arange(180))
    features = rng.normal(np.eye(3)[label] * 4, 1.0)
    layer = refit_last_layer(features, label, np.full(180, "a"), patients=patients)
    assert layer.weight.shape == (3, 3)
    assert (layer.logits(features).argmax(axis=1) == label).mean() > 0.9
    assert layer.strength == 1.0  # no half can judge


def test_the_strength_is_chosen_by_the_worst_group():
    """A strong penalty loses the weak feature, which the small group's disease shows in alone."""
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(2, size=2400), np.where(np.arange(2400) % 2, "a", "b")
    shown = 2 * labels - 1
    strong = np.where(groups == "a", 3.0 * shown, 0.0)
    weak = np.where(groups == "b", 0.5 * shown, 0.0)
    features = rng.normal(np.column_stack([strong, weak]), [1.0, 0.5])
    layer = refit_last_layer(features, labels, groups, strengths=(0.0005, 1.0))
    assert layer.strength == 1.0


def test_rows_are_scored_by_layers_of_their_own_features():
    rng = np.random.default_rng(5)
    label = rng.integers(2, size=600)
    features = rng.normal(np.column_stack([4.0 * label, 0 * label]), 1.0)
    _, scores = cross_fit(features, label, rng.choice(["a", "b"], 600), strengths=(1.0,))
    assert ((scores[:, 1] > 0.5) == label).mean() > 0.95
