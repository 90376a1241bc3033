"""The differences between entries, from what they say of test patients by seed and fold.

Every patient is tested in one fold, so that the predictions of all folds together are those of
everybody, once for each entry and seed.
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
from evenhand.metrics.scored import Scored, scored
from evenhand.metrics.target_names import find_target
from evenhand.metrics.targets import OVERALL as TARGET_OVERALL
from evenhand.tables.predictions import Predictions

CHOSEN = "chosen on validation"
"""What is made of the entry with the best validation target of each fold and seed."""

DEALS = 16
"""Orders in which the fits of each fold are dealt out to three seeds or more."""

DECISIONS = "equalized_odds_difference"
"""What entries that move decisions alone are judged by."""

Groupings = Mapping[str, Groups]

ByFold = Sequence[Sequence[TestedModel]]
"""What an entry says of test patients, by seed and fold."""


@dataclass(frozen=True)
class Selection:
    """What choosing an entry on validation patients gave.

    Attributes
    ----------
    picks
        How often each entry was chosen, over folds and seeds.
    value, best_value
        The number that decides, of what was chosen, and of the entry that is best on test patients.
    best
        That entry. Its value is the best of several, and so looks better than it is.
    regret
        By how much the best entry is better than what was chosen; 0 where it is not.
    other_winner
        Share of resamples of patients and seeds in which another entry is the best.
    other_by_seed
        Share of the seeds, on all patients, in which another entry is the best.
    """

    picks: Mapping[str, int]
    value: float
    best_value: float
    best: str
    regret: float
    other_winner: float
    other_by_seed: float


class SampleCounts(NamedTuple):
    """How many samples and patients a number rests on, and of two classes how many positives."""

    samples: int
    patients: int
    positives: int | None


@dataclass(frozen=True)
class Roles:
    """Which entries are tested together, and in what.

    Attributes
    ----------
    apart
        Entries that move decisions alone: they are compared in equalised odds, and in the
        sensitivity and specificity of each group.
    added
        Entries that are not in the plan.
    """

    apart: frozenset[str] = frozenset()
    added: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Result:
    """All numbers of a benchmark.

    Attributes
    ----------
    values
        The numbers of each entry, ``(S, 1 + B)`` each.
    differences
        Each other entry less `ERM`, in each number: the family of the plan, then the others.
    sizes
        What each number rests on.
    seeds
        How many models each entry has.
    primary
        The numbers that decide, one for each attribute.
    worst
        The level of each attribute that `ERM` serves worst on validation.
    selection
        What choosing on validation gave; None where only one entry is trained.
    roles
        Which entries are compared in what.
    exploratory
        Entries and numbers whose differences the plan does not test: they are corrected in a
        family of their own, and claim nothing.
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

    def is_planned(self, difference: Difference) -> bool:
        """Whether the plan tests a difference, so that a claim may rest on it."""
        return (difference.recipe, difference.key) not in self.exploratory

    @property
    def planned(self) -> list[Difference]:
        """The differences that the plan tests."""
        return [difference for difference in self.differences if self.is_planned(difference)]


def primary_keys(settings: BenchmarkSettings) -> tuple[Key, ...]:
    """Return the numbers that decide: one, or one for each attribute."""
    target = find_target(settings.primary)
    metric = target.metric.name
    if target.aggregate == TARGET_OVERALL:
        return (Key(EVERYBODY, EVERYBODY, metric),)
    names = settings.attribute if target.attribute is None else (target.attribute,)
    return tuple(Key(name, EVERYBODY, metric, target.aggregate) for name in names)


