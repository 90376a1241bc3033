"""Deep feature re-weighting: a new last layer, fitted on rows balanced by label and group.

Misleads if the features lack the information that a group needs: no last layer can restore it.
Scores of a group with a different prevalence stay shifted.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

from evenhand.errors import EvenhandError
from evenhand.methods.arrays import (
    Count,
    Floats,
    Rows,
    Strengths,
    check_features,
    check_rows,
    count_classes,
    require_labels,
)
from evenhand.methods.post_hoc import AttributeNeed, PostHoc

STRENGTHS = (1.0, 0.3, 0.1, 0.03, 0.01)
"""Inverse strengths of the L1 penalty to try."""
SUBSETS = 10
MOST = 2000
"""The largest number of rows of a balanced subset; ten subsets have up to 20,000."""
FOLDS = 5
PASSES = 200_000  # most rows × iterations of a solver, if these are more than 500 iterations

Prior = Literal["data", "balanced"]
"""Prevalence of the scores: that of the rows, or equal for all classes."""


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
        The chosen inverse strength of the L1 penalty.
    spread
        ``(C, D)``, standard deviation of the weights over the balanced subsets.
    """

    weight: Floats
    bias: Floats
    strength: float
    spread: Floats

    @property
    def attribute(self) -> AttributeNeed:
        """Return ``no``: the layer scores without the attribute."""
        return "no"

    def apply(self, features: ArrayLike, groups: object = None) -> Floats:
        """Return probabilities: ``(n,)`` of class 1 for two classes, else ``(n, C)``."""
        del groups
        scores = self.scores(features)
        return scores[:, 1] if scores.shape[1] == 2 else scores

    def logits(self, features: ArrayLike) -> Floats:
        """Return logits ``(n, C)`` of features ``(n, D)``."""
        table = check_features(features, self.weight.shape[1])
        step = 10_000  # rows converted to double precision at a time
        parts = [
            table[start : start + step].astype(np.float64) @ self.weight.T
            for start in range(0, len(table), step)
        ]
        return np.concatenate(parts) + self.bias if parts else np.empty((0, len(self.bias)))

    def scores(self, features: ArrayLike) -> Floats:
        """Return probabilities ``(n, C)`` of features ``(n, D)``."""
        probabilities: Floats = softmax(self.logits(features), axis=1)
        return probabilities


class LayerSettings(TypedDict, total=False):
    """The settings of `refit_last_layer`, with its defaults."""

    strengths: Strengths
    subsets: Count
    most: Count
    prior: Prior
    seed: int


def refit_last_layer(
    features: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    *,
    patients: ArrayLike | None = None,
    strengths: Strengths = STRENGTHS,
    subsets: Count = SUBSETS,
    most: Count = MOST,
    prior: Prior = "data",
    seed: int = 0,
) -> LastLayer:
    """Fit a last layer on subsets with equally many rows of each label in each group.

    Parameters
    ----------
    features
        ``(n, D)``, of rows that were used neither to train nor to choose the backbone.
    labels, groups, patients
        ``(n,)`` each.
    strengths
        Inverse strengths of the L1 penalty to try. The layer is fitted on half of the patients; the
        other half choose the strength by the accuracy of the worst group.
    subsets
        Number of balanced subsets; their coefficients are averaged.
    most
        The largest number of rows of a balanced subset.
    prior
        In a balanced subset all classes are equally frequent, so scores have that prevalence. With
        ``data``, the logarithm of a class's share of the rows is added to its logit, so scores have
        the rows' prevalence; with ``balanced``, nothing is added. Scores of a group with a
        different prevalence stay shifted; `recalibrate` corrects them.
    seed
        Seed of the halves and the subsets.

    Raises
    ------
    EvenhandError
        If arrays do not fit, or if a group has fewer than two rows of a class.

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
    rows, table = _check_inputs(features, labels, groups, patients)
    rng = np.random.default_rng(seed)
    strength = _best_strength(table, rows, strengths, most, rng)
    layer = _fit_mean(table, rows, strength, subsets, most, rng)
    return _with_prior(layer, rows) if prior == "data" else layer


def cross_fit(
    features: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    *,
    patients: ArrayLike | None = None,
    **settings: Unpack[LayerSettings],
) -> tuple[LastLayer, Floats]:
    """Fit a last layer, and score each row by a layer that was fitted on other patients.

    Parameters
    ----------
    features, labels, groups, patients, **settings
        As for `refit_last_layer`.

    Returns
    -------
    LastLayer
        The layer that was fitted on all rows.
    numpy.ndarray
        Probabilities ``(n, C)`` of the rows. Each fifth of the patients is scored by a layer that
        was fitted on the other four fifths, so thresholds can be chosen on these rows. All layers
        use the strength that was chosen on all rows; each of the five is the mean over a fifth of
        ``subsets``.

    Raises
    ------
    EvenhandError
        As for `refit_last_layer`; also if without one fifth a group has fewer than two rows of a
        class.
    """
    layer = refit_last_layer(features, labels, groups, patients=patients, **settings)
    rows, table = _check_inputs(features, labels, groups, patients)
    most = settings.get("most", MOST)
    count = max(1, settings.get("subsets", SUBSETS) // FOLDS)
    rng = np.random.default_rng((settings.get("seed", 0), FOLDS))
    fold = (rng.permutation(rows.patients.max() + 1) % FOLDS)[rows.patients]
    scores = np.empty((len(rows), len(layer.bias)))
    for number in range(FOLDS):
        held_out = fold == number
        others = rows.take(~held_out)
        if not _has_two_of_each(rows, ~held_out):
            raise EvenhandError(
                "dfr fits on four fifths of the patients and scores the last fifth; without fold "
                f"{number + 1} a group has fewer than two rows of a class. Give more validation "
                "patients, or merge small groups."
            )
        part = _fit_mean(table, others, layer.strength, count, most, rng, np.flatnonzero(~held_out))
        part = part if settings.get("prior") == "balanced" else _with_prior(part, others)
        scores[held_out] = part.scores(table[held_out])
    return layer, scores


def _fit_mean(
    features: Floats,
    rows: Rows,
    strength: float,
    subsets: int,
    most: int,
    rng: np.random.Generator,
    positions: NDArray[np.intp] | None = None,
) -> LastLayer:
    """Return the mean layer of several balanced subsets; row i has features ``positions[i]``."""
    fits = [_fit(features, rows, strength, most, rng, positions) for _ in range(subsets)]
    weights, biases = (np.stack(part) for part in zip(*fits, strict=True))
    return LastLayer(weights.mean(axis=0), biases.mean(axis=0), strength, weights.std(axis=0))


def _with_prior(layer: LastLayer, rows: Rows) -> LastLayer:
    """Add to each bias the logarithm of the class's share of the rows, minus that of class 0."""
    shift = np.log(np.bincount(rows.labels) / len(rows))
    return replace(layer, bias=layer.bias + shift - shift[0])


