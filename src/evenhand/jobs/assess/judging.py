"""Evaluate the predictions of a grid, for each share of labels, by the chosen metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from pydantic import BaseModel

from evenhand.evaluation.requests import advice_of, measure_settings, resolve_requests
from evenhand.evaluation.rows import groups_in, scored_rows
from evenhand.evaluation.settings import ChoiceSettings
from evenhand.experiments.runs import Run
from evenhand.files import DamagedError, read_json_record
from evenhand.jobs.assess.evaluation import Evaluation, RowCounts
from evenhand.jobs.assess.grid import Cell, cell_start, grid_cells
from evenhand.jobs.assess.settings import LABELLED, SUPERVISED, AssessSettings
from evenhand.jobs.assess.starts import cells_name_starts
from evenhand.metrics import METRICS, Plan
from evenhand.metrics.attribute_numbers import compute_numbers
from evenhand.metrics.estimate import point
from evenhand.metrics.groups import Groups
from evenhand.metrics.numbers import divide_samples, undivided_samples
from evenhand.metrics.parity import ParityNumbers, judge_parity
from evenhand.metrics.recipes import worst_served
from evenhand.metrics.registry import Floats, find_metric
from evenhand.metrics.resample import Bootstrap, Resamples, resample
from evenhand.metrics.rows import Key
from evenhand.metrics.scored import Scored
from evenhand.metrics.target_names import find_target
from evenhand.metrics.targets import Target
from evenhand.reporting.report import UnitShare
from evenhand.settings import current_record
from evenhand.tables.predictions import Predictions, read_predictions


class _FitRecord(BaseModel):
    """The targets on validation rows and the tuned units in a ``model.json``."""

    val: dict[str, float]
    units: list[UnitShare]


@dataclass(frozen=True, eq=False)
class JudgedModel:
    """The evaluation of one model.

    Attributes
    ----------
    judged
        The numbers on its test rows.
    sizes, references
        As in `Evaluation`.
    validation_auc
        The AUC of each group on its validation rows, NaN if it is undefined.
    """

    judged: ParityNumbers
    sizes: Mapping[tuple[str, str], RowCounts]
    validation_auc: Mapping[tuple[str, str], float]
    references: Mapping[str, str] = field(default_factory=dict)


@dataclass(eq=False)
class _Recipe:
    """The models of a recipe, which differ in their seed."""

    cell: Cell
    models: list[JudgedModel] = field(default_factory=list)
    validation_values: list[float] = field(default_factory=list)  # higher is better
    tuned_parameters: int = 0

    @property
    def validation_value(self) -> float:
        return float(np.mean(self.validation_values))


def evaluate_grid(run: Run, settings: AssessSettings) -> list[Evaluation]:
    """Evaluate every cell on test patients, for each share of labels.

    Parameters
    ----------
    run
        The run, with the predictions of all cells.
    settings
        The settings of the run; the first target chooses among cells with an encoder.
    """
    cells = tuple(grid_cells(settings))
    return [
        _evaluate_share(run, [cell for cell in cells if cell.share == share], settings)
        for share in settings.label_share
    ]


def judge_model(predictions: Predictions, settings: AssessSettings, seed: int) -> JudgedModel:
    """Evaluate a model; the same seed resamples the same patients for every model."""
    test, val = (predictions.of_split(split) for split in ("test", "val"))
    measuring = measure_settings(settings, _excluded(test, settings))
    request = resolve_requests({"model": predictions}, settings.attribute, measuring, {})["model"]
    rows, groups = scored_rows(test, request.cut), _compared_groups(test, settings)
    resamples = resample(len(rows.members), Bootstrap(), np.random.default_rng(seed))
    judged = judge_parity(rows, groups, resamples, request.plan.references)
    numbers = measure_chosen(rows, groups, resamples, request.plan, measured_metrics(measuring))
    validation_auc: dict[tuple[str, str], float] = {}
    if len(val):
        val_groups = _compared_groups(val, settings)
        validation_auc = _auc_by_group(scored_rows(val, request.cut), val_groups)
    sizes = _sizes(rows, groups)
    references = {name: _largest(sizes, name) for name in groups}
    references |= dict(request.plan.references)
    return JudgedModel(replace(judged, numbers=numbers), sizes, validation_auc, references)


def _excluded(test: Predictions, settings: AssessSettings) -> tuple[str, ...]:
    """Return the excluded groups that are levels of the test predictions."""
    groups = groups_in(test, settings.attribute)
    named = {f"{name}={level}" for name, levels in groups.items() for level in levels.levels}
    return tuple(text for text in settings.exclude_group if text in named)


def _largest(sizes: Mapping[tuple[str, str], RowCounts], attribute: str) -> str:
    """Return the level of an attribute with the most rows; of equal ones the first."""
    levels = [level for name, level in sizes if name == attribute and level != "*"]
    return max(levels, key=lambda level: sizes[attribute, level].n)


def worst_levels(models: Sequence[JudgedModel]) -> dict[str, str]:
    """Return the level of each attribute with the lowest mean AUC on validation."""
    keys = models[0].validation_auc
    return worst_served({key: [model.validation_auc[key] for model in models] for key in keys})


def _evaluate_share(run: Run, cells: Sequence[Cell], settings: AssessSettings) -> Evaluation:
    target = find_target(settings.target[0])
    recipes: dict[str, _Recipe] = {}
    for cell in cells:
        recipe = recipes.setdefault(cell.recipe, _Recipe(cell))
        predictions = read_predictions(run.predictions_file(cell.name))
        recipe.models.append(judge_model(predictions, settings, run.head.seed))
        _add_validation(recipe, run, cell, target)
    supervised = recipes[SUPERVISED].models[0]  # every cell scores the same rows
    best = _best_by_start(recipes)
    chosen = max(best.values(), key=lambda name: recipes[name].validation_value)
    starts = {name: cell_start(settings, recipe.cell) for name, recipe in recipes.items()}
    return Evaluation(
        share=cells[0].share,
        chosen=chosen,
        models={
            name: tuple(model.judged for model in recipe.models) for name, recipe in recipes.items()
        },
        worst={name: worst_levels(recipe.models) for name, recipe in recipes.items()},
        parameters={name: recipe.tuned_parameters for name, recipe in recipes.items()},
        sizes=supervised.sizes,
        best=best if cells_name_starts(settings) and len(best) > 1 else {},
        external=frozenset(
            name for name, start in starts.items() if start and start.objective is None
        ),
        picked_keys=tuple(
            key
            for key in judged_keys(supervised.judged.numbers, settings)
            if key[:2] in supervised.sizes
        ),
        references=supervised.references,
        validation_values={name: recipe.validation_value for name, recipe in recipes.items()},
    )


def _add_validation(recipe: _Recipe, run: Run, cell: Cell, target: Target) -> None:
    """Add the validation value and the tuned parameters of a model to its recipe."""
    path = run.folder(cell.name) / "model.json"
    record = read_json_record(_FitRecord, path)
    values = current_record(record.val)
    if target.name not in values:
        raise DamagedError(path, f"it lacks the {target.name} on validation rows")
    value = values[target.name]
    recipe.validation_values.append(value if target.maximise else -value)
    recipe.tuned_parameters = sum(unit.parameters for unit in record.units if unit.tuned)


def _best_by_start(recipes: Mapping[str, _Recipe]) -> dict[str, str]:
    """Return the name of the best recipe of each start, on validation."""
    best: dict[str, str] = {}
    for name, recipe in recipes.items():
        if recipe.cell.strategy not in LABELLED:
            current = best.setdefault(recipe.cell.start, name)
            if recipe.validation_value > recipes[current].validation_value:
                best[recipe.cell.start] = name
    return best


def _auc_by_group(rows: Scored, groups: Mapping[str, Groups]) -> dict[tuple[str, str], float]:
    auc = find_metric("auc")
    return {
        (attribute, level): point(rows.take(levels.rows(level)), auc, (1,))
        for attribute, levels in groups.items()
        for level in levels.compared()
    }


def _compared_groups(predictions: Predictions, settings: AssessSettings) -> dict[str, Groups]:
    """Return the groups of each attribute, without the excluded ones."""
    return {
        name: groups.without(
            {level for level in groups.levels if f"{name}={level}" in settings.exclude_group}
        )
        for name, groups in groups_in(predictions, settings.attribute).items()
    }


def _sizes(rows: Scored, groups: Mapping[str, Groups]) -> dict[tuple[str, str], RowCounts]:
    sizes = {("*", "*"): RowCounts.of(rows)}
    for attribute, levels in groups.items():
        parts = {level: levels.rows(level) for level in levels.compared()}
        sizes |= {
            (attribute, level): RowCounts.of(rows.take(part)) for level, part in parts.items()
        }
        sizes[attribute, "*"] = RowCounts.of(rows.take(np.concatenate(list(parts.values()))))
    return sizes


SHOWN = ("sensitivity", "false_positive_rate", "squared_calibration_error", "auprc")
"""Metrics of each group that are always shown; only picked metrics are judged."""


def picked_metrics(settings: ChoiceSettings) -> tuple[str, ...]:
    """Return the metrics that the decision guide or the user picks; the page judges them."""
    chosen = tuple(METRICS) if "all" in settings.metric else settings.metric
    picked = dict.fromkeys((*(advice.metric for advice in advice_of(settings)), *chosen))
    return tuple(name for name in picked if name != "auc")  # the AUC is always judged


def measured_metrics(settings: ChoiceSettings) -> tuple[str, ...]:
    """Return all metrics that are measured besides the AUC."""
    return tuple(dict.fromkeys((*picked_metrics(settings), *SHOWN)))


def measure_chosen(
    rows: Scored,
    groups: Mapping[str, Groups],
    resamples: Resamples,
    plan: Plan,
    metrics: Sequence[str],
) -> dict[Key, Floats]:
    """Measure metrics of everybody and of each group, their gaps, and the plan's aggregates.

    Returns
    -------
    dict
        Values ``(1 + B,)`` by key: that of the data, then those of the resamples. They are NaN if
        the number is undefined.
    """
    others = [name for name in plan.across if name not in ("worst", "best", "detectable")]
    across = tuple(dict.fromkeys(("gap", *others)))
    numbers = compute_numbers(undivided_samples(rows), metrics, (), resamples)
    for name, levels in groups.items():
        compared = levels.compared(plan.excluded.get(name, ()))
        parts = divide_samples(rows, name, levels, compared, reference=plan.references.get(name))
        numbers += compute_numbers(parts, metrics, across, resamples)
    return {
        number.key: np.full_like(number.values, np.nan) if number.reason else number.values
        for number in numbers
    }


def judged_keys(keys: Iterable[Key], settings: ChoiceSettings) -> tuple[Key, ...]:
    """Return the keys of numbers that the page judges.

    They are the gap across groups of each picked metric, and its value in each group if the metric
    has a better direction.
    """
    picked = set(picked_metrics(settings))
    return tuple(key for key in keys if key.base in picked and _is_judged(key))


def _is_judged(key: Key) -> bool:
    if key.aggregate is not None:
        return key.aggregate == "gap"
    return key.attribute != "*" and find_metric(key.base).direction in ("higher", "lower")
