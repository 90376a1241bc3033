"""Results of a comparison of two networks' layers by group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from evenhand.representation.jackknife import IntervalEstimate

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
    group, patients
        Name of the group, and its number of patients.
    auc
        AUC of both networks in the group; None if it is undefined.
    value, low, high
        CKA of each pair of layers, with intervals; None if the group was not compared.
    p, p_adjusted
        The p-value of "as similar as in all other patients", and corrected for all groups of all
        attributes; None if the group was not tested.
    p_layers
        The p-value of each pair of layers, corrected for the number of pairs.
    undefined
        The reason why the group was not compared.
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
        """CKA of each pair of layers; None if the group was not compared."""
        if self.value is None or self.low is None or self.high is None:
            return None
        return LayerMatrix(self.value, self.low, self.high)


class ServedContrast(NamedTuple):
    """Similarity in the group with the best AUC minus similarity in the group with the worst.

    Attributes
    ----------
    best, worst
        The two groups.
    difference
        Difference of CKA for each pair of layers.
    size
        Mean of the absolute differences.
    """

    best: str
    worst: str
    difference: LayerMatrix
    size: IntervalEstimate


@dataclass(frozen=True, kw_only=True)
class AttributeSimilarity:
    """How similar the layers are by the groups of one attribute.

    Attributes
    ----------
    batch
        Number of patients in a batch, equal for all groups.
    groups
        The similarity of each group.
    best, worst, difference, size
        As in `ServedContrast`; None if fewer than two groups can be ranked by AUC.
    undefined
        The reason why there is no contrast.
    """

    batch: int
    groups: tuple[GroupSimilarity, ...]
    best: str | None = None
    worst: str | None = None
    difference: LayerMatrix | None = None
    size: IntervalEstimate | None = None
    undefined: str | None = None

    @property
    def contrast(self) -> ServedContrast | None:
        """The contrast of the best and the worst group; None if fewer than two can be ranked."""
        if self.best is None or self.worst is None or not (self.difference and self.size):
            return None
        return ServedContrast(self.best, self.worst, self.difference, self.size)


@dataclass(frozen=True, kw_only=True)
class SizeRatio:
    """Ratio of two attributes' mean differences between groups: ``attribute`` over ``over``."""

    attribute: str
    over: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    undefined: str | None = None

    @property
    def size(self) -> IntervalEstimate | None:
        """The ratio with its interval; None if it is undefined."""
        if self.value is None or self.low is None or self.high is None:
            return None
        return IntervalEstimate(self.value, self.low, self.high)


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """Similarity of the layers: over all patients, by attribute, and ratios of attributes."""

    patients: int
    everybody: LayerMatrix
    attributes: dict[str, AttributeSimilarity]
    ratios: tuple[SizeRatio, ...] = ()
