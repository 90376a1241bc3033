"""Importance of units and methods, and of mask, method and learning rate as a whole."""

from __future__ import annotations

from collections.abc import Sequence

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

LEAST = 2  # trials with and without a unit, for a spread to be known
LEVEL = 0.95
ENOUGH = 20  # trials, for a forest to learn from
SHUFFLES = 5


def unit_importance(trials: pd.DataFrame, targets: Sequence[Target]) -> list[UnitImportance]:
    """Return the mean difference of each target between trials with and without each unit.

    Trials that were trained to their end count. The interval is Welch's (Biometrika 1947), which
    lets the two sides differ in spread. Trials are no random sample of masks, as a search goes
    where values are good: a difference is a hint, no effect.

    Parameters
    ----------
    trials
        As from `trials_table`: ``state``, ``mask`` and a column per target.
    targets
        Whose columns are looked at.

    Returns
    -------
    list
        One record per unit and target. A unit that fewer than two trials tune, or leave out, has
        none.
    """
    done = trials[trials["state"] == "complete"]
    masks = [set(mask.split()) for mask in done["mask"]]
    rows: list[UnitImportance] = []
    for unit in sorted(set().union(*masks)):
        tuned = np.array([unit in mask for mask in masks])
        if min(tuned.sum(), (~tuned).sum()) < LEAST:
            continue
        for target in targets:
            values = done[target.name].to_numpy(np.float64)
            difference = _compared(values, tuned, target)
            rows.append(UnitImportance(unit=unit, **difference.model_dump()))
    return rows


def method_importance(trials: pd.DataFrame, targets: Sequence[Target]) -> list[MethodImportance]:
    """Return the mean difference of each target between trials with each method and the others.

    Parameters
    ----------
    trials
        As from `trials_table`: ``state``, ``method`` and a column per target.
    targets
        Whose columns are looked at.

    Returns
    -------
    list
        One record per method and target, as from `unit_importance`.
    """
    done = trials[trials["state"] == "complete"]
    rows: list[MethodImportance] = []
    for method in sorted({*done["method"]}):
        by_it = (done["method"] == method).to_numpy()
        if min(by_it.sum(), (~by_it).sum()) < LEAST:
            continue
        for target in targets:
            values = done[target.name].to_numpy(np.float64)
            difference = _compared(values, by_it, target)
            rows.append(MethodImportance(method=method, **difference.model_dump()))
    return rows


def factor_importance(
    choices: Sequence[Choice], values: NDArray[np.float64], targets: Sequence[Target]
) -> list[FactorRecord]:
    """Return how much of the trials' variance depends on the mask, the method and the rate.

    A random forest learns each target from what trials chose, and predicts trials that it has not
    seen. A factor's importance is how much less of their variance it explains where that factor's
    columns are shuffled together (permutation importance: Breiman, Machine Learning 2001).

    Parameters
    ----------
    choices
        What trials chose that were trained to their end.
    values
        ``(n, k)`` their targets.
    targets
        The k targets.

    Returns
    -------
    list
        One record per target and factor that differs between trials; the forest explains nothing
        where its share is 0 or less. Nothing for fewer than 20 trials, or for less than two
        factors.
    """
    factors = _factors(choices) if len(choices) >= ENOUGH else {}
    rows: list[FactorRecord] = []
    for target, column in zip(targets, values.T, strict=True):
        if len(factors) < 2 or column.std() == 0:
            continue
        explained, lost = _explained(factors, column)
        rows += [
            FactorRecord(
                factor=name,
                objective=target.name,
                explained=explained,
                trials=len(choices),
                lost=loss,
            )
            for name, loss in lost.items()
        ]
    return rows


def _factors(choices: Sequence[Choice]) -> dict[str, NDArray[np.float64]]:
    """Return the columns of numbers that each factor makes of choices, where they differ."""
    units = sorted(set().union(*(choice.mask for choice in choices)))
    methods = pd.DataFrame(list(map(_method_row, choices)))
    factors = {
        "mask": np.array([[unit in choice.mask for unit in units] for choice in choices], float),
        "method": pd.get_dummies(methods, dtype=float).fillna(0.0).to_numpy(np.float64),
        "rate": np.log([[choice.lr] for choice in choices]),
    }
    return {name: x for name, x in factors.items() if x.size and x.std(axis=0).any()}


def _method_row(choice: Choice) -> dict[str, Setting]:
    """Return the method of a choice and its settings, each under a name of its own."""
    settings = {f"{choice.method}.{name}": value for name, value in choice.method_settings}
    return {"method": choice.method, **settings}


def _explained(
    factors: dict[str, NDArray[np.float64]], values: NDArray[np.float64]
) -> tuple[float, dict[str, float]]:
    """Return the share of variance that is explained of unseen trials, and lost by each factor."""
    rng = np.random.default_rng(0)
    ends = np.cumsum([0, *(x.shape[1] for x in factors.values())])
    inputs = np.hstack([*factors.values()])
    error, without = 0.0, dict.fromkeys(factors, 0.0)
    for train, test in RepeatedKFold(n_splits=5, n_repeats=3, random_state=0).split(inputs):
        forest = RandomForestRegressor(50, random_state=0).fit(inputs[train], values[train])
        error += _squares(forest.predict(inputs[test]), values[test])
        for place, name in enumerate(factors):
            for _ in range(SHUFFLES):
                shuffled = inputs[test].copy()
                columns = slice(ends[place], ends[place + 1])
                shuffled[:, columns] = inputs[rng.permutation(len(inputs))[: len(test)], columns]
                wrong = _squares(forest.predict(shuffled), values[test])
                without[name] += wrong / SHUFFLES
    total = 3 * _squares(values, values.mean())
    lost = {name: (wrong - error) / total for name, wrong in without.items()}
    return 1 - error / total, lost


def _squares(values: NDArray[np.float64], others: NDArray[np.float64] | float) -> float:
    return float(np.square(values - others).sum())


def _compared(
    values: NDArray[np.float64], tuned: NDArray[np.bool_], target: Target
) -> ImportanceRecord:
    sides = values[tuned], values[~tuned]
    difference = float(sides[0].mean() - sides[1].mean())
    squares = np.array([side.var(ddof=1) / len(side) for side in sides])  # of the means' errors
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
