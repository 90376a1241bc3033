"""External patients: all entries score them; differences that are shown are tested on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.prepare import store_cohort
from evenhand.cohort.readers import reader_of
from evenhand.errors import EvenhandError
from evenhand.evaluation.settings import PredictSettings
from evenhand.jobs.benchmark.adjusting import TestedModel
from evenhand.jobs.benchmark.comparing import Measure, Result, SampleCounts, seed_assignments
from evenhand.jobs.benchmark.entries import ERM
from evenhand.jobs.benchmark.settings import BenchmarkSettings
from evenhand.jobs.predict.job import INHERITED
from evenhand.jobs.predict.new_data import open_new_data
from evenhand.metrics.recipes import Difference, RecipeValues, compare_recipes
from evenhand.metrics.registry import Floats
from evenhand.metrics.rows import EVERYBODY, Key

SPLIT = "external"
"""The split of external patients."""


@dataclass(frozen=True, eq=False)
class ExternalResult:
    """The results for external patients.

    Attributes
    ----------
    values
        The numbers of each entry, ``(S, 1 + B)``, as means over the models of all folds.
    differences
        The differences that are shown on the benchmark's own patients, measured on external
        patients. They are corrected as a family of their own.
    sizes
        The counts behind each number.
    """

    values: Mapping[str, RecipeValues]
    differences: Sequence[Difference]
    sizes: Mapping[Key, SampleCounts]


@lru_cache(1)
def external_cohort(settings: BenchmarkSettings, classes: tuple[str, ...]) -> Cohort:
    """Return the external patients, with the classes of the benchmark.

    Raises
    ------
    EvenhandError
        If the data cannot be read, or lack labels, an attribute or a mapped column, or if a class
        is unknown.
    """
    read_settings = _read_settings(settings)
    data = open_new_data(read_settings, classes, label_named=True)
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
            f"the data lack the attribute {', '.join(lacking)}; they have: "
            f"{', '.join(data.cohort.attributes) or 'none'}. Name its column with --map."
        )
    rng = np.random.default_rng(settings.seed)
    return store_cohort(data.cohort, read_settings, settings.images, rng)


def _read_settings(settings: BenchmarkSettings) -> PredictSettings:
    """Return the settings that read the external data.

    They are those of the benchmark's data if both have the same reader.
    """
    assert settings.external is not None
    same_reader = reader_of(settings.external)[0] is reader_of(settings.data)[0]
    names = INHERITED if same_reader else ("attribute", "bins")
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
    """Measure the models of every fold and seed on external patients.

    Parameters
    ----------
    tested
        The models of each entry, tested on external patients, by seed and fold.
    result
        The result on the benchmark's own patients.
    settings
        The settings of the benchmark.
    """
    rng = np.random.default_rng([settings.seed, 1])
    first = tested[ERM][0][0]
    measure = Measure.of([first], settings, rng)
    assignments = seed_assignments(settings, rng)
    values, recombined = {}, {}
    for name, by_seed in tested.items():
        models = [[fold] for folds in by_seed for fold in folds]
        resampled = measure.model_values(models, measure.patients)
        points = measure.model_values(models, measure.data_only)
        shape = (settings.seeds, settings.folds)
        values[name] = {
            key: numbers.reshape(*shape, -1).mean(axis=1) for key, numbers in resampled.items()
        }
        recombined[name] = {
            key: np.array(
                [_reassigned_means(point.reshape(shape), assignment) for assignment in assignments]
            )
            for key, point in points.items()
        }
    family: dict[str, dict[Key, Floats]] = {ERM: dict(values[ERM])}
    for difference in result.planned:
        numbers = values.get(difference.recipe, {})
        if difference.better and difference.key in numbers:
            entry_numbers = family.setdefault(difference.recipe, {})
            entry_numbers[difference.key] = numbers[difference.key]
    keys = values[ERM]
    differences = compare_recipes(
        family,
        ERM,
        {key: measure.rarer_patients(key) for key in keys},
        rng,
        recombined=recombined,
        folds=settings.folds,
    )
    return ExternalResult(values, differences, {key: measure.size(key) for key in keys})


def _reassigned_means(points: Floats, assignment: NDArray[np.intp]) -> Floats:
    """Return means over folds ``(S,)`` of numbers ``(S, folds)`` that are assigned to new seeds."""
    means: Floats = np.take_along_axis(points.T, assignment, axis=1).mean(axis=0)
    return means


def keys_across(values: RecipeValues) -> list[Key]:
    """Return the keys of numbers of everybody, or across the groups of an attribute."""
    return [key for key in values if key.group == EVERYBODY]
