"""The outer search: β, share and estimator by what pruning with them wins on validation."""

from __future__ import annotations

import logging

import numpy as np
import optuna
from optuna.samplers import TPESampler
from optuna.study import Study
from optuna.trial import BaseTrial, Trial, TrialState

from evenhand.files import write_text
from evenhand.progress import bar
from evenhand.prune.loop import row_of, start, steps
from evenhand.prune.remove import remover
from evenhand.prune.task import PruneTask
from evenhand.runs import Run

ESTIMATORS = ("ggn-mc", "ggn", "fisher")
BETA = 1.0
SHARES = (2.0, 30.0)  # percent; what the settings name is in reach, too


def searched(task: PruneTask, run: Run) -> PruneTask:
    """Return the task with the β, share and estimator that win on validation.

    What the settings name is tried first. A search that was killed goes on where it was: trials
    are seeded from the seed and their number, and the one that was interrupted is taken up again.
    """
    wanted = task.settings.search
    study = _study(task, run)
    if not study.get_trials(deepcopy=False):
        given = {name: getattr(task.settings, name) for name in ("beta", "share", "estimator")}
        study.enqueue_trial(given)
    with bar("search", wanted) as advance:
        advance(done := _done(study))
        while done < wanted:
            state = int(np.random.SeedSequence([task.settings.seed, done]).generate_state(1)[0])
            study.sampler = TPESampler(seed=state, n_startup_trials=max(2, wanted // 4))
            trial = _next_trial(study)
            study.tell(trial, _value(_asked(task, trial)))
            done = _done(study)
            advance(text=f"best {study.best_value:.4f}")
    table = study.trials_dataframe(attrs=("number", "value", "params", "state"))
    write_text(run.root / "search.csv", table.to_csv(index=False, lineterminator="\n"))
    best = study.best_trial
    run.note(search={"trial": best.number, "value": best.value, **best.params})
    return _asked(task, best)


def _study(task: PruneTask, run: Run) -> Study:
    optuna.logging.set_verbosity(logging.WARNING)
    return optuna.create_study(
        storage=f"sqlite:///{(run.root / 'study.db').resolve()}",
        study_name="prune",
        direction="minimize" if task.judge.criterion.lower else "maximize",
        load_if_exists=True,
    )


def _done(study: Study) -> int:
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


def _next_trial(study: Study) -> Trial:
    interrupted = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return Trial(study, interrupted[0]._trial_id) if interrupted else study.ask()


def _asked(task: PruneTask, trial: BaseTrial) -> PruneTask:
    """Return the task with what a trial, new or finished, chooses."""
    given = task.settings
    shares = min(SHARES[0], given.share), max(SHARES[1], given.share)
    return task.with_choice(
        trial.suggest_float("beta", 0.0, max(BETA, given.beta)),
        trial.suggest_float("share", *shares, log=True),
        trial.suggest_categorical("estimator", sorted({*ESTIMATORS, given.estimator})),
    )


def _value(task: PruneTask) -> float:
    """Return what the winning step of one pruning is worth on validation."""
    rows = [row_of(0, start(task), task.before, 0.0)]
    for _, row in steps(task, start(task), rows, remover(task.settings.structure)):
        rows.append(row)
    return float(rows[task.judge.best(rows)][task.judge.criterion.name])
