"""The pruning loop: curvature by group, saliency, the smallest go, validation, again."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from evenhand.jobs.prune.batches import generators, group_batches
from evenhand.jobs.prune.task import PruneTask
from evenhand.networks.model import Model
from evenhand.progress import bar
from evenhand.pruning.curvature import find_estimator
from evenhand.pruning.curvature.softmax import CrossEntropy
from evenhand.pruning.eligible import prunable_parameters
from evenhand.pruning.loop import Pace, prune_steps
from evenhand.pruning.masks import count_kept, keep_all
from evenhand.pruning.saliency import saliency
from evenhand.pruning.state import PruningState, Remove
from evenhand.tables.predictions import Predictions
from evenhand.wording import counted

Row = dict[str, Any]
"""One step: its number, what is left, what validation says, predicted error changes."""


def start(task: PruneTask) -> PruningState[Model]:
    """Return the untouched model; what an earlier pruning set to zero is gone already."""
    total = _total(task)
    if task.settings.structure == "channel":
        return PruningState(task.model, task.mask, total, total)
    names = prunable_parameters(task.model, task.settings.structure, task.settings.prunable)
    kept = keep_all(task.model, names) | task.mask
    left = count_kept({name: kept[name] for name in names})
    return PruningState(task.model, kept, left, total)


def _total(task: PruneTask) -> int:
    """Return how many numbers there are to prune; where channels go, everything may."""
    if task.settings.structure == "channel":
        return sum(parameter.numel() for parameter in task.model.parameters())
    names = prunable_parameters(task.model, task.settings.structure, task.settings.prunable)
    return sum(task.model.get_parameter(name).numel() for name in names)


@dataclass(frozen=True, eq=False)
class Step:
    """One step: the model, its row of the curve, and what it says about the validation rows."""

    state: PruningState[Model]
    row: Row
    predictions: Predictions


def steps(
    task: PruneTask, state: PruningState[Model], rows: Sequence[Row], remove: Remove[Model]
) -> Iterator[Step]:
    """Yield each step until one of the limits is reached.

    Parameters
    ----------
    task
        What is pruned, for whom, until when.
    state, rows
        Where an earlier, unfinished pruning stood, and its rows, the first of the untouched model.
    remove
        Takes out what counts least.
    """
    done, pace = list(rows), pace_of(task)

    def score(model: Model, number: int) -> dict[str, Tensor]:
        return scores_of(task, model, number)

    pruned = prune_steps(state, score, remove, pace, first=len(done))
    with bar("pruning", pace.steps(state.left, state.total)) as advance:
        while stop_reason(task, done) is None:
            began, number = time.perf_counter(), len(done)
            state = next(pruned)
            predictions = task.judge.predict(state.model, task.accelerator)
            values = task.judge.values(predictions)
            done.append(row_of(number, state, values, time.perf_counter() - began))
            name = task.judge.target.row
            advance(text=f"sparsity {state.sparsity:.0%}, {name} {values[name]:.4f}")
            yield Step(state, done[-1], predictions)


def pace_of(task: PruneTask) -> Pace:
    """Return how much each step takes, and where the pruning ends at the latest."""
    return Pace(task.settings.share, task.settings.limit)


def scores_of(task: PruneTask, model: Model, number: int) -> dict[str, Tensor]:
    """Return the saliency of what may be pruned, from the batches of one step."""
    names = prunable_parameters(model, task.settings.structure, task.settings.prunable)
    h = curvature_of(task, model, names, number)
    theta = {name: model.get_parameter(name).detach() for name in names}
    return saliency(theta, h, task.roles.unprivileged, task.roles.betas)


def curvature_of(
    task: PruneTask, model: Model, names: Sequence[str], number: int
) -> Mapping[str, Mapping[str, Tensor]]:
    """Return group → parameter → h, from the batches of one step."""
    settings = task.settings
    order, drawn = generators(settings.seed, number, task.accelerator.device)
    batches = group_batches(
        task.source, task.positions, settings.batches, settings.batch_size, order
    )
    curvature = find_estimator(settings.estimator)(settings.draws, drawn, CrossEntropy(task.loss))
    return curvature(model, batches, names)


def row_of(
    number: int, state: PruningState[Model], values: Mapping[str, float], seconds: float
) -> Row:
    """Return what is kept of a step."""
    return {
        "step": number,
        "sparsity": state.sparsity,
        "left": state.left,
        **values,
        "seconds": round(seconds, 3),
    }


def stop_reason(task: PruneTask, rows: Sequence[Row]) -> str | None:
    """Return why the loop ends after the last row, or None where it goes on."""
    judge, last = task.judge, rows[-1]
    if (name := judge.undefined(last)) is not None:
        return f"{name} became undefined on validation"
    if len(rows) > 1 and last["left"] == rows[-2]["left"]:
        return "no further channel or head can be removed"
    if not judge.within_budget(last, rows[0]):
        return f"the budget of {counted(task.settings.budget or 0, 'point')} was spent"
    if judge.target.is_reached(float(last[judge.target.row])):
        return f"the target {judge.target.name}={judge.target.bound:g} was met"
    if not pace_of(task).count(last["left"], _total(task)):
        return f"the sparsity limit of {task.settings.limit:g} % was reached"
    return None
