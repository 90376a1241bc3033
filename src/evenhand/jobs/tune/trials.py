"""What a search found: its trials as a table, and the best of them in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from evenhand.errors import EvenhandError
from evenhand.metrics import Target, costs, front, ranked
from evenhand.metrics.pareto import PickRule
from evenhand.search.space import Space
from evenhand.search.spaces import Choice
from evenhand.search.study import ADOPTED, FINISHED, originals


def trials_table(study: Study, space: Space[Choice], targets: Sequence[Target]) -> pd.DataFrame:
    """Return one row per trial that ended.

    The columns are ``study``, ``number``, ``state`` (complete, pruned, repeated, fail),
    ``origin`` (what was tried on purpose, or ``sampler``), ``repeats`` (the trial whose setting
    it had again), ``adopted`` (the number of the trial in the study of the baseline ``origin``,
    where that trained it), one column per target by its name, ``pareto``, ``epochs``,
    ``seconds`` (of training; none where it repeats, failed or is adopted), ``lr``, ``seed``,
    ``mask`` (unit names), ``method``, and ``method_settings`` (``name=value``, with spaces between
    them). A pruned trial has the target that it last reported.
    """
    trials = study.get_trials(deepcopy=False, states=(*FINISHED, TrialState.FAIL))
    label = study.study_name.rpartition("/")[2]
    table = pd.DataFrame([_row(trial, space, targets) for trial in trials])
    table.insert(0, "study", label)
    done = (table["state"] == "complete").to_numpy()
    values = table[[target.name for target in targets]].to_numpy(np.float64)
    cost = np.where(done[:, None], costs(values, targets), np.nan)
    return table.assign(pareto=front(cost))


def best_first(study: Study, targets: Sequence[Target], rule: PickRule) -> list[FrozenTrial]:
    """Return the complete trials from the best on, as the rule ranks them; repeats are left out.

    Raises
    ------
    EvenhandError
        No trial was trained to its end.
    """
    done = [trial for trial in originals(study) if trial.state is TrialState.COMPLETE]
    if not done:
        raise EvenhandError(
            f"no trial of {study.study_name} was trained to its end. Give more --trials, or a "
            "lower --lr-max where the training diverges."
        )
    values = np.array([trial.values for trial in done])
    return [done[place] for place in ranked(costs(values, targets), rule)]


def _row(trial: FrozenTrial, space: Space[Choice], targets: Sequence[Target]) -> dict[str, Any]:
    choice = _choice(trial, space)
    repeats = trial.user_attrs.get("repeats")
    values = trial.values if trial.state is TrialState.COMPLETE else _last(trial, len(targets))
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
    """Return what a trial tried; None where its driver died before that was drawn."""
    try:
        return space.ask(trial)
    except ValueError:
        if trial.state is not TrialState.FAIL:
            raise
        return None


def _last(trial: FrozenTrial, count: int) -> list[float]:
    """Return what an unfinished trial last reported, NaN where it did not."""
    if trial.last_step is None:
        return [np.nan] * count
    return [trial.intermediate_values[trial.last_step]]
