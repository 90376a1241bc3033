"""Compare entries by their predictions of test patients, over seeds and folds.

Every patient is tested in one fold. For each entry and seed, the folds together hold one prediction
of every sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.linalg import hadamard

from evenhand.evaluation.rows import groups_in
from evenhand.jobs.benchmark.adjusting import TestedModel
from evenhand.jobs.benchmark.entries import ERM
from evenhand.jobs.benchmark.settings import BenchmarkSettings
from evenhand.metrics.groups import Excluded, Groups, excluded_groups
from evenhand.metrics.recipes import (
    OVERALL,
    RATES,
    Difference,
    RecipeValues,
    compare_recipes,
    compared_rates,
    compared_values,
    rarer_patients,
)
from evenhand.metrics.resample import Bootstrap, Resamples, resample
from evenhand.metrics.rows import EVERYBODY, Key
from evenhand.metrics.scored import Scored, as_scored
from evenhand.metrics.target_names import find_target
from evenhand.metrics.targets import OVERALL as TARGET_OVERALL
from evenhand.tables.predictions import Predictions

CHOSEN = "chosen on validation"
"""The name of the entry that consists of the best entry on validation in each fold and seed."""

ASSIGNMENTS = 16
"""The number of `seed_assignments` for three seeds or more."""

DECISIONS = "equalized_odds_difference"
"""The metric of entries that change only decisions."""

Groupings = Mapping[str, Groups]
"""The groups of each attribute."""

BySeed = Sequence[Sequence[TestedModel]]
"""The tested models of an entry, by seed and fold."""


@dataclass(frozen=True)
class Selection:
    """The result of choosing an entry on validation patients.

    Attributes
    ----------
    picks
        The number of folds and seeds in which each entry was chosen.
    value
        The primary number of the chosen entries.
    best, best_value
        The entry that is best on test patients, and its primary number, which is optimistic because
        it is the best of several.
    regret
        The difference between the best entry and the chosen ones; 0 if it is negative.
    other_winner
        The share of resamples of patients and seeds in which another entry is the best.
    other_by_seed
        The share of seeds, on all patients, for which another entry is the best.
    """

    picks: Mapping[str, int]
    value: float
    best_value: float
    best: str
    regret: float
    other_winner: float
    other_by_seed: float


class SampleCounts(NamedTuple):
    """The samples and patients behind a number, and with two classes the positive samples."""

    samples: int
    patients: int
    positives: int | None


@dataclass(frozen=True)
class Roles:
    """The entries that are not compared like the others.

    Attributes
    ----------
    decision_entries
        Entries that change only decisions: they are compared by equalised odds, and by the
        sensitivity and specificity of each group.
    added
        Entries that are not in the plan.
    """

    decision_entries: frozenset[str] = frozenset()
    added: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Result:
    """All numbers of a benchmark.

    Attributes
    ----------
    values
        The numbers of each entry, ``(S, 1 + B)`` each: S seeds; the data and B resamples.
    differences
        Each other entry minus `ERM`, for each number: first the family of the plan, then the
        exploratory family.
    sizes
        The counts behind each number.
    seeds
        The number of seeds of each entry.
    primary
        The primary numbers, one for each attribute.
    worst
        The level of each attribute that `ERM` serves worst on validation.
    selection
        The result of choosing on validation; None if there is only one candidate.
    roles
        The entries that are compared in another way.
    exploratory
        The differences that the plan does not test, by entry and number. They are corrected as a
        family of their own, and no claim rests on them.
    """

    values: Mapping[str, RecipeValues]
    differences: Sequence[Difference]
    sizes: Mapping[Key, SampleCounts]
    seeds: int
    primary: tuple[Key, ...] = ()
    worst: Mapping[str, str] = field(default_factory=dict)
    selection: Selection | None = None
    roles: Roles = Roles()
    exploratory: frozenset[tuple[str, Key]] = frozenset()

    def of_recipe(self, name: str) -> list[Difference]:
        """Return the differences of one entry."""
        return [difference for difference in self.differences if difference.recipe == name]

    def by_key(self, name: str) -> dict[Key, Difference]:
        """Return the differences of one entry, by the key of their number."""
        return {difference.key: difference for difference in self.of_recipe(name)}

    def is_planned(self, difference: Difference) -> bool:
        """Return whether the plan tests a difference; only then may a claim rest on it."""
        return (difference.recipe, difference.key) not in self.exploratory

    @property
    def planned(self) -> list[Difference]:
        """The differences that the plan tests."""
        return [difference for difference in self.differences if self.is_planned(difference)]


def primary_keys(settings: BenchmarkSettings) -> tuple[Key, ...]:
    """Return the keys of the primary numbers: one, or one for each attribute."""
    target = find_target(settings.primary)
    metric = target.metric.name
    if target.aggregate == TARGET_OVERALL:
        return (Key(EVERYBODY, EVERYBODY, metric),)
    names = settings.attribute if target.attribute is None else (target.attribute,)
    return tuple(Key(name, EVERYBODY, metric, target.aggregate) for name in names)


def compare_entries(
    tested: Mapping[str, BySeed], settings: BenchmarkSettings, roles: Roles | None = None
) -> Result:
    """Compare entries with erm on test patients.

    Parameters
    ----------
    tested
        The tested models of each entry.
    settings
        The settings of the benchmark.
    roles
        The entries that are compared in another way; by default there are none.
    """
    roles = roles or Roles()
    rng = np.random.default_rng(settings.seed)
    measure = Measure.of(tested[ERM][0], settings, rng)
    assignments = seed_assignments(settings, rng)
    values, recombined = {}, {}
    for name, by_seed in tested.items():
        rates = bool(roles.decision_entries) and name in (ERM, *roles.decision_entries)
        values[name], recombined[name] = measure.entry_values(by_seed, assignments, rates=rates)
    rarer = {key: measure.rarer_patients(key) for key in values[ERM]}
    planned, others = _families(values, settings, roles)
    differences = [
        difference
        for family in (planned, others)
        for difference in compare_recipes(
            _family_values(values, family),
            ERM,
            rarer,
            rng,
            recombined=recombined,
            folds=settings.folds,
        )
    ]
    return Result(
        values=values,
        differences=differences,
        sizes={key: measure.size(key) for key in values[ERM]},
        seeds=settings.seeds,
        roles=roles,
        exploratory=frozenset((name, key) for name, keys in others.items() for key in keys),
    )


Family = Mapping[str, Sequence[Key]]
"""The numbers by which each entry is compared with erm."""


def _families(
    values: Mapping[str, RecipeValues], settings: BenchmarkSettings, roles: Roles
) -> tuple[Family, Family]:
    """Return the family that the plan tests, and the exploratory one."""
    compared = {name: _compared_keys(values[name], name, roles) for name in values if name != ERM}
    primary = primary_keys(settings)
    planned = {
        name: keys if settings.decides == "every" else primary
        for name, keys in compared.items()
        if name not in roles.added and (settings.decides == "every" or name == CHOSEN)
    }
    exploratory = {
        name: tuple(key for key in keys if key not in planned.get(name, ()))
        for name, keys in compared.items()
    }
    return planned, {name: keys for name, keys in exploratory.items() if keys}


def _compared_keys(values: RecipeValues, name: str, roles: Roles) -> tuple[Key, ...]:
    """Return the numbers by which an entry is compared."""
    if name in roles.decision_entries:
        return tuple(key for key in values if key.base in (DECISIONS, *RATES))
    return tuple(key for key in values if key.base not in RATES)


def _family_values(values: Mapping[str, RecipeValues], family: Family) -> dict[str, RecipeValues]:
    """Return the values of erm, and the compared values of each entry of a family."""
    return {ERM: values[ERM]} | {
        name: {key: values[name][key] for key in keys} for name, keys in family.items()
    }


@dataclass(frozen=True, eq=False)
class Measure:
    """Computes numbers of tested models on the rows of all folds.

    Attributes
    ----------
    rows
        The rows of all folds, in the order of the samples' names.
    order
        ``(n,)``, the position of each of these rows in the concatenated folds.
    groups, excluded
        The groups of each attribute, and the excluded ones.
    patients
        Resamples of the patients.
    data_only
        One replicate, the data themselves.
    overall
        The metrics that are computed for everybody.
    """

    rows: Scored
    order: NDArray[np.intp]
    groups: Groupings
    excluded: Excluded
    patients: Resamples
    data_only: Resamples
    overall: tuple[str, ...]

    @classmethod
    def of(
        cls, folds: Sequence[TestedModel], settings: BenchmarkSettings, rng: np.random.Generator
    ) -> Measure:
        """Return the measure for the rows of all folds of one model."""
        model = join_folds(folds)
        groups = groups_in(model.predictions, settings.attribute)
        count = len(model.rows.members)
        patients, data_only = resample(count, Bootstrap(), rng), resample(count, None, rng)
        overall = list(OVERALL)
        if model.rows.binary:
            prevalence = float(np.clip(model.rows.labels.mean(), 0.01, 0.99))
            overall.append(f"net_benefit_at[{prevalence:.2f}]")  # the same threshold for all
        excluded = excluded_groups(settings.exclude_group, groups)
        order = _order(folds)
        return cls(model.rows, order, groups, excluded, patients, data_only, tuple(overall))

    def model_values(
        self, models: Iterable[Sequence[TestedModel]], resamples: Resamples, *, rates: bool = False
    ) -> RecipeValues:
        """Return the numbers of several models, ``(models, 1 + B)`` each.

        ``rates`` adds the sensitivity and specificity of each group.
        """
        by_model = []
        for folds in models:
            rows = _join_rows(self.rows, folds, self.order)
            values = compared_values(rows, self.groups, resamples, self.excluded, self.overall)
            if rates and rows.binary:
                values |= compared_rates(rows, self.groups, resamples, self.excluded)
            by_model.append(values)
        return {key: np.stack([numbers[key] for numbers in by_model]) for key in by_model[0]}

    def entry_values(
        self, by_seed: BySeed, assignments: Sequence[NDArray[np.intp]], *, rates: bool = False
    ) -> tuple[RecipeValues, RecipeValues]:
        """Return an entry's numbers ``(S, 1 + B)``, and those after each assignment ``(R, S)``."""
        values = self.model_values(by_seed, self.patients, rates=rates)
        reassigned = (
            folds for assignment in assignments for folds in _reassigned_fits(by_seed, assignment)
        )
        points = self.model_values(reassigned, self.data_only, rates=rates)
        return values, {
            key: numbers.reshape(len(assignments), -1) for key, numbers in points.items()
        }

    def row_sets(self, key: Key) -> list[NDArray[np.intp]]:
        """Return the row numbers behind a number: of everybody, of a group, or of each group."""
        if key.attribute == EVERYBODY:
            return [np.arange(len(self.rows))]
        attribute_groups = self.groups[key.attribute]
        if key.group != EVERYBODY:
            return [attribute_groups.rows(key.group)]
        levels = attribute_groups.compared(self.excluded.get(key.attribute, ()))
        return [attribute_groups.rows(level) for level in levels]

    def rarer_patients(self, key: Key) -> int:
        """Return the fewest patients of a class, over the classes and groups behind a number."""
        return min(rarer_patients(self.rows, rows) for rows in self.row_sets(key))

    def size(self, key: Key) -> SampleCounts:
        """Return the counts behind a number."""
        part = self.rows.take(np.concatenate(self.row_sets(key)))
        positives = int((part.labels == 1).sum()) if part.binary else None
        return SampleCounts(len(part), len(part.members), positives)


