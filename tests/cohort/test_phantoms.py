"""Phantoms: each planted bias has its effect, and only where it is planted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from evenhand.cohort import Cohort, PhantomSettings, make_phantoms

MANY = {"patients": 2000, "size": 32, "harder": 0.0, "shortcut": 0.0, "label_noise": 0.0}


def images_of(cohort: Cohort) -> np.ndarray:
    return np.stack([cohort.read(sample_id) for sample_id in cohort.table["sample_id"]]) / 255


def features(cohort: Cohort) -> np.ndarray:
    """How much darker the middle is than the rim, and how blue the corner is."""
    images = images_of(cohort)
    size = images.shape[1]
    grey = images.mean(3)
    third = slice(size // 3, 2 * size // 3)
    darker = grey[:, :, -2:].mean((1, 2)) - grey[:, third, third].mean((1, 2))
    corner = images[:, 1 : size // 6, 1 : size // 6]
    blue = corner[..., 2].mean((1, 2)) - corner[..., 0].mean((1, 2))
    return np.column_stack([darker, blue])


def group_aucs(cohort: Cohort, columns: list[int], label: str = "label") -> dict[str, float]:
    """AUC of each group, of a logistic regression that was fitted to everybody's labels."""
    x, table = features(cohort)[:, columns], cohort.table
    x = (x - x.mean(0)) / x.std(0)
    score = LogisticRegression().fit(x, cohort.labels).decision_function(x)
    return {
        group: float(roc_auc_score(rows[label], score[rows.index]))
        for group, rows in table.groupby("attr_group")
    }


def test_without_bias_the_groups_are_served_alike():
    aucs = group_aucs(make_phantoms(PhantomSettings(**MANY)), [0, 1])
    assert min(aucs.values()) > 0.8
    assert abs(aucs["majority"] - aucs["minority"]) < 0.05


def test_harder_lesions_lower_the_minority_alone():
    plain = group_aucs(make_phantoms(PhantomSettings(**MANY)), [0])
    aucs = group_aucs(make_phantoms(PhantomSettings(**MANY | {"harder": 0.7})), [0])
    assert aucs["majority"] == pytest.approx(plain["majority"], abs=0.03)
    assert aucs["minority"] < plain["minority"] - 0.1


def test_harder_means_that_the_truth_stands_out_less():
    table = make_phantoms(PhantomSettings(**MANY | {"harder": 0.5})).table
    mean = table.groupby(["attr_group", "label"])["truth_contrast"].mean().unstack()
    step = mean[1] - mean[0]
    assert step["minority"] / step["majority"] == pytest.approx(0.5, abs=0.1)


def test_the_shortcut_tells_the_label_in_the_majority_alone():
    aucs = group_aucs(make_phantoms(PhantomSettings(**MANY | {"shortcut": 0.8})), [1])
    assert aucs["majority"] == pytest.approx(0.9, abs=0.03)  # (1 + shortcut) / 2
    assert aucs["minority"] == pytest.approx(0.5, abs=0.06)
    none = group_aucs(make_phantoms(PhantomSettings(**MANY)), [1])
    assert none["majority"] == pytest.approx(0.5, abs=0.06)


def test_the_sticker_is_where_the_table_says():
    cohort = make_phantoms(PhantomSettings(patients=100, size=32, shortcut=0.5))
    assert np.array_equal(features(cohort)[:, 1] > 0, cohort.table["truth_sticker"])


def test_label_noise_turns_labels_of_the_minority_alone():
    cohort = make_phantoms(PhantomSettings(**MANY | {"label_noise": 0.2}))
    wrong = (cohort.table["label"] != cohort.table["truth_label"]).groupby(
        cohort.table["attr_group"]
    )
    assert wrong.mean().to_dict() == {"majority": 0.0, "minority": pytest.approx(0.2, abs=0.002)}
    noisy, clean = (group_aucs(cohort, [0], label) for label in ("label", "truth_label"))
    assert noisy["minority"] < clean["minority"] - 0.1
    assert noisy["majority"] == clean["majority"]


def test_shares_hold():
    settings = PhantomSettings(patients=200, size=16, minority=0.25, prevalence=0.4)
    table = make_phantoms(settings).table
    assert (table["attr_group"] == "minority").sum() == 50
    assert table.groupby("attr_group")["label"].sum().to_dict() == {"majority": 60, "minority": 20}


def test_sex_is_harmless():
    table = make_phantoms(PhantomSettings(**MANY)).table
    for column in ("label", "truth_contrast", "truth_sticker"):
        means = table.groupby("attr_sex")[column].mean()
        assert abs(means["female"] - means["male"]) < 3 * table[column].std() / np.sqrt(500)


def test_images_of_a_patient_share_label_and_group(phantoms):
    columns = ["label", "attr_group", "attr_sex", "truth_label"]
    assert (phantoms.table.groupby("patient_id")[columns].nunique() == 1).all(axis=None)
    assert phantoms.table.groupby("patient_id").size().unique().tolist() == [2]
    first, second = (phantoms.read(f"P00001-{number}") for number in (1, 2))
    assert not np.array_equal(first, second)


def test_the_same_settings_give_the_same_pixels():
    settings = PhantomSettings(patients=20, size=16, seed=7)
    one, two = make_phantoms(settings), make_phantoms(settings)
    pd.testing.assert_frame_equal(one.table, two.table)
    assert np.array_equal(images_of(one), images_of(two))
    assert one.source.fingerprint == two.source.fingerprint
    other = make_phantoms(settings.model_copy(update={"seed": 8}))
    assert other.source.fingerprint != one.source.fingerprint
    assert not np.array_equal(images_of(one), images_of(other))
