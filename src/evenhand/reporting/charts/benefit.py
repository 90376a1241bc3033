"""Net benefit by threshold, a picture for each group, with treating everybody and nobody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.metrics import Bootstrap, Scored
from evenhand.metrics.decision_curve import decision_curve
from evenhand.metrics.registry import Floats
from evenhand.reporting.charts.linear_axis import Axis, Ticks, axis_over, labelled_ticks, polyline
from evenhand.reporting.text.numbers import PLAIN
from evenhand.wording import count_text

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
