"""The state of a running pruning on disk: its curve, its last step and its best step."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from evenhand.experiments.runs import Run
from evenhand.jobs.prune.loop import CurveRow, Step, initial_state
from evenhand.jobs.prune.task import PruneTask
from evenhand.networks.checkpoints import load_model, save_model
from evenhand.networks.model import Model
from evenhand.pruning.loop import PruningState
from evenhand.pruning.masks import load_mask, save_mask
from evenhand.spreadsheets import write_csv
from evenhand.tables.predictions import Predictions, read_predictions, write_predictions

CURVE = "curve.csv"


def read_curve(run: Run) -> list[CurveRow]:
    """Return the rows of ``curve.csv``, the untouched model first; none if there is no file."""
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
    """Return each step's predictions of validation rows, the untouched model first."""
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
