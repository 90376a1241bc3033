"""The search of one contender: its study, its confirmation, and what is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial

from evenhand.experiments.task import Task
from evenhand.experiments.task_cache import Fits
from evenhand.experiments.trials import search
from evenhand.jobs.tune.contenders import Contender
from evenhand.jobs.tune.fitting import keep_alone, keep_choice, score_choice
from evenhand.jobs.tune.settings import TuneSettings
from evenhand.jobs.tune.start import Start, Tuned
from evenhand.jobs.tune.trials import best_first, trials_table
from evenhand.metrics.pareto import PickRule
from evenhand.search.confirmation import Candidate, best_candidate, confirmed_candidates, to_confirm
from evenhand.search.space import Space
from evenhand.search.spaces import Choice, repeat_space
from evenhand.search.study import (
    ADOPTED,
    StudyDirection,
    adopt,
    identity_of,
    open_study,
    originals,
    stopping_floor,
)
from evenhand.workers import Engine


@dataclass(frozen=True, eq=False)
class SearchJob:
    """What all searches of a run have in common."""

    task: Task
    fits: Fits[TuneSettings]
    rule: PickRule
    storage: BaseStorage
    engine: Engine


@dataclass(frozen=True, eq=False)
class Searched:
    """The finished search of a contender: its trials, the candidates and the choice."""

    contender: Contender
    study: Study
    tables: tuple[pd.DataFrame, ...]
    candidates: tuple[Candidate, ...]
    chosen: Candidate

    def tuned(self) -> Tuned | None:
        """Return the start that this gives FairTune's search; None if that does not contain it."""
        if self.contender.mask is None:
            return None
        trials, ask = originals(self.study), self.contender.space.ask
        best = ask(self.study.trials[self.best]).lr
        choices = [ask(trial) for trial in trials]
        return Tuned(self.contender.name, self.contender.mask, trials, choices, best)

    @property
    def best(self) -> int:
        """The trial with the best value in the search."""
        return self.candidates[0].trial


def study_identity(
    task: Task, settings: TuneSettings, root: Path, name: str
) -> tuple[str, list[StudyDirection], str]:
    """Return what a study of a run is called in its storage, its directions and its identity."""
    return (
        f"{root.resolve().name}/{name}",
        [target.direction for target in task.targets],
        identity_of(settings.kept(), task.fingerprint),
    )


def search_contender(
    job: SearchJob,
    contender: Contender,
    start: Start | None = None,
    others: Sequence[Candidate] = (),
) -> Searched:
    """Run a contender's search and confirmation to their end, and choose a candidate.

    Parameters
    ----------
    job
        What all searches have in common.
    contender
        What is searched.
    start
        What the search starts from, in place of the contender's space alone.
    others
        Candidates of baselines that this contender contains, so that it may choose one of them.
    """
    targets, settings = job.task.targets, job.fits.settings
    space = start.space if start else contender.space
    study = _study(job, contender.name, adopted=start.adopted if start else ())
    with job.fits.run.phase(f"search {contender.name}"):
        work = score_choice if settings.confirm else keep_choice  # what is chosen is then a trial
        score = partial(work, job.fits, contender.name)
        search(study, space, score, settings.trials, settings.seed, job.engine)
    tables = [trials_table(study, space, targets)]
    best = best_first(study, targets, job.rule)
    own = [trial for trial in best if ADOPTED not in trial.user_attrs]
    if settings.confirm:
        candidates, table = _confirm(job, contender, space, own)
        tables += table
    else:
        candidates = [_unconfirmed(contender.name, trial, space) for trial in own[:1]]
    pool = (*candidates, *others)
    chosen = best_candidate(pool, targets, job.rule)
    keep_alone(job.fits.run, contender.name, _choices(chosen, contender))
    return Searched(contender, study, tuple(tables), pool, chosen)


def _choices(chosen: Candidate, contender: Contender) -> list[Choice]:
    """Return the choices of a contender's own fits that may be delivered."""
    if chosen.study != contender.name:
        return []
    return [replace(chosen.choice, seed=seed) for seed in chosen.seeds]


def _confirm(
    job: SearchJob, contender: Contender, space: Space[Choice], best: Sequence[FrozenTrial]
) -> tuple[list[Candidate], list[pd.DataFrame]]:
    """Train the best trials again with fresh seeds, and return them with the table of that."""
    targets, settings = job.task.targets, job.fits.settings
    choices = to_confirm(best, space, settings.confirm)
    if not choices:
        return [], []
    seeds = range(settings.seed + 1, settings.seed + 1 + settings.confirm_seeds)
    repeats = repeat_space(choices, seeds)
    study = _study(job, contender.confirmation, stopping=False)
    with job.fits.run.phase(f"search {contender.confirmation}"):
        score = partial(keep_choice, job.fits, contender.name)
        search(study, repeats, score, int(repeats.size), settings.seed, job.engine)
    candidates = confirmed_candidates(study, contender.name, best, choices, len(targets))
    return candidates, [trials_table(study, repeats, targets)]


def _unconfirmed(name: str, trial: FrozenTrial, space: Space[Choice]) -> Candidate:
    """Return a trial as it is, as a candidate with the seed of the search."""
    choice, values = space.ask(trial), np.array(trial.values)
    return Candidate(name, trial.number, choice, values, values[None], (choice.seed,))


def _study(
    job: SearchJob, name: str, *, stopping: bool = True, adopted: Sequence[FrozenTrial] = ()
) -> Study:
    """Open one study of the run."""
    settings = job.fits.settings
    study = open_study(
        job.storage,
        *study_identity(job.task, settings, job.fits.run.root, name),
        prune_until=settings.epochs if stopping and settings.stopping == "halving" else 0,
        prune_from=stopping_floor(settings.epochs, settings.warmup),
    )
    adopt(study, adopted)
    return study
