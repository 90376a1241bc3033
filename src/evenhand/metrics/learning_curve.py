"""Learning curves by group: the numbers of a recipe against the number of training patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evenhand.metrics.recipes import Difference, RecipeValues, compare_recipes
from evenhand.metrics.rows import EVERYBODY, Key

HALF, ALL = 0.5, 1.0
"""Shares of the training patients before and after the last doubling."""


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """The numbers of a recipe with several shares of the training patients.

    Attributes
    ----------
    name
        The group whose training patients are reduced: ``everybody``, or ``ATTRIBUTE=LEVEL``.
    own
        The AUC of that group; None for everybody.
    patients
        By share: the number of training patients of that group, mean over fits.
    values
        By share: the AUC of everybody and of each group, the worst AUC and the gap, ``(S, 1 + B)``
        each. The last share is 1.
    doubling
        The numbers with all patients less those with half of them, corrected together.
    """

    name: str
    own: Key | None
    patients: Mapping[float, float]
    values: Mapping[float, RecipeValues]
    doubling: Sequence[Difference]

    @property
    def keys(self) -> list[Key]:
        """The identities of the numbers."""
        return list(self.values[ALL])

    def of_doubling(self, key: Key) -> Difference:
        """Return the change of a number by the last doubling."""
        return next(change for change in self.doubling if change.key == key)

    def worst(self, attribute: str) -> Key | None:
        """Return the group with the lowest AUC on all patients, the mean over seeds."""
        means = {
            key: float(drawn[:, 0].mean())
            for key, drawn in self.values[ALL].items()
            if key.attribute == attribute and key.group != EVERYBODY
        }
        defined = {key: mean for key, mean in means.items() if np.isfinite(mean)}
        return min(defined, key=defined.__getitem__, default=None)


def learning_curve(
    name: str,
    own: Key | None,
    patients: Mapping[float, float],
    values: Mapping[float, RecipeValues],
    rarer: Mapping[Key, int],
    rng: np.random.Generator,
    *,
    recombined: Mapping[float, RecipeValues] | None = None,
    folds: int = 1,
) -> LearningCurve:
    """Return a learning curve with the test of its last doubling.

    Parameters
    ----------
    name, own, patients
        See `LearningCurve`.
    values
        By share: the numbers of `evenhand.metrics.recipes.compared_values`, a row for each seed.
        The resamples of patients are the same at every share. Only AUCs are used.
    rarer
        For each number, the number of patients of the rarer class behind it.
    rng
        Draws the variation between seeds.
    recombined, folds
        See `evenhand.metrics.recipes.compare_recipes`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> key = Key("*", "*", "auc")
    >>> luck = rng.normal(0, 0.01, (1, 1001))
    >>> values = {s: {key: a + luck + rng.normal(0, 0.002, (3, 1001))}
    ...           for s, a in ((0.5, 0.75), (1.0, 0.8))}
    >>> curve = learning_curve("everybody", None, {0.5: 100, 1.0: 200}, values, {key: 90}, rng)
    >>> curve.of_doubling(key).better
    True
    """
    auc_values = {
        share: {key: drawn for key, drawn in numbers.items() if key.base == "auc"}
        for share, numbers in values.items()
    }
    doubling = compare_recipes(
        {str(share): auc_values[share] for share in (HALF, ALL)},
        str(HALF),
        rarer,
        rng,
        recombined=None if recombined is None else {str(s): rows for s, rows in recombined.items()},
        folds=folds,
    )
    return LearningCurve(name, own, patients, auc_values, doubling)
