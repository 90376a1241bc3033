"""Phantoms: each planted bias has its effect, and only where it is planted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.phantoms.images import PhantomSettings, make_phantoms
from evenhand.cohort.phantoms.series import SeriesPhantomSettings, make_series_phantoms

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
    first, two = make_phantoms(settings), make_phantoms(settings)
    pd.testing.assert_frame_equal(first.table, two.table)
    assert np.array_equal(images_of(first), images_of(two))
    assert first.source.fingerprint == two.source.fingerprint
    other = make_phantoms(settings.model_copy(update={"seed": 8}))
    assert other.source.fingerprint != first.source.fingerprint
    assert not np.array_equal(images_of(first), images_of(other))


def prevalence(cohort: Cohort) -> pd.Series:
    """Prevalence of the label before noise, by group and split."""
    table = cohort.table.assign(split=cohort.table.get("split", "all"))
    return table.groupby(["attr_group", "split"], observed=True)["truth_label"].mean()


@pytest.mark.parametrize(
    "make",
    [
        lambda **more: make_phantoms(PhantomSettings(size=16, **more)),
        lambda **more: make_series_phantoms(SeriesPhantomSettings(steps=8, **more)),
    ],
)
def test_a_tilt_is_in_training_and_not_in_the_test(make):
    shares = prevalence(make(patients=2000, tilt=0.5, tilt_test=0.0))
    for split in ("train", "val"):
        apart = shares["minority", split] - shares["majority", split]
        assert apart == pytest.approx(0.5, abs=0.06)
    assert shares["minority", "test"] == pytest.approx(shares["majority", "test"], abs=0.005)
    reversed_ = prevalence(make(patients=2000, tilt=0.5, tilt_test=-0.4))
    assert reversed_["minority", "test"] - reversed_["majority", "test"] == pytest.approx(
        -0.4, abs=0.01
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda **more: make_phantoms(PhantomSettings(size=16, **more)),
        lambda **more: make_series_phantoms(SeriesPhantomSettings(steps=8, **more)),
    ],
)
def test_a_shortcut_can_be_reversed_in_the_test(make):
    table = make(patients=3000, shortcut=0.8, shortcut_test=-0.8).table
    table = table[table["attr_group"] == "majority"]
    with_sticker = table.groupby(["split", "label"])["truth_sticker"].mean()
    assert with_sticker["train", 1] - with_sticker["train", 0] == pytest.approx(0.8, abs=0.06)
    assert with_sticker["test", 1] - with_sticker["test", 0] == pytest.approx(-0.8, abs=0.08)


def test_without_test_settings_the_cohort_has_no_split_and_draws_as_before():
    table = make_phantoms(PhantomSettings(patients=50, size=16)).table
    assert "split" not in table
    assert "split" in make_phantoms(PhantomSettings(patients=50, size=16, tilt_test=0.0)).table


def test_the_sticker_is_an_attribute():
    cohort = make_phantoms(PhantomSettings(patients=200, size=16))
    shown = cohort.table["attr_sticker"] == "sticker"
    assert (shown == cohort.table["truth_sticker"]).all()
    assert 0 < shown.mean() < 1


@pytest.mark.parametrize("kind", ["sticker", "group"])
def test_twins_are_the_same_picture_but_for_one_thing(kind):
    cohort = make_phantoms(PhantomSettings(patients=40, size=32, twins=kind))
    table = cohort.table
    assert (table.groupby("pair").size() == 2).all()
    assert (table.groupby("pair")["label"].nunique() == 1).all()
    images = images_of(cohort)
    first, second = images[(~table["twin"]).to_numpy()], images[table["twin"].to_numpy()]
    differs = (np.abs(first - second).max(3) > 0.02).mean((1, 2))
    if kind == "sticker":
        assert (table.groupby("pair")["truth_sticker"].nunique() == 2).all()
        assert differs.max() < 0.05  # the corner alone
    else:
        assert (table.groupby("pair")["truth_sticker"].nunique() == 1).all()
        assert differs.min() > 0.5


@pytest.mark.parametrize("kind", ["sticker", "group"])
def test_twins_of_series_differ_in_the_temperature_alone(kind):
    cohort = make_series_phantoms(SeriesPhantomSettings(patients=20, steps=48, twins=kind))
    pairs = cohort.table.groupby("pair")["sample_id"].agg(list)
    for first, second in pairs:
        item, other = cohort.read(first), cohort.read(second)
        rest = [0, 1, 3]
        np.testing.assert_array_equal(item[:, rest], other[:, rest])
        assert (np.nan_to_num(item[:, 2]) != np.nan_to_num(other[:, 2])).any()


def test_a_tilt_that_leaves_no_room_is_refused():
    with pytest.raises(ValueError, match=r"prevalence of 1\.03"):
        PhantomSettings(tilt=0.9)