def _check_inputs(
    features: ArrayLike, labels: ArrayLike, groups: ArrayLike, patients: ArrayLike | None
) -> tuple[Rows, Floats]:
    table = check_features(features)
    if table.dtype != np.float32:  # as networks give them: no copy of many rows
        table = table.astype(np.float64)
    rows = check_rows(labels, groups, patients, classes=count_classes(labels))
    if len(table) != len(rows):
        raise EvenhandError(f"{len(table)} rows of features for {len(rows)} labels.")
    require_labels(rows, "dfr", least=2)
    return rows, table


def balanced_rows(
    rows: Rows, rng: np.random.Generator, most: int | None = None
) -> NDArray[np.intp]:
    """Return the positions of equally many rows of each label in each group, drawn at random.

    They are at most about ``most``. Rows of unknown group are left out.
    """
    cells = [np.flatnonzero(cell) for cell in _cells(rows)]
    size = min(map(len, cells))
    if most is not None:
        size = min(size, max(2, most // len(cells)))
    return np.concatenate([rng.permutation(cell)[:size] for cell in cells])


def _fit(
    features: Floats,
    rows: Rows,
    strength: float,
    most: int,
    rng: np.random.Generator,
    positions: NDArray[np.intp] | None = None,
) -> tuple[Floats, Floats]:
    """Fit on one balanced subset; return weights ``(C, D)`` and biases ``(C,)`` for raw features.

    Row i has features ``positions[i]``; by default, rows and features have the same order.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    drawn = balanced_rows(rows, rng, most)
    chosen = features[drawn if positions is None else positions[drawn]].astype(np.float64)
    mean, scale = chosen.mean(axis=0), chosen.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    is_binary = len(np.unique(rows.labels)) == 2
    model = LogisticRegression(
        C=strength,
        l1_ratio=1.0,
        solver="liblinear" if is_binary else "saga",  # liblinear takes half of saga's time
        max_iter=max(500, PASSES // len(drawn)),
        tol=1e-3,
        random_state=0,
    )
    with warnings.catch_warnings():  # weights of (nearly) separable classes keep growing
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit((chosen - mean) / scale, rows.labels[drawn])
    weight, bias = model.coef_ / scale, model.intercept_ - model.coef_ @ (mean / scale)
    if len(model.classes_) == 2:
        weight = np.concatenate([np.zeros_like(weight), weight])
        bias = np.concatenate([np.zeros(1), bias])
    return weight, bias


def _best_strength(
    features: Floats, rows: Rows, strengths: Sequence[float], most: int, rng: np.random.Generator
) -> float:
    """Return the strength with the highest accuracy of the worst group on other patients."""
    half = rng.permutation(rows.patients.max() + 1) % 2 == 0
    fits = half[rows.patients]
    judge, fitting = rows.take(~fits), rows.take(fits)
    if len(strengths) == 1 or not _has_two_of_each(rows, fits) or not _has_two_of_each(rows, ~fits):
        return float(strengths[0])
    state = rng.integers(2**63)
    worst = []
    for strength in strengths:
        draws = np.random.default_rng(state)  # the same subset for every strength
        weight, bias = _fit(features, fitting, strength, most, draws, np.flatnonzero(fits))
        correct = (features @ weight.T.astype(features.dtype) + bias).argmax(axis=1) == rows.labels
        correct = correct[~fits]
        worst.append(min(correct[cell].mean() for cell in _cells(judge)))
    return float(strengths[int(np.argmax(worst))])


def _cells(rows: Rows) -> list[NDArray[np.bool_]]:
    return [
        (rows.groups == level) & (rows.labels == label)
        for level in rows.levels
        for label in np.unique(rows.labels)
    ]


def _has_two_of_each(rows: Rows, part: NDArray[np.bool_]) -> bool:
    """Whether a part of the rows, a mask, has two rows of every label in every group."""
    return all(np.count_nonzero(cell & part) >= 2 for cell in _cells(rows))


METHOD = PostHoc(
    refit_last_layer,
    takes="features",
    groups="one",
    needs="Needs a run with a model; the attribute to fit, not to score.",
    source="Kirichenko, Izmailov & Wilson, ICLR 2023, arXiv 2204.02937",
)
