"""The search loop, which can be killed at any moment and continued."""

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
    check_reached,
    fail_stale,
    heartbeats,
    reachable,
    storage_errors,
    try_again,
)
from evenhand.progress import bar
from evenhand.search.space import AnyChoice, Space
from evenhand.search.study import ADOPTED, FINISHED, label_of, originals, summary_of
from evenhand.training.loop import DivergedError
from evenhand.workers import Engine, Job, Lost

STUBBORN = 10  # repeats in a row after which choices are drawn without a model of what is good
DEATHS = 4  # workers that die in a row, for each worker there is, before the search gives up

Values = tuple[float, ...]
"""The objectives of a trial."""

Report = Callable[[int, Values], None]
"""Receives the number of epochs done and the objectives; stops a trial that falls behind."""

Score = Callable[[AnyChoice, Report], Values]
"""Trains a choice and returns its objectives."""


def search(
    study: Study,
    space: Space[AnyChoice],
    score: Score[AnyChoice],
    trials: int,
    seed: int,
    engine: Engine,
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
        Number of trials, complete or pruned, that the study shall train, beside those that it has
        adopted from others.
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
    trial_of = {space.ask(trial): trial for trial in originals(study)}
    adopted = sum(ADOPTED in trial.user_attrs for trial in trial_of.values())
    with (
        bar(label_of(study), trials) as advance,
        reachable(study, engine.meeting_point) as seen,
        heartbeats(study) as beats,
    ):
        driver = _Driver(study, seen, beats, space, score, trials, seed, trial_of, adopted)
        advance(len(trial_of) - adopted, text=summary_of(study))
        while len(trial_of) < driver.wanted:
            for job, outcome in engine.run(driver.jobs()):
                if driver.end(job, outcome, fatal=DEATHS * engine.workers):
                    advance(text=summary_of(study))


@dataclass(eq=False)
class _Driver(Generic[AnyChoice]):
    """Draws trials for workers, and says how they ended."""

    study: Study
    seen: Study  # as workers reach it
    beats: Heartbeats
    space: Space[AnyChoice]
    score: Score[AnyChoice]
    trials: int
    seed: int
    finished: dict[AnyChoice, FrozenTrial]  # the finished trials that trained something
    adopted: int  # of these, how many another study trained
    at_work: dict[str, AnyChoice] = field(default_factory=dict)  # by the number of the trial
    deaths: int = 0  # in a row

    @property
    def wanted(self) -> float:
        """The number of trials that shall have trained something."""
        return min(self.trials + self.adopted, self.space.size)

    def jobs(self) -> Iterator[Job[Values | None]]:
        """Yield trials to be trained until enough are at work."""
        while len(self.finished) + len(self.at_work) < self.wanted:
            trial = self._next_trial()
            choice = self.space.ask(trial)
            if twin := self.finished.get(choice):
                _repeat(self.study, trial, twin)
                continue
            if choice in self.at_work.values():  # it is taken up again when its twin has ended
                return
            self.at_work[str(trial.number)] = choice
            self.beats.start(trial._trial_id)
            arguments = (self.seen, trial._trial_id, self.score, choice)
            yield Job(str(trial.number), attempt, arguments)

    def end(self, job: Job[Any], outcome: Values | Lost | None, *, fatal: int) -> bool:
        """Record how a trial ended, and return whether it finished.

        Raises
        ------
        EvenhandError
            ``fatal`` workers have died one after another.
        """
        trial = self.study.get_trials(deepcopy=False)[int(job.name)]
        self.beats.stop(trial._trial_id)
        choice = self.at_work.pop(job.name)
        if isinstance(outcome, Lost):
            self.deaths += 1
            _give_back(self.study, trial, outcome, alarming=self.deaths >= fatal)
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

        Where no other driver can reach the study, a running trial that is not at work here is such
        a one. It keeps the parameters and reports that it had: training it again gives the same. A
        database server may serve several drivers, and trials whose driver is gone lack a heartbeat.
        """
        study = self.study
        shared = is_heartbeat_enabled(study._storage)
        if shared:
            fail_stale(study)
        before = study.get_trials(deepcopy=False)
        running = [trial for trial in before if trial.state is TrialState.RUNNING]
        interrupted = [t for t in running if str(t.number) not in self.at_work and not shared]
        started = sum(trial.state is not TrialState.WAITING for trial in before)
        number = interrupted[0].number if interrupted else started
        random = self.adopted + min(10, max(2, self.trials // 4))
        study.sampler = _sampler(self.seed, before, number, random)
        return Trial(study, interrupted[0]._trial_id) if interrupted else begin_trial(study)


def attempt(
    study: Study, trial_id: int, score: Score[AnyChoice], choice: AnyChoice
) -> Values | None:
    """Train the choice of a trial, in a worker; None says that it was stopped, or diverged.

    The trial gets the ``seconds`` that this took: Optuna's duration of a continued trial includes
    the time between the kill and the new start.
    """
    check_reached(study)
    with storage_errors("the driver's storage"):
        trial, start = Trial(study, trial_id), time.perf_counter()
        values = None
        with suppress(optuna.TrialPruned, DivergedError):
            values = score(choice, _reporter(trial))
        trial.set_user_attr("seconds", round(time.perf_counter() - start, 3))
    return values


def _repeat(study: Study, trial: Trial, twin: FrozenTrial) -> None:
    """End a trial with the result of the earlier trial that made the same choice."""
    trial.set_user_attr("repeats", twin.number)
    if twin.state is TrialState.COMPLETE:
        study.tell(trial, twin.values)
        return
    if (last := twin.last_step) is not None and not study._is_multi_objective():
        trial.report(twin.intermediate_values[last], last)
    study.tell(trial, state=TrialState.PRUNED)


def _sampler(seed: int, before: list[FrozenTrial], number: int, random: int) -> BaseSampler:
    """Return the sampler of a trial: TPE, once ``random`` trials have finished."""
    state = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    latest = [trial for trial in before if trial.state in FINISHED][-STUBBORN:]
    if len(latest) == STUBBORN and all("repeats" in trial.user_attrs for trial in latest):
        return RandomSampler(seed=state)
    return TPESampler(seed=state, n_startup_trials=random)


def _give_back(study: Study, trial: FrozenTrial, loss: Lost, *, alarming: bool) -> None:
    """Fail a trial whose worker died, and enqueue its parameters once more."""
    study.tell(trial.number, state=TrialState.FAIL)
    try_again(study, trial)
    if alarming:
        raise EvenhandError(
            f"the workers of the search {label_of(study)} die one after another. The last one, at "
            f"trial {trial.number}: {loss.reason}\nFinished trials are kept. Give the same command "
            "to go on, with fewer --workers where memory was short."
        )


def _reporter(trial: Trial) -> Report:
    reported = trial.storage.get_trial(trial._trial_id).intermediate_values

    def report(epoch: int, values: Values) -> None:
        trial.set_user_attr("epochs", epoch)
        if len(values) > 1:  # Optuna takes reports of one objective alone
            return
        if epoch not in reported:
            trial.report(values[0], epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    return report
