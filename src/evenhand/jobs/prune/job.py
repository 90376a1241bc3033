"""`evenhand prune`, FairPrune: prune a run's model for the unprivileged group, and report."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
from optuna.trial import BaseTrial

from evenhand.errors import EvenhandError, count_text
from evenhand.experiments.lineage import write_patients
from evenhand.experiments.records import Parent, PruningChoice, SourceRecord
from evenhand.experiments.runs import Run, begin_run, finished_run
from evenhand.experiments.study_storage import open_run_storage, storage_errors
from evenhand.experiments.trials import Report, search
from evenhand.files import write_json
from evenhand.jobs.evaluate import evaluate
from evenhand.jobs.keywords import Notify, as_job, ignore_text
from evenhand.jobs.prune.loop import (
    CurveRow,
    clear_states,
    curve_row,
    initial_state,
    load_predictions,
    load_state,
    pruning_steps,
    read_curve,
    save_step,
    stop_reason,
    write_curve,
)
from evenhand.jobs.prune.luck import measure_luck
from evenhand.jobs.prune.premise import check_premise, first_saliency, saliency_table
from evenhand.jobs.prune.settings import PruneSettings
from evenhand.jobs.prune.task import PruneTask, make_prune_task
from evenhand.masks.masks import constant, full_mask
from evenhand.metrics import find_metric
from evenhand.networks.model import Model, load_model, save_model
from evenhand.pruning.channels import remover
from evenhand.pruning.cost import measure_cost
from evenhand.pruning.loop import PruningState, WeightMask, freeze_zeros, save_mask
from evenhand.pruning.registry import ESTIMATORS
from evenhand.reporting.pruning_record import CostRecord, PruningRecord
from evenhand.reporting.sections.luck import Luck, luck_sentences
from evenhand.search.spaces import Params, Space
from evenhand.search.study import identity_of, open_study
from evenhand.spreadsheets import write_csv
from evenhand.tables.predictions import write_predictions
from evenhand.training.loop import Epoch, OnEpoch, fit
from evenhand.training.predict import predict_cohorts, to_unit_range
from evenhand.training.settings import FitSettings
from evenhand.training.tracking import Trackers, epoch_numbers, open_trackers
from evenhand.workers.engine import Inline

BEFORE, PRUNED, FINETUNED = "before", "pruned", "finetuned"
"""The names of the models of the run."""


@as_job(PruneSettings, "run")
def prune(
    settings: PruneSettings, out: Path, *, overwrite: bool = False, notify: Notify = ignore_text
) -> Run:
    """Prune a run's model for the unprivileged group, until target, budget or sparsity limit.

    Saliency is computed on training patients, and steps are chosen on validation patients. The
    test split is scored once for each model, at the end. The run of the model is not changed.

    Parameters
    ----------
    settings
        The model, the attribute, the target and the limits.
    out
        The run directory; an unfinished run of the same settings in it is continued.
    overwrite
        Whether a finished or different run in ``out`` may be replaced.
    notify
        Called with sentences about the unprivileged group, the end of the pruning, the best step,
        and the luck of that choice.

    Raises
    ------
    EvenhandError
        If the run, its data or the settings cannot be used. Nothing is written to ``out``.
    """
    if out.resolve().is_relative_to(finished_run(settings.run).root.resolve()):
        raise EvenhandError(
            f"--out {out} is, or lies in, the run that is pruned, which must not be changed. Name "
            "another folder."
        )
    task = make_prune_task(settings)
    run = _begin(task, out, overwrite=overwrite)
    chosen = FINETUNED if settings.finetune_epochs else PRUNED
    if not (run.root / "report.html").exists():  # else a kill came after the last file
        _run_phases(task, run, chosen, notify)
    clear_states(run)
    run.finish(chosen=chosen)
    return run


def _run_phases(task: PruneTask, run: Run, chosen: str, notify: Notify) -> None:
    """Search, prune, fine-tune and evaluate; each phase continues where a kill interrupted it."""
    settings = task.settings
    notify(task.roles.explanation)
    if settings.search:
        with run.phase("search"), storage_errors(str(run.root / "study.db")):
            task = choose_by_search(task, run)
    with run.phase("pruning"):
        rows = _prune(task, run)
    best = task.judge.best_step(rows)
    verdict = _verdict(task, rows, best)
    notify(verdict)
    with run.phase("luck of the choice"):
        luck = measure_luck(task.judge, load_predictions(run, task, rows), best)
    for sentence in _note_luck(task, run, luck):
        notify(sentence)
    state = load_state(run, task, rows, best)
    with run.phase("writing the models"):
        _write_model(task, run, BEFORE, task.model, task.mask)
        _write_model(task, run, PRUNED, state.model, state.mask)
    if settings.finetune_epochs:
        with run.phase("fine-tuning"):
            _finetune(task, run, state)
    with run.phase("checking the premise"):
        _write_record(task, run, rows, best, verdict, luck)
    with run.phase("evaluation"):
        evaluate(run, chosen=chosen)


def _begin(task: PruneTask, out: Path, *, overwrite: bool) -> Run:
    """Open the run directory, and write the data, the splits and the models' names."""
    source = task.splits.train.source
    run = begin_run(
        out,
        "prune",
        task.complete_settings,
        fingerprint=task.fingerprint,
        reads=(task.trained.root, Path(source.path)),
        overwrite=overwrite,
    )
    models = [BEFORE, PRUNED, *([FINETUNED] if task.settings.finetune_epochs else [])]
    run.note(
        models=models,
        pairs=list(combinations(reversed(models), 2)),
        source=SourceRecord.of(source),
        notes=source.notes,
        parent=Parent(run=str(task.trained.root), model=task.name, record=task.trained.record),
    )
    write_patients(run, task.splits, str(task.trained.root))
    return run


