"""The outer search: an Optuna study that can be killed at any moment and goes on where it was."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Literal

import numpy as np
import optuna
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage
from optuna.storages._heartbeat import is_heartbeat_enabled
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from evenhand.errors import EvenhandError
from evenhand.progress import bar
from evenhand.train.loop import DivergedError
from evenhand.tune.spaces import Choice, Space
from evenhand.tune.storage import (
    begin_trial,
    check_reached,
    fail_stale,
    heartbeats,
    reachable,
    try_again,
)
from evenhand.workers import Engine, Job, Lost

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
HALVING = 2  # one in two trials goes on at epochs 1, 2, 4, 8 …
STUBBORN = 10  # repeats in a row after which choices are drawn without a model of what is good
DEATHS = 4  # workers that die in a row, for each worker there is, before the search gives up

Direction = Literal["maximize", "minimize"]

Values = tuple[float, ...]
"""The objectives of a trial."""

Report = Callable[[int, Values], None]
"""Told how many epochs are done, and the objectives so far; ends a trial that falls behind."""

Score = Callable[[Choice, Report], Values]
"""Trains a choice and returns its objectives."""


def open_study(
    storage: BaseStorage,
    name: str,
    directions: Sequence[Direction],
    identity: str,
    *,
    prune: bool,
) -> Study:
    """Open a study by name, or make it.

    Parameters
    ----------
    storage
        From :func:`evenhand.tune.storage.open_storage`.
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
    if known is None and not study.get_trials(deepcopy=False):
        study.set_user_attr("identity", identity)
    elif known != identity:
        raise EvenhandError(
            f"the storage holds a study {name!r} with other settings or data. Name another "
            "--storage, or another folder with --out: the study bears its name."
        )
    return study


def search(
    study: Study, space: Space, score: Score, trials: int, seed: int, engine: Engine
) -> None:
    """Run a study until it has a number of finished trials, or has tried all that there is.

    The sampler is seeded anew for each trial from the seed and the trial's number, and a trial
    that a kill interrupted is taken up again under its number, from its first epoch. So with one
    worker a study that was killed ends with the same trials as one that was not. A choice that was
    trained before is not trained again: the trial gets the value that is known, and does not count.
    A trial whose worker dies fails, and its parameters are tried once more.

    Parameters
    ----------
    study
        From :func:`open_study`.
    space
        What a trial chooses from.
    score
        Trains a choice, in a worker. A trial that falls behind at its epoch is stopped (successive
        halving among the trials of all workers).
    trials
        Number of trials, complete or pruned, that the study shall have.
    seed
        Seed of the search.
    engine
        Where trials run. This process alone draws their parameters and says how they ended.

    Raises
    ------
    EvenhandError
        Workers die one after another.
    """
    for origin, params in space.first[:trials]:
        study.enqueue_trial(dict(params), user_attrs={"origin": origin}, skip_if_exists=True)
    wanted = min(trials, space.size)
    known = {space.ask(trial): trial for trial in originals(study)}
    at_work: dict[str, Choice] = {}
    with (
        bar(_label(study), trials) as advance,
        reachable(study, engine.host) as theirs,
        heartbeats(study) as beats,
    ):

        def ask() -> Iterator[Job[Values | None]]:
            while len(known) + len(at_work) < wanted:
                trial = _next_trial(study, space, seed, trials, at_work)
                choice = space.ask(trial)
                if twin := known.get(choice):
                    _repeat(study, trial, twin)
                    continue
                if choice in at_work.values():  # it is taken up again when its twin has ended
                    return
                at_work[str(trial.number)] = choice
                beats.start(trial._trial_id)
                yield Job(str(trial.number), attempt, (theirs, trial._trial_id, score, choice))

        advance(len(known), text=_summary(study))
        deaths = 0
        while len(known) < wanted:
            for job, outcome in engine.run(ask()):
                trial = study.get_trials(deepcopy=False)[int(job.name)]
                beats.stop(trial._trial_id)
                choice = at_work.pop(job.name)
                if isinstance(outcome, Lost):
                    deaths += 1
                    _give_back(study, trial, outcome, alarming=deaths >= DEATHS * engine.workers)
                    continue
                deaths = 0
                if outcome is None:
                    study.tell(trial.number, state=TrialState.PRUNED)
                else:
                    study.tell(trial.number, outcome)
                known[choice] = study.get_trials(deepcopy=False)[trial.number]
                advance(text=_summary(study))


def attempt(study: Study, trial_id: int, score: Score, choice: Choice) -> Values | None:
    """Train the choice of a trial, in a worker; None says that it was stopped, or diverged."""
    check_reached(study)
    try:
        return score(choice, _reporter(Trial(study, trial_id)))
    except (optuna.TrialPruned, DivergedError):
        return None


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


def _next_trial(
    study: Study, space: Space, seed: int, trials: int, at_work: Collection[str]
) -> Trial:
    """Return the trial that a kill interrupted, or a new one.

    Where no other driver can reach the study, a running trial that is not at work here is such a
    one. It keeps the parameters and reports that it had: training it again gives the same. A
    database server may serve several drivers, and trials whose driver is gone lack a heartbeat.
    """
    shared = is_heartbeat_enabled(study._storage)
    if shared:
        fail_stale(study)
    before = study.get_trials(deepcopy=False)
    running = [trial for trial in before if trial.state is TrialState.RUNNING]
    interrupted = [t for t in running if str(t.number) not in at_work and not shared]
    started = sum(trial.state is not TrialState.WAITING for trial in before)
    number = interrupted[0].number if interrupted else started
    study.sampler = _sampler(space, seed, before, number, trials)
    return Trial(study, interrupted[0]._trial_id) if interrupted else begin_trial(study)


def _sampler(
    space: Space, seed: int, before: list[FrozenTrial], number: int, trials: int
) -> BaseSampler:
    state = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    latest = [trial for trial in before if trial.state in FINISHED][-STUBBORN:]
    if len(latest) == STUBBORN and all("repeats" in trial.user_attrs for trial in latest):
        return RandomSampler(seed=state)
    return TPESampler(seed=state, n_startup_trials=min(10, max(2, trials // 4)))


def _give_back(study: Study, trial: FrozenTrial, loss: Lost, *, alarming: bool) -> None:
    """Fail a trial whose worker died, and let its parameters come once more."""
    study.tell(trial.number, state=TrialState.FAIL)
    try_again(study, trial)
    if alarming:
        raise EvenhandError(
            f"the workers of the search {_label(study)} die one after another. The last one, at "
            f"trial {trial.number}: {loss.reason}\nFinished trials are kept. Give the same command "
            "to go on, with fewer --workers where memory was short."
        )


def _reporter(trial: Trial) -> Report:
    known = trial.storage.get_trial(trial._trial_id).intermediate_values

    def report(epoch: int, values: Values) -> None:
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
