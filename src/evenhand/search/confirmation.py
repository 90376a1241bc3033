"""Confirmation: the best trials are trained again with fresh seeds, and one fit is delivered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import t as student

from evenhand.errors import EvenhandError
from evenhand.masks.masks import Mask
from evenhand.metrics import Target, costs, ranked
from evenhand.metrics.pareto import PickRule
from evenhand.search.space import Space
from evenhand.search.spaces import Choice
from evenhand.search.study import originals

LEVEL = 0.95


@dataclass(frozen=True)
class Objective:
    """One target of a candidate; None where a value is undefined.

    Attributes
    ----------
    searched
        The value in the search.
    again
        The value of each fit with a fresh seed.
    mean, mean_low, mean_high
        The mean over fresh seeds, with Student's interval over the seeds.
    optimism, optimism_low, optimism_high
        How much better the search's value is than the mean, in the direction of the target; with
        Student's interval over the seeds.
    """

    searched: float | None
    again: list[float | None]
    mean: float | None
    mean_low: float | None
    mean_high: float | None
    optimism: float | None
    optimism_low: float | None
    optimism_high: float | None


@dataclass(frozen=True, eq=False)
class Candidate:
    """A trial that may be chosen, and the fits that judge it.

    Without confirmation its only fit is the trial itself, with the seed of the search.
    """

    study: str  # the contender whose search the trial is from
    trial: int
    choice: Choice
    searched: NDArray[np.float64]  # (k,) targets in the search
    again: NDArray[np.float64]  # (seeds, k) targets of the fits; NaN where one diverged
    seeds: tuple[int, ...]

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean over the fits, ``(k,)``; NaN where one of them diverged."""
        mean: NDArray[np.float64] = self.again.mean(axis=0)
        return mean

    @property
    def diverged(self) -> int:
        """How many of the fits diverged."""
        return int(np.isnan(self.again).any(axis=1).sum())

    def median(self, targets: Sequence[Target], rule: PickRule) -> int:
        """Return the seed of the fit in the middle, as the rule ranks fits; of two, the worse.

        Fits that diverged take no part.
        """
        sound = np.flatnonzero(~np.isnan(self.again).any(axis=1))
        order = ranked(costs(self.again[sound], targets), rule)
        # `ranked` leaves out fits that the rule does not allow; here they come last.
        order += [place for place in range(len(sound)) if place not in order]
        return self.seeds[int(sound[order[len(order) // 2]])]

    def objective(self, k: int, target: Target) -> Objective:
        """Return the values of the k-th target in the search and with fresh seeds."""
        sign = 1.0 if target.maximise else -1.0
        half = _half_width(self.again[:, k])
        by = sign * (self.searched[k] - self.mean[k])
        return Objective(
            searched=null_if_nan(self.searched[k]),
            again=[null_if_nan(value) for value in self.again[:, k]],
            mean=null_if_nan(self.mean[k]),
            mean_low=null_if_nan(self.mean[k] - half),
            mean_high=null_if_nan(self.mean[k] + half),
            optimism=null_if_nan(by),
            optimism_low=null_if_nan(by - half),
            optimism_high=null_if_nan(by + half),
        )

    def facts(self, targets: Sequence[Target]) -> dict[str, Any]:
        """Return the candidate as JSON values, its `Objective` by the name of the target."""
        return {
            "study": self.study,
            "trial": self.trial,
            "seeds": len(self.again),
            "objectives": {
                target.name: asdict(self.objective(k, target)) for k, target in enumerate(targets)
            },
        }


def to_confirm(best: Sequence[FrozenTrial], space: Space[Choice], count: int) -> dict[int, Choice]:
    """Return the choices to train again, by trial, the best of each mask and method first.

    The next best follow.

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
    kinds: dict[tuple[Mask, str], int] = {}
    for number, choice in choices.items():
        kinds.setdefault((choice.mask, choice.method), number)
    order = [*kinds.values(), *(number for number in choices if number not in kinds.values())]
    return {number: choices[number] for number in order[:count]}


def confirmed(
    study: Study, name: str, searched: Sequence[FrozenTrial], choices: dict[int, Choice], k: int
) -> list[Candidate]:
    """Return the candidates of a study of fresh seeds, in the order in which they were trained.

    Parameters
    ----------
    study
        The study of fresh seeds.
    name
        The contender whose trials it trained again.
    searched
        The trials of the search.
    choices
        Those that were trained again, by number.
    k
        Number of targets.
    """
    values = {trial.number: np.array(trial.values) for trial in searched}
    again: dict[int, dict[int, list[float]]] = {number: {} for number in choices}
    for trial in originals(study):
        fit = trial.values if trial.state is TrialState.COMPLETE else [np.nan] * k
        again[int(trial.params["trial"])][int(trial.params["seed"])] = fit
    return [
        Candidate(name, n, choices[n], values[n], np.array([*fits.values()]), (*fits,))
        for n, fits in again.items()
    ]


def best_candidate(
    candidates: Sequence[Candidate], targets: Sequence[Target], rule: PickRule
) -> Candidate:
    """Return the candidate with the best mean, as the rule ranks means; of equals the first.

    A candidate with fewer diverged fits comes before any with more.

    Raises
    ------
    EvenhandError
        All fits of all candidates diverged.
    """
    least = min(candidate.diverged for candidate in candidates)
    sound = [
        candidate for candidate in candidates if candidate.diverged == least < len(candidate.seeds)
    ]
    if not sound:
        raise EvenhandError(
            f"every fit that was to confirm the best trials of {candidates[0].study} diverged. "
            "Give lower learning rates (--lr-max, or lr=), or more warm-up (--warmup)."
        )
    means = np.array([np.nanmean(candidate.again, axis=0) for candidate in sound])
    return sound[ranked(costs(means, targets), rule)[0]]


def null_if_nan(value: float) -> float | None:
    """Return a number as a JSON value, null where it is undefined."""
    return None if np.isnan(value) else float(value)


def _half_width(values: NDArray[np.float64]) -> float:
    """Return half of Student's interval of a mean, NaN for fewer than two values."""
    if len(values) < 2:
        return np.nan
    error = values.std(ddof=1) / np.sqrt(len(values))
    return float(student.ppf((1 + LEVEL) / 2, len(values) - 1) * error)