def _prune(task: PruneTask, run: Run) -> list[CurveRow]:
    """Prune to the end, continuing an interrupted run; return the rows of all steps."""
    rows = read_curve(run)
    if not rows:
        rows = [curve_row(0, initial_state(task), task.before, 0.0)]
        write_curve(run, rows)
    last_state = load_state(run, task, rows, len(rows) - 1)
    for step in pruning_steps(task, last_state, rows, remover(task.settings.structure)):
        rows.append(step.row)
        save_step(run, task, step, rows)
    return rows


def _verdict(task: PruneTask, rows: Sequence[CurveRow], best: int) -> str:
    """Return sentences about the end of the pruning and its best step."""
    name = task.judge.target.row_metric
    first_value, best_value = float(rows[0][name]), float(rows[best][name])
    reason = stop_reason(task, rows)
    if len(rows) == 1:
        return f"Nothing was pruned: {reason} by the untouched model ({name} {first_value:.4f})."
    ending = f"It ended after {count_text(len(rows) - 1, 'step')}, as {reason}."
    if best == 0:
        return (
            f"{ending} No step within the budget is better than the untouched model ({name} "
            f"{first_value:.4f} on validation), so that model is kept as it is."
        )
    return (
        f"{ending} Step {best} wins on validation: {name} {best_value:.4f} (before: "
        f"{first_value:.4f}) at a sparsity of {rows[best]['sparsity']:.1%}."
    )


def _note_luck(task: PruneTask, run: Run, luck: Luck | None) -> tuple[str, ...]:
    """Add the luck of the choice to the run's notes, and return it as sentences."""
    sentences = () if luck is None else luck_sentences(luck)
    run.note(notes=[*task.splits.train.source.notes, *filter(None, [" ".join(sentences)])])
    return sentences