def seed_assignments(
    settings: BenchmarkSettings, rng: np.random.Generator
) -> list[NDArray[np.intp]]:
    """Return assignments ``(folds, S)`` of each fold's fits to seeds, the original one first.

    The fits of different folds are independent, so every assignment is as likely as the original
    one; the spread over assignments gives the variance over seeds. With two seeds, the assignments
    are balanced over the folds (McCarthy, Rev. Int. Stat. Inst. 1969), and the variance of a sum
    over folds is exact.
    """
    plain = np.tile(np.arange(settings.seeds), (settings.folds, 1))
    if settings.seeds != 2:
        return [plain, *(rng.permuted(plain, axis=1) for _ in range(ASSIGNMENTS - 1))]
    size = 2 ** int(np.ceil(np.log2(settings.folds + 1)))
    swapped = hadamard(size)[:, 1 : settings.folds + 1] < 0
    return [np.where(row[:, None], plain[:, ::-1], plain) for row in swapped]


def _reassigned_fits(by_seed: BySeed, assignment: NDArray[np.intp]) -> Iterator[list[TestedModel]]:
    """Yield the fits of each seed after an assignment."""
    for column in assignment.T:
        yield [by_seed[seed][fold] for fold, seed in enumerate(column)]


def join_folds(folds: Sequence[TestedModel]) -> TestedModel:
    """Join the folds of a model; samples are in the order of their names."""
    order = _order(folds)
    table = pd.concat([fold.predictions.table for fold in folds], ignore_index=True)
    first = folds[0].predictions
    predictions = Predictions(table.iloc[order].reset_index(drop=True), first.classes, first.levels)
    rows = as_scored(
        predictions.labels,
        predictions.scores,
        patients=predictions.patients[0],
        classes=predictions.classes,
    )
    return TestedModel(predictions, _join_rows(rows, folds, order))


def _order(folds: Sequence[TestedModel]) -> NDArray[np.intp]:
    """Return the positions of samples in the concatenated folds, sorted by their names."""
    names = np.concatenate([fold.predictions.table["sample_id"].astype(str) for fold in folds])
    return np.argsort(names, kind="stable")


def _join_rows(rows: Scored, folds: Sequence[TestedModel], order: NDArray[np.intp]) -> Scored:
    """Return the rows of all folds with the scores and decisions of the folds' models."""
    parts = [fold.rows for fold in folds]
    whole = replace(
        rows,
        scores=np.concatenate([part.scores for part in parts])[order],
        decisions=np.concatenate([part.decisions for part in parts])[order],
    )
    if not rows.binary:
        return whole
    thresholds = np.concatenate([np.asarray(part.thresholds) for part in parts])
    return replace(whole, thresholds=thresholds[order])
