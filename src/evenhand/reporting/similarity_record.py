"""The typed content of ``similarity.json``."""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any

from pydantic import BaseModel, Field

from evenhand.representation.jackknife import MeanSize
from evenhand.representation.results import (
    AttributeSimilarity,
    LayerMatrix,
    Matrix,
    SizeRatio,
)

SCHEMA = 1
FILE = "similarity.json"


class GroupSummary(BaseModel, frozen=True):
    """The mean over layers of a group's similarity, and its corrected p-value."""

    group: str
    mean: float
    p_adjusted: float | None = None


class AttributeSummary(BaseModel, frozen=True):
    """What one seed's networks come to, over layers.

    Attributes
    ----------
    groups
        The groups that were compared.
    size, difference
        How far the best served group lies from the worst, in size and signed.
    """

    groups: tuple[GroupSummary, ...]
    size: MeanSize | None = None
    difference: float | None = None

    @classmethod
    def of(cls, attribute: AttributeSimilarity) -> AttributeSummary:
        """Return the summary of an attribute."""
        groups = tuple(
            GroupSummary(group=group.group, mean=mean(group.value), p_adjusted=group.p_adjusted)
            for group in attribute.groups
            if group.value is not None
        )
        apart = attribute.difference
        difference = None if apart is None else mean(apart.value)
        return cls(groups=groups, size=attribute.size, difference=difference)


class SeedSummary(BaseModel, frozen=True):
    """What the networks of one seed come to, by attribute."""

    seed: int
    attributes: dict[str, AttributeSummary]


class SimilarityRecord(BaseModel, frozen=True):
    """What was compared, and how similar that is.

    Attributes
    ----------
    models, layers, widths
        The names of the two models, of the layers of each, and how many numbers a layer has.
    kernel, level
        What makes two samples alike, and the coverage of the intervals.
    split, unit, patients
        Where the patients come from, what they really are, and how many there are.
    everybody, attributes, ratios
        The results; see `evenhand.representation.results`.
    seeds
        A summary of each seed, where there are several pairs of models.
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
        """Return the record as JSON values; what does not apply is left out."""
        values = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return {"schema": SCHEMA, **values}


def mean(matrix: Matrix) -> float:
    """Return the mean of the numbers that are defined; NaN where none is.

    Examples
    --------
    >>> mean(((0.5, None), (None, 0.7)))
    0.6
    """
    values = [value for row in matrix for value in row if value is not None]
    return fmean(values) if values else math.nan
