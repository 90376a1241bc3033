"""The outer search: β, share and estimator by what pruning with them wins on validation."""

from __future__ import annotations

import math
from functools import partial

from optuna.trial import BaseTrial

from evenhand.experiments.records import PruningChoice
from evenhand.experiments.runs import Run
from evenhand.experiments.study_storage import open_run_storage
from evenhand.experiments.trials import Report, search
from evenhand.jobs.prune.loop import row_of, start, steps
from evenhand.jobs.prune.settings import PruneSettings
from evenhand.jobs.prune.task import PruneTask
from evenhand.pruning.registry import ESTIMATORS
from evenhand.pruning.remove import remover
from evenhand.search.space import Params, Space
from evenhand.search.study import identity_of, open_study
from evenhand.spreadsheets import write_csv
from evenhand.workers.inline import Inline

BETA = 1.0
SHARES = (2.0, 30.0)  # percent; what the settings name is in reach, too

Choice = tuple[float, float, str]
"""β, share and estimator."""


def searched(task: PruneTask, run: Run) -> PruneTask:
    """Return the task with the β, share and estimator that win on validation.

    What the settings name is tried first. A search that was killed goes on where it was.
    """
    space, head = pruning_space(task.settings), run.head
    study = open_study(
        open_run_storage(run),
        "search",
        [task.judge.target.direction],
        identity_of(head.settings, head.fingerprint),
        prune_until=0,
    )
    search(study, space, partial(_score, task), task.settings.search, task.settings.seed, Inline())
    table = study.trials_dataframe(attrs=("number", "value", "params", "state"))
    write_csv(run.root / "search.csv", table)
    best = study.best_trial
    choice = space.ask(best)
    beta, share, estimator = choice
    run.note(
        search=PruningChoice(
            trial=best.number,
            value=best.values[0],
            beta=beta,
            share=share,
            estimator=estimator,
        )
    )
    return task.with_choice(*choice)


def pruning_space(settings: PruneSettings) -> Space[Choice]:
    """Return every β, share and estimator; those that the settings name come first.

    Where the settings name an estimator that handles any layer, no other one is tried.
    """
    shares = min(SHARES[0], settings.share), max(SHARES[1], settings.share)
    quick = tuple(sorted(name for name, estimator in ESTIMATORS.items() if not estimator.any_layer))
    estimators = quick if settings.estimator in quick else (settings.estimator,)

    def ask(trial: BaseTrial) -> Choice:
        beta = trial.suggest_float("beta", 0.0, max(BETA, settings.beta))
        share = trial.suggest_float("share", *shares, log=True)
        return beta, share, trial.suggest_categorical("estimator", estimators)

    first: Params = {
        "beta": settings.beta,
        "share": settings.share,
        "estimator": settings.estimator,
    }
    return Space(ask, math.inf, (("settings", first),))


def _score(task: PruneTask, choice: Choice, report: Report) -> tuple[float]:
    """Return what the winning step of one pruning is worth on validation."""
    task = task.with_choice(*choice)
    rows = [row_of(0, start(task), task.before, 0.0)]
    for step in steps(task, start(task), rows, remover(task.settings.structure)):
        rows.append(step.row)
    return (float(rows[task.judge.best(rows)][task.judge.target.row]),)
