"""The typed content of ``similarity.json``."""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any

from pydantic import BaseModel, Field

from evenhand.representation.jackknife import IntervalEstimate
from evenhand.representation.results import (
    AttributeSimilarity,
    LayerMatrix,
    Matrix,
    SizeRatio,
)

SCHEMA = 1
FILE = "similarity.json"


class GroupSummary(BaseModel, frozen=True):
    """A group's similarity as the mean over layers, with the corrected p-value of the group."""

    group: str
    mean: float
    p_adjusted: float | None = None


class AttributeSummary(BaseModel, frozen=True):
    """The similarity of the two models of one seed by group, as means over layers.

    Attributes
    ----------
    groups
        The compared groups.
    size, difference
        The difference between the best-served and the worst-served group: ``size`` is absolute,
        ``difference`` is signed.
    """

    groups: tuple[GroupSummary, ...]
    size: IntervalEstimate | None = None
    difference: float | None = None

    @classmethod
    def of(cls, attribute: AttributeSimilarity) -> AttributeSummary:
        """Return the summary of an attribute."""
        groups = tuple(
            GroupSummary(group=group.group, mean=mean(group.value), p_adjusted=group.p_adjusted)
            for group in attribute.groups
            if group.value is not None
        )
        matrix = attribute.difference
        difference = None if matrix is None else mean(matrix.value)
        return cls(groups=groups, size=attribute.size, difference=difference)


class SeedSummary(BaseModel, frozen=True):
    """The similarity of the models of one seed, by attribute."""

    seed: int
    attributes: dict[str, AttributeSummary]


class SimilarityRecord(BaseModel, frozen=True):
    """The similarity of the layers of two models.

    Attributes
    ----------
    models, layers, widths
        The names of the two models, the names of the layers of each, and the number of features of
        each layer.
    kernel, level
        The kernel of CKA, and the nominal coverage of the intervals.
    split, unit, patients
        The split of the patients, what a patient is in these data ("patient", "lesion"), and the
        number of patients.
    everybody, attributes, ratios
        The results; see `evenhand.representation.results`.
    seeds
        A summary of each seed, if there are several pairs of models.
    """

    schema_version: int = Field(SCHEMA, alias="schema")
    models: tuple[str, str]
    layers: tuple[tuple[str, ...], tuple[str, ...]]
    widths: tuple[tuple[int, ...], tuple[int, ...]]
    kernel: str
    split: str
    unit: str
    level: float
    patients: int
    everybody: LayerMatrix
    attributes: dict[str, AttributeSimilarity]
    ratios: tuple[SizeRatio, ...]
    seeds: tuple[SeedSummary, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the record as JSON values, without fields that have their default."""
        values = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return {"schema": SCHEMA, **values}


def mean(matrix: Matrix) -> float:
    """Return the mean of the defined numbers of a matrix; NaN if none is defined.

    Examples
    --------
    >>> mean(((0.5, None), (None, 0.7)))
    0.6
    """
    values = [value for row in matrix for value in row if value is not None]
    return fmean(values) if values else math.nan
