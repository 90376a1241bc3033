"""The content of ``similarity_grid.json``: stage 4 for all cells of a grid."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel

from evenhand.experiments.runs import Run
from evenhand.files import read_json_record, write_json

FILE = "similarity_grid.json"


class GridInterval(BaseModel, frozen=True, from_attributes=True):
    """A number with its interval over patients and seeds."""

    value: float
    low: float
    high: float


class CellContrast(BaseModel, frozen=True):
    """The CKA of a cell's models with supervised models: its difference between two groups.

    Attributes
    ----------
    cell, share, attribute
        The cell, its share of labels, and the attribute of the groups.
    best, worst
        The groups that both models together serve best and worst.
    size
        The mean |difference of CKA| over pairs of layers and seeds.
    by_seed
        The mean |difference of CKA| over pairs of layers, for each seed.
    by_chance
        The mean size when groups are permuted.
    gap
        AUC in the best group minus AUC in the worst, as mean over both models and all seeds.
    """

    cell: str
    share: float
    attribute: str
    best: str
    worst: str
    size: GridInterval
    by_seed: tuple[float, ...]
    by_chance: float
    gap: float


class AttributeContrast(BaseModel, frozen=True):
    """The mean of the contrasts of all cells for an attribute.

    Attributes
    ----------
    attribute, size, by_chance, gap
        As in `CellContrast`, as means over cells.
    p
        The p-value of the hypothesis that the groups differ no more than permuted groups.
    """

    attribute: str
    size: GridInterval
    by_chance: float
    p: float
    gap: float


class Ratio(BaseModel, frozen=True):
    """The size for one attribute divided by the size for another.

    Attributes
    ----------
    attribute
        The attribute with the larger gap in AUC.
    over
        The other attribute.
    ratio
        The ratio; None if it is undefined.
    reason
        The reason why it is undefined, or "".
    """

    attribute: str
    over: str
    ratio: GridInterval | None
    reason: str = ""


class CorrelationRecord(BaseModel, frozen=True):
    """Spearman's correlation of sizes with gaps in AUC, over `CellContrast`.

    Attributes
    ----------
    attribute
        The attribute of the contrasts; ``"*"`` for all attributes.
    points
        The number of contrasts.
    correlation, p
        The correlation and its p-value; None if they are undefined.
    """

    attribute: str
    points: int
    correlation: GridInterval | None
    p: float | None


class Profile(BaseModel, frozen=True):
    """CKA of a cell's models with supervised models by layer: in two groups, and the difference."""

    cell: str
    share: float
    attribute: str
    best: str
    worst: str
    in_best: tuple[GridInterval | None, ...]
    in_worst: tuple[GridInterval | None, ...]
    difference: tuple[GridInterval | None, ...]


class GridSimilarity(BaseModel, frozen=True):
    """The results of stage 4 for the whole grid.

    Attributes
    ----------
    patients, seeds
        The numbers of patients and seeds of every result.
    permutations
        The number of permutations of groups.
    layers
        The names of the layers, which all models have.
    cells, attributes, ratios, correlations, profiles
        The results.
    left_out
        The reason for each attribute without results.
    """

    patients: int
    seeds: int
    permutations: int
    layers: tuple[str, ...]
    cells: tuple[CellContrast, ...]
    attributes: tuple[AttributeContrast, ...]
    ratios: tuple[Ratio, ...]
    correlations: tuple[CorrelationRecord, ...]
    profiles: tuple[Profile, ...]
    left_out: Mapping[str, str] = {}


def write_grid(run: Run, grid: GridSimilarity) -> None:
    """Write ``similarity_grid.json``."""
    write_json(run.root / FILE, grid.model_dump(mode="json"))


def read_grid(run: Run) -> GridSimilarity | None:
    """Return the content of ``similarity_grid.json``; None for a run of an earlier version."""
    path = run.root / FILE
    return read_json_record(GridSimilarity, path) if path.exists() else None
