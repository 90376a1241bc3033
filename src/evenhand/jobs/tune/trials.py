"""The trials of a study: as a table, and in the order of their values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from evenhand.errors import EvenhandError
from evenhand.metrics import Target, costs, front, rank_points
from evenhand.metrics.pareto import PickRule
from evenhand.search.spaces import Choice, Space
from evenhand.search.study import ADOPTED, FINISHED, originals


def study_table(study: Study, space: Space[Choice], targets: Sequence[Target]) -> pd.DataFrame:
    """Return a table with a row for each trial that ended.

    Returns
    -------
    pandas.DataFrame
        The columns ``study``, ``number``, ``state`` (complete, pruned, repeated, fail), ``origin``
        (the strategy or baseline that the trial comes from, else ``sampler``), ``repeats`` (the
        number of an earlier trial with the same choice), ``adopted`` (the number of the trial in
        the study of the baseline ``origin``, which trained it), one for each target (a pruned trial
        has the value that it last reported), ``pareto``, ``epochs``, ``seconds`` (of training;
        empty if the trial repeats another, failed or is adopted), ``lr``, ``seed``, ``mask`` (unit
        names), ``method``, and ``method_settings`` (``name=value``, separated by spaces).
    """
    trials = study.get_trials(deepcopy=False, states=(*FINISHED, TrialState.FAIL))
    label = study.study_name.rpartition("/")[2]
    table = pd.DataFrame([_row(trial, space, targets) for trial in trials])
    table.insert(0, "study", label)
    done = (table["state"] == "complete").to_numpy()
    values = table[[target.name for target in targets]].to_numpy(np.float64)
    cost = np.where(done[:, None], costs(values, targets), np.nan)
    return table.assign(pareto=front(cost))


def ranked_trials(study: Study, targets: Sequence[Target], rule: PickRule) -> list[FrozenTrial]:
    """Return the complete trials without repeats, in the order of the rule, the best first.

    Raises
    ------
    EvenhandError
        If no trial was trained to its end.
    """
    done = [trial for trial in originals(study) if trial.state is TrialState.COMPLETE]
    if not done:
        raise EvenhandError(
            f"no trial of {study.study_name} was trained to its end. Give more --trials, or a "
            "lower --lr-max if the training diverges."
        )
    values = np.array([trial.values for trial in done])
    return [done[index] for index in rank_points(costs(values, targets), rule)]


def _row(trial: FrozenTrial, space: Space[Choice], targets: Sequence[Target]) -> dict[str, Any]:
    choice = _choice(trial, space)
    repeats = trial.user_attrs.get("repeats")
    is_complete = trial.state is TrialState.COMPLETE
    values = trial.values if is_complete else _last_reported(trial, len(targets))
    return {
        "number": trial.number,
        "state": "repeated" if repeats is not None else trial.state.name.lower(),
        "origin": trial.user_attrs.get("origin", "sampler"),
        "repeats": repeats,
        "adopted": trial.user_attrs.get(ADOPTED),
        **{target.name: value for target, value in zip(targets, values, strict=True)},
        "epochs": trial.user_attrs.get("epochs", 0),
        "seconds": trial.user_attrs.get("seconds"),
        "lr": choice and choice.lr,
        "seed": choice and choice.seed,
        "mask": " ".join(sorted(choice.mask)) if choice else "",
        "method": choice.method if choice else "",
        "method_settings": " ".join(f"{k}={v}" for k, v in choice.method_settings)
        if choice
        else "",
    }


def _choice(trial: FrozenTrial, space: Space[Choice]) -> Choice | None:
    """Return the choice of a trial; None if its process died before the choice was drawn."""
    try:
        return space.suggest(trial)
    except ValueError:
        if trial.state is not TrialState.FAIL:
            raise
        return None


def _last_reported(trial: FrozenTrial, count: int) -> list[float]:
    """Return the value that an unfinished trial reported last; NaN if it reported none."""
    if trial.last_step is None:
        return [np.nan] * count
    return [trial.intermediate_values[trial.last_step]]
