"""Several targets at once: which trade-offs are not beaten, and rules that pick one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from evenhand.errors import EvenhandError
from evenhand.metrics.registry import Floats
from evenhand.metrics.targets import Target

PickRule = Callable[[Floats, Floats], Floats]
"""From costs ``(n, k)``, and those of the front, to badness ``(n,)``; the least is picked."""

PICKS = "ideal, minimax, or budget=POINTS (as in budget=2)"


def costs(values: Floats, targets: Sequence[Target]) -> Floats:
    """Return values ``(n, k)`` with such signs that less is better in every column."""
    signs = [-1.0 if target.maximise else 1.0 for target in targets]
    return np.asarray(values, np.float64).reshape(-1, len(signs)) * signs


def front(cost: Floats) -> NDArray[np.bool_]:
    """Return which points ``(n,)`` of costs ``(n, k)`` no other point beats.

    A point is beaten by one that is no worse in any column and better in one. Points with an
    undefined cost are never on the front; equal points are on it together.
    """
    defined = ~np.isnan(cost).any(axis=1)
    no_worse = (cost[:, None] <= cost[None]).all(axis=2)  # (n, n): row no worse than column
    better = (cost[:, None] < cost[None]).any(axis=2)
    beaten = np.any(no_worse & better, axis=0)
    kept: NDArray[np.bool_] = defined & ~beaten
    return kept


def ranked(cost: Floats, rule: PickRule) -> list[int]:
    """Return the points of costs ``(n, k)`` from the one that the rule picks on.

    All of the front come first, then the front of the others, and so on; within each the rule
    decides, and points that it finds equal stay in order. What it refuses is left out.
    """
    order: list[int] = []
    rest = cost.copy()
    reference = cost[front(cost)]
    while (layer := np.flatnonzero(front(rest))).size:
        badness = rule(cost[layer], reference)
        best = np.argsort(badness, kind="stable")
        order += [int(layer[k]) for k in best if np.isfinite(badness[k])]
        rest[layer] = np.nan
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
    """Return the rule that allows performance to be so far from its best, and no farther.

    Parameters
    ----------
    points
        What may be given up, in hundredths of the metric.
    performance
        The column of the performance; the other one is the fairness that is to be best.
    """

    def rule(cost: Floats, reference: Floats) -> Floats:
        given_up = cost[:, performance] - reference[:, performance].min()
        return np.where(given_up <= points / 100 + 1e-12, cost[:, 1 - performance], np.inf)

    return rule


def find_rule(text: str | None, targets: Sequence[Target]) -> PickRule:
    """Return the rule that picks from the front of these targets; without a text, ``ideal``.

    One target has a front of one value, which every rule picks.

    Raises
    ------
    EvenhandError
        A rule is named for one target alone; there is no such rule; or a budget is no number,
        or not between one target over everybody and one across groups.
    """
    if text is None:
        return ideal
    if len(targets) < 2:
        raise EvenhandError(
            f"--pick {text} chooses between targets, and there is one "
            f"({targets[0].name}). Give a second --target, or leave --pick out."
        )
    rules: dict[str, PickRule] = {"ideal": ideal, "minimax": minimax}
    name, equals, amount = text.partition("=")
    if name in rules and not equals:
        return rules[name]
    if name != "budget":
        raise EvenhandError(f"no rule --pick {text}; there are: {PICKS}.")
    return budget(_points(text, amount), _performance(text, targets))


def _points(text: str, amount: str) -> float:
    try:
        points = float(amount)
    except ValueError:
        points = -1.0
    if not 0 <= points < np.inf:
        raise EvenhandError(
            f"--pick {text}: a budget is how much performance may be given up, 0 or more, as in "
            "budget=2: 2 points, which is .02 of AUC."
        )
    return points


def _performance(text: str, targets: Sequence[Target]) -> int:
    overall = [k for k, target in enumerate(targets) if target.is_overall]
    if len(targets) != 2 or len(overall) != 1:
        names = ", ".join(target.name for target in targets)
        raise EvenhandError(
            f"--pick {text} needs one target over everybody (auc, accuracy) and one "
            f"across groups; given are: {names}."
        )
    return overall[0]


def _regret(cost: Floats, reference: Floats) -> Floats:
    """Return how far each cost is from its best, as a share of the range on the front."""
    best, worst = reference.min(axis=0), reference.max(axis=0)
    regret: Floats = (cost - best) / np.where(worst > best, worst - best, 1.0)
    return regret
