"""Sums over the rows of many overlapping groups in many resamples; each row is added once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array

from evenhand.metrics.forms.additive import sums_of
from evenhand.metrics.registry import Floats, Weights
from evenhand.metrics.scored import Positions, Scored

SPAN = 8192
"""Number of patients whose weights are converted to floating-point numbers at a time."""

ROWS = 64
"""Least average number of rows in a cell; groupings with smaller joint cells are not combined."""


@dataclass(frozen=True, eq=False)
class RowCells:
    """Disjoint sets of rows (cells), such that each group of some groupings is a union of cells.

    Attributes
    ----------
    members
        ``(E,)``, the patients of the first of J cells, then of the second …; columns of the
        weights.
    sums
        ``(k, E)``, the sums of k features over the rows of each patient in the cell.
    ends
        ``(J + 1,)``; the patients of cell j are ``members[ends[j] : ends[j + 1]]``.
    groups
        By the index of a grouping: the matrix ``(G, J)`` of the cells in each group.
    """

    members: NDArray[np.intp]
    sums: Floats
    ends: NDArray[np.intp]
    groups: dict[int, csr_array]

    def totals(self, drawn: Weights) -> dict[int, Floats]:
        """Return the sums ``(G, k, b)`` of each grouping's groups, from weights ``(P + 1, b)``."""
        by_cell = np.zeros((len(self.ends) - 1, len(self.sums), drawn.shape[1]))
        for start, end, cells in self._spans():
            weights = drawn.take(self.members[start:end], axis=0).astype(np.float64)
            for cell in cells:
                part = slice(max(start, self.ends[cell]), min(end, self.ends[cell + 1]))
                of_part = weights[part.start - start : part.stop - start]
                by_cell[cell] += self.sums[:, part] @ of_part
        flat = by_cell.reshape(len(by_cell), -1)
        return {
            grouping: (cells @ flat).reshape(-1, *by_cell.shape[1:])
            for grouping, cells in self.groups.items()
        }

    def _spans(self) -> Iterator[tuple[int, int, range]]:
        """Yield start and end of spans of at most `SPAN` patients, and the cells of each span."""
        for start in range(0, len(self.members), SPAN):
            end = min(start + SPAN, len(self.members))
            first, last = np.searchsorted(self.ends, (start, end - 1), side="right") - 1
            yield start, end, range(first, last + 1)


def divide_rows(
    rows: Scored, groupings: Sequence[Positions], features: Sequence[NDArray[np.generic]]
) -> list[RowCells]:
    """Divide rows into cells, such that each group of several groupings is a union of cells.

    Groupings with disjoint groups are combined. If the groups of a grouping overlap, each of its
    groups is a cell.

    Parameters
    ----------
    rows
        The rows.
    groupings
        For each grouping, the positions of the rows of each group.
    features
        The columns ``(n,)`` to add up.
    """
    return [
        _row_cells(rows, members, cell, groups, features)
        for members, cell, groups in _divisions(len(rows), groupings)
    ]


def _divisions(
    n: int, groupings: Sequence[Positions]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], dict[int, csr_array]]]:
    """Yield some rows, the cell of each row, and the cells of each group by grouping."""
    all_rows = np.arange(n)
    cell, count, combined = np.zeros(n, dtype=np.intp), 1, dict[int, NDArray[np.intp]]()
    for grouping, positions in enumerate(groupings):
        code, size = _group_codes(n, positions), len(positions)
        if code is None:
            group = np.repeat(np.arange(size), [len(members) for members in positions])
            cells = _cell_matrix(np.arange(size), size, size)
            yield np.concatenate(positions), group, {grouping: cells}
            continue
        joint, levels = pd.factorize(cell * (size + 1) + code, sort=True)
        if combined and len(levels) > max(n // ROWS, count):
            yield all_rows, cell, _cells_of_groups(cell, count, combined, groupings)
            combined, (joint, levels) = {}, pd.factorize(code, sort=True)
        combined[grouping] = code
        cell, count = joint.astype(np.intp), len(levels)
    if combined:
        yield all_rows, cell, _cells_of_groups(cell, count, combined, groupings)


def _group_codes(n: int, positions: Positions) -> NDArray[np.intp] | None:
    """Return the group index ``(n,)`` of each row, G for no group; None if groups overlap."""
    code = np.full(n, len(positions), dtype=np.intp)
    for group, members in enumerate(positions):
        code[members] = group
    disjoint = np.count_nonzero(code < len(positions)) == sum(map(len, positions))
    return code if disjoint else None


def _cells_of_groups(
    cell: NDArray[np.intp],
    count: int,
    codes: dict[int, NDArray[np.intp]],
    groupings: Sequence[Positions],
) -> dict[int, csr_array]:
    """Return the cells of each group, given the cell and the group of each row, by grouping."""
    groups = {}
    for grouping, code in codes.items():
        group_of_cell = np.empty(count, dtype=np.intp)
        group_of_cell[cell] = code  # all rows of a cell belong to the same group
        groups[grouping] = _cell_matrix(group_of_cell, len(groupings[grouping]), count)
    return groups


def _cell_matrix(group: NDArray[np.intp], groups: int, cells: int) -> csr_array:
    """Return the matrix ``(G, J)`` of the cells in each group, given the group of each cell."""
    inside = np.flatnonzero(group < groups)
    return csr_array((np.ones(len(inside)), (group[inside], inside)), shape=(groups, cells))


def _row_cells(
    rows: Scored,
    members: NDArray[np.intp],
    cell: NDArray[np.intp],
    groups: dict[int, csr_array],
    features: Sequence[NDArray[np.generic]],
) -> RowCells:
    """Return cells with the sums of the features over the rows of each patient in each cell."""
    patients = len(rows.members)
    pairs, entry = np.unique(cell * patients + rows.patients[members], return_inverse=True)
    pair_cell, patient = np.divmod(pairs, patients)
    sums = np.stack([sums_of(entry, feature[members], len(pairs)) for feature in features])
    count = next(iter(groups.values())).shape[1]
    ends = np.searchsorted(pair_cell, np.arange(count + 1))
    return RowCells(rows.members[patient], sums, ends, groups)
