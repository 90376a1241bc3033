"""Run the trials of a study; a search that was killed continues at the same trial."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic

import numpy as np
import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages._heartbeat import is_heartbeat_enabled
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from evenhand.errors import EvenhandError
from evenhand.experiments.study_storage import (
    Heartbeats,
    begin_trial,
    check_study_reachable,
    fail_stale,
    heartbeats,
    retry_trial,
    serve_study,
    storage_errors,
)
from evenhand.progress import bar
from evenhand.search.spaces import AnyChoice, Space
from evenhand.search.study import ADOPTED, FINISHED, label_of, originals, summary_of
from evenhand.training.loop import DivergedError
from evenhand.workers import Engine, Job, Lost

MOST_REPEATS = 10  # repeated choices in a row, after which TPE gives way to random choices
MOST_DEATHS = 4  # deaths in a row, per worker, after which the search gives up

Values = tuple[float, ...]
"""The values of a trial's targets."""

Report = Callable[[int, Values], None]
"""Receives the number of epochs done and the targets' values; stops a trial that falls behind."""

Score = Callable[[AnyChoice, Report], Values]
"""Trains with a choice and returns the targets' values."""


def search(
    study: Study,
    space: Space[AnyChoice],
    score: Score[AnyChoice],
    trials: int,
    seed: int,
    engine: Engine,
) -> None:
    """Run a study until it has a number of finished trials, or has tried every choice.

    Each trial has a new sampler, seeded by ``seed`` and the trial's number. A trial that a kill
    interrupted restarts under its number from its first epoch. With one worker, a continued study
    therefore has the same trials as a study that was not killed. A trial that draws an
    earlier trial's choice gets its values without a training, and does not count. A trial whose
    worker dies fails, and its parameters are tried once more.

    Parameters
    ----------
    study
        From :func:`open_study`.
    space
        The choices of a trial.
    score
        Trains with a choice, in a worker. Trials that fall behind are stopped (successive halving
        among the trials of all workers).
    trials
        The number of trials, complete or pruned, to train in addition to those that the study has
        adopted from other studies.
    seed
        The seed of the search.
    engine
        Runs the trials. Only this process draws their parameters and records how they ended.

    Raises
    ------
    EvenhandError
        If workers die one after another.
    """
    for origin, params in space.first[:trials]:
        study.enqueue_trial(dict(params), user_attrs={"origin": origin}, skip_if_exists=True)
    trial_of = {space.suggest(trial): trial for trial in originals(study)}
    adopted = sum(ADOPTED in trial.user_attrs for trial in trial_of.values())
    with (
        bar(label_of(study), trials) as advance,
        serve_study(study, engine.meeting_point) as worker_study,
        heartbeats(study) as sender,
    ):
        driver = _Driver(study, worker_study, sender, space, score, trials, seed, trial_of, adopted)
        advance(len(trial_of) - adopted, text=summary_of(study))
        while len(trial_of) < driver.goal:
            for job, outcome in engine.run(driver.jobs()):
                if driver.record(job, outcome, most_deaths=MOST_DEATHS * engine.workers):
                    advance(text=summary_of(study))


