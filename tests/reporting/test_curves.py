from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from evenhand.metrics import as_scored, groups_of
from evenhand.reporting.charts.curves import (
    THRESHOLDS,
    benefit_view,
    calibration,
    count_flagged,
    recall,
    roc,
    score_views,
    stretches,
)
from evenhand.reporting.charts.linear_axis import UNSEEN, polyline

SAMPLES = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 20)), min_size=2, max_size=60
).filter(lambda rows: len({label for label, _ in rows}) == 2)


@given(SAMPLES)
def test_areas_below_the_curves_are_the_metrics(samples: list[tuple[int, int]]) -> None:
    labels = np.array([label for label, _ in samples])
    scores = np.array([score / 20 for _, score in samples])
    rows = as_scored(labels, scores)
    fpr, tpr = roc(*count_flagged(rows))
    assert np.trapezoid(tpr, fpr) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    sensitivity, precision = recall(*count_flagged(rows))
    steps = np.diff(sensitivity) * precision[1:]
    assert steps.sum() == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


def test_calibration_by_hand() -> None:
    rows = as_scored([0, 1, 1, 0], [0.0, 0.04, 1.0, 0.55])
    assert list(calibration(rows)) == [(0.02, 0.5, 2), (0.55, 0.0, 1), (1.0, 1.0, 1)]


def test_a_group_of_one_class_has_no_curve_and_says_so() -> None:
    rows = as_scored([0, 1, 0, 0], [0.1, 0.9, 0.2, 0.3], threshold=0.25)
    groups = {"age": groups_of(["old", "old", "young", "unknown"])}
    (view,) = score_views(rows, groups, "malignant")
    assert view.absent == (
        "young has no malignant cases among 1 sample, so it has no ROC and no precision–recall "
        "curve.",
    )
    shown = {picture.title: [line.name for line in picture.series] for picture in view.pictures}
    assert shown == {
        "ROC": ["old"],
        "Precision–recall": ["old"],
        "Calibration": ["old", "young"],
    }
    assert [group.name for group in view.distributions] == ["old", "young"]
    assert view.cut == 25.0


def test_lines_are_drawn_from_the_lower_left() -> None:
    rows = as_scored([0, 1], [0.1, 0.9])
    (view,) = score_views(rows, {"a": groups_of(["x", "x"])}, "p")
    assert view.pictures[0].series[0].points == "0,100 0,0 100,0"


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    rng = np.random.default_rng(0)
    rows = as_scored(rng.integers(0, 2, 5000), rng.random(5000))
    (view,) = score_views(rows, {"a": groups_of(["x"] * 5000)}, "p")
    points = view.pictures[0].series[0].points.split()
    assert len(points) <= 150
    assert (points[0], points[-1]) == ("0,100", "100,0")


def test_of_many_groups_the_largest_are_drawn_and_the_page_says_so() -> None:
    levels = [f"site {k:02}" for k in range(12) for _ in range(2 if k == 3 else 2 * k + 2)]
    labels = np.arange(len(levels)) % 2
    rows = as_scored(labels, np.linspace(0, 1, len(levels)))
    (view,) = score_views(rows, {"site": groups_of(levels)}, "p")
    assert [group.name for group in view.distributions] == [f"site {k:02}" for k in range(4, 12)]
    assert view.absent == ("The 8 groups with the most samples are drawn, of 12 groups.",)


def many_scores(n: int = 400):
    rng = np.random.default_rng(0)
    labels = (rng.random(n) < 0.3).astype(int)
    return as_scored(labels, 1 / (1 + np.exp(1 - 2 * labels - rng.normal(size=n))))


def test_net_benefit_is_drawn_where_the_metric_says() -> None:
    rows = many_scores()
    view = benefit_view({"old": rows}, "sick")
    (picture,) = view.pictures
    assert picture.counts == f"400 samples, {rows.labels.sum()} sick"
    x, y = np.array([point.split(",") for point in picture.model.split()], float).T
    flagged = rows.scores >= THRESHOLDS[10]
    odds = THRESHOLDS[10] / (1 - THRESHOLDS[10])
    by_hand = (flagged & (rows.labels == 1)).mean() - odds * (flagged & (rows.labels == 0)).mean()
    unit = (picture.zero - {t: p for p, t in view.y_ticks}["0.1"]) / 0.1  # percent of 1
    place = np.interp(THRESHOLDS[10], [THRESHOLDS[0], THRESHOLDS[-1]], [x[0], x[-1]])
    drawn = np.interp(place, x, y)
    assert (picture.zero - drawn) / unit == pytest.approx(by_hand, abs=2e-3)
    assert (np.diff(x) > 0).all()


def test_treating_everybody_begins_at_the_prevalence_and_falls() -> None:
    (picture,) = benefit_view({"old": many_scores()}, "sick").pictures
    everybody = np.array([point.split(",") for point in picture.everybody.split()], float)[:, 1]
    assert (np.diff(everybody) > 0).all()  # places are from the top
    assert everybody[0] < picture.zero < everybody[-1]


def test_bands_lie_around_the_model_and_gaps_in_them_are_not_bridged() -> None:
    (picture,) = benefit_view({"old": many_scores()}, "sick").pictures
    (band,) = picture.bands
    outline = np.array([point.split(",") for point in band.split()], float)
    half = len(outline) // 2
    model = np.array([point.split(",") for point in picture.model.split()], float)[:, 1]
    assert (outline[:half, 1] <= model).all()
    assert (outline[half:, 1][::-1] >= model).all()
    assert stretches(np.array([True, True, False, True, False, True, True, True])) == [
        slice(0, 2),
        slice(5, 8),
    ]


@pytest.mark.parametrize(("groups", "unfolded"), [(4, True), (5, False)])
def test_many_groups_are_folded(groups: int, unfolded: bool) -> None:
    parts = {f"site {k}": many_scores(60) for k in range(groups)}
    assert benefit_view(parts, "sick").unfolded is unfolded


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60))
def test_a_shortened_line_goes_where_the_whole_line_goes(heights: list[float]) -> None:
    x, y = np.linspace(0, 100, len(heights)), np.array(heights)
    points = np.array([point.split(",") for point in polyline(x, y).split()], float)
    starts, ends = points[:-1], points[1:]
    for point in np.column_stack([x, y]) if len(points) > 1 else []:
        along, to_point = ends - starts, point - starts
        length = np.maximum((along**2).sum(axis=1), 1e-12)
        share = ((along * to_point).sum(axis=1) / length).clip(0, 1)
        away = np.hypot(*(to_point - share[:, None] * along).T).min()
        assert away <= UNSEEN + 0.08  # and what rounding to a decimal moves
