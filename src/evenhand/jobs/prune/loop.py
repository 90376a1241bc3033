"""The pruning loop: each step removes the least salient weights, validates, and is saved."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from evenhand.errors import count_text
from evenhand.experiments.runs import Run
from evenhand.jobs.prune.task import PruneTask, generators, group_batches
from evenhand.networks.model import Model, load_model, save_model
from evenhand.progress import bar
from evenhand.pruning.curvature import find_estimator
from evenhand.pruning.curvature.loss import CrossEntropy
from evenhand.pruning.loop import (
    Pace,
    PruningState,
    Remove,
    count_kept,
    keep_all,
    load_mask,
    prunable_parameters,
    prune_steps,
    save_mask,
)
from evenhand.pruning.saliency import saliency
from evenhand.spreadsheets import write_csv
from evenhand.tables.predictions import Predictions, read_predictions, write_predictions

CurveRow = dict[str, Any]
"""A row of ``curve.csv``: a step's number, sparsity, weights left, validation values, seconds."""


def initial_state(task: PruneTask) -> PruningState[Model]:
    """Return the untouched model; weights that an earlier pruning removed count as pruned."""
    total = _total(task)
    if task.settings.structure == "channel":
        return PruningState(task.model, task.mask, total, total)
    names = prunable_parameters(task.model, task.settings.structure, task.settings.prunable)
    kept = keep_all(task.model, names) | task.mask
    left = count_kept({name: kept[name] for name in names})
    return PruningState(task.model, kept, left, total)


def _total(task: PruneTask) -> int:
    """Return the number of prunable weights; with structure ``channel``, of all weights."""
    if task.settings.structure == "channel":
        return sum(parameter.numel() for parameter in task.model.parameters())
    names = prunable_parameters(task.model, task.settings.structure, task.settings.prunable)
    return sum(task.model.get_parameter(name).numel() for name in names)


@dataclass(frozen=True, eq=False)
class Step:
    """A step: the pruned model, its row of the curve, and its predictions of validation rows."""

    state: PruningState[Model]
    row: CurveRow
    predictions: Predictions


def pruning_steps(
    task: PruneTask, state: PruningState[Model], rows: Sequence[CurveRow], remove: Remove[Model]
) -> Iterator[Step]:
    """Yield each step, until target, budget or limit is reached.

    Parameters
    ----------
    task
        The model, its data and its judge.
    state
        The state after the last step that is done.
    rows
        The rows of the steps that are done, the first for the untouched model.
    remove
        The function that removes the least salient weights or channels.
    """
    done, pace = list(rows), pruning_pace(task)

    def score(model: Model, number: int) -> dict[str, Tensor]:
        return step_saliency(task, model, number)

    pruned = prune_steps(state, score, remove, pace, first=len(done))
    with bar("pruning", pace.steps(state.left, state.total)) as advance:
        while stop_reason(task, done) is None:
            began, number = time.perf_counter(), len(done)
            state = next(pruned)
            predictions = task.judge.predict(state.model, task.accelerator)
            values = task.judge.values(predictions)
            done.append(curve_row(number, state, values, time.perf_counter() - began))
            name = task.judge.target.row_metric
            advance(text=f"sparsity {state.sparsity:.0%}, {name} {values[name]:.4f}")
            yield Step(state, done[-1], predictions)


def pruning_pace(task: PruneTask) -> Pace:
    """Return the share of weights that a step prunes, and the largest sparsity."""
    return Pace(task.settings.share, task.settings.limit)


def step_saliency(task: PruneTask, model: Model, number: int) -> dict[str, Tensor]:
    """Return the saliency of each prunable parameter, from the batches of a step."""
    names = prunable_parameters(model, task.settings.structure, task.settings.prunable)
    h = step_curvature(task, model, names, number)
    theta = {name: model.get_parameter(name).detach() for name in names}
    return saliency(theta, h, task.roles.unprivileged, task.roles.betas)


