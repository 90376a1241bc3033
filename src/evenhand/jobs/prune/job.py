"""`evenhand prune`: FairPrune, from a trained run to a sparser, fairer model and its evidence."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

import numpy as np

from evenhand.cohort.splits import write_splits
from evenhand.errors import EvenhandError
from evenhand.experiments.lineage import write_earlier_patients
from evenhand.experiments.records import Parent, SourceRecord
from evenhand.experiments.runs import Run, begin_run, finished_run
from evenhand.experiments.study_storage import storage_errors
from evenhand.files import write_json
from evenhand.jobs.evaluate import evaluate
from evenhand.jobs.keywords import with_keywords
from evenhand.jobs.prune.loop import Row, row_of, start, steps, stop_reason
from evenhand.jobs.prune.luck import luck_of
from evenhand.jobs.prune.premise import check_premise
from evenhand.jobs.prune.saliency import first_saliency, saliency_table
from evenhand.jobs.prune.search import searched
from evenhand.jobs.prune.settings import PruneSettings
from evenhand.jobs.prune.states import (
    clear_states,
    load_predictions,
    load_state,
    read_rows,
    save_step,
    write_rows,
)
from evenhand.jobs.prune.task import PruneTask, make_task
from evenhand.masks.masks import constant, full_mask
from evenhand.metrics import find_metric
from evenhand.networks.checkpoints import load_model, save_model
from evenhand.networks.model import Model
from evenhand.pruning.cost import measure_cost
from evenhand.pruning.masks import WeightMask, freeze_zeros, save_mask
from evenhand.pruning.remove import remover
from evenhand.pruning.state import PruningState
from evenhand.reporting.pruning_record import CostRecord, PremiseRecord, PruningRecord
from evenhand.reporting.sections.luck import Luck, luck_sentences
from evenhand.runs import run_scope
from evenhand.spreadsheets import write_csv
from evenhand.tables.predictions import write_predictions
from evenhand.training.loop import Epoch, OnEpoch, fit
from evenhand.training.predict import predict_cohorts, unit
from evenhand.training.settings import FitSettings
from evenhand.training.tracking import Tracked, epoch_numbers, tracked
from evenhand.wording import counted

BEFORE, PRUNED, FINETUNED = "before", "pruned", "finetuned"


@with_keywords(PruneSettings, "run")
@run_scope()
def prune(
    settings: PruneSettings,
    out: Path,
    *,
    overwrite: bool = False,
    notify: Callable[[str], None] = lambda text: None,
) -> Run:
    """Prune a run's model for the unprivileged group until target, budget or sparsity limit.

    Saliency comes from training patients, every choice from validation; the test split is scored
    once per model, at the end. The run that holds the model is not changed.

    Parameters
    ----------
    settings
        Which model, for whom, and how far.
    out
        The run directory; an unfinished run of the same settings in it is continued.
    overwrite
        Whether another or a finished run in ``out`` may be replaced.
    notify
        Called with who is unprivileged, how the pruning ended, which step won, and how lucky that
        may be.

    Raises
    ------
    EvenhandError
        Whatever is wrong with the input; nothing is written to ``out`` then.
    """
    if out.resolve().is_relative_to(finished_run(settings.run).root.resolve()):
        raise EvenhandError(
            f"--out {out} is, or lies in, the run that is pruned, which is not changed; name "
            "another folder."
        )
    task = make_task(settings)
    run = _begin(task, out, overwrite=overwrite)
    chosen = FINETUNED if settings.finetune_epochs else PRUNED
    if not (run.root / "report.html").exists():  # a kill may have come after the last file
        _work(task, run, chosen, notify)
    clear_states(run)
    run.finish(chosen=chosen)
    return run


def _work(task: PruneTask, run: Run, chosen: str, notify: Callable[[str], None]) -> None:
    """Search, prune, fine-tune and evaluate, each from where a kill interrupted it."""
    settings = task.settings
    notify(task.roles.why)
    if settings.search:
        with run.phase("search"), storage_errors(str(run.root / "study.db")):
            task = searched(task, run)
    with run.phase("pruning"):
        rows = _pruned(task, run)
    winner = task.judge.best(rows)
    verdict = _verdict(task, rows, winner)
    notify(verdict)
    with run.phase("luck of the choice"):
        luck = luck_of(task.judge, load_predictions(run, task, rows), winner)
    for sentence in _note_luck(task, run, luck):
        notify(sentence)
    state = load_state(run, task, rows, winner)
    with run.phase("writing the models"):
        _keep(task, run, BEFORE, task.model, task.mask)
        _keep(task, run, PRUNED, state.model, state.mask)
    if settings.finetune_epochs:
        with run.phase("fine-tuning"):
            _finetune(task, run, state)
    with run.phase("checking the premise"):
        _explain(task, run, rows, winner, verdict, luck)
    with run.phase("evaluation"):
        evaluate(run, chosen=chosen)


def _begin(task: PruneTask, out: Path, *, overwrite: bool) -> Run:
    """Open the run directory, and write down the data, the splits and who is who."""
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
    write_splits(run.root / "splits.csv", task.splits)
    write_earlier_patients(run, str(task.trained.root))
    return run


def _pruned(task: PruneTask, run: Run) -> list[Row]:
    """Prune to the end, from where an interrupted run stood; return all steps."""
    rows = read_rows(run)
    if not rows:
        rows = [row_of(0, start(task), task.before, 0.0)]
        write_rows(run, rows)
    reached = load_state(run, task, rows, len(rows) - 1)
    for step in steps(task, reached, rows, remover(task.settings.structure)):
        rows.append(step.row)
        save_step(run, task, step, rows)
    return rows


def _verdict(task: PruneTask, rows: Sequence[Row], winner: int) -> str:
    """Return how the pruning ended and which step won, as sentences."""
    name = task.judge.target.row
    first, best = float(rows[0][name]), float(rows[winner][name])
    ended = stop_reason(task, rows)
    if len(rows) == 1:
        return f"Nothing was pruned: {ended} by the untouched model ({name} {first:.4f})."
    ending = f"It ended after {counted(len(rows) - 1, 'step')}, as {ended}."
    if winner == 0:
        return (
            f"{ending} No step within the budget is better than the untouched model ({name} "
            f"{first:.4f} on validation), so that model is kept as it is."
        )
    return (
        f"{ending} Step {winner} wins on validation: {name} {best:.4f} (before: {first:.4f}) at a "
        f"sparsity of {rows[winner]['sparsity']:.1%}."
    )


def _note_luck(task: PruneTask, run: Run, luck: Luck | None) -> tuple[str, ...]:
    """Note how lucky the choice may be, where all notes are read; return it as sentences."""
    sentences = () if luck is None else luck_sentences(luck)
    run.note(notes=[*task.splits.train.source.notes, *filter(None, [" ".join(sentences)])])
    return sentences


def _keep(task: PruneTask, run: Run, name: str, model: Model, kept: WeightMask) -> None:
    """Save a model with its mask and score every split with it, the test split for once."""
    if run.predictions_file(name).exists():
        return
    save_model(run.folder(name), model, units=[])
    if kept:
        save_mask(run.folder(name) / "mask.safetensors", kept)
    predictions = predict_cohorts(model, task.splits.items(), task.accelerator)
    write_predictions(run.predictions_file(name), predictions)


def _finetune(task: PruneTask, run: Run, state: PruningState[Model]) -> None:
    """Train what is left as the run trained its model, with the zeros kept."""
    if run.predictions_file(FINETUNED).exists():
        return
    ours = task.settings
    settings = FitSettings.model_validate(
        task.training.model_dump()
        | {
            "epochs": ours.finetune_epochs,
            "lr": ours.lr,
            "patience": 0,
            "seed": ours.seed,
            "device": ours.device,
            "track": ours.track,
        }
    )
    model = deepcopy(state.model)
    schedule = constant(full_mask(model.backbone))
    about = {"lr": settings.lr, "seed": settings.seed}
    with (
        tracked(settings, run.root, FINETUNED, about) as tracker,
        freeze_zeros(model, state.mask),
    ):
        model = fit(model, task.splits, schedule, settings, on_epoch=_following(task, tracker))
    _keep(task, run, FINETUNED, model, state.mask)


def _following(task: PruneTask, tracker: Tracked) -> OnEpoch:
    """Return what tells a tracker of each epoch; the last one is kept, whatever it says."""
    ends = [time.perf_counter()]

    def on_epoch(epoch: Epoch) -> float:
        ends.append(time.perf_counter())
        if tracker:
            judged = task.judge.judged(epoch.scores)
            tracker.log(epoch.number + 1, epoch_numbers(epoch.loss, judged, ends[-1] - ends[-2]))
        return -epoch.loss

    return on_epoch


def _lost(task: PruneTask, pruned: PruningState[Model]) -> dict[str, int]:
    """Return how many numbers each parameter has lost."""
    left = {name: p.numel() for name, p in pruned.model.named_parameters()}
    left |= {name: int(mask.sum()) for name, mask in pruned.mask.items()}
    return {name: p.numel() - left[name] for name, p in task.model.named_parameters()}


def _explain(
    task: PruneTask, run: Run, rows: Sequence[Row], winner: int, verdict: str, luck: Luck | None
) -> None:
    """Write ``saliency.csv``, and ``pruning.json``: who, what, why, each layer, and the costs."""
    pruned = load_state(run, task, rows, winner)
    gone = _lost(task, pruned)
    saliency = first_saliency(task)
    kept = None if task.settings.structure == "channel" else pruned.mask
    write_csv(run.root / "saliency.csv", saliency_table(saliency, kept))
    premise = check_premise(task, saliency, gone)
    sample = unit(task.source.take(np.array([0])).inputs)
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
        roles=task.roles.why,
        criterion=task.judge.target.row,
        lower_is_better=not task.judge.target.maximise,
        target=task.judge.target.bound,
        budget=settings.budget,
        budget_metric=settings.budget_metric,
        budget_lower_is_worse=find_metric(settings.budget_metric).direction == "higher",
        estimator=settings.estimator,
        structure=settings.structure,
        share=settings.share,
        chosen=winner,
        verdict=verdict,
        luck=luck,
        premise=PremiseRecord.model_validate(asdict(premise)),
        cost=costs,
    )
    write_json(run.root / "pruning.json", record.model_dump(mode="json"))
