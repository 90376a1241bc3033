"""Net benefit by threshold, a picture for each group, beside treating everybody and nobody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.metrics import Bootstrap, Scored
from evenhand.metrics.decision_curve import decision_curve
from evenhand.reporting.charts.forest import Axis, axis_over, labelled
from evenhand.reporting.charts.polyline import polyline
from evenhand.reporting.charts.scatter import Ticks
from evenhand.reporting.text.numbers import PLAIN, count_text

Floats = NDArray[np.float64]

THRESHOLDS = (0.01, *(round(number / 50, 2) for number in range(1, 26)))
"""Probabilities of .01 to .5, where decisions to treat are usually made."""

OPEN = 4
"""Groups up to which the pictures are open on the page; of more, a click shows them."""

FEWEST, MOST, DRAWS = 20, 400, 8_000_000
"""Resamples at least and at most, and samples drawn in all of them: bands of large groups are
thinner than can be seen, and would cost seconds."""

SEED = 0
LOWEST = -0.05  # the axis; treating everybody falls far below 0 and is cut off there


@dataclass(frozen=True)
class BenefitPicture:
    """Lines of one group, as points in percent of width and height from the top left.

    Attributes
    ----------
    group, counts
        Whose picture it is, with its samples and positives.
    model, everybody
        Net benefit of the model's decisions and of treating everybody, where it is on the axis.
    bands
        The 95 % intervals of the model's, each stretch of thresholds that has them as an outline.
    zero
        Height of 0, which is the net benefit of treating nobody.
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
        """Whether the pictures are few enough to be open on the page."""
        return len(self.pictures) <= OPEN


def benefit_view(parts: Mapping[str, Scored], positive: str) -> BenefitView:
    """Lay out the decision curve of each group.

    Parameters
    ----------
    parts
        The samples of each group, of two classes, by the group's name.
    positive
        What a positive sample is, in a word.
    """
    curves = {name: _curve(rows) for name, rows in parts.items()}
    across = axis_over([0.0, THRESHOLDS[-1]])
    up = axis_over([LOWEST, *_heights(curves.values())])
    return BenefitView(
        pictures=tuple(
            _picture(name, curve, (across, up), positive) for name, curve in curves.items()
        ),
        x_ticks=labelled(across, PLAIN),
        y_ticks=tuple((100 - place, text) for place, text in labelled(up, PLAIN)),
    )


def _curve(rows: Scored) -> pd.DataFrame:
    bootstrap = Bootstrap(max(FEWEST, min(MOST, DRAWS // len(rows))))
    rng = np.random.default_rng(SEED)
    own = replace(rows, members=np.arange(len(rows.members)))  # of all, a small group draws few
    return decision_curve(own, {}, THRESHOLDS, rng=rng, bootstrap=bootstrap)


def _heights(curves: Iterable[pd.DataFrame]) -> list[float]:
    """Return everything that the axis has to hold; what is below `LOWEST` is cut off."""
    columns = ["net_benefit", "low", "high", "treat_all"]
    values = np.concatenate([curve[columns].to_numpy(float).ravel() for curve in curves])
    return [float(value) for value in values[values >= LOWEST]]


def _picture(
    name: str, curve: pd.DataFrame, axes: tuple[Axis, Axis], positive: str
) -> BenefitPicture:
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
        zero=round(100 - axes[1].at(0.0), 2),
    )


def stretches(there: NDArray[np.bool_]) -> list[slice]:
    """Return the runs of at least two neighbours that are there."""
    ends = np.flatnonzero(np.diff(np.concatenate([[False], there, [False]]).astype(int)))
    return [slice(a, b) for a, b in ends.reshape(-1, 2) if b - a > 1]


def _points(x: Floats, y: Floats, axes: tuple[Axis, Axis]) -> str:
    """Return places in percent; those outside the picture are cut off when it is drawn."""
    across, up = axes
    return polyline(
        100 * (x - across.low) / (across.high - across.low),
        100 - 100 * (y - up.low) / (up.high - up.low),
    )