def compare(
    tested: Mapping[str, ByFold], settings: BenchmarkSettings, roles: Roles | None = None
) -> Result:
    """Compare entries with erm by what they say of test patients, of each seed and fold.

    Parameters
    ----------
    tested
        Of each entry by name.
    settings
        Of the benchmark.
    roles
        Which entries are tested together; by default all, in everything.
    """
    roles = roles or Roles()
    rng = np.random.default_rng(settings.seed)
    measure = Measure.of(tested[ERM][0], settings, rng)
    deals = deals_of(settings, rng)
    values, recombined = {}, {}
    for name, by_seed in tested.items():
        rates = bool(roles.apart) and name in (ERM, *roles.apart)
        values[name], recombined[name] = measure.of_entry(by_seed, deals, rates=rates)
    rarer = {key: measure.rarer(key) for key in values[ERM]}
    planned, others = _families(values, settings, roles)
    differences = [
        difference
        for family in (planned, others)
        for difference in compare_recipes(
            _chosen_keys(values, family),
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
"""The numbers that each entry is compared with erm in."""


def _families(
    values: Mapping[str, RecipeValues], settings: BenchmarkSettings, roles: Roles
) -> tuple[Family, Family]:
    """Return the family that the plan tests, and the exploratory one."""
    every = {name: _compared(values[name], name, roles) for name in values if name != ERM}
    decisive = primary_keys(settings)
    planned = {
        name: keys if settings.decides == "every" else decisive
        for name, keys in every.items()
        if name not in roles.added and (settings.decides == "every" or name == CHOSEN)
    }
    others = {
        name: tuple(key for key in keys if key not in planned.get(name, ()))
        for name, keys in every.items()
    }
    return planned, {name: keys for name, keys in others.items() if keys}


def _compared(values: RecipeValues, name: str, roles: Roles) -> tuple[Key, ...]:
    """Return the numbers that an entry is compared in."""
    if name in roles.apart:
        return tuple(key for key in values if key.base in (DECISIONS, *RATES))
    return tuple(key for key in values if key.base not in RATES)


def _chosen_keys(values: Mapping[str, RecipeValues], family: Family) -> dict[str, RecipeValues]:
    """Return the values of a family: erm's, and those that each entry is compared in."""
    return {ERM: values[ERM]} | {
        name: {key: values[name][key] for key in keys} for name, keys in family.items()
    }


@dataclass(frozen=True, eq=False)
class Measure:
    """Everybody's rows, and how their numbers are computed."""

    rows: Scored
    order: NDArray[np.intp]
    groups: Groupings
    excluded: Excluded
    patients: Resamples
    once: Resamples
    overall: tuple[str, ...]

    @classmethod
    def of(
        cls, folds: Sequence[TestedModel], settings: BenchmarkSettings, rng: np.random.Generator
    ) -> Measure:
        """Return how the rows of some folds, together everybody's, are measured."""
        first = everybody(folds)
        groups = groups_in(first.predictions, settings.attribute)
        count = len(first.rows.members)
        patients, once = resample(count, Bootstrap(), rng), resample(count, None, rng)
        overall = list(OVERALL)
        if first.rows.binary:
            prevalence = float(np.clip(first.rows.labels.mean(), 0.01, 0.99))
            overall.append(
                f"net_benefit_at[{prevalence:.2f}]"
            )  # one threshold for all: the prevalence
        excluded = excluded_groups(settings.exclude_group, groups)
        order = _order(folds)
        return cls(first.rows, order, groups, excluded, patients, once, tuple(overall))

    def numbers(
        self, models: Iterable[Sequence[TestedModel]], resamples: Resamples, *, rates: bool = False
    ) -> RecipeValues:
        """Return the numbers of several models, ``(models, 1 + B)`` each."""
        by_model = []
        for folds in models:
            rows = _joined(self.rows, folds, self.order)
            values = compared_values(rows, self.groups, resamples, self.excluded, self.overall)
            if rates and rows.binary:
                values |= compared_rates(rows, self.groups, resamples, self.excluded)
            by_model.append(values)
        return {key: np.stack([numbers[key] for numbers in by_model]) for key in by_model[0]}

    def of_entry(
        self, by_seed: ByFold, deals: Sequence[NDArray[np.intp]], *, rates: bool = False
    ) -> tuple[RecipeValues, RecipeValues]:
        """Return an entry's numbers ``(S, 1 + B)``, and with its fits dealt out anew ``(R, S)``."""
        values = self.numbers(by_seed, self.patients, rates=rates)
        dealt = (folds for deal in deals for folds in _dealt(by_seed, deal))
        points = self.numbers(dealt, self.once, rates=rates)
        return values, {key: drawn.reshape(len(deals), -1) for key, drawn in points.items()}

    def places(self, key: Key) -> list[NDArray[np.intp]]:
        """Return the samples behind a number: of everybody, of a group, or of each group."""
        if key.attribute == EVERYBODY:
            return [np.arange(len(self.rows))]
        attribute_groups = self.groups[key.attribute]
        if key.group != EVERYBODY:
            return [attribute_groups.rows(key.group)]
        levels = attribute_groups.compared(self.excluded.get(key.attribute, ()))
        return [attribute_groups.rows(level) for level in levels]

    def rarer(self, key: Key) -> int:
        """Return how many patients of the rarer class a number has, in its smallest group."""
        return min(rarer_patients(self.rows, places) for places in self.places(key))

    def size(self, key: Key) -> SampleCounts:
        """Return what a number rests on."""
        part = self.rows.take(np.concatenate(self.places(key)))
        positives = int((part.labels == 1).sum()) if part.binary else None
        return SampleCounts(len(part), len(part.members), positives)


def deals_of(settings: BenchmarkSettings, rng: np.random.Generator) -> list[NDArray[np.intp]]:
    """Return orders ``(folds, S)`` in which the fits of each fold are dealt out to the seeds.

    With two seeds they are balanced over the folds (McCarthy, Rev. Int. Stat. Inst. 1969), so that
    the variance of a sum over folds comes out exactly.
    """
    plain = np.tile(np.arange(settings.seeds), (settings.folds, 1))
    if settings.seeds != 2:
        return [plain, *(rng.permuted(plain, axis=1) for _ in range(DEALS - 1))]
    size = 2 ** int(np.ceil(np.log2(settings.folds + 1)))
    swapped = hadamard(size)[:, 1 : settings.folds + 1] < 0
    return [np.where(row[:, None], plain[:, ::-1], plain) for row in swapped]


def _dealt(by_seed: ByFold, deal: NDArray[np.intp]) -> Iterator[list[TestedModel]]:
    """Yield the fits of each seed after they were dealt out anew in every fold."""
    for column in deal.T:
        yield [by_seed[seed][fold] for fold, seed in enumerate(column)]


def everybody(folds: Sequence[TestedModel]) -> TestedModel:
    """Join the folds; samples are in the order of their names."""
    order = _order(folds)
    table = pd.concat([fold.predictions.table for fold in folds], ignore_index=True)
    first = folds[0].predictions
    predictions = Predictions(table.iloc[order].reset_index(drop=True), first.classes, first.levels)
    rows = scored(
        predictions.labels,
        predictions.scores,
        patients=predictions.patients[0],
        classes=predictions.classes,
    )
    return TestedModel(predictions, _joined(rows, folds, order))


def _order(folds: Sequence[TestedModel]) -> NDArray[np.intp]:
    """Return the places of the folds' samples, one fold after the other, by their names."""
    names = np.concatenate([fold.predictions.table["sample_id"].astype(str) for fold in folds])
    return np.argsort(names, kind="stable")


def _joined(rows: Scored, folds: Sequence[TestedModel], order: NDArray[np.intp]) -> Scored:
    """Return rows of everybody with the scores and decisions that the folds say."""
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
