"""Stage 5: what the test patients say of self-supervision.

Models that differ in their seed only are judged as one: the mean over seeds, in the data and in
each resample of patients. The interval of a cell's own number is over patients, for these seeds;
that of a difference between cells is over patients and seeds (`evenhand.metrics.seeds`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from pydantic import BaseModel

from evenhand.earlier_names import current_record
from evenhand.evaluation.rows import cut_of, groups_in, scored_rows
from evenhand.experiments.runs import Run
from evenhand.files import DamagedError, checked, read_object
from evenhand.jobs.assess.grid import Cell, cells_of
from evenhand.jobs.assess.settings import LABELLED, SUPERVISED, AssessSettings
from evenhand.metrics.estimate import point
from evenhand.metrics.groups import Groups
from evenhand.metrics.parity import Judged, ends, judge, mean_of, relative_reduction
from evenhand.metrics.registry import Floats, find_metric
from evenhand.metrics.resample import Bootstrap, resample
from evenhand.metrics.scored import Scored
from evenhand.metrics.seeds import RecipeDifference, recipe_difference
from evenhand.metrics.target_names import find_target
from evenhand.reporting.report import UnitShare
from evenhand.tables.predictions import Predictions, read_predictions

CHANCE = 0.5


class _Fitted(BaseModel):
    """Of a ``model.json``, the targets on validation rows, and what was tuned."""

    val: dict[str, float]
    units: list[UnitShare]


@dataclass(frozen=True)
class Value:
    """A number with its interval, where it has one."""

    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: Floats) -> Value:
        """Return the data's value and the percentile interval of its resamples."""
        interval = ends(values)
        value = float(values[0]) if np.isfinite(values[0]) else None
        return cls(value, *(interval or (None, None)))

    @classmethod
    def of_size(cls, values: Floats) -> Value:
        """Return the value of a size, whose interval never goes below 0."""
        size = cls.of(values)
        return size if size.low is None else replace(size, low=max(size.low, 0.0))


@dataclass(frozen=True)
class Change:
    """One number of a cell less that of supervised.

    Attributes
    ----------
    value
        The cell's mean over seeds less supervised's, on the data; None where it is undefined.
    difference
        The same with interval and p-value; None where too few resamples have a value.
    """

    value: float | None
    difference: RecipeDifference | None

    @property
    def shown(self) -> Value:
        """The value and its interval."""
        if self.difference is None:
            return Value(self.value, None, None)
        return Value(self.value, self.difference.low, self.difference.high)


@dataclass(frozen=True)
class Size:
    """How many rows, patients and positives a number rests on."""

    n: int
    patients: int
    positives: int

    @classmethod
    def of(cls, rows: Scored) -> Size:
        """Count some rows."""
        return cls(len(rows), len(rows.members), int(rows.labels.sum()))

    @property
    def rarer(self) -> int:
        """How many rows the rarer class has."""
        return min(self.positives, self.n - self.positives)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All cells of one share of labels, and which of them validation chose.

    Attributes
    ----------
    share
        Of the training patients, whose labels were used.
    chosen
        The self-supervised cell with the best validation target, mean over seeds.
    models
        The models of each cell, one for each seed.
    worst
        The level of each attribute with the lowest AUC under supervised, on validation; attributes
        without any such AUC are left out.
    parameters
        What each cell may change, backbone only.
    sizes
        The test rows behind the numbers of an attribute's level; ``"*"`` is all that are compared.
    """

    share: float
    chosen: str
    models: Mapping[str, tuple[Judged, ...]]
    worst: Mapping[str, str]
    parameters: Mapping[str, int]
    sizes: Mapping[tuple[str, str], Size]

    @cached_property
    def judged(self) -> dict[str, Judged]:
        """Each cell, mean over seeds."""
        return {name: mean_of(list(models)) for name, models in self.models.items()}

    @property
    def seeds(self) -> int:
        """How many models each cell has."""
        return len(self.models[SUPERVISED])

    def by_seed(self, cell: str) -> tuple[float, ...]:
        """Return the AUC of each of a cell's models."""
        return tuple(float(model.auc[0]) for model in self.models[cell])

    def difference(self, cell: str) -> Change:
        """Return a cell's AUC less that of supervised."""
        return self._change(cell, lambda one: one.auc, self._patients([("*", "*")]))

    def by_group(self, cell: str) -> dict[tuple[str, str], Change]:
        """Return a cell's AUC less that of supervised, in each group."""
        return {key: self._of_group(cell, key) for key in self.models[SUPERVISED][0].by_group}

    def fairer(self, cell: str, attribute: str) -> Change:
        """Return a cell's deviation from parity less that of supervised; below 0 is fairer."""
        return self._change(cell, lambda one: one.deviation[attribute], self._fewest(attribute))

    def deviation(self, cell: str, attribute: str) -> Value:
        """Return a cell's deviation from parity; it may be 0 where no ratio is told from 1."""
        judged = self.judged[cell]
        deviation = Value.of_size(judged.deviation[attribute])
        sure = judged.apart[attribute] or deviation.low is None
        return deviation if sure else replace(deviation, low=0.0)

    def reduction(self, cell: str, attribute: str) -> Value:
        """Return by how much of supervised's deviation from parity a cell's is less.

        It has no interval where that of supervised's deviation, which it is a share of, holds 0.
        Elsewhere that is the delta method's, over patients and seeds.
        """
        pair = (cell, SUPERVISED)
        other, base = (self.judged[name].deviation[attribute][:1] for name in pair)
        less = float(relative_reduction(base, other)[0])
        if not np.isfinite(less):
            return Value(None, None, None)
        if not self.deviation(SUPERVISED, attribute).low:
            return Value(less, None, None)
        changed, start = (
            self._stacked(name, lambda model: model.deviation[attribute]) for name in pair
        )
        around = recipe_difference(start * (1 - less), changed, self._fewest(attribute))
        if around is None:
            return Value(less, None, None)
        low, high = (less + end / float(base[0]) for end in (around.low, around.high))
        return Value(less, low, high)

    def claims(self, cell: str) -> bool:
        """Whether fairness can be spoken of: both AUCs' intervals lie above .5."""
        values = (Value.of(self.judged[name].auc) for name in (cell, SUPERVISED))
        return all(value.low is not None and value.low > CHANCE for value in values)

    def _of_group(self, cell: str, key: tuple[str, str]) -> Change:
        return self._change(cell, lambda one: one.by_group[key], self._patients([key]))

    def _change(self, cell: str, number: Callable[[Judged], Floats], patients: int) -> Change:
        changed, other = (self._stacked(name, number) for name in (cell, SUPERVISED))
        value = float(changed[:, 0].mean() - other[:, 0].mean())
        difference = recipe_difference(changed, other, patients)
        return Change(value if np.isfinite(value) else None, difference)

    def _stacked(self, cell: str, number: Callable[[Judged], Floats]) -> Floats:
        """Return a number of each of a cell's models, ``(seeds, 1 + B)``."""
        return np.stack([number(model) for model in self.models[cell]])

    def _fewest(self, attribute: str) -> int:
        keys = [key for key in self.sizes if key[0] == attribute and key[1] != "*"]
        return self._patients(keys)

    def _patients(self, keys: Iterable[tuple[str, str]]) -> int:
        """Return the smallest number of patients of the rarer class over some groups."""
        return min(min(self.sizes[key].rarer, self.sizes[key].patients) for key in keys)


