"""The importance of units, of methods, and of the factors mask, method and learning rate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import RepeatedKFold

from evenhand.methods.ranges import Setting
from evenhand.metrics import Target
from evenhand.reporting.search_record import (
    FactorRecord,
    ImportanceRecord,
    MethodImportance,
    UnitImportance,
)
from evenhand.search.spaces import Choice

FEWEST_PER_SIDE = 2  # trials with a unit, and without it, that a variance needs
FEWEST_TRIALS = 20  # trials that a forest needs
LEVEL = 0.95  # confidence level of intervals
SHUFFLES = 5  # of the columns of a factor, for each fold


def unit_importance(trials: pd.DataFrame, targets: Sequence[Target]) -> list[UnitImportance]:
    """Return the mean difference of each target between trials with and without each unit.

    Only complete trials count. The interval is Welch's (Biometrika 1947), which allows the two
    sides to differ in variance. The trials are not a random sample of masks, because a search
    prefers good values: a difference is a hint and not a causal effect.

    Parameters
    ----------
    trials
        A table of `study_table` with the columns ``state``, ``mask`` and one for each target.
    targets
        The targets.

    Returns
    -------
    list
        A record for each unit and target; none for a unit with fewer than two trials that tune it,
        or fewer than two that do not.
    """
    done = trials[trials["state"] == "complete"]
    masks = [set(mask.split()) for mask in done["mask"]]
    sides = {
        unit: np.array([unit in mask for mask in masks]) for unit in sorted(set().union(*masks))
    }
    return [
        UnitImportance(unit=unit, **difference.model_dump())
        for unit, difference in _mean_differences(done, sides, targets)
    ]


def method_importance(trials: pd.DataFrame, targets: Sequence[Target]) -> list[MethodImportance]:
    """Return the mean difference of each target between trials with each method and the others.

    Parameters
    ----------
    trials
        A table of `study_table` with the columns ``state``, ``method`` and one for each target.
    targets
        The targets.

    Returns
    -------
    list
        A record for each method and target, with the rules of `unit_importance`.
    """
    done = trials[trials["state"] == "complete"]
    sides = {method: (done["method"] == method).to_numpy() for method in sorted({*done["method"]})}
    return [
        MethodImportance(method=method, **difference.model_dump())
        for method, difference in _mean_differences(done, sides, targets)
    ]


def _mean_differences(
    done: pd.DataFrame, sides: Mapping[str, NDArray[np.bool_]], targets: Sequence[Target]
) -> Iterator[tuple[str, ImportanceRecord]]:
    """Yield name and mean difference of each target, if both sides have enough trials.

    A side is a mask ``(n,)`` of the trials, by the name of what these trials have in common.
    """
    for name, selected in sides.items():
        if min(selected.sum(), (~selected).sum()) >= FEWEST_PER_SIDE:
            for target in targets:
                values = done[target.name].to_numpy(np.float64)
                yield name, _mean_difference(values, selected, target)


def factor_importance(
    choices: Sequence[Choice], values: NDArray[np.float64], targets: Sequence[Target]
) -> list[FactorRecord]:
    """Return the share of the trials' variance that depends on the mask, the method and the rate.

    A random forest learns each target from the choices of trials, and predicts held-out trials
    (cross-validation). The importance of a factor is the loss of explained variance when the
    columns of this factor are shuffled together (permutation importance: Breiman, Machine Learning
    2001).

    Parameters
    ----------
    choices
        The n choices of the complete trials.
    values
        ``(n, k)`` values of their targets.
    targets
        The k targets.

    Returns
    -------
    list
        A record for each target and each factor that differs between trials. If the explained share
        is 0 or less, the forest has learned nothing. Empty for fewer than 20 trials or fewer than
        two factors.
    """
    factors = _factors(choices) if len(choices) >= FEWEST_TRIALS else {}
    rows: list[FactorRecord] = []
    for target, column in zip(targets, values.T, strict=True):
        if len(factors) < 2 or column.std() == 0:
            continue
        explained, losses = _explained_variance(factors, column)
        rows += [
            FactorRecord(
                factor=name,
                objective=target.name,
                explained=explained,
                trials=len(choices),
                lost=loss,
            )
            for name, loss in losses.items()
        ]
    return rows


def _factors(choices: Sequence[Choice]) -> dict[str, NDArray[np.float64]]:
    """Return the numeric columns ``(n, d)`` of each factor that differs between choices."""
    units = sorted(set().union(*(choice.mask for choice in choices)))
    methods = pd.DataFrame(list(map(_method_row, choices)))
    factors = {
        "mask": np.array([[unit in choice.mask for unit in units] for choice in choices], float),
        "method": pd.get_dummies(methods, dtype=float).fillna(0.0).to_numpy(np.float64),
        "rate": np.log([[choice.lr] for choice in choices]),
    }
    return {name: x for name, x in factors.items() if x.size and x.std(axis=0).any()}


def _method_row(choice: Choice) -> dict[str, Setting]:
    """Return the method of a choice and its settings, which are named ``METHOD.SETTING``."""
    settings = {f"{choice.method}.{name}": value for name, value in choice.method_settings}
    return {"method": choice.method, **settings}


def _explained_variance(
    factors: dict[str, NDArray[np.float64]], values: NDArray[np.float64]
) -> tuple[float, dict[str, float]]:
    """Return the explained share of variance on held-out trials, and each factor's loss of it."""
    rng = np.random.default_rng(0)
    ends = np.cumsum([0, *(x.shape[1] for x in factors.values())])
    inputs = np.hstack([*factors.values()])
    error, shuffled_errors = 0.0, dict.fromkeys(factors, 0.0)
    for train, test in RepeatedKFold(n_splits=5, n_repeats=3, random_state=0).split(inputs):
        forest = RandomForestRegressor(50, random_state=0).fit(inputs[train], values[train])
        error += _squares(forest.predict(inputs[test]), values[test])
        for index, name in enumerate(factors):
            for _ in range(SHUFFLES):
                shuffled = inputs[test].copy()
                columns = slice(ends[index], ends[index + 1])
                shuffled[:, columns] = inputs[rng.permutation(len(inputs))[: len(test)], columns]
                squares = _squares(forest.predict(shuffled), values[test])
                shuffled_errors[name] += squares / SHUFFLES
    total = 3 * _squares(values, values.mean())  # each trial is held out in each of 3 repeats
    losses = {name: (squares - error) / total for name, squares in shuffled_errors.items()}
    return 1 - error / total, losses


def _squares(values: NDArray[np.float64], others: NDArray[np.float64] | float) -> float:
    return float(np.square(values - others).sum())


def _mean_difference(
    values: NDArray[np.float64], selected: NDArray[np.bool_], target: Target
) -> ImportanceRecord:
    """Return the mean of the selected values minus that of the others, with Welch's interval."""
    sides = values[selected], values[~selected]
    difference = float(sides[0].mean() - sides[1].mean())
    squares = np.array([side.var(ddof=1) / len(side) for side in sides])  # squared standard errors
    half = 0.0
    if squares.sum() > 0:
        freedom = squares.sum() ** 2 / sum(
            square**2 / (len(side) - 1) for square, side in zip(squares, sides, strict=True)
        )
        half = float(student.ppf((1 + LEVEL) / 2, freedom) * np.sqrt(squares.sum()))
    return ImportanceRecord(
        objective=target.name,
        difference=difference,
        low=difference - half,
        high=difference + half,
        trials_with=len(sides[0]),
        trials_without=len(sides[1]),
    )
