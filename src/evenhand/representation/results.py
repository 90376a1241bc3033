"""What a comparison of two networks' layers comes to, group by group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from evenhand.representation.jackknife import MeanSize

Matrix = tuple[tuple[float | None, ...], ...]
"""A number for each pair of layers, those of the first network as rows; None where undefined."""


@dataclass(frozen=True)
class LayerMatrix:
    """A number for each pair of layers, with its interval."""

    value: Matrix
    low: Matrix
    high: Matrix


@dataclass(frozen=True, kw_only=True)
class GroupSimilarity:
    """How similar the layers are for the patients of one group.

    Attributes
    ----------
    group, patients, auc
        Its name, its size, and how well the networks serve it; None where that is undefined.
    value, low, high
        CKA of each pair of layers, with intervals; None where the group was not compared.
    p, p_adjusted, p_layers
        The p-value of "no other than the rest"; corrected over all groups of all attributes; of
        each pair of layers, corrected over the pairs. None where nothing was tested.
    undefined
        Why the group was not compared.
    """

    group: str
    patients: int
    auc: float | None
    value: Matrix | None = None
    low: Matrix | None = None
    high: Matrix | None = None
    p: float | None = None
    p_layers: Matrix | None = None
    p_adjusted: float | None = None
    undefined: str | None = None

    @property
    def matrix(self) -> LayerMatrix | None:
        """CKA of each pair of layers; None where the group was not compared."""
        if self.value is None or self.low is None or self.high is None:
            return None
        return LayerMatrix(self.value, self.low, self.high)


class ServedContrast(NamedTuple):
    """The group that is served best less the one that is served worst.

    Attributes
    ----------
    best, worst
        The two groups.
    difference
        Of their similarities, for each pair of layers.
    size
        The mean of its absolute values.
    """

    best: str
    worst: str
    difference: LayerMatrix
    size: MeanSize


@dataclass(frozen=True, kw_only=True)
class AttributeSimilarity:
    """How similar the layers are by the groups of one attribute.

    Attributes
    ----------
    batch
        Patients of a batch, the same number for each group.
    groups
        Every group.
    best, worst, difference, size
        Those of `ServedContrast`; None where fewer than two groups can be ranked.
    undefined
        Why there is no contrast.
    """

    batch: int
    groups: tuple[GroupSimilarity, ...]
    best: str | None = None
    worst: str | None = None
    difference: LayerMatrix | None = None
    size: MeanSize | None = None
    undefined: str | None = None

    @property
    def contrast(self) -> ServedContrast | None:
        """The best served group less the worst; None where fewer than two can be ranked."""
        if self.best is None or self.worst is None or not (self.difference and self.size):
            return None
        return ServedContrast(self.best, self.worst, self.difference, self.size)


@dataclass(frozen=True, kw_only=True)
class SizeRatio:
    """How many times further apart the groups of an attribute are than those of ``over``."""

    attribute: str
    over: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    undefined: str | None = None

    @property
    def size(self) -> MeanSize | None:
        """The ratio with its interval; None where it is undefined."""
        if self.value is None or self.low is None or self.high is None:
            return None
        return MeanSize(self.value, self.low, self.high)


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """How similar the layers are: for all patients, by attribute, and attributes compared."""

    patients: int
    everybody: LayerMatrix
    attributes: dict[str, AttributeSimilarity]
    ratios: tuple[SizeRatio, ...] = ()