def evaluate(run: Run, settings: AssessSettings) -> list[Evaluation]:
    """Judge every cell on the test patients, for each share of labels.

    Parameters
    ----------
    run
        The run, with the predictions of all the cells.
    settings
        Its own; the first target chooses among self-supervised cells.
    """
    cells = tuple(cells_of(settings))
    return [
        _evaluate_share(run, [cell for cell in cells if cell.share == share], settings)
        for share in settings.label_shares
    ]


@dataclass(frozen=True, eq=False)
class Tested:
    """One model, judged.

    Attributes
    ----------
    judged
        On its test rows.
    sizes
        See `Evaluation`.
    validated
        The AUC of each group on its validation rows, NaN where it is undefined.
    """

    judged: Judged
    sizes: Mapping[tuple[str, str], Size]
    validated: Mapping[tuple[str, str], float]


def judge_model(predictions: Predictions, settings: AssessSettings, seed: int) -> Tested:
    """Judge a model; one seed resamples the same patients for every model, which pairs them."""
    test, val = (predictions.of_split(split) for split in ("test", "val"))
    cut = cut_of(predictions)
    rows, groups = scored_rows(test, cut), _compared(test, settings)
    rng = np.random.default_rng(seed)
    judged = judge(rows, groups, resample(len(rows.members), Bootstrap(), rng))
    validated = _auc_by_group(scored_rows(val, cut), _compared(val, settings)) if len(val) else {}
    return Tested(judged, _sizes(rows, groups), validated)


def worst_levels(models: Sequence[Tested]) -> dict[str, str]:
    """Return the level of each attribute with the lowest AUC on validation, mean over models."""
    validated = [model.validated for model in models]
    means = {key: float(np.mean([one[key] for one in validated])) for key in validated[0]}
    worst: dict[str, str] = {}
    for (attribute, level), value in sorted(means.items(), key=lambda item: item[1]):
        if np.isfinite(value):
            worst.setdefault(attribute, level)
    return worst


def _evaluate_share(run: Run, cells: Sequence[Cell], settings: AssessSettings) -> Evaluation:
    target = find_target(settings.target[0])
    models: dict[str, list[Tested]] = {}
    chosen_by: dict[str, list[float]] = {}
    tuned: dict[str, int] = {}
    for cell in cells:
        predictions = read_predictions(run.predictions_file(cell.name))
        tested = judge_model(predictions, settings, run.head.seed)
        models.setdefault(cell.strategy, []).append(tested)
        path = run.folder(cell.name) / "model.json"
        about = checked(_Fitted, read_object(path), path)
        values = current_record(about.val)
        if target.name not in values:
            raise DamagedError(path, f"it lacks the {target.name} on validation rows")
        chosen_by.setdefault(cell.strategy, []).append(values[target.name])
        tuned[cell.strategy] = sum(unit.parameters for unit in about.units if unit.tuned)
    sign = 1 if target.maximise else -1
    ssl = [name for name in models if name not in LABELLED]
    return Evaluation(
        share=cells[0].share,
        chosen=max(ssl, key=lambda name: sign * float(np.mean(chosen_by[name]))),
        models={name: tuple(one.judged for one in tested) for name, tested in models.items()},
        worst=worst_levels(models[SUPERVISED]),
        parameters=tuned,
        sizes=models[SUPERVISED][0].sizes,  # every cell scores the same rows
    )


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


def _sizes(rows: Scored, groups: Mapping[str, Groups]) -> dict[tuple[str, str], Size]:
    sizes = {("*", "*"): Size.of(rows)}
    for attribute, own in groups.items():
        parts = {level: own.rows(level) for level in own.compared()}
        sizes |= {(attribute, level): Size.of(rows.take(part)) for level, part in parts.items()}
        sizes[attribute, "*"] = Size.of(rows.take(np.concatenate(list(parts.values()))))
    return sizes