def _write_model(task: PruneTask, run: Run, name: str, model: Model, kept: WeightMask) -> None:
    """Save a model with its mask, score every split with it, and write its predictions."""
    if run.predictions_file(name).exists():
        return
    save_model(run.folder(name), model, units=[])
    if kept:
        save_mask(run.folder(name) / "mask.safetensors", kept)
    predictions = predict_cohorts(model, task.splits.items(), task.accelerator)
    write_predictions(run.predictions_file(name), predictions)


def _finetune(task: PruneTask, run: Run, state: PruningState[Model]) -> None:
    """Fine-tune the pruned model as the run trained its model; pruned weights stay zero."""
    if run.predictions_file(FINETUNED).exists():
        return
    settings = FitSettings.model_validate(
        task.training.model_dump()
        | {
            "epochs": task.settings.finetune_epochs,
            "lr": task.settings.lr,
            "patience": 0,
            "seed": task.settings.seed,
            "device": task.settings.device,
            "track": task.settings.track,
        }
    )
    model = deepcopy(state.model)
    schedule = constant(full_mask(model.backbone))
    tracked_values = {"lr": settings.lr, "seed": settings.seed}
    with (
        open_trackers(settings, run.root, FINETUNED, tracked_values) as tracker,
        freeze_zeros(model, state.mask),
    ):
        model = fit(model, task.splits, schedule, settings, on_epoch=_epoch_logger(task, tracker))
    _write_model(task, run, FINETUNED, model, state.mask)


def _epoch_logger(task: PruneTask, tracker: Trackers) -> OnEpoch:
    """Return a function that logs each epoch, and returns its negative training loss."""
    ends = [time.perf_counter()]

    def on_epoch(epoch: Epoch) -> float:
        ends.append(time.perf_counter())
        if tracker:
            values = task.judge.target_values(epoch.scores)
            tracker.log(epoch.number + 1, epoch_numbers(epoch.loss, values, ends[-1] - ends[-2]))
        return -epoch.loss

    return on_epoch


def _count_pruned(task: PruneTask, pruned: PruningState[Model]) -> dict[str, int]:
    """Return the number of pruned weights of each parameter."""
    left = {name: p.numel() for name, p in pruned.model.named_parameters()}
    left |= {name: int(mask.sum()) for name, mask in pruned.mask.items()}
    return {name: p.numel() - left[name] for name, p in task.model.named_parameters()}


def _write_record(
    task: PruneTask, run: Run, rows: Sequence[CurveRow], best: int, verdict: str, luck: Luck | None
) -> None:
    """Write ``saliency.csv`` and ``pruning.json``."""
    pruned = load_state(run, task, rows, best)
    pruned_counts = _count_pruned(task, pruned)
    saliency = first_saliency(task)
    kept = None if task.settings.structure == "channel" else pruned.mask
    write_csv(run.root / "saliency.csv", saliency_table(saliency, kept))
    sample = to_unit_range(task.source.take(np.array([0])).inputs)
    costs = {
        name: CostRecord(
            **asdict(
                measure_cost(
                    load_model(run.folder(name)).to(sample.device),
                    run.folder(name) / "model.safetensors",
                    sample,
                )
            )
        )
        for name in run.models
    }
    settings = task.settings
    record = PruningRecord(
        attribute=settings.attribute[0],
        unprivileged=task.roles.unprivileged,
        betas=dict(task.roles.betas),
        roles=task.roles.explanation,
        criterion=task.judge.target.row_metric,
        lower_is_better=not task.judge.target.maximise,
        target=task.judge.target.bound,
        budget=settings.budget,
        budget_metric=settings.budget_metric,
        budget_lower_is_worse=find_metric(settings.budget_metric).direction == "higher",
        estimator=settings.estimator,
        structure=settings.structure,
        share=settings.share,
        chosen=best,
        verdict=verdict,
        luck=luck,
        premise=check_premise(task, saliency, pruned_counts),
        cost=costs,
    )
    write_json(run.root / "pruning.json", record.model_dump(mode="json"))


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
