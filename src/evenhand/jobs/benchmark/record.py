"""The typed content of ``benchmark.json``."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Self

from pydantic import BaseModel, Field

from evenhand.jobs.benchmark.entries import Entry
from evenhand.jobs.benchmark.settings import split_primary
from evenhand.metrics.learning_curve import LearningCurve
from evenhand.metrics.ranks import RankTest
from evenhand.metrics.recipes import Difference, RecipeValues
from evenhand.metrics.rows import EVERYBODY, Key, full_name
from evenhand.reporting.probe_record import ProbeRow

SCHEMA = 1


class _Part(BaseModel, frozen=True, extra="allow"):
    """A part of the record; it keeps fields that this version does not know."""

    def as_json(self) -> dict[str, Any]:
        """Return the part as JSON values, without fields that were never set."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class RecipeTerms(_Part):
    """The recipe of all entries; benchmarks of several data sets must share these fields."""

    trials: int
    lr_min: float
    lr_max: float
    epochs: int


class PlanRecord(_Part):
    """The plan, which is written before any test row is scored.

    Attributes
    ----------
    entries, reference
        The entries, and the name of the entry with which all others are compared.
    attributes
        The protected attributes.
    primary
        The primary number, as METRIC or METRIC:ATTRIBUTE.
    decides
        The tested numbers: all numbers of ``every`` entry, or the primary number of the entry that
        is ``chosen`` on validation.
    test, level
        A text about the statistical test, and its level.
    selection
        The target that chooses on validation patients.
    folds, seeds
        The number of outer folds, and the seeds of the models.
    recipe
        The training settings of all entries.
    patients
        The fingerprint of the data.
    data_sets
        The folders of benchmarks of other data sets.
    """

    entries: tuple[Entry, ...]
    reference: str
    attributes: tuple[str, ...]
    primary: str
    decides: str = "every"
    test: str
    level: float
    selection: str
    folds: int
    seeds: tuple[int, ...]
    recipe: RecipeTerms
    patients: str
    data_sets: tuple[str, ...] = ()

    @property
    def primary_metric(self) -> str:
        """The metric of the primary number."""
        return split_primary(self.primary)[0]

    @property
    def primary_attributes(self) -> tuple[str, ...]:
        """The attributes of the primary number: the named one, or all."""
        attribute = split_primary(self.primary)[1]
        return (attribute,) if attribute else self.attributes


class NumberRecord(_Part):
    """A number of an entry, as mean over its seeds; None if it is undefined."""

    attribute: str
    group: str
    base: str
    aggregate: str | None = None
    value: float | None

    @property
    def name(self) -> str:
        """The full name of the metric."""
        return full_name(self.base, self.aggregate)

    def is_across(self, name: str, attributes: Collection[str]) -> bool:
        """Return whether it is the metric ``name`` of everybody or across groups of attributes."""
        is_across = self.group == EVERYBODY and self.attribute in (EVERYBODY, *attributes)
        return is_across and self.name == name


class DifferenceRecord(NumberRecord):
    """A number of an entry minus that of the reference, with the fields of `Difference`."""

    recipe: str
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    detectable: float | None = None
    better: bool | None = None

    @classmethod
    def of(cls, difference: Difference) -> Self:
        """Return the record of a difference."""
        fields = {name: value for name, value in vars(difference).items() if name != "key"}
        return cls(**difference.key._asdict(), **fields)


class PlannedDifference(DifferenceRecord):
    """A difference between an entry and the reference, and whether the plan tests it."""

    exploratory: bool = False


class EntryRecord(_Part):
    """The results of an entry; ``levelled_down`` has the groups that lose AUC, by attribute."""

    name: str
    numbers: tuple[NumberRecord, ...]
    differences: tuple[PlannedDifference, ...]
    levelled_down: dict[str, tuple[str, ...]]

    def mean(self, metric: str, attributes: Collection[str]) -> float | None:
        """Return a number of everybody or across groups, as mean over attributes.

        None if it was not measured, or is undefined for an attribute.
        """
        values = [number.value for number in self.numbers if number.is_across(metric, attributes)]
        defined = [value for value in values if value is not None]
        return sum(defined) / len(defined) if values and len(defined) == len(values) else None


class ExternalRecord(_Part):
    """The numbers of each entry on external patients, and the differences tested on them."""

    entries: dict[str, tuple[NumberRecord, ...]]
    differences: tuple[DifferenceRecord, ...]


class DataSets(_Part):
    """The results of several data sets together.

    Attributes
    ----------
    values
        The primary number of each entry, for each data set.
    names
        The names of the data sets, this one first.
    verdicts
        The verdicts of the other data sets on the primary number.
    test
        The test of the ranks.
    """

    values: dict[str, tuple[float, ...]]
    names: tuple[str, ...]
    verdicts: tuple[str, ...]
    test: RankTest


class CurvePointRecord(_Part):
    """The numbers of the reference with a share of the training patients."""

    share: float
    patients: float
    numbers: tuple[NumberRecord, ...]


class CurveRecord(_Part):
    """A learning curve of the reference.

    Attributes
    ----------
    name
        The patients who are thinned out: everybody, or a group.
    points
        The numbers at each share of these patients, all of them last.
    doubling
        The numbers with all of them minus those with half of them.
    """

    name: str
    points: tuple[CurvePointRecord, ...]
    doubling: tuple[DifferenceRecord, ...]

    @classmethod
    def of(cls, curve: LearningCurve) -> Self:
        """Return the record of a learning curve."""
        points = tuple(
            CurvePointRecord(
                share=share, patients=curve.patients[share], numbers=number_records(values)
            )
            for share, values in curve.values.items()
        )
        doubling = tuple(map(DifferenceRecord.of, curve.doubling))
        return cls(name=curve.name, points=points, doubling=doubling)


class BenchmarkRecord(_Part):
    """The content of ``benchmark.json``.

    Attributes
    ----------
    plan, hash
        The plan, and its hash.
    added
        Entries that were added after the plan; they are exploratory.
    entries, claims
        The numbers of each entry, and the differences shown to be better, corrected.
    primary_verdicts
        The texts of the verdicts on the primary number, one for each of its attributes; None in
        files of versions that did not write them.
    external, data_sets
        The results for external patients, and for several data sets; None without them.
    curves
        Learning curves of the reference, which are not part of the plan.
    probes
        The probes of each entry, and the differences from the reference.
    """

    schema_version: int = Field(SCHEMA, alias="schema")
    plan: PlanRecord
    hash: str
    added: tuple[Entry, ...] = ()
    entries: tuple[EntryRecord, ...] = ()
    claims: tuple[DifferenceRecord, ...] = ()
    primary_verdicts: tuple[str, ...] | None = None
    external: ExternalRecord | None = None
    data_sets: DataSets | None = None
    curves: tuple[CurveRecord, ...] = ()
    probes: tuple[ProbeRow, ...] = ()

    @property
    def all_entries(self) -> tuple[Entry, ...]:
        """The entries of the plan, and then those that were added."""
        return (*self.plan.entries, *self.added)


def number_records(values: RecipeValues) -> tuple[NumberRecord, ...]:
    """Return the mean over seeds of each number; None if it is undefined."""
    return tuple(_number_record(key, float(draws[:, 0].mean())) for key, draws in values.items())


def _number_record(key: Key, mean: float) -> NumberRecord:
    return NumberRecord(**key._asdict(), value=mean if mean == mean else None)
