"""Confirmation: the best of a search trained again with fresh seeds, and how lucky it had been."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import t as student

from evenhand.measure import Objective, costs, ranked
from evenhand.measure.pareto import Rule
from evenhand.models.masks import Mask
from evenhand.search.space import Space
from evenhand.search.study import originals
from evenhand.tune.spaces import Choice

LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Confirmed:
    """One trial of a search and what it is worth with fresh seeds."""

    trial: int
    searched: NDArray[np.float64]  # (k,) objectives in the search
    again: NDArray[np.float64]  # (seeds, k); NaN where a training diverged

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean over the fresh seeds, ``(k,)``; NaN where one of them diverged."""
        mean: NDArray[np.float64] = self.again.mean(axis=0)
        return mean

    def facts(self, objectives: Sequence[Objective]) -> dict[str, Any]:
        """Return everything by the names of the objectives, as JSON values.

        ``optimism`` is how much better the search's value was than the mean over fresh seeds, in
        the direction of the objective; its interval, as the mean's, is Student's over the seeds.
        """
        facts: dict[str, Any] = {"trial": self.trial, "seeds": len(self.again), "objectives": {}}
        for k, objective in enumerate(objectives):
            sign = 1.0 if objective.direction == "maximize" else -1.0
            half = _half_width(self.again[:, k])
            by = sign * (self.searched[k] - self.mean[k])
            facts["objectives"][objective.name] = {
                "searched": _known(self.searched[k]),
                "again": [_known(value) for value in self.again[:, k]],
                "mean": _known(self.mean[k]),
                "mean_low": _known(self.mean[k] - half),
                "mean_high": _known(self.mean[k] + half),
                "optimism": _known(by),
                "optimism_low": _known(by - half),
                "optimism_high": _known(by + half),
            }
        return facts


def to_confirm(best: Sequence[FrozenTrial], space: Space[Choice], count: int) -> dict[int, Choice]:
    """Return the choices to train again, by trial: the best one of each mask, then the next best.

    Parameters
    ----------
    best
        Trials from the best on.
    space
        Where they come from.
    count
        How many choices; there may be fewer.
    """
    choices = {trial.number: space.ask(trial) for trial in best}
    masks: dict[Mask, int] = {}
    for number, choice in choices.items():
        masks.setdefault(choice.mask, number)
    order = [*masks.values(), *(number for number in choices if number not in masks.values())]
    return {number: choices[number] for number in order[:count]}


def confirmed(
    study: Study, searched: Sequence[FrozenTrial], objectives: Sequence[Objective]
) -> list[Confirmed]:
    """Return what a study of fresh seeds found, in the order in which trials were taken up."""
    values = {trial.number: np.array(trial.values) for trial in searched}
    again: dict[int, list[list[float]]] = {}
    for trial in originals(study):
        found = trial.values if trial.state is TrialState.COMPLETE else [np.nan] * len(objectives)
        again.setdefault(int(trial.params["trial"]), []).append(found)
    return [Confirmed(n, values[n], np.array(found)) for n, found in again.items()]


def best_confirmed(
    found: Sequence[Confirmed], objectives: Sequence[Objective], rule: Rule
) -> int | None:
    """Return the trial with the best mean over fresh seeds, as the rule ranks means."""
    means = np.array([one.mean for one in found])
    order = ranked(costs(means, objectives), rule) if found else []
    return found[order[0]].trial if order else None


def _half_width(values: NDArray[np.float64]) -> float:
    """Return half of Student's interval of a mean, NaN for fewer than two values."""
    if len(values) < 2:
        return np.nan
    error = values.std(ddof=1) / np.sqrt(len(values))
    return float(student.ppf((1 + LEVEL) / 2, len(values) - 1) * error)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
