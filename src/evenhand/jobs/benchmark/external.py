"""Patients of elsewhere: every entry scores them, and what was shown here is tested there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.prepare import stored_cohort
from evenhand.cohort.readers import reader_of
from evenhand.errors import EvenhandError
from evenhand.evaluation.settings import PredictSettings
from evenhand.jobs.benchmark.adjusting import TestedModel
from evenhand.jobs.benchmark.comparing import Measure, Result, SampleCounts, deals_of
from evenhand.jobs.benchmark.entries import ERM
from evenhand.jobs.benchmark.settings import BenchmarkSettings
from evenhand.jobs.predict.job import INHERITED
from evenhand.jobs.predict.new_data import open_new_data
from evenhand.metrics.recipes import Difference, RecipeValues, compare_recipes
from evenhand.metrics.registry import Floats
from evenhand.metrics.rows import EVERYBODY, Key

SPLIT = "external"
"""The split of the patients of elsewhere."""


@dataclass(frozen=True, eq=False)
class ExternalResult:
    """What the entries are worth on patients of elsewhere.

    Attributes
    ----------
    values
        The numbers of each entry, ``(S, 1 + B)``: the mean over the models of all folds.
    differences
        What is shown here, there; corrected among these alone.
    sizes
        What each number rests on.
    """

    values: Mapping[str, RecipeValues]
    differences: Sequence[Difference]
    sizes: Mapping[Key, SampleCounts]


@lru_cache(1)
def external_cohort(settings: BenchmarkSettings, classes: tuple[str, ...]) -> Cohort:
    """Return the patients of elsewhere, with the classes of the benchmark.

    Raises
    ------
    EvenhandError
        They cannot be read, have no labels, another class or attribute, or a mapped column is
        missing.
    """
    reading = _asked(settings)
    data = open_new_data(reading, classes, label_named=True)
    if data.unlabelled:
        raise EvenhandError(data.unlabelled)
    lacking = [
        part
        for name in settings.attribute
        for part in name.split("*")
        if part not in data.cohort.attributes
    ]
    if lacking:
        raise EvenhandError(
            f"there is no attribute {', '.join(lacking)}; there is: "
            f"{', '.join(data.cohort.attributes) or 'none'}. Name its column with --map."
        )
    rng = np.random.default_rng(settings.seed)
    return stored_cohort(data.cohort, reading, settings.images, rng)


def _asked(settings: BenchmarkSettings) -> PredictSettings:
    """Return how the data of elsewhere are read: as those of the benchmark, where they can be."""
    assert settings.external is not None
    same = reader_of(settings.external)[0] is reader_of(settings.data)[0]
    names = INHERITED if same else ("attribute", "bins")
    values = {name: getattr(settings, name) for name in names}
    return PredictSettings(
        run=Path(),
        data=settings.external,
        map=settings.map,
        cache=settings.cache,
        seed=settings.seed,
        **{**values, "positive": None},
    )


def compare_external(
    tested: Mapping[str, Sequence[Sequence[TestedModel]]],
    result: Result,
    settings: BenchmarkSettings,
) -> ExternalResult:
    """Measure the models of every fold and seed on patients of elsewhere.

    Parameters
    ----------
    tested
        What each entry says of them, by seed and fold.
    result
        What is shown here.
    settings
        Of the benchmark.
    """
    rng = np.random.default_rng([settings.seed, 1])
    first = tested[ERM][0][0]
    measure = Measure.of([first], settings, rng)
    deals = deals_of(settings, rng)
    values, recombined = {}, {}
    for name, by_seed in tested.items():
        models = [[fold] for folds in by_seed for fold in folds]
        own = measure.numbers(models, measure.patients)
        points = measure.numbers(models, measure.once)
        shape = (settings.seeds, settings.folds)
        values[name] = {key: draws.reshape(*shape, -1).mean(axis=1) for key, draws in own.items()}
        recombined[name] = {
            key: np.array([_dealt(point.reshape(shape), deal) for deal in deals])
            for key, point in points.items()
        }
    shown = [
        difference
        for difference in result.planned
        if difference.better and difference.recipe in values
    ]
    family: dict[str, RecipeValues] = {ERM: values[ERM]}
    for difference in shown:
        if difference.key in values[difference.recipe]:
            family.setdefault(difference.recipe, {})
            family[difference.recipe] = {
                **family[difference.recipe],
                difference.key: values[difference.recipe][difference.key],
            }
    keys = values[ERM]
    differences = compare_recipes(
        family,
        ERM,
        {key: measure.rarer(key) for key in keys},
        rng,
        recombined=recombined,
        folds=settings.folds,
    )
    return ExternalResult(values, differences, {key: measure.size(key) for key in keys})


def _dealt(points: Floats, deal: NDArray[np.intp]) -> Floats:
    """Return the means over folds ``(S,)`` after each fold's models are dealt out to the seeds."""
    means: Floats = np.take_along_axis(points.T, deal, axis=1).mean(axis=0)
    return means


def keys_across(values: RecipeValues) -> list[Key]:
    """Return the numbers that are of everybody, or across the groups of an attribute."""
    return [key for key in values if key.group == EVERYBODY]
