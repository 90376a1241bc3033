"""The typed content of ``benchmark.json``."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Self

from pydantic import BaseModel, Field

from evenhand.jobs.benchmark.entries import Entry
from evenhand.metrics.learning_curve import LearningCurve
from evenhand.metrics.ranks import RankTest
from evenhand.metrics.recipes import Difference, RecipeValues
from evenhand.metrics.rows import EVERYBODY, Key, full_name
from evenhand.reporting.probe_record import ProbeRow

SCHEMA = 1


class _Part(BaseModel, frozen=True, extra="allow"):
    """A part of the record; entries that this version does not know are kept."""

    def as_json(self) -> dict[str, Any]:
        """Return the part as JSON values, without what was never set."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class RecipeTerms(_Part):
    """The recipe of all entries: what several data sets must share; other settings are kept."""

    trials: int
    lr_min: float
    lr_max: float
    epochs: int


class PlanRecord(_Part):
    """What was fixed before any test row was scored.

    Attributes
    ----------
    entries, reference
        What is compared, and the name of the entry that all are compared with.
    attributes
        The protected attributes.
    primary, decides
        The number that decides, and whose numbers are tested: ``every`` entry's, or the one that
        decides of the entry that is ``chosen`` on validation.
    test, level
        The statistical test in words, and its level.
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
        """The number that decides, without the attribute that it may be limited to."""
        return self.primary.partition(":")[0]

    @property
    def primary_attributes(self) -> tuple[str, ...]:
        """The attributes whose number decides: the named one, or all."""
        attribute = self.primary.partition(":")[2]
        return (attribute,) if attribute else self.attributes


class NumberRecord(_Part):
    """A number of an entry, the mean over its seeds; None where it is undefined."""

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
        """Whether it is that metric of everybody, or across the groups of one of the attributes."""
        across = self.group == EVERYBODY and self.attribute in (EVERYBODY, *attributes)
        return across and self.name == name


class DifferenceRecord(NumberRecord):
    """A number of an entry less that of the reference; the fields are those of `Difference`."""

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
    """What came of an entry; ``levelled_down`` names the groups that lose, by attribute."""

    name: str
    numbers: tuple[NumberRecord, ...]
    differences: tuple[PlannedDifference, ...]
    levelled_down: dict[str, tuple[str, ...]]

    def mean(self, metric: str, attributes: Collection[str]) -> float | None:
        """Return a number of everybody or across groups, the mean over some attributes.

        None where it is not there, or undefined for an attribute.
        """
        values = [number.value for number in self.numbers if number.is_across(metric, attributes)]
        defined = [value for value in values if value is not None]
        return sum(defined) / len(defined) if values and len(defined) == len(values) else None


class ExternalRecord(_Part):
    """The numbers of each entry on external patients, and what was tested on them."""

    entries: dict[str, tuple[NumberRecord, ...]]
    differences: tuple[DifferenceRecord, ...]


class DataSets(_Part):
    """What several data sets say together.

    Attributes
    ----------
    values
        The number that decides, of each entry, for each data set.
    names
        The names of the data sets, this one first.
    verdicts
        The verdict of each of the others.
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
        Whose training patients become fewer.
    points
        The numbers at each share, all patients last.
    doubling
        The numbers with all of them less those with half of them.
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
    """What ``benchmark.json`` holds.

    Attributes
    ----------
    plan, hash
        What was fixed before any test row was scored, and the hash of it.
    added
        Entries that came later; they are exploratory.
    entries, claims
        The numbers of each entry, and the entries shown to be better, corrected.
    external, data_sets
        What came of external patients and of several data sets, where there are some.
    curves
        Learning curves of the reference, which are no part of the plan.
    probes
        How well each attribute is found in the networks, and less than in that of the reference.
    """

    schema_version: int = Field(SCHEMA, alias="schema")
    plan: PlanRecord
    hash: str
    added: tuple[Entry, ...] = ()
    entries: tuple[EntryRecord, ...] = ()
    claims: tuple[DifferenceRecord, ...] = ()
    external: ExternalRecord | None = None
    data_sets: DataSets | None = None
    curves: tuple[CurveRecord, ...] = ()
    probes: tuple[ProbeRow, ...] = ()

    @property
    def all_entries(self) -> tuple[Entry, ...]:
        """The entries of the plan, and those that were added later."""
        return (*self.plan.entries, *self.added)


def number_records(values: RecipeValues) -> tuple[NumberRecord, ...]:
    """Return the mean over seeds of each number, None where it is undefined."""
    return tuple(_number(key, float(draws[:, 0].mean())) for key, draws in values.items())


def _number(key: Key, mean: float) -> NumberRecord:
    return NumberRecord(**key._asdict(), value=mean if mean == mean else None)