def step_curvature(
    task: PruneTask, model: Model, names: Sequence[str], number: int
) -> Mapping[str, Mapping[str, Tensor]]:
    """Return h, the second derivatives of the loss, by group and parameter, on a step's batches."""
    settings = task.settings
    batch_rng, label_rng = generators(settings.seed, number, task.accelerator.device)
    batches = group_batches(
        task.source, task.positions, settings.batches, settings.batch_size, batch_rng
    )
    estimator = find_estimator(settings.estimator)
    curvature = estimator(settings.draws, label_rng, CrossEntropy(task.loss))
    return curvature(model, batches, names)


def curve_row(
    number: int, state: PruningState[Model], values: Mapping[str, float], seconds: float
) -> CurveRow:
    """Return the row of a step in ``curve.csv``."""
    return {
        "step": number,
        "sparsity": state.sparsity,
        "left": state.left,
        **values,
        "seconds": round(seconds, 3),
    }


def stop_reason(task: PruneTask, rows: Sequence[CurveRow]) -> str | None:
    """Return the reason why the loop ends after the last row; None if it continues."""
    judge, last = task.judge, rows[-1]
    if (name := judge.undefined_name(last)) is not None:
        return f"{name} became undefined on validation"
    if len(rows) > 1 and last["left"] == rows[-2]["left"]:
        return "no further channel or head can be removed"
    if not judge.within_budget(last, rows[0]):
        return f"the budget of {count_text(task.settings.budget or 0, 'point')} was spent"
    if judge.target.is_reached(float(last[judge.target.row_metric])):
        return f"the target {judge.target.name}={judge.target.bound:g} was met"
    if not pruning_pace(task).count(last["left"], _total(task)):
        return f"the sparsity limit of {task.settings.limit:g} % was reached"
    return None


CURVE = "curve.csv"


def read_curve(run: Run) -> list[CurveRow]:
    """Return the rows of ``curve.csv``, first the unpruned model; no rows if the file is absent."""
    path = run.root / CURVE
    if not path.exists():
        return []
    return [
        {str(name): value for name, value in row.items()}
        for row in pd.read_csv(path).to_dict("records")
    ]


def write_curve(run: Run, rows: Sequence[CurveRow]) -> None:
    """Write the rows of all steps to ``curve.csv``."""
    write_csv(run.root / CURVE, pd.DataFrame(list(rows)))


def save_step(run: Run, task: PruneTask, step: Step, rows: Sequence[CurveRow]) -> None:
    """Save the model of a step, then the curve; remove steps other than the last and the best."""
    number = len(rows) - 1
    folder, state = _folder(run, number), step.state
    save_model(folder, state.model, left=state.left, total=state.total)
    if state.mask:
        save_mask(folder / "mask.safetensors", state.mask)
    write_predictions(_validation(run) / f"{number:03d}.parquet", step.predictions)
    write_curve(run, rows)
    needed = {_folder(run, number), _folder(run, task.judge.best_step(rows))}
    for old in set((run.root / "steps").iterdir()) - needed:
        shutil.rmtree(old)


def load_state(
    run: Run, task: PruneTask, rows: Sequence[CurveRow], number: int
) -> PruningState[Model]:
    """Return the state of a saved step."""
    first = initial_state(task)
    if number == 0:
        return first
    folder = _folder(run, number)
    device = task.accelerator.device
    mask = load_mask(folder / "mask.safetensors") if first.mask else {}
    kept = {name: tensor.to(device) for name, tensor in mask.items()}
    model = load_model(folder).to(device)
    return PruningState(model, kept, int(rows[number]["left"]), first.total)


def load_predictions(run: Run, task: PruneTask, rows: Sequence[CurveRow]) -> list[Predictions]:
    """Return each step's predictions of validation rows, first the unpruned model's."""
    files = [_validation(run) / f"{number:03d}.parquet" for number in range(1, len(rows))]
    return [task.untouched, *map(read_predictions, files)]


def clear_states(run: Run) -> None:
    """Remove all saved states and their predictions."""
    for folder in (run.root / "steps", _validation(run)):
        shutil.rmtree(folder, ignore_errors=True)


def _validation(run: Run) -> Path:
    return run.root / "validation"


def _folder(run: Run, number: int) -> Path:
    return run.root / "steps" / f"{number:03d}"
