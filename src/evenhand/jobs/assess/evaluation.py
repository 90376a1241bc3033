"""Stage 5: the evaluation of the cells of one share of labels on test patients.

The number of a cell is the mean over the models of its seeds, in the data and in each resample of
patients. The interval of a number is over patients, for these seeds; the interval of a difference
between cells is over patients and seeds (`evenhand.metrics.seeds`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from evenhand.jobs.assess.settings import LABELLED, SUPERVISED
from evenhand.metrics.parity import ParityNumbers, mean_of, percentile_interval, relative_reduction
from evenhand.metrics.recipes import rarer_patients
from evenhand.metrics.registry import Floats
from evenhand.metrics.rows import EVERYBODY, Key
from evenhand.metrics.scored import Scored
from evenhand.metrics.seeds import RecipeDifference, recipe_difference, recipe_value


@dataclass(frozen=True)
class Value:
    """A number with its interval; None if undefined."""

    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: Floats) -> Value:
        """Return the first of the values ``(1 + B,)`` with the percentile interval of the rest."""
        interval = percentile_interval(values)
        value = float(values[0]) if np.isfinite(values[0]) else None
        return cls(value, *(interval or (None, None)))

    @classmethod
    def of_size(cls, values: Floats) -> Value:
        """Return the value of a number that is at least 0, with an interval at or above 0."""
        size = cls.of(values)
        return size.within(0.0, np.inf)

    def within(self, lowest: float, highest: float) -> Value:
        """Return the value with an interval that is cut at its smallest and largest possible value.

        Examples
        --------
        >>> Value(0.9, -0.3, 2.1).within(0, 1)
        Value(value=0.9, low=0, high=1)
        """
        if self.low is None or self.high is None:
            return self
        return replace(self, low=max(self.low, lowest), high=min(self.high, highest))


@dataclass(frozen=True)
class Change:
    """The difference of a number between two cells.

    Attributes
    ----------
    value
        The difference of the cells' means over seeds, on the data; None if it is undefined.
    difference
        The same with interval and p-value; None if too few resamples have a value.
    """

    value: float | None
    difference: RecipeDifference | None

    @property
    def shown(self) -> Value:
        """The value with its interval, for the page."""
        if self.difference is None:
            return Value(self.value, None, None)
        return Value(self.value, self.difference.low, self.difference.high)


@dataclass(frozen=True)
class RowCounts:
    """Counts behind a number: rows, patients, positives, and patients of the rarer class."""

    n: int
    patients: int
    positives: int
    rarer: int

    @classmethod
    def of(cls, rows: Scored) -> RowCounts:
        """Count the rows."""
        return cls(len(rows), len(rows.members), int(rows.labels.sum()), rarer_patients(rows))


CHANCE = 0.5
"""The AUC of random scores."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All cells of one share of labels, and the cell that validation chose.

    Attributes
    ----------
    share
        The share of the training patients whose labels were used.
    chosen
        The cell with an encoder that has the best validation target, as mean over seeds.
    models
        The models of each cell, one for each seed.
    worst
        For each cell, the level of each attribute with the lowest AUC on validation; without
        attributes for which no AUC is defined.
    parameters
        The number of tuned parameters of each cell, without the head.
    sizes
        The counts of test rows by attribute and level; ``"*"`` is all compared levels.
    best
        The best cell on validation of each start; empty if there is one start.
    external
        The cells with external encoders.
    picked_keys
        The keys of numbers that the decision guide or the user picks (`ParityNumbers.numbers`).
    references
        The reference level of each attribute, for ratios and differences.
    validation_values
        The first target of each cell on validation patients, as mean over seeds; negative if the
        target should be small.
    """

    share: float
    chosen: str
    models: Mapping[str, tuple[ParityNumbers, ...]]
    worst: Mapping[str, Mapping[str, str]]
    parameters: Mapping[str, int]
    sizes: Mapping[tuple[str, str], RowCounts]
    best: Mapping[str, str] = field(default_factory=dict)
    external: frozenset[str] = frozenset()
    picked_keys: tuple[Key, ...] = ()
    references: Mapping[str, str] = field(default_factory=dict)
    validation_values: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def judged(self) -> dict[str, ParityNumbers]:
        """The numbers of each cell, as means over seeds."""
        return {name: mean_of(list(models)) for name, models in self.models.items()}

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes whose groups are compared."""
        return tuple(self.models[SUPERVISED][0].deviation)

    @property
    def seeds(self) -> int:
        """The number of models of each cell."""
        return len(self.models[SUPERVISED])

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The pairs of cells that are judged, the chosen cell against supervised first.

        The best cell of each start is compared with the cells without pre-training, and the chosen
        cell with the best cells of the other starts.
        """
        best = tuple(dict.fromkeys((self.chosen, *self.best.values())))
        labelled = [name for name in LABELLED if name in self.models]
        pairs = [(cell, other) for cell in best for other in labelled]
        return (*pairs, *((self.chosen, other) for other in best[1:]))

    def display_name(self, cell: str) -> str:
        """Return the name of a cell in sentences."""
        if cell in LABELLED:
            return cell
        return cell if self.best or cell in self.external else f"self-supervision ({cell})"

    @property
    def arms(self) -> dict[str, str]:
        """The cell that represents each arm, by the arm's name."""
        arms = {name: name for name in LABELLED if name in self.models}
        if self.best:
            return {**self.best, **arms}
        name = "pre-trained" if self.chosen in self.external else "self-supervision"
        return {name: self.chosen, **arms}

    def auc_by_seed(self, cell: str) -> tuple[float, ...]:
        """Return the AUC of each of a cell's models."""
        return tuple(float(model.auc[0]) for model in self.models[cell])

    def auc_difference(self, cell: str, against: str = SUPERVISED) -> Change:
        """Return a cell's AUC minus that of another."""
        return self._change(
            (cell, against), lambda judged: judged.auc, self._rarer_patients([("*", "*")])
        )

    def group_differences(
        self, cell: str, against: str = SUPERVISED
    ) -> dict[tuple[str, str], Change]:
        """Return a cell's AUC minus that of another, in each group, by attribute and level."""
        keys = self.models[against][0].by_group
        return {key: self._group_difference((cell, against), key) for key in keys}

    def deviation_difference(self, cell: str, attribute: str, against: str = SUPERVISED) -> Change:
        """Return a cell's deviation from parity minus that of another; below 0 is fairer."""
        patients = self._fewest_patients(attribute)
        return self._change((cell, against), lambda judged: judged.deviation[attribute], patients)

    def auc_over_seeds(self, cell: str) -> Value:
        """Return a cell's AUC with an interval over patients and seeds."""
        patients = self._rarer_patients([("*", "*")])
        return self._over_seeds(cell, lambda judged: judged.auc, patients).within(0.0, 1.0)

    def deviation_over_seeds(self, cell: str, attribute: str) -> Value:
        """Return a cell's deviation from parity with an interval over patients and seeds."""
        patients = self._fewest_patients(attribute)
        value = self._over_seeds(cell, lambda judged: judged.deviation[attribute], patients)
        if value.low is None:
            return value
        is_above_zero = self.judged[cell].apart[attribute]
        return replace(value, low=max(value.low, 0.0) if is_above_zero else 0.0)

    def _over_seeds(
        self, cell: str, number: Callable[[ParityNumbers], Floats], patients: int
    ) -> Value:
        values = self.stacked(cell, number)
        mean = float(values[:, 0].mean())
        interval = recipe_value(values, patients)
        ends = (None, None) if interval is None else (interval.low, interval.high)
        return Value(mean if np.isfinite(mean) else None, *ends)

    def odds_difference(self, cell: str, attribute: str, against: str = SUPERVISED) -> Change:
        """Return a cell's average absolute odds difference minus that of another."""
        patients = self._fewest_patients(attribute)
        return self._change((cell, against), lambda judged: judged.aaod[attribute], patients)

    def picked_difference(self, cell: str, key: Key, against: str = SUPERVISED) -> Change:
        """Return a picked number of a cell minus that of another."""
        is_across = key.group == EVERYBODY
        patients = (
            self._fewest_patients(key.attribute) if is_across else self._rarer_patients([key[:2]])
        )
        return self._change((cell, against), lambda judged: judged.numbers[key], patients)

    def deviation(self, cell: str, attribute: str) -> Value:
        """Return a cell's deviation from parity; unless some ratio differs from 1, low is 0."""
        judged = self.judged[cell]
        deviation = Value.of_size(judged.deviation[attribute])
        is_above_zero = judged.apart[attribute] or deviation.low is None
        return deviation if is_above_zero else replace(deviation, low=0.0)

    def reduction(self, cell: str, attribute: str, against: str = SUPERVISED) -> Value:
        """Return the reduction of deviation from parity, as a share of that of ``against``.

        The interval is by the delta method, over patients and seeds. There is none if the interval
        of the deviation of ``against`` contains 0.
        """
        pair = (cell, against)
        after, before = (self.judged[name].deviation[attribute][:1] for name in pair)
        reduction = float(relative_reduction(before, after)[0])
        if not np.isfinite(reduction):
            return Value(None, None, None)
        if not self.deviation(against, attribute).low:
            return Value(reduction, None, None)
        changed, base = (
            self.stacked(name, lambda model: model.deviation[attribute]) for name in pair
        )
        interval = recipe_difference(
            base * (1 - reduction), changed, self._fewest_patients(attribute)
        )
        if interval is None:
            return Value(reduction, None, None)
        low, high = (reduction + end / float(before[0]) for end in (interval.low, interval.high))
        return Value(reduction, low, high)

    def allows_claims(self, cell: str, against: str = SUPERVISED) -> bool:
        """Return whether claims about fairness are allowed: both intervals of AUC lie above .5."""
        values = (Value.of(self.judged[name].auc) for name in (cell, against))
        return all(value.low is not None and value.low > CHANCE for value in values)

    def stacked(self, cell: str, number: Callable[[ParityNumbers], Floats]) -> Floats:
        """Return a number of all models of a cell, ``(seeds, 1 + B)``."""
        return np.stack([number(model) for model in self.models[cell]])

    def _group_difference(self, pair: tuple[str, str], key: tuple[str, str]) -> Change:
        return self._change(pair, lambda judged: judged.by_group[key], self._rarer_patients([key]))

    def _change(
        self, pair: tuple[str, str], number: Callable[[ParityNumbers], Floats], patients: int
    ) -> Change:
        changed, other = (self.stacked(name, number) for name in pair)
        value = float(changed[:, 0].mean() - other[:, 0].mean())
        difference = recipe_difference(changed, other, patients)
        return Change(value if np.isfinite(value) else None, difference)

    def _fewest_patients(self, attribute: str) -> int:
        keys = [key for key in self.sizes if key[0] == attribute and key[1] != "*"]
        return self._rarer_patients(keys)

    def _rarer_patients(self, keys: Iterable[tuple[str, str]]) -> int:
        """Return the smallest number of patients of the rarer class over some groups."""
        return min(self.sizes[key].rarer for key in keys)
