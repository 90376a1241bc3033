"""The outer search: an Optuna study that can be killed at any moment and goes on where it was."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import optuna
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from evenhand.errors import EvenhandError
from evenhand.progress import bar
from evenhand.train.loop import DivergedError
from evenhand.tune.spaces import Choice, Space

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
HALVING = 2  # one in two trials goes on at epochs 1, 2, 4, 8 …
STUBBORN = 10  # repeats in a row after which choices are drawn without a model of what is good

Direction = Literal["maximize", "minimize"]

Report = Callable[[int, tuple[float, ...]], None]
"""Told how many epochs are done, and the objectives so far; ends a trial that falls behind."""

Score = Callable[[Choice, Report], tuple[float, ...]]
"""Trains a choice and returns its objectives."""


def open_study(
    storage: str, name: str, directions: Sequence[Direction], identity: str, *, prune: bool
) -> Study:
    """Open a study by name, or make it.

    Parameters
    ----------
    storage
        Any URL that Optuna takes (``sqlite:///…``, ``postgresql://…``).
    name
        The study's name in that storage.
    directions
        ``maximize`` or ``minimize``, one for each objective.
    identity
        What the study must have been made with to be gone on with: its settings and data.
    prune
        Whether trials that fall behind are stopped, which only one objective allows.

    Raises
    ------
    EvenhandError
        The storage holds a study of that name that was made with something else.
    """
    halving = SuccessiveHalvingPruner(min_resource=1, reduction_factor=HALVING)
    pruner: BasePruner = halving if prune and len(directions) == 1 else NopPruner()
    study = optuna.create_study(
        storage=storage, study_name=name, directions=directions, pruner=pruner, load_if_exists=True
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


def search(study: Study, space: Space, score: Score, trials: int, seed: int) -> None:
    """Run a study until it has a number of finished trials, or has tried all that there is.

    The sampler is seeded anew for each trial from the seed and the number of finished trials, and
    a trial that a kill interrupted is taken up again under its number, from its first epoch. So a
    study that was killed ends with the same trials as one that was not. A choice that was trained
    before is not trained again: the trial gets the value that is known, and does not count.

    Parameters
    ----------
    study
        From :func:`open_study`.
    space
        What a trial chooses from.
    score
        Trains a choice. A trial that falls behind at its epoch is stopped (successive halving).
    trials
        Number of trials, complete or pruned, that the study shall have.
    seed
        Seed of the search.
    """
    for origin, params in space.first[:trials]:
        study.enqueue_trial(dict(params), user_attrs={"origin": origin}, skip_if_exists=True)
    known = {space.ask(trial): trial for trial in originals(study)}
    with bar(_label(study), trials) as advance:
        advance(len(known), text=_summary(study))
        while len(known) < min(trials, space.size):
            done = study.get_trials(deepcopy=False, states=FINISHED)
            study.sampler = _sampler(space, seed, done, trials)
            trial = _next_trial(study)
            choice = space.ask(trial)
            if twin := known.get(choice):
                _repeat(study, trial, twin)
                continue
            try:
                values = score(choice, _reporter(trial))
            except (optuna.TrialPruned, DivergedError):
                study.tell(trial, state=TrialState.PRUNED)
            else:
                study.tell(trial, values)
            known[choice] = study.get_trials(deepcopy=False)[trial.number]
            advance(text=_summary(study))


def originals(study: Study) -> list[FrozenTrial]:
    """Return the finished trials that trained something, and did not repeat an earlier one."""
    done = study.get_trials(deepcopy=False, states=FINISHED)
    return [trial for trial in done if "repeats" not in trial.user_attrs]


def _repeat(study: Study, trial: Trial, twin: FrozenTrial) -> None:
    """End a trial as the one whose choice it has again."""
    trial.set_user_attr("repeats", twin.number)
    if twin.state is TrialState.COMPLETE:
        study.tell(trial, twin.values)
        return
    if (last := twin.last_step) is not None and not study._is_multi_objective():
        trial.report(twin.intermediate_values[last], last)
    study.tell(trial, state=TrialState.PRUNED)


def _sampler(space: Space, seed: int, done: list[FrozenTrial], trials: int) -> BaseSampler:
    state = int(np.random.SeedSequence([seed, len(done)]).generate_state(1)[0])
    latest = done[-STUBBORN:]
    if len(latest) == STUBBORN and all("repeats" in trial.user_attrs for trial in latest):
        return RandomSampler(seed=state)
    return TPESampler(seed=state, n_startup_trials=min(10, max(2, trials // 4)))


def _next_trial(study: Study) -> Trial:
    """Return the trial that a kill interrupted, or a new one.

    A trial that is running when this process, the study's only one, starts a trial is such a
    one. It keeps the parameters and reports that it had: training it again gives the same.
    """
    interrupted = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return Trial(study, interrupted[0]._trial_id) if interrupted else study.ask()


def _reporter(trial: Trial) -> Report:
    known = trial.storage.get_trial(trial._trial_id).intermediate_values

    def report(epoch: int, values: tuple[float, ...]) -> None:
        trial.set_user_attr("epochs", epoch)
        if len(values) > 1:  # Optuna takes reports of one objective alone
            return
        if epoch not in known:
            trial.report(values[0], epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    return report


def _label(study: Study) -> str:
    return study.study_name.rpartition("/")[2]


def _summary(study: Study) -> str:
    trials = study.get_trials(deepcopy=False)
    told = []
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    if complete and not study._is_multi_objective():
        told.append(f"best {study.best_value:.4f} (trial {study.best_trial.number})")
    elif complete:
        told.append(f"{len(study.best_trials)} on the Pareto front")
    told.append(f"{sum(trial.state is TrialState.PRUNED for trial in trials)} pruned")
    repeated = sum("repeats" in trial.user_attrs for trial in trials)
    return ", ".join([*told, *([f"{repeated} repeated"] if repeated else [])])


optuna.logging.set_verbosity(logging.WARNING)
