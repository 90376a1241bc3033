"""The settings of `evenhand check`: the data, and the limits of each requirement."""

from __future__ import annotations

from pydantic import Field

from evenhand.cohort.settings import SplitSettings
from evenhand.networks.settings import ChannelSettings

Limits = tuple[float, float]
"""A requirement warns beyond the first limit and fails beyond the second."""


class CheckSettings(SplitSettings, ChannelSettings, title="Requirements"):
    """The data to check, and the limits of each requirement."""

    unknown: Limits = Field(
        (0.05, 0.3), description="share of the patients whose level is unknown, at most"
    )
    patients: Limits = Field((50, 10), description="patients of each group in each split, at least")
    cases: Limits = Field(
        (20, 2), description="samples of each class in each group and split, at least"
    )
    base_rate: float = Field(
        0.1, gt=0, description="difference of base rates that warns, unless chance explains it"
    )
    base_rate_ratio: float = Field(
        1.25,
        gt=1,
        description="ratio of the higher base rate to the lower that warns, unless chance explains "
        "it",
    )
    modalities: int = Field(
        2, ge=1, description="modalities or channels, at least; with fewer, a note"
    )
    unreadable: Limits = Field(
        (0, 0.01), description="share of the samples whose file cannot be read, at most"
    )
    near: float = Field(
        0.95, gt=0, le=1, description="least correlation of two samples that are near duplicates"
    )
    auc: float = Field(0.85, gt=0.5, lt=1, description="AUC that the computation of power assumes")
    correlation: float = Field(
        0.5, ge=0, le=1, description="correlation of a patient's samples, for the design effect"
    )
    detectable: Limits = Field(
        (0.1, 0.2), description="gap in AUC that the test split can detect, at most"
    )
    curve: tuple[str, ...] = Field(
        (),
        description="learning curve of a linear model on coarse samples, with a quarter, a half "
        "and three quarters of the training patients: of everybody, or of the group "
        "ATTRIBUTE=LEVEL; repeatable",
    )
