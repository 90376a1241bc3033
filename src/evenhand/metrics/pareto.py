"""Several targets at once: the Pareto front, and rules that pick one point from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from evenhand.errors import EvenhandError
from evenhand.metrics.registry import Floats
from evenhand.metrics.targets import Target

PickRule = Callable[[Floats, Floats], Floats]
"""Function of costs ``(n, k)`` and of the costs on the front ``(m, k)``; returns ``(n,)`` scores.

The point with the lowest score is picked; an infinite score rejects a point."""

PICKS = "ideal, minimax, or budget=POINTS (as in budget=2)"


def costs(values: Floats, targets: Sequence[Target]) -> Floats:
    """Return values ``(n, k)`` as costs: lower is better in every column."""
    signs = [-1.0 if target.maximise else 1.0 for target in targets]
    return np.asarray(values, np.float64).reshape(-1, len(signs)) * signs


def front(cost: Floats) -> NDArray[np.bool_]:
    """Return the mask ``(n,)`` of the points on the Pareto front of costs ``(n, k)``.

    A point is not on the front if another point is better in one column and not worse in any.
    Points with an undefined cost are never on the front; equal points are on it together.
    """
    defined = ~np.isnan(cost).any(axis=1)
    no_worse = (cost[:, None] <= cost[None]).all(axis=2)  # (n, n): row no worse than column
    better = (cost[:, None] < cost[None]).any(axis=2)
    beaten = np.any(no_worse & better, axis=0)
    on_front: NDArray[np.bool_] = defined & ~beaten
    return on_front


def rank_points(cost: Floats, rule: PickRule) -> list[int]:
    """Return the indices of points with costs ``(n, k)``, the one that the rule picks first.

    The points of the front come first, then the front of the remaining points, and so on. Within
    a front the rule decides; points with equal scores keep their order. Points that the rule
    rejects are left out.
    """
    order: list[int] = []
    remaining = cost.copy()
    reference = cost[front(cost)]
    while (layer := np.flatnonzero(front(remaining))).size:
        scores = rule(cost[layer], reference)
        best = np.argsort(scores, kind="stable")
        order += [int(layer[k]) for k in best if np.isfinite(scores[k])]
        remaining[layer] = np.nan
    return order


def ideal(cost: Floats, reference: Floats) -> Floats:
    """Return the Euclidean distance to the ideal point, each target scaled to the front."""
    distance: Floats = np.hypot.reduce(_regret(cost, reference), axis=1)  # squares may overflow
    return distance


def minimax(cost: Floats, reference: Floats) -> Floats:
    """Return the largest regret of any target, each scaled to the front."""
    largest: Floats = _regret(cost, reference).max(axis=1)
    return largest


def budget(points: float, performance: int) -> PickRule:
    """Return the rule that picks the fairest point within a loss of performance.

    Parameters
    ----------
    points
        The largest allowed loss of performance against the best point, in hundredths of the metric.
    performance
        The column of the performance; the other column is the fairness target.
    """

    def rule(cost: Floats, reference: Floats) -> Floats:
        loss = cost[:, performance] - reference[:, performance].min()
        return np.where(loss <= points / 100 + 1e-12, cost[:, 1 - performance], np.inf)

    return rule


def find_rule(text: str | None, targets: Sequence[Target]) -> PickRule:
    """Return the rule that a text names, for these targets; without a text, ``ideal``.

    Raises
    ------
    EvenhandError
        If there is no such rule; if a rule is named for one target; if a budget is not a number
        from 0 up; or if a budget is given for other targets than one over everybody and one across
        groups.
    """
    if text is None:
        return ideal
    if len(targets) < 2:
        raise EvenhandError(
            f"--pick {text} picks a trade-off between several targets, but there is one target "
            f"({targets[0].name}). Give a second --target, or leave --pick out."
        )
    rules: dict[str, PickRule] = {"ideal": ideal, "minimax": minimax}
    name, equals, amount = text.partition("=")
    if name in rules and not equals:
        return rules[name]
    if name != "budget":
        raise EvenhandError(f"--pick {text} is no rule; the rules are: {PICKS}.")
    return budget(_points(text, amount), _performance(text, targets))


def _points(text: str, amount: str) -> float:
    try:
        points = float(amount)
    except ValueError:
        points = -1.0
    if not 0 <= points < np.inf:
        raise EvenhandError(
            f"--pick {text}: a budget is the largest allowed loss of performance in points, 0 or "
            "more. Example: budget=2 allows 2 points, which is .02 of AUC."
        )
    return points


def _performance(text: str, targets: Sequence[Target]) -> int:
    overall = [k for k, target in enumerate(targets) if target.is_overall]
    if len(targets) != 2 or len(overall) != 1:
        names = ", ".join(target.name for target in targets)
        raise EvenhandError(
            f"--pick {text} needs one target over everybody (auc, accuracy) and one across groups; "
            f"the targets are: {names}."
        )
    return overall[0]


def _regret(cost: Floats, reference: Floats) -> Floats:
    """Return how far each cost is from its best, as a share of the range on the front."""
    best, worst = reference.min(axis=0), reference.max(axis=0)
    regret: Floats = (cost - best) / np.where(worst > best, worst - best, 1.0)
    return regret