@dataclass(eq=False)
class _Driver(Generic[AnyChoice]):
    """Draws trials for workers, and records how they ended."""

    study: Study
    worker_study: Study  # the same study, as workers reach it
    heartbeats: Heartbeats
    space: Space[AnyChoice]
    score: Score[AnyChoice]
    trials: int
    seed: int
    finished: dict[AnyChoice, FrozenTrial]  # choice → the trial that trained with it
    adopted: int  # the number of these that come from another study
    running: dict[str, AnyChoice] = field(default_factory=dict)  # number of a trial → its choice
    deaths: int = 0  # of workers, in a row

    @property
    def goal(self) -> float:
        """The number of different choices to train with."""
        return min(self.trials + self.adopted, self.space.size)

    def jobs(self) -> Iterator[Job[Values | None]]:
        """Yield trials to train until enough are running."""
        while len(self.finished) + len(self.running) < self.goal:
            trial = self._next_trial()
            choice = self.space.suggest(trial)
            if earlier := self.finished.get(choice):
                _repeat(self.study, trial, earlier)
                continue
            if choice in self.running.values():  # this trial continues when that one has ended
                return
            self.running[str(trial.number)] = choice
            self.heartbeats.start(trial._trial_id)
            arguments = (self.worker_study, trial._trial_id, self.score, choice)
            yield Job(str(trial.number), train_trial, arguments)

    def record(self, job: Job[Any], outcome: Values | Lost | None, *, most_deaths: int) -> bool:
        """Record how a trial ended, and return whether it finished.

        Raises
        ------
        EvenhandError
            If ``most_deaths`` workers have died one after another.
        """
        trial = self.study.get_trials(deepcopy=False)[int(job.name)]
        self.heartbeats.stop(trial._trial_id)
        choice = self.running.pop(job.name)
        if isinstance(outcome, Lost):
            self.deaths += 1
            self.study.tell(trial.number, state=TrialState.FAIL)
            retry_trial(self.study, trial)
            if self.deaths >= most_deaths:
                raise _too_many_deaths(self.study, trial, outcome)
            return False
        self.deaths = 0
        if outcome is None:
            self.study.tell(trial.number, state=TrialState.PRUNED)
        else:
            self.study.tell(trial.number, outcome)
        self.finished[choice] = self.study.get_trials(deepcopy=False)[trial.number]
        return True

    def _next_trial(self) -> Trial:
        """Return the trial that a kill interrupted, or a new one.

        If the study is in a file, this is its only driver, so a trial in the state RUNNING that
        this driver does not run was interrupted. It keeps its parameters and reports, since
        training it again gives the same values. On a database server there may be several drivers;
        trials of dead drivers lack heartbeats.
        """
        study = self.study
        shared = is_heartbeat_enabled(study._storage)
        if shared:
            fail_stale(study)
        before = study.get_trials(deepcopy=False)
        unfinished = [trial for trial in before if trial.state is TrialState.RUNNING]
        interrupted = [t for t in unfinished if str(t.number) not in self.running and not shared]
        started = sum(trial.state is not TrialState.WAITING for trial in before)
        number = interrupted[0].number if interrupted else started
        random = self.adopted + min(10, max(2, self.trials // 4))
        study.sampler = _sampler(self.seed, before, number, random)
        return Trial(study, interrupted[0]._trial_id) if interrupted else begin_trial(study)


def train_trial(
    study: Study, trial_id: int, score: Score[AnyChoice], choice: AnyChoice
) -> Values | None:
    """Train with the choice of a trial, in a worker; return None if it was stopped or diverged.

    The trial's attribute ``seconds`` is the time of the training. Optuna's own duration of a
    continued trial includes the time between the kill and the new start.
    """
    check_study_reachable(study)
    with storage_errors("the driver's storage"):
        trial, start = Trial(study, trial_id), time.perf_counter()
        values = None
        with suppress(optuna.TrialPruned, DivergedError):
            values = score(choice, _reporter(trial))
        trial.set_user_attr("seconds", round(time.perf_counter() - start, 3))
    return values


def _repeat(study: Study, trial: Trial, earlier: FrozenTrial) -> None:
    """End a trial with the result of an earlier trial that has the same choice."""
    trial.set_user_attr("repeats", earlier.number)
    if earlier.state is TrialState.COMPLETE:
        study.tell(trial, earlier.values)
        return
    if (last := earlier.last_step) is not None and not study._is_multi_objective():
        trial.report(earlier.intermediate_values[last], last)
    study.tell(trial, state=TrialState.PRUNED)


def _sampler(seed: int, before: list[FrozenTrial], number: int, random: int) -> BaseSampler:
    """Return the sampler of a trial: TPE, once ``random`` trials have finished."""
    state = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    latest = [trial for trial in before if trial.state in FINISHED][-MOST_REPEATS:]
    if len(latest) == MOST_REPEATS and all("repeats" in trial.user_attrs for trial in latest):
        return RandomSampler(seed=state)
    return TPESampler(seed=state, n_startup_trials=random)


def _too_many_deaths(study: Study, trial: FrozenTrial, loss: Lost) -> EvenhandError:
    return EvenhandError(
        f"the workers of the search {label_of(study)} die one after another. The last one, at "
        f"trial {trial.number}: {loss.reason}\nFinished trials are kept. Give the same command "
        "again to continue, with fewer --workers if memory was short."
    )


def _reporter(trial: Trial) -> Report:
    reported = trial.storage.get_trial(trial._trial_id).intermediate_values

    def report(epoch: int, values: Values) -> None:
        trial.set_user_attr("epochs", epoch)
        if len(values) > 1:  # Optuna accepts no reports from studies with several objectives
            return
        if epoch not in reported:
            trial.report(values[0], epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    return report
