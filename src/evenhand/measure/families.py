"""A metric's values in several groups, and which of them no resample changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evenhand.measure.estimate import patients_behind
from evenhand.measure.registry import Floats, Metric
from evenhand.measure.resample import Resamples
from evenhand.measure.scored import Scored

SAME = 1e-12
"""Values that lie no farther apart are the same but for rounding, relative to the value."""


@dataclass(frozen=True, eq=False)
class Family:
    """What one metric is in several groups, in the data and in each resample.

    Attributes
    ----------
    names
        The G groups.
    values
        ``(G, 1 + B + J)`` as in `Resamples`.
    fixed
        ``(G,)``, whether every resample gives the same. Such a value is not certain: resamples
        only say nothing about its error.
    trials
        ``(G,)``, the patients behind a fixed share of 0 or 1, whose error a binomial bounds;
        elsewhere 0.
    """

    names: tuple[str, ...]
    values: Floats
    fixed: NDArray[np.bool_]
    trials: NDArray[np.intp]

    @property
    def unbounded(self) -> tuple[str, ...]:
        """The groups about whose error nothing is known."""
        unknown = self.fixed & (self.trials == 0)
        return tuple(name for name, at in zip(self.names, unknown, strict=True) if at)

    def reach(self, tail: float) -> tuple[Floats, Floats]:
        """Return how far below and above each value its exact interval goes, ``(G,)`` each.

        Clopper and Pearson's (Biometrika 1934) with ``tail`` beyond each end, for the values that
        have `trials`; 0 for the others.
        """
        width = np.where(self.trials > 0, 1 - tail ** (1 / np.maximum(self.trials, 1)), 0.0)
        at = self.values[:, 0]
        return np.where(at == 1, width, 0.0), np.where(at == 0, width, 0.0)


def family(
    groups: Mapping[str, Scored],
    metric: Metric,
    values: Floats,
    resamples: Resamples,
    classes: Sequence[int],
) -> Family:
    """Bring together the values ``(G, 1 + B + J)`` of a metric in the groups."""
    drawn = values[:, 1 : 1 + resamples.replicates]
    if not drawn.size:
        return as_drawn(tuple(groups), values)
    # fmax and fmin pass over undefined replicates.
    apart = np.fmax.reduce(drawn, axis=1) - np.fmin.reduce(drawn, axis=1)
    fixed = apart <= SAME * np.maximum(1, np.abs(values[:, 0]))
    bounded = fixed & np.isin(values[:, 0], (0, 1)) & metric.share
    trials = [
        patients_behind(rows, metric, classes) if at else 0
        for rows, at in zip(groups.values(), bounded, strict=True)
    ]
    return Family(tuple(groups), values, fixed, np.array(trials, dtype=np.intp))


def as_drawn(names: tuple[str, ...], values: Floats) -> Family:
    """Take what no resample changes for certain."""
    nothing = np.zeros(len(names), dtype=np.intp)
    return Family(names, values, nothing.astype(np.bool_), nothing)


def beside(one: Family, other: Family) -> Family:
    """Return the values of both."""
    return Family(
        (*one.names, *other.names),
        np.concatenate([one.values, other.values]),
        np.concatenate([one.fixed, other.fixed]),
        np.concatenate([one.trials, other.trials]),
    )
