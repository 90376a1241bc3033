"""Hold the result of a search of masks: the choice, its trials and the confirmed choices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from optuna.study import Study
from optuna.trial import TrialState

from evenhand.masks.units import Unit
from evenhand.metrics import Target
from evenhand.search.confirmation import Candidate
from evenhand.search.spaces import Choice, Space

ROUNDING = 1e-12
"""All values are the same if their interval is narrower than this."""
TWO_SEEDS = (
    "Two seeds give very wide intervals (low to high); confirm_seeds=3 or more makes them narrower."
)

SAME_VALUES = (
    "Every seed gave the same value, so the confirmation says nothing about chance. Does train use "
    "choice.seed, as in torch.manual_seed(choice.seed), before it builds the network?"
)


@dataclass(frozen=True)
class MaskChoice:
    """The settings of one training.

    Attributes
    ----------
    units
        The units to tune, in addition to the head: ``tune_only(network, choice.units)``.
    lr
        The learning rate.
    seed
        The seed of all random numbers of the training.
    method
        The mitigation method, one of those given as ``methods``.
    """

    units: tuple[Unit, ...]
    lr: float
    seed: int
    method: str = "erm"

    @property
    def mask(self) -> frozenset[str]:
        """The names of the units."""
        return frozenset(unit.name for unit in self.units)


@dataclass(frozen=True, eq=False)
class MaskSearch:
    """A finished search.

    Attributes
    ----------
    choice
        The choice with the best mean over fresh seeds. Its seed is that of the median fit.
    target
        The target of the search.
    trials
        A row for each trial: ``number``, ``origin`` (the baseline, or None), ``state``,
        ``units``, ``lr``, ``method``, ``value`` (of the target), ``epochs``, ``repeats``.
    confirmed
        A row for each choice that was trained again with fresh seeds: ``trial``, ``origin``,
        ``units``, ``lr``, ``searched`` (the target's value in the search), ``mean`` (over the
        seeds), ``low`` and ``high`` (Student's 95 % interval of the mean, cut at the target's
        limits), ``optimism`` (by how much ``searched`` is better than ``mean``), ``seeds`` (their
        number). The first row is the choice.
    study
        Optuna's study.
    """

    choice: MaskChoice
    target: Target
    trials: pd.DataFrame = field(repr=False)
    confirmed: pd.DataFrame = field(repr=False)
    study: Study = field(repr=False)

    def __str__(self) -> str:
        """Return the choice and the confirmed candidates, a line each."""
        better = "higher" if self.target.maximise else "lower"
        units = ", ".join(sorted(self.choice.mask)) or "none beside the head"
        columns = ["trial", "origin", "lr", "searched", "mean", "low", "high"]
        shown = self.confirmed[columns].fillna({"origin": "sampler"})
        table = shown.to_string(index=False, float_format="{:.4g}".format)
        few = f"\n{self._caution}" if self._caution else ""
        return (
            f"Search of {len(self.trials)} trials by {self.target.name} ({better} is better)\n"
            f"choice: {self.choice.method}, lr {self.choice.lr:.2g}, tuned units: {units}\n"
            f"best trials, with their mean over fresh seeds:\n{table}{few}"
        )

    @property
    def _caution(self) -> str:
        """A sentence on seeds that say little about chance, or ""."""
        seeds, width = self.confirmed["seeds"], self.confirmed["high"] - self.confirmed["low"]
        if (seeds > 1).all() and (width < ROUNDING).all():
            return SAME_VALUES
        return TWO_SEEDS if (seeds == 2).all() else ""

    def _repr_html_(self) -> str:
        """Return the table of confirmed choices, for notebooks."""
        few = f"<p>{self._caution}</p>" if self._caution else ""
        title = f"<p>{self.target.name}, {self.target.direction}d</p>"
        return f"{title}{self.confirmed.to_html()}{few}"


def mask_trials(study: Study, space: Space[Choice]) -> pd.DataFrame:
    """Return the table `MaskSearch.trials`: a row for each trial that ended."""
    rows = []
    for trial in study.get_trials(deepcopy=False):
        if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED):
            continue
        choice = space.suggest(trial)
        last = trial.intermediate_values.get(trial.last_step) if trial.last_step else None
        rows.append(
            {
                "number": trial.number,
                "origin": trial.user_attrs.get("origin"),
                "state": trial.state.name.lower(),
                "units": ", ".join(sorted(choice.mask)),
                "lr": choice.lr,
                "method": choice.method,
                "value": trial.values[0] if trial.values else last,
                "epochs": trial.user_attrs.get("epochs"),
                "repeats": trial.user_attrs.get("repeats"),
            }
        )
    return pd.DataFrame(rows)


def confirmed_row(candidate: Candidate, study: Study, target: Target) -> dict[str, Any]:
    """Return a row of the table `MaskSearch.confirmed`."""
    objective = candidate.objective(0, target)
    return {
        "trial": candidate.trial,
        "origin": study.trials[candidate.trial].user_attrs.get("origin"),
        "units": ", ".join(sorted(candidate.choice.mask)),
        "lr": candidate.choice.lr,
        "searched": objective.searched,
        "mean": objective.mean,
        "low": objective.mean_low,
        "high": objective.mean_high,
        "optimism": objective.optimism,
        "seeds": len(candidate.seeds),
    }
