"""Charts of the scores by group: ROC, precision–recall, calibration, net benefit, distribution."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.errors import count_text
from evenhand.metrics import Bootstrap, Groups, Scored
from evenhand.metrics.decision_curve import decision_curve
from evenhand.metrics.registry import Floats
from evenhand.reporting.charts.linear_axis import Axis, Ticks, axis_over, labelled_ticks, polyline
from evenhand.reporting.text.vocabulary import PLAIN, display_name
from evenhand.tables.attributes import UNKNOWN

DRAWN = 8
"""Largest number of groups that are drawn, as readers cannot distinguish more line styles."""

POINTS_KEPT = 150
"""Largest number of points of a curve."""

CALIBRATION_BINS = 10
HISTOGRAM_BINS = 25


@dataclass(frozen=True)
class CurveSeries:
    """The line of one group, in percent of width and height from the top left.

    Attributes
    ----------
    name, style
        The group, and the number of its line style.
    points
        The points of the line.
    marks
        Marks on the line: x, y, and ``"few"`` for a mark from few samples.
    """

    name: str
    style: int
    points: str
    marks: tuple[tuple[float, float, str], ...] = ()


@dataclass(frozen=True)
class CurvePicture:
    """Lines of several groups on axes from 0 to 1.

    Attributes
    ----------
    title, x_label, y_label
        The title, and the names of the axes.
    series
        The lines.
    diagonal
        Whether the diagonal is drawn.
    """

    title: str
    x_label: str
    y_label: str
    series: tuple[CurveSeries, ...]
    diagonal: bool


@dataclass(frozen=True)
class Distribution:
    """The distribution of the scores of one group.

    Attributes
    ----------
    name, note
        The group, and its counts.
    positives, negatives
        The heights of the bars from score 0 to 1, in percent of half the picture.
    """

    name: str
    note: str
    positives: tuple[float, ...]
    negatives: tuple[float, ...]


@dataclass(frozen=True)
class ScoreView:
    """The scores of one model by the groups of one attribute.

    Attributes
    ----------
    attribute
        The attribute.
    pictures, distributions, benefit
        The curves, the distributions of the scores, and the net benefit.
    absent
        Sentences about groups that are not drawn.
    cut
        The decision threshold in percent, None where there is none or more than one.
    """

    attribute: str
    pictures: tuple[CurvePicture, ...]
    distributions: tuple[Distribution, ...]
    absent: tuple[str, ...]
    cut: float | None
    benefit: BenefitView


def score_views(rows: Scored, groups: Mapping[str, Groups], positive: str) -> tuple[ScoreView, ...]:
    """Lay out the scores of two classes by each attribute that has a known group."""
    return tuple(
        _view(rows, name, levels, positive)
        for name, levels in groups.items()
        if _known_sizes(levels)
    )


def _known_sizes(groups: Groups) -> dict[str, int]:
    """Return level → number of samples, of known levels that occur."""
    sizes = zip(groups.levels, groups.sizes, strict=True)
    return {level: int(size) for level, size in sizes if size and level != UNKNOWN}


def _view(rows: Scored, attribute: str, groups: Groups, positive: str) -> ScoreView:
    sizes = _known_sizes(groups)
    parts = {
        display_name(level): rows.take(groups.rows(level)) for level in largest_groups(sizes, DRAWN)
    }
    few = f"The {DRAWN} groups with the most samples are drawn, of {len(sizes):,} groups."
    left_out = (few,) if len(parts) < len(sizes) else ()
    ranked = {name: part for name, part in parts.items() if 0 < part.labels.sum() < len(part)}
    return ScoreView(
        attribute=display_name(attribute),
        pictures=_pictures(parts, ranked, positive),
        distributions=tuple(_distribution(name, part, positive) for name, part in parts.items()),
        absent=(
            *(
                _why_no_curve(name, part, positive)
                for name, part in parts.items()
                if name not in ranked
            ),
            *left_out,
        ),
        cut=None if rows.threshold is None else round(100 * rows.threshold, 2),
        benefit=benefit_view(parts, positive),
    )


def _pictures(
    parts: Mapping[str, Scored], ranked: Mapping[str, Scored], positive: str
) -> tuple[CurvePicture, ...]:
    """Draw ROC and precision–recall of groups with both classes, and calibration of all groups."""
    styles = {name: style for style, name in enumerate(parts)}
    counts = {name: count_flagged(part) for name, part in ranked.items()}
    return (
        CurvePicture(
            "ROC",
            "Share of other cases flagged",
            f"Share of {positive} cases found",
            tuple(_line(name, styles[name], *roc(*every)) for name, every in counts.items()),
            True,
        ),
        CurvePicture(
            "Precision–recall",
            f"Share of {positive} cases found",
            f"Share of flagged cases that are {positive}",
            tuple(_line(name, styles[name], *recall(*every)) for name, every in counts.items()),
            False,
        ),
        CurvePicture(
            "Calibration",
            "Mean score",
            f"Share of cases that are {positive}",
            tuple(_calibration(name, styles[name], part) for name, part in parts.items()),
            True,
        ),
    )


def largest_groups(sizes: Mapping[str, int], most: int) -> list[str]:
    """Return the groups with the most samples, at most ``most``, in the order of ``sizes``."""
    names = set(sorted(sizes, key=lambda name: sizes[name], reverse=True)[:most])
    return [name for name in sizes if name in names]


def roc(tp: Floats, fp: Floats) -> tuple[Floats, Floats]:
    """Return false positive rate and sensitivity, from nobody flagged to everybody flagged."""
    return np.append(0, fp / fp[-1]), np.append(0, tp / tp[-1])


def recall(tp: Floats, fp: Floats) -> tuple[Floats, Floats]:
    """Return recall and precision as steps; the area below is the average precision."""
    tp, fp = tp[tp > 0], fp[tp > 0]  # without a positive the recall is 0, and there is no step
    ends, heights = np.append(0, tp / tp[-1]), tp / (tp + fp)
    return np.repeat(ends, 2)[1:-1], np.repeat(heights, 2)


def calibration(rows: Scored) -> Iterator[tuple[float, float, int]]:
    """Yield mean score, share of positives and number of samples of each non-empty bin."""
    bins = np.minimum((rows.scores * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    for number in np.unique(bins):
        inside = bins == number
        yield (
            float(rows.scores[inside].mean()),
            float(rows.labels[inside].mean()),
            int(inside.sum()),
        )


def count_flagged(rows: Scored) -> tuple[Floats, Floats]:
    """Return the numbers of positives and negatives at or above each score, highest score first."""
    order = np.argsort(-rows.scores)
    score, positive = rows.scores[order], rows.labels[order] == 1
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True))
    return np.cumsum(positive)[last].astype(float), np.cumsum(~positive)[last].astype(float)


def _line(name: str, style: int, x: Floats, y: Floats) -> CurveSeries:
    """Lay out a line with at most `POINTS_KEPT` points."""
    chosen = np.unique(np.linspace(0, len(x) - 1, min(len(x), POINTS_KEPT)).round().astype(int))
    return CurveSeries(name, style, polyline(100 * x[chosen], 100 - 100 * y[chosen]))


def _calibration(name: str, style: int, rows: Scored) -> CurveSeries:
    bins = list(calibration(rows))
    line = _line(name, style, np.array([b[0] for b in bins]), np.array([b[1] for b in bins]))
    marks = tuple(
        (round(100 * score, 2), round(100 - 100 * share, 2), "few" if n < 10 else "")
        for score, share, n in bins
    )
    return CurveSeries(name, style, line.points, marks)


def _distribution(name: str, rows: Scored, positive: str) -> Distribution:
    """Lay out the histograms of the scores of positives and negatives."""
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    counts = [np.histogram(rows.scores[rows.labels == label], edges)[0] for label in (1, 0)]
    shares = [count / max(count.sum(), 1) for count in counts]
    tallest = max(share.max() for share in shares)
    heights = [tuple((100 * share / tallest).round(1).tolist()) for share in shares]
    positives = int(rows.labels.sum())
    note = f"{positives:,} {positive}, {len(rows) - positives:,} not"
    return Distribution(name, note, *heights)


def _why_no_curve(name: str, rows: Scored, positive: str) -> str:
    """Return the sentence on a group with cases of one class only."""
    cases = "only" if rows.labels.all() else "no"
    return (
        f"{name} has {cases} {positive} cases among {count_text(len(rows), 'sample')}, so it has "
        "no ROC and no precision–recall curve."
    )


THRESHOLDS = (0.01, *(round(number / 50, 2) for number in range(1, 26)))
"""Probabilities of .01 to .5, the usual range of thresholds for treatment."""

OPEN = 4
"""Largest number of groups whose pictures are shown at once; more pictures open at a click."""

FEWEST, MOST, DRAWS = 20, 400, 8_000_000
"""Least and largest number of resamples, and of samples drawn in all of them. The intervals of
large groups are thinner than a line, and many resamples of them would take seconds."""

SEED = 0
LOWEST = -0.05
"""Lower end of the axis; the curve of treating everybody is cut off there."""


@dataclass(frozen=True)
class BenefitPicture:
    """The lines of one group, as points in percent of width and height from the top left.

    Attributes
    ----------
    group, counts
        The group, and its numbers of samples and positives.
    model, everybody
        The net benefit of the model's decisions, and of treating everybody.
    bands
        The 95 % intervals of the model's net benefit: an outline for each range of thresholds that
        has intervals.
    zero
        The height of 0, which is the net benefit of treating nobody.
    """

    group: str
    counts: str
    model: str
    everybody: str
    bands: tuple[str, ...]
    zero: float


@dataclass(frozen=True)
class BenefitView:
    """The pictures of the groups of one attribute, on the same axes."""

    pictures: tuple[BenefitPicture, ...]
    x_ticks: Ticks
    y_ticks: Ticks

    @property
    def unfolded(self) -> bool:
        """Whether the pictures are shown at once."""
        return len(self.pictures) <= OPEN


def benefit_view(parts: Mapping[str, Scored], positive: str) -> BenefitView:
    """Lay out the decision curve of each group.

    Parameters
    ----------
    parts
        By name of the group: its samples, of two classes.
    positive
        The word for a positive sample.
    """
    curves = {name: _curve(rows) for name, rows in parts.items()}
    x = axis_over([0.0, THRESHOLDS[-1]])
    y = axis_over([LOWEST, *_heights(curves.values())])
    return BenefitView(
        pictures=tuple(_picture(name, curve, (x, y), positive) for name, curve in curves.items()),
        x_ticks=labelled_ticks(x, PLAIN),
        y_ticks=labelled_ticks(y, PLAIN, from_top=True),
    )


def _curve(rows: Scored) -> pd.DataFrame:
    """Return the decision curve of a group, from resamples of its own patients."""
    bootstrap = Bootstrap(max(FEWEST, min(MOST, DRAWS // len(rows))))
    rng = np.random.default_rng(SEED)
    renumbered = replace(rows, members=np.arange(len(rows.members)))
    return decision_curve(renumbered, {}, THRESHOLDS, rng=rng, bootstrap=bootstrap)


def _heights(curves: Iterable[pd.DataFrame]) -> list[float]:
    """Return the values that the axis must contain; values below `LOWEST` are cut off."""
    columns = ["net_benefit", "low", "high", "treat_all"]
    values = np.concatenate([curve[columns].to_numpy(float).ravel() for curve in curves])
    return [float(value) for value in values[values >= LOWEST]]


def _picture(
    name: str, curve: pd.DataFrame, axes: tuple[Axis, Axis], positive: str
) -> BenefitPicture:
    """Lay out the picture of a group."""
    columns = ["threshold", "net_benefit", "low", "high", "treat_all"]
    threshold, benefit, low, high, everybody = curve[columns].to_numpy(float).T
    n, positives = int(curve["n"].iloc[0]), int(curve["positives"].iloc[0])
    outlines = [
        np.concatenate(
            [[threshold[rows], high[rows]], [threshold[rows][::-1], low[rows][::-1]]], axis=1
        )
        for rows in stretches(~np.isnan(low) & ~np.isnan(high))
    ]
    return BenefitPicture(
        group=name,
        counts=f"{count_text(n, 'sample')}, {positives:,} {positive}",
        model=_points(threshold, benefit, axes),
        everybody=_points(threshold, everybody, axes),
        bands=tuple(_points(outline[0], outline[1], axes) for outline in outlines),
        zero=axes[1].from_top(0.0),
    )


def stretches(mask: NDArray[np.bool_]) -> list[slice]:
    """Return the ranges of at least two neighbouring True values of a mask ``(n,)``."""
    ends = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(int)))
    return [slice(start, end) for start, end in ends.reshape(-1, 2) if end - start > 1]


def _points(x: Floats, y: Floats, axes: tuple[Axis, Axis]) -> str:
    """Return the points of a line in percent; the browser cuts off points outside the picture."""
    x_axis, y_axis = axes
    return polyline(
        100 * (x - x_axis.low) / (x_axis.high - x_axis.low),
        100 - 100 * (y - y_axis.low) / (y_axis.high - y_axis.low),
    )
