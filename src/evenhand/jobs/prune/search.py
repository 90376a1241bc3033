"""The outer search: choose β, share and estimator by the validation value of their best step."""

from __future__ import annotations

import math
from functools import partial

from optuna.trial import BaseTrial

from evenhand.experiments.records import PruningChoice
from evenhand.experiments.runs import Run
from evenhand.experiments.study_storage import open_run_storage
from evenhand.experiments.trials import Report, search
from evenhand.jobs.prune.loop import curve_row, initial_state, pruning_steps
from evenhand.jobs.prune.settings import PruneSettings
from evenhand.jobs.prune.task import PruneTask
from evenhand.pruning.registry import ESTIMATORS
from evenhand.pruning.remove import remover
from evenhand.search.spaces import Params, Space
from evenhand.search.study import identity_of, open_study
from evenhand.spreadsheets import write_csv
from evenhand.workers.inline import Inline

BETA = 1.0  # the largest β of the search, unless that of the settings is larger
SHARES = (2.0, 30.0)  # percent; extended to the share of the settings

Choice = tuple[float, float, str]
"""β, share and estimator."""


def choose_by_search(task: PruneTask, run: Run) -> PruneTask:
    """Return the task with the β, share and estimator that are best on validation.

    The values of the settings are tried first. A search that was killed is continued.
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
    choice = space.suggest(best)
    beta, share, estimator = choice
    run.note(
        search=PruningChoice(
            trial=best.number, value=best.values[0], beta=beta, share=share, estimator=estimator
        )
    )
    return task.with_choice(*choice)


def pruning_space(settings: PruneSettings) -> Space[Choice]:
    """Return the space of β, share and estimator; the values of the settings come first.

    If the estimator of the settings handles any layer, no other estimator is tried.
    """
    shares = min(SHARES[0], settings.share), max(SHARES[1], settings.share)
    restricted = tuple(
        sorted(name for name, estimator in ESTIMATORS.items() if not estimator.any_layer)
    )
    estimators = restricted if settings.estimator in restricted else (settings.estimator,)

    def suggest(trial: BaseTrial) -> Choice:
        beta = trial.suggest_float("beta", 0.0, max(BETA, settings.beta))
        share = trial.suggest_float("share", *shares, log=True)
        return beta, share, trial.suggest_categorical("estimator", estimators)

    first: Params = {
        "beta": settings.beta,
        "share": settings.share,
        "estimator": settings.estimator,
    }
    return Space(suggest, math.inf, (("settings", first),))


def _score(task: PruneTask, choice: Choice, report: Report) -> tuple[float]:
    """Prune with a choice, and return the target's validation value of the best step."""
    task = task.with_choice(*choice)
    rows = [curve_row(0, initial_state(task), task.before, 0.0)]
    for step in pruning_steps(task, initial_state(task), rows, remover(task.settings.structure)):
        rows.append(step.row)
    return (float(rows[task.judge.best_step(rows)][task.judge.target.row_metric]),)
