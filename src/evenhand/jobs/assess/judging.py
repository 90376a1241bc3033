"""From the predictions of a grid to its evaluations, one for each share of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from pydantic import BaseModel

from evenhand.earlier_names import current_record
from evenhand.evaluation.requests import measure_settings, resolve_requests
from evenhand.evaluation.rows import groups_in, scored_rows
from evenhand.experiments.runs import Run
from evenhand.files import DamagedError, checked, read_object
from evenhand.jobs.assess.choice import chosen_numbers, judged_keys, metrics_of
from evenhand.jobs.assess.evaluation import Evaluation
from evenhand.jobs.assess.grid import Cell, cells_of, start_of
from evenhand.jobs.assess.settings import LABELLED, SUPERVISED, AssessSettings
from evenhand.jobs.assess.starts import is_named
from evenhand.jobs.assess.values import RowCounts
from evenhand.metrics.estimate import point
from evenhand.metrics.groups import Groups
from evenhand.metrics.parity import ParityNumbers, judge_parity
from evenhand.metrics.recipes import worst_served
from evenhand.metrics.registry import find_metric
from evenhand.metrics.resample import Bootstrap, resample
from evenhand.metrics.scored import Scored
from evenhand.metrics.target_names import find_target
from evenhand.metrics.targets import Target
from evenhand.reporting.report import UnitShare
from evenhand.tables.predictions import Predictions, read_predictions


class _Fitted(BaseModel):
    """Of a ``model.json``, the targets on validation rows, and what was tuned."""

    val: dict[str, float]
    units: list[UnitShare]


@dataclass(frozen=True, eq=False)
class JudgedModel:
    """One model, judged.

    Attributes
    ----------
    judged
        On its test rows.
    sizes
        See `Evaluation`.
    validated
        The AUC of each group on its validation rows, NaN where it is undefined.
    references
        See `Evaluation`.
    """

    judged: ParityNumbers
    sizes: Mapping[tuple[str, str], RowCounts]
    validated: Mapping[tuple[str, str], float]
    references: Mapping[str, str] = field(default_factory=dict)


@dataclass(eq=False)
class _Recipe:
    """The models of a cell that differ in their seed."""

    cell: Cell
    models: list[JudgedModel] = field(default_factory=list)
    validated: list[float] = field(default_factory=list)  # the target, the higher the better
    tuned: int = 0


def evaluate(run: Run, settings: AssessSettings) -> list[Evaluation]:
    """Judge every cell on the test patients, for each share of labels.

    Parameters
    ----------
    run
        The run, with the predictions of all the cells.
    settings
        Its own; the first target chooses among the cells that begin with an encoder.
    """
    cells = tuple(cells_of(settings))
    return [
        _evaluate_share(run, [cell for cell in cells if cell.share == share], settings)
        for share in settings.label_share
    ]


def judge_model(predictions: Predictions, settings: AssessSettings, seed: int) -> JudgedModel:
    """Judge a model; one seed resamples the same patients for every model, which pairs them."""
    test, val = (predictions.of_split(split) for split in ("test", "val"))
    measuring = measure_settings(settings, _excluded(test, settings))
    request = resolve_requests({"model": predictions}, settings.attribute, measuring, {})["model"]
    rows, groups = scored_rows(test, request.cut), _compared(test, settings)
    drawn = resample(len(rows.members), Bootstrap(), np.random.default_rng(seed))
    judged = judge_parity(rows, groups, drawn, request.plan.references)
    numbers = chosen_numbers(rows, groups, drawn, request.plan, metrics_of(measuring))
    validated: dict[tuple[str, str], float] = {}
    if len(val):
        validated = _auc_by_group(scored_rows(val, request.cut), _compared(val, settings))
    sizes = _sizes(rows, groups)
    references = {name: _largest(sizes, name) for name in groups}
    references |= dict(request.plan.references)
    return JudgedModel(replace(judged, numbers=numbers), sizes, validated, references)


def _excluded(test: Predictions, settings: AssessSettings) -> tuple[str, ...]:
    """Return the excluded groups that have test rows, or might have."""
    groups = groups_in(test, settings.attribute)
    named = {f"{name}={level}" for name, own in groups.items() for level in own.levels}
    return tuple(text for text in settings.exclude_group if text in named)


def _largest(sizes: Mapping[tuple[str, str], RowCounts], attribute: str) -> str:
    """Return the level of an attribute with the most rows, the first of several."""
    levels = [level for name, level in sizes if name == attribute and level != "*"]
    return max(levels, key=lambda level: sizes[attribute, level].n)


def worst_levels(models: Sequence[JudgedModel]) -> dict[str, str]:
    """Return the level of each attribute with the lowest AUC on validation, mean over models."""
    levels = models[0].validated
    return worst_served({key: [model.validated[key] for model in models] for key in levels})


def _evaluate_share(run: Run, cells: Sequence[Cell], settings: AssessSettings) -> Evaluation:
    target = find_target(settings.target[0])
    recipes: dict[str, _Recipe] = {}
    for cell in cells:
        recipe = recipes.setdefault(cell.recipe, _Recipe(cell))
        predictions = read_predictions(run.predictions_file(cell.name))
        recipe.models.append(judge_model(predictions, settings, run.head.seed))
        _add_fitted(recipe, run, cell, target)
    supervised = recipes[SUPERVISED].models[0]  # every cell scores the same rows
    best = _best_by_start(recipes)
    chosen = max(best.values(), key=lambda name: float(np.mean(recipes[name].validated)))
    starts = {name: start_of(settings, recipe.cell) for name, recipe in recipes.items()}
    return Evaluation(
        share=cells[0].share,
        chosen=chosen,
        models={
            name: tuple(model.judged for model in recipe.models) for name, recipe in recipes.items()
        },
        worst={name: worst_levels(recipe.models) for name, recipe in recipes.items()},
        parameters={name: recipe.tuned for name, recipe in recipes.items()},
        sizes=supervised.sizes,
        best=best if is_named(settings) and len(best) > 1 else {},
        elsewhere=frozenset(
            name for name, start in starts.items() if start and start.objective is None
        ),
        picked=tuple(
            key
            for key in judged_keys(supervised.judged.numbers, settings)
            if key[:2] in supervised.sizes
        ),
        references=supervised.references,
        validated={name: float(np.mean(recipe.validated)) for name, recipe in recipes.items()},
    )


def _add_fitted(recipe: _Recipe, run: Run, cell: Cell, target: Target) -> None:
    """Add to a recipe what validation says of a model, and how much of it was tuned."""
    path = run.folder(cell.name) / "model.json"
    about = checked(_Fitted, read_object(path), path)
    values = current_record(about.val)
    if target.name not in values:
        raise DamagedError(path, f"it lacks the {target.name} on validation rows")
    recipe.validated.append(values[target.name] if target.maximise else -values[target.name])
    recipe.tuned = sum(unit.parameters for unit in about.units if unit.tuned)


def _best_by_start(recipes: Mapping[str, _Recipe]) -> dict[str, str]:
    """Return the cell of each start that does best on validation."""
    best: dict[str, str] = {}
    for name, recipe in recipes.items():
        if recipe.cell.strategy not in LABELLED:
            now = best.setdefault(recipe.cell.start, name)
            if np.mean(recipe.validated) > np.mean(recipes[now].validated):
                best[recipe.cell.start] = name
    return best


def _auc_by_group(rows: Scored, groups: Mapping[str, Groups]) -> dict[tuple[str, str], float]:
    auc = find_metric("auc")
    return {
        (attribute, level): point(rows.take(levels.rows(level)), auc, (1,))
        for attribute, levels in groups.items()
        for level in levels.compared()
    }


def _compared(test: Predictions, settings: AssessSettings) -> dict[str, Groups]:
    """Return the groups of each attribute without those that the settings exclude."""
    return {
        name: groups.without(
            {level for level in groups.levels if f"{name}={level}" in settings.exclude_group}
        )
        for name, groups in groups_in(test, settings.attribute).items()
    }


def _sizes(rows: Scored, groups: Mapping[str, Groups]) -> dict[tuple[str, str], RowCounts]:
    sizes = {("*", "*"): RowCounts.of(rows)}
    for attribute, own in groups.items():
        parts = {level: own.rows(level) for level in own.compared()}
        sizes |= {
            (attribute, level): RowCounts.of(rows.take(part)) for level, part in parts.items()
        }
        sizes[attribute, "*"] = RowCounts.of(rows.take(np.concatenate(list(parts.values()))))
    return sizes
