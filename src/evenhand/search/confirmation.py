"""Confirmation: train the best trials again with fresh seeds, and choose one fit."""

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
from evenhand.files import finite_or_none
from evenhand.masks.masks import Mask
from evenhand.metrics import Target, costs, rank_points
from evenhand.metrics.pareto import PickRule
from evenhand.search.spaces import Choice, Space
from evenhand.search.study import originals

LEVEL = 0.95


@dataclass(frozen=True)
class Objective:
    """Values of one target for a candidate; None if undefined.

    Attributes
    ----------
    searched
        The value in the search.
    again
        The value of each fit with a fresh seed.
    mean, mean_low, mean_high
        The mean over fresh seeds, with Student's interval over the seeds, cut at the limits of the
        target.
    optimism, optimism_low, optimism_high
        The search's value minus the mean, with its sign reversed for a target that is minimised,
        and the interval that follows from that of the mean; positive if the search was too
        optimistic.
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
    """A trial that may be chosen, and its fits with fresh seeds.

    Without confirmation, its only fit is the trial itself.
    """

    study: str  # the contender whose search has the trial
    trial: int
    choice: Choice
    searched: NDArray[np.float64]  # (k,) targets in the search
    fit_values: NDArray[np.float64]  # (seeds, k) targets of the fits; NaN if a fit diverged
    seeds: tuple[int, ...]  # one for each fit

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean of the targets over the fits, ``(k,)``; NaN if a fit diverged."""
        mean: NDArray[np.float64] = self.fit_values.mean(axis=0)
        return mean

    @property
    def diverged(self) -> int:
        """Number of fits that diverged."""
        return int(np.isnan(self.fit_values).any(axis=1).sum())

    def median_seed(self, targets: Sequence[Target], rule: PickRule) -> int:
        """Return the seed of the median fit, ranked by a rule; of two middle fits, the worse one.

        Fits that diverged are left out.
        """
        finite = np.flatnonzero(~np.isnan(self.fit_values).any(axis=1))
        order = rank_points(costs(self.fit_values[finite], targets), rule)
        # `rank_points` leaves out fits that the rule does not allow; they come last.
        order += [k for k in range(len(finite)) if k not in order]
        return self.seeds[int(finite[order[len(order) // 2]])]

    def objective(self, k: int, target: Target) -> Objective:
        """Return the values of the k-th target in the search and with fresh seeds."""
        sign = 1.0 if target.maximise else -1.0
        margin = _half_width(self.fit_values[:, k])
        low, high = np.clip([self.mean[k] - margin, self.mean[k] + margin], *target.limits)
        optimism_low, optimism_high = sorted(sign * (self.searched[k] - end) for end in (low, high))
        return Objective(
            searched=finite_or_none(self.searched[k]),
            again=[finite_or_none(value) for value in self.fit_values[:, k]],
            mean=finite_or_none(self.mean[k]),
            mean_low=finite_or_none(low),
            mean_high=finite_or_none(high),
            optimism=finite_or_none(sign * (self.searched[k] - self.mean[k])),
            optimism_low=finite_or_none(optimism_low),
            optimism_high=finite_or_none(optimism_high),
        )

    def facts(self, targets: Sequence[Target]) -> dict[str, Any]:
        """Return the candidate as JSON values, with target → `Objective` under ``objectives``."""
        return {
            "study": self.study,
            "trial": self.trial,
            "seeds": len(self.fit_values),
            "objectives": {
                target.name: asdict(self.objective(k, target)) for k, target in enumerate(targets)
            },
        }


def choices_to_confirm(
    best: Sequence[FrozenTrial], space: Space[Choice], count: int
) -> dict[int, Choice]:
    """Return the choices to train again, by trial.

    The best trial of each mask and method comes first, then all other trials in their order.

    Parameters
    ----------
    best
        Trials, the best first.
    space
        The search space of the trials.
    count
        The largest number of choices.
    """
    choices = {trial.number: space.suggest(trial) for trial in best}
    first_of_kind: dict[tuple[Mask, str], int] = {}
    for number, choice in choices.items():
        first_of_kind.setdefault((choice.mask, choice.method), number)
    order = [
        *first_of_kind.values(),
        *(number for number in choices if number not in first_of_kind.values()),
    ]
    return {number: choices[number] for number in order[:count]}


def confirmed_candidates(
    study: Study, name: str, searched: Sequence[FrozenTrial], choices: dict[int, Choice], k: int
) -> list[Candidate]:
    """Return the candidates of a study of fresh seeds, in the order of training.

    Parameters
    ----------
    study
        The study of fresh seeds.
    name
        The contender whose trials were trained again.
    searched
        The trials of the search.
    choices
        The choices that were trained again, by number of the trial.
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
    """Return the candidate with the best mean over fits, ranked by a rule; the first of equals.

    Only the candidates with the fewest diverged fits are ranked.

    Raises
    ------
    EvenhandError
        If all fits of all candidates diverged.
    """
    fewest = min(candidate.diverged for candidate in candidates)
    ranked_candidates = [
        candidate for candidate in candidates if candidate.diverged == fewest < len(candidate.seeds)
    ]
    if not ranked_candidates:
        raise EvenhandError(
            f"every fit that was to confirm the best trials of {candidates[0].study} diverged. "
            "Give lower learning rates (--lr-max, or lr=), or more warm-up (--warmup)."
        )
    means = np.array([np.nanmean(candidate.fit_values, axis=0) for candidate in ranked_candidates])
    return ranked_candidates[rank_points(costs(means, targets), rule)[0]]


def _half_width(values: NDArray[np.float64]) -> float:
    """Return half the width of Student's interval of a mean; NaN for fewer than two values."""
    if len(values) < 2:
        return np.nan
    error = values.std(ddof=1) / np.sqrt(len(values))
    return float(student.ppf((1 + LEVEL) / 2, len(values) - 1) * error)
