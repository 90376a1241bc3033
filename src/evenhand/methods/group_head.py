"""A linear layer that infers the group of a row from its features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evenhand.errors import EvenhandError
from evenhand.methods.arrays import Floats, check_features, group_names
from evenhand.tables.attributes import UNKNOWN

MOST = 20_000
"""The largest number of rows to fit on; they are drawn at random."""
RIDGE = 1.0
"""Penalty on the weights, for standardised features."""


@dataclass(frozen=True)
class GroupHead:
    """A linear layer from features to one number per group.

    Attributes
    ----------
    levels
        The K groups.
    weight
        Weights, K rows of D numbers.
    bias
        Biases, K numbers.
    linear
        Whether the outputs are shares of the groups (least squares); else they are logits.
    """

    levels: tuple[str, ...]
    weight: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]
    linear: bool

    def outputs(self, features: ArrayLike) -> Floats:
        """Return the outputs ``(n, K)`` for features ``(n, D)``."""
        weight, bias = np.array(self.weight), np.array(self.bias)
        table = check_features(features, weight.shape[1]).astype(np.float64)
        outputs: Floats = table @ weight.T + bias
        return outputs

    def group(self, features: ArrayLike) -> NDArray[np.str_]:
        """Return the most probable group of each row."""
        groups: NDArray[np.str_] = np.array(self.levels)[self.outputs(features).argmax(axis=1)]
        return groups


def fit_group_head(
    features: ArrayLike, groups: ArrayLike, *, linear: bool = False, seed: int = 0
) -> GroupHead:
    """Fit a linear layer that infers the group of a row from its features.

    Parameters
    ----------
    features
        ``(n, D)``; if there are more than 20,000 rows, 20,000 are drawn.
    groups
        ``(n,)``; rows of the group ``"unknown"`` are left out.
    linear
        Whether to use least squares instead of logistic regression.
    seed
        Seed of the draw of rows.

    Raises
    ------
    EvenhandError
        If there are fewer than two groups.
    """
    from sklearn.linear_model import LogisticRegression, Ridge

    table, names = check_features(features).astype(np.float64), group_names(groups)
    drawn = np.random.default_rng(seed).permutation(np.flatnonzero(names != UNKNOWN))[:MOST]
    table, names = table[drawn], names[drawn]
    levels = np.unique(names)
    if len(levels) < 2:
        raise EvenhandError(
            f"groups cannot be inferred: there is only {', '.join(levels) or 'the group unknown'}. "
            "Give rows of at least two groups."
        )
    mean, scale = table.mean(axis=0), table.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    standard = (table - mean) / scale
    if linear:
        model = Ridge(RIDGE).fit(standard, (names[:, None] == levels).astype(np.float64))
        weight, bias = model.coef_, model.intercept_
    else:
        model = LogisticRegression(C=1 / RIDGE, max_iter=500).fit(standard, names)
        weight, bias = model.coef_, model.intercept_
        if len(levels) == 2:
            weight, bias = np.concatenate([0 * weight, weight]), np.append(0.0, bias)
    weight = weight / scale
    bias = bias - weight @ mean
    rows = tuple(tuple(row) for row in weight.tolist())
    return GroupHead(tuple(levels.tolist()), rows, tuple(bias.tolist()), linear)
