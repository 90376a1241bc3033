"""Deep feature re-weighting: a new last layer, fitted on rows balanced by label and group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

from evenhand.errors import EvenhandError
from evenhand.methods.arrays import Rows, require_labels, rows_of

Floats = NDArray[np.float64]

STRENGTHS = (1.0, 0.3, 0.1, 0.03, 0.01)
"""Inverse strengths of the L1 penalty to try."""
SUBSETS = 10


@dataclass(frozen=True, eq=False)
class LastLayer:
    """A linear layer from features to logits.

    Attributes
    ----------
    weight
        ``(C, D)``; one row for each class (for two classes the first is 0).
    bias
        ``(C,)``.
    strength
        The inverse strength of the L1 penalty that was chosen.
    spread
        ``(C, D)``, standard deviation of the weights over the balanced subsets.
    """

    weight: Floats
    bias: Floats
    strength: float
    spread: Floats

    def logits(self, features: ArrayLike) -> Floats:
        """Return logits ``(n, C)`` of features ``(n, D)``."""
        return np.asarray(features, dtype=np.float64) @ self.weight.T + self.bias

    def scores(self, features: ArrayLike) -> Floats:
        """Return probabilities ``(n, C)`` of features ``(n, D)``."""
        probabilities: Floats = softmax(self.logits(features), axis=1)
        return probabilities


def refit_last_layer(
    features: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    *,
    patients: ArrayLike | None = None,
    strengths: Sequence[float] = STRENGTHS,
    subsets: int = SUBSETS,
    seed: int = 0,
) -> LastLayer:
    """Fit a last layer on subsets with equally many rows of each label in each group.

    Parameters
    ----------
    features
        ``(n, D)`` of rows that neither trained the backbone nor chose it.
    labels, groups, patients
        ``(n,)`` each.
    strengths
        Inverse strengths of the L1 penalty. Half of the patients fit, the other half choose the
        strength by the accuracy of the worst group.
    subsets
        Balanced subsets whose coefficients are averaged.
    seed
        Seed of the halves and the subsets.

    Raises
    ------
    EvenhandError
        Arrays do not fit, or some group has fewer than two rows of a class.

    Notes
    -----
    Kirichenko, Izmailov & Wilson (ICLR 2023, arXiv 2204.02937). Features are standardised by the
    rows of each subset, and the standardisation is folded into the layer.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> label = rng.integers(2, size=600)
    >>> group = np.where(rng.random(600) < 0.2 + 0.6 * label, "b", "a")  # goes with the label
    >>> features = rng.normal(np.column_stack([2 * label - 1, 4 * (group == "b")]), 1.0)
    >>> layer = refit_last_layer(features, label, group)
    >>> layer.weight[1].round(1)
    array([ 1.6, -0. ])
    """
    rows, table = _checked(features, labels, groups, patients)
    rng = np.random.default_rng(seed)
    strength = _best_strength(table, rows, strengths, rng)
    fits = [_fit(table, rows, strength, rng) for _ in range(subsets)]
    weights, biases = (np.stack(part) for part in zip(*fits, strict=True))
    return LastLayer(weights.mean(axis=0), biases.mean(axis=0), strength, weights.std(axis=0))


def _checked(
    features: ArrayLike, labels: ArrayLike, groups: ArrayLike, patients: ArrayLike | None
) -> tuple[Rows, Floats]:
    table = np.asarray(features, dtype=np.float64)
    label = np.asarray(labels)
    classes = int(label.max()) + 1 if label.dtype.kind in "iu" and label.size else 2
    rows = rows_of(labels, groups, patients, classes=max(2, classes))
    if table.ndim != 2 or len(table) != len(rows):
        raise EvenhandError(
            f"features of shape {table.shape} for {len(rows)} labels; give one row of numbers for "
            "each label."
        )
    if not np.isfinite(table).all():
        row = int(np.flatnonzero(~np.isfinite(table).all(axis=1))[0])
        raise EvenhandError(f"the features of row {row} are not all finite numbers.")
    require_labels(rows, "dfr", least=2)
    return rows, table


def balanced_rows(rows: Rows, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return positions with equally many rows of each label in each group, drawn at random.

    Rows whose group is unknown are left out.
    """
    cells = [np.flatnonzero(cell) for cell in _cells(rows)]
    size = min(map(len, cells))
    return np.concatenate([rng.permutation(cell)[:size] for cell in cells])


def _fit(
    features: Floats, rows: Rows, strength: float, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Fit on one balanced subset; return weights ``(C, D)`` and biases ``(C,)`` of raw features."""
    from sklearn.linear_model import LogisticRegression

    drawn = balanced_rows(rows, rng)
    chosen = features[drawn]
    mean, scale = chosen.mean(axis=0), chosen.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    model = LogisticRegression(
        C=strength, l1_ratio=1.0, solver="saga", max_iter=500, tol=1e-3, random_state=0
    )
    model.fit((chosen - mean) / scale, rows.labels[drawn])
    weight, bias = model.coef_ / scale, model.intercept_ - model.coef_ @ (mean / scale)
    if len(model.classes_) == 2:
        weight = np.concatenate([np.zeros_like(weight), weight])
        bias = np.concatenate([np.zeros(1), bias])
    return weight, bias


def _best_strength(
    features: Floats, rows: Rows, strengths: Sequence[float], rng: np.random.Generator
) -> float:
    """Return the strength with the highest accuracy of the worst group on other patients."""
    half = rng.permutation(rows.patients.max() + 1) % 2 == 0
    fits = half[rows.patients]
    judge = rows.take(~fits)
    if len(strengths) == 1 or not _complete(rows, fits) or not _complete(rows, ~fits):
        return float(strengths[0])
    state = rng.integers(2**63)
    worst = []
    for strength in strengths:
        draws = np.random.default_rng(state)  # every strength sees the same subset
        weight, bias = _fit(features[fits], rows.take(fits), strength, draws)
        right = (features[~fits] @ weight.T + bias).argmax(axis=1) == judge.labels
        worst.append(min(right[cell].mean() for cell in _cells(judge)))
    return float(strengths[int(np.argmax(worst))])


def _cells(rows: Rows) -> list[NDArray[np.bool_]]:
    return [
        (rows.groups == level) & (rows.labels == label)
        for level in rows.levels
        for label in np.unique(rows.labels)
    ]


def _complete(rows: Rows, part: NDArray[np.bool_]) -> bool:
    """Whether a part of the rows has two rows or more of every label in every group."""
    return all(np.count_nonzero(cell & part) >= 2 for cell in _cells(rows))


METHOD = refit_last_layer
