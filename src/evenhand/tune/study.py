"""The outer search: an Optuna study that can be killed at any moment and goes on where it was."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import optuna
import pandas as pd
from optuna.pruners import SuccessiveHalvingPruner
from optuna.samplers import TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from evenhand.errors import EvenhandError
from evenhand.progress import bar
from evenhand.train.loop import DivergedError
from evenhand.tune.spaces import Choice, Space

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
HALVING = 2  # one in two trials goes on at epochs 1, 2, 4, 8 …

Direction = Literal["maximize", "minimize"]

Score = Callable[[Choice, Callable[[int, float], None]], float]
"""Trains a choice and returns its objective; tells the callback (epochs done, objective so far)."""


def open_study(storage: str, name: str, direction: Direction, identity: str) -> Study:
    """Open a study by name, or make it.

    Parameters
    ----------
    storage
        Any URL that Optuna takes (``sqlite:///…``, ``postgresql://…``).
    name
        The study's name in that storage.
    direction
        ``maximize`` or ``minimize``.
    identity
        What the study must have been made with to be gone on with: its settings and data.

    Raises
    ------
    EvenhandError
        The storage holds a study of that name that was made with something else.
    """
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        direction=direction,
        pruner=SuccessiveHalvingPruner(min_resource=1, reduction_factor=HALVING),
        load_if_exists=True,
    )
    known = study.user_attrs.get("identity")
    if known is None:
        study.set_user_attr("identity", identity)
    elif known != identity:
        raise EvenhandError(
            f"the storage {storage} holds a study {name!r} with other settings or data. Name "
            "another --storage, or another folder with --out: the study bears its name."
        )
    return study


def search(study: Study, space: Space, score: Score, trials: int, seed: int) -> FrozenTrial:
    """Run a study until it has a number of finished trials, and return the best.

    The sampler is seeded anew for each trial from the seed and the number of finished trials, and
    a trial that a kill interrupted is taken up again under its number, from its first epoch. So a
    study that was killed ends with the same trials as one that was not.

    Parameters
    ----------
    study
        From :func:`open_study`.
    space
        What a trial chooses from.
    score
        Trains a choice and returns its objective. A trial that falls behind at its epoch is
        stopped (successive halving).
    trials
        Number of trials, complete or pruned, that the study shall have.
    seed
        Seed of the search.
    """
    with bar(study.study_name.rpartition("/")[2], trials) as advance:
        advance(len(study.get_trials(deepcopy=False, states=FINISHED)))
        while (done := len(study.get_trials(deepcopy=False, states=FINISHED))) < trials:
            study.sampler = _sampler(seed, done, trials)
            trial = _next_trial(study)
            try:
                value = score(space(trial), _reporter(trial))
            except (optuna.TrialPruned, DivergedError):
                study.tell(trial, state=TrialState.PRUNED)
            else:
                study.tell(trial, value)
            advance(text=_summary(study))
    return study.best_trial


def trials_table(study: Study, space: Space) -> pd.DataFrame:
    """Return one row per trial: study, number, state, value, epochs, seconds, lr and mask.

    ``value`` is the last objective that the trial reported; ``mask`` lists unit names.
    """
    rows = []
    for trial in study.get_trials(deepcopy=False, states=FINISHED):
        choice = space(trial)
        rows.append(
            {
                "study": study.study_name.rpartition("/")[2],
                "number": trial.number,
                "state": trial.state.name.lower(),
                "value": trial.value,
                "epochs": len(trial.intermediate_values),
                "seconds": trial.duration.total_seconds() if trial.duration else None,
                "lr": choice.lr,
                "mask": " ".join(sorted(choice.mask)),
            }
        )
    return pd.DataFrame(rows)


def _sampler(seed: int, done: int, trials: int) -> TPESampler:
    state: Any = np.random.SeedSequence([seed, done]).generate_state(1)[0]
    startup = min(10, max(2, trials // 4))
    return TPESampler(seed=int(state), n_startup_trials=startup)


def _next_trial(study: Study) -> Trial:
    """Return the trial that a kill interrupted, or a new one.

    A trial that is running when this process, the study's only one, starts a trial is such a
    one. It keeps the parameters and reports that it had: training it again gives the same.
    """
    interrupted = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return Trial(study, interrupted[0]._trial_id) if interrupted else study.ask()


def _reporter(trial: Trial) -> Callable[[int, float], None]:
    known = trial.storage.get_trial(trial._trial_id).intermediate_values

    def report(epoch: int, value: float) -> None:
        if epoch not in known:
            trial.report(value, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    return report


def _summary(study: Study) -> str:
    trials = study.get_trials(deepcopy=False)
    pruned = sum(trial.state is TrialState.PRUNED for trial in trials)
    complete = any(trial.state is TrialState.COMPLETE for trial in trials)
    best = f"best {study.best_value:.4f}" if complete else "none complete yet"
    return f"{best}, {pruned} pruned"


optuna.logging.set_verbosity(logging.WARNING)
