"""Stage 5: what the test patients say of self-supervision, with intervals over patients.

Models that differ in their seed only are judged as one: the mean over seeds, in the data and in
each resample of patients. So an interval is about other patients, for these seeds; the range over
seeds is told beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import BaseModel

from evenhand.assess.grid import Cell, cells_of
from evenhand.assess.settings import SUPERVISED, AssessSettings
from evenhand.audit.rows import cut_of, groups_in, scored_rows
from evenhand.files import DamagedError, checked, read_object
from evenhand.measure.groups import Groups
from evenhand.measure.objectives import find_objective
from evenhand.measure.parity import Judged, ends, judge, mean_of, relative_reduction
from evenhand.measure.registry import Floats
from evenhand.measure.resample import Bootstrap, resample
from evenhand.measure.scored import Scored
from evenhand.predictions import Predictions, read_predictions
from evenhand.report.units import UnitShare
from evenhand.runs import Run

CHANCE = 0.5


class _Fitted(BaseModel):
    """Of a ``model.json``, the objectives on validation rows, and what was tuned."""

    val: dict[str, float]
    units: list[UnitShare]


@dataclass(frozen=True)
class Value:
    """A number with its interval over patients, where it has one."""

    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: Floats) -> Value:
        """Return the data's value and the percentile interval of its resamples."""
        found = ends(values)
        value = float(values[0]) if np.isfinite(values[0]) else None
        return cls(value, *(found or (None, None)))

    @classmethod
    def of_size(cls, values: Floats) -> Value:
        """Return the same of a size, which is never below 0 (see `measure.across.distance`)."""
        found = cls.of(values)
        return found if found.low is None else replace(found, low=max(found.low, 0.0))

    @property
    def sign(self) -> int:
        """1 or -1 where the interval lies on that side of 0, else 0: not certain."""
        if self.low is None or self.high is None:
            return 0
        return int(self.low > 0) - int(self.high < 0)


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
        The self-supervised cell with the best validation objective, mean over seeds.
    judged
        Each cell, mean over seeds.
    by_seed
        AUC of each seed, by cell.
    parameters
        What each cell may change, backbone only.
    sizes
        The test rows behind the numbers of an attribute's level; ``"*"`` is all that are compared.
    """

    share: float
    chosen: str
    judged: Mapping[str, Judged]
    by_seed: Mapping[str, tuple[float, ...]]
    parameters: Mapping[str, int]
    sizes: Mapping[tuple[str, str], Size]

    def difference(self, cell: str) -> Value:
        """Return a cell's AUC less that of supervised."""
        return Value.of(self.judged[cell].auc - self.judged[SUPERVISED].auc)

    def deviation(self, cell: str, attribute: str) -> Value:
        """Return a cell's deviation from parity; it may be 0 where no ratio is told from 1."""
        judged = self.judged[cell]
        found = Value.of_size(judged.deviation[attribute])
        sure = judged.apart[attribute] or found.low is None
        return found if sure else replace(found, low=0.0)

    def reduction(self, cell: str, attribute: str) -> Value:
        """Return by how much of supervised's deviation from parity a cell's is less.

        It has no interval where that of supervised's deviation, which it is a share of, holds 0.
        """
        of = (self.judged[name].deviation[attribute] for name in (SUPERVISED, cell))
        found = Value.of(relative_reduction(*of))
        sure = self.deviation(SUPERVISED, attribute).low
        return found if sure else replace(found, low=None, high=None)

    def fairer(self, cell: str, attribute: str) -> Value:
        """Return a cell's deviation from parity less that of supervised; below 0 is fairer."""
        one, other = (self.judged[name].deviation[attribute] for name in (cell, SUPERVISED))
        return Value.of(one - other)

    def by_group(self, cell: str) -> dict[tuple[str, str], Value]:
        """Return a cell's AUC less that of supervised, in each group."""
        base = self.judged[SUPERVISED].by_group
        return {key: Value.of(v - base[key]) for key, v in self.judged[cell].by_group.items()}

    def claims(self, cell: str) -> bool:
        """Whether fairness can be spoken of: both AUCs' intervals lie above .5."""
        found = (Value.of(self.judged[name].auc) for name in (cell, SUPERVISED))
        return all(one.low is not None and one.low > CHANCE for one in found)


def evaluate(run: Run, settings: AssessSettings) -> list[Evaluation]:
    """Judge every cell on the test patients, for each share of labels.

    Parameters
    ----------
    run
        The run, with the predictions of all the cells.
    settings
        Its own; the first objective chooses among self-supervised cells.
    """
    cells = tuple(cells_of(settings))
    return [
        _evaluate_share(run, [cell for cell in cells if cell.share == share], settings)
        for share in settings.label_shares
    ]


def _evaluate_share(run: Run, cells: Sequence[Cell], settings: AssessSettings) -> Evaluation:
    objective = find_objective(settings.objective[0])
    judged: dict[str, list[Judged]] = {}
    chosen_by: dict[str, list[float]] = {}
    tuned: dict[str, int] = {}
    sizes: dict[tuple[str, str], Size] = {}
    for cell in cells:
        predictions = read_predictions(run.predictions(cell.name))
        test = predictions.of_split("test")
        rows = scored_rows(test, cut_of(predictions))
        # The same seed draws the same patients for every model, so that differences are paired.
        rng = np.random.default_rng(run.facts["seed"])
        resamples = resample(len(rows.members), Bootstrap(), rng)
        groups = _compared(test, settings)
        judged.setdefault(cell.strategy, []).append(judge(rows, groups, resamples))
        sizes = sizes or _sizes(rows, groups)  # every cell scores the same rows
        path = run.model(cell.name) / "model.json"
        about = checked(_Fitted, read_object(path), path)
        if objective.name not in about.val:
            raise DamagedError(path, f"it lacks the {objective.name} on validation rows")
        chosen_by.setdefault(cell.strategy, []).append(about.val[objective.name])
        tuned[cell.strategy] = sum(unit.parameters for unit in about.units if unit.tuned)
    sign = 1 if objective.direction == "maximize" else -1
    ssl = [name for name in judged if name != SUPERVISED]
    return Evaluation(
        share=cells[0].share,
        chosen=max(ssl, key=lambda name: sign * float(np.mean(chosen_by[name]))),
        judged={name: mean_of(found) for name, found in judged.items()},
        by_seed={name: tuple(float(j.auc[0]) for j in found) for name, found in judged.items()},
        parameters=tuned,
        sizes=sizes,
    )


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
    for attribute, of in groups.items():
        parts = {level: of.rows(level) for level in of.compared()}
        sizes |= {(attribute, level): Size.of(rows.take(part)) for level, part in parts.items()}
        sizes[attribute, "*"] = Size.of(rows.take(np.concatenate(list(parts.values()))))
    return sizes
