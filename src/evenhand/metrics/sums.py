"""Sums over the rows of many groups in many resamples; each row is added up once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array

from evenhand.metrics.forms.additive import sums_of
from evenhand.metrics.registry import Floats, Weights
from evenhand.metrics.scored import Places, Scored

SPAN = 8192
"""How many patients' weights are held as floating-point numbers at a time."""

ROWS = 64
"""Groupings are combined as long as their cells have at least this many rows on average."""


@dataclass(frozen=True, eq=False)
class RowCells:
    """Disjoint sets of rows (cells), such that each group of some groupings is a union of cells.

    Attributes
    ----------
    members
        ``(E,)``, the patients of the first cell, then of the second, …; columns of the weights.
    sums
        ``(k, E)``, the sums of the k features over each patient's rows in the cell.
    ends
        ``(J + 1,)``; the patients of cell j are ``members[ends[j] : ends[j + 1]]``.
    groups
        By the number of the grouping, which cells each group consists of, ``(G, J)``.
    """

    members: NDArray[np.intp]
    sums: Floats
    ends: NDArray[np.intp]
    groups: dict[int, csr_array]

    def totals(self, drawn: Weights) -> dict[int, Floats]:
        """Return the sums ``(G, k, b)`` of each grouping's groups, from weights ``(P + 1, b)``."""
        every = np.zeros((len(self.ends) - 1, len(self.sums), drawn.shape[1]))
        for start, end, cells in self._spans():
            weights = drawn.take(self.members[start:end], axis=0).astype(np.float64)
            for cell in cells:
                own = slice(max(start, self.ends[cell]), min(end, self.ends[cell + 1]))
                every[cell] += self.sums[:, own] @ weights[own.start - start : own.stop - start]
        flat = every.reshape(len(every), -1)
        return {
            number: (cells @ flat).reshape(-1, *every.shape[1:])
            for number, cells in self.groups.items()
        }

    def _spans(self) -> Iterator[tuple[int, int, range]]:
        """Yield the start and end of at most `SPAN` patients, and the cells that they are in."""
        for start in range(0, len(self.members), SPAN):
            end = min(start + SPAN, len(self.members))
            first, last = np.searchsorted(self.ends, (start, end - 1), side="right") - 1
            yield start, end, range(first, last + 1)


def divide_rows(
    rows: Scored, groupings: Sequence[Places], features: Sequence[NDArray[np.generic]]
) -> list[RowCells]:
    """Divide rows into cells, such that each group of several groupings is a union of cells.

    Groupings are combined where their groups are disjoint. Where the groups of a grouping overlap,
    each of them is a cell of its own.
    """
    return [
        _cells(rows, members, cell, groups, features)
        for members, cell, groups in _divisions(len(rows), groupings)
    ]


def _divisions(
    n: int, groupings: Sequence[Places]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], dict[int, csr_array]]]:
    """Yield rows, the cell of each, and the cells of each group, by the number of the grouping."""
    everybody = np.arange(n)
    open_, count, own = np.zeros(n, dtype=np.intp), 1, dict[int, NDArray[np.intp]]()
    for number, places in enumerate(groupings):
        code, size = _codes(n, places), len(places)
        if code is None:
            cell = np.repeat(np.arange(size), [len(members) for members in places])
            yield np.concatenate(places), cell, {number: _made_of(np.arange(size), size, size)}
            continue
        joint, levels = pd.factorize(open_ * (size + 1) + code, sort=True)
        if own and len(levels) > max(n // ROWS, count):
            yield everybody, open_, _groups(open_, count, own, groupings)
            own, (joint, levels) = {}, pd.factorize(code, sort=True)
        own[number] = code
        open_, count = joint.astype(np.intp), len(levels)
    if own:
        yield everybody, open_, _groups(open_, count, own, groupings)


def _codes(n: int, places: Places) -> NDArray[np.intp] | None:
    """Return the number ``(n,)`` of each row's group, G for none; None where groups overlap."""
    code = np.full(n, len(places), dtype=np.intp)
    for number, members in enumerate(places):
        code[members] = number
    apart = np.count_nonzero(code < len(places)) == sum(map(len, places))
    return code if apart else None


def _groups(
    cell: NDArray[np.intp],
    count: int,
    own: dict[int, NDArray[np.intp]],
    groupings: Sequence[Places],
) -> dict[int, csr_array]:
    groups = {}
    for number, code in own.items():
        of_cell = np.empty(count, dtype=np.intp)
        of_cell[cell] = code  # all rows of a cell are of one group
        groups[number] = _made_of(of_cell, len(groupings[number]), count)
    return groups


def _made_of(group: NDArray[np.intp], groups: int, cells: int) -> csr_array:
    """Return the matrix ``(G, J)`` of which cells make each group."""
    inside = np.flatnonzero(group < groups)
    return csr_array((np.ones(len(inside)), (group[inside], inside)), shape=(groups, cells))


def _cells(
    rows: Scored,
    members: NDArray[np.intp],
    cell: NDArray[np.intp],
    groups: dict[int, csr_array],
    features: Sequence[NDArray[np.generic]],
) -> RowCells:
    patients = len(rows.members)
    pairs, entry = np.unique(cell * patients + rows.patients[members], return_inverse=True)
    of_cell, patient = np.divmod(pairs, patients)
    sums = np.stack([sums_of(entry, feature[members], len(pairs)) for feature in features])
    count = next(iter(groups.values())).shape[1]
    ends = np.searchsorted(of_cell, np.arange(count + 1))
    return RowCells(rows.members[patient], sums, ends, groups)
