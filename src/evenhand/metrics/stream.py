"""Values of metrics in many groups, computed in one pass over the resamples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenhand.metrics.forms import Additive, MannWhitney, Scan, looped, transposed_weights
from evenhand.metrics.registry import Floats, Form, Metric, Weights
from evenhand.metrics.resample import Resamples
from evenhand.metrics.scored import Positions, Scored
from evenhand.metrics.sums import RowCells, divide_rows

WEIGHTS = 2**25
"""Largest number of weights (patients × resamples, one byte each) in one block."""

LINE = 32
"""Larger blocks have a multiple of so many resamples: then a patient's weights fill whole lines of
the cache."""

VALUES = 2**21
"""Largest number of sums (groups × resamples) in one block."""

CELLS = 2**23
"""Largest number of cells (rows × resamples) in one call of a form that takes one group."""

SLOW = 10
"""Resamples in a block if a form loops over them; the progress bar moves once a block."""

Summaries = Iterator[tuple[int, Form, Any]]
"""The index of a request, a form, and the summaries ``(G * b,)`` of this form for its groups."""


@dataclass(frozen=True, eq=False)
class _Request:
    """Metrics to compute in groups of rows; a macro mean has one request for each class.

    The values of the metrics are added to the ``columns`` of ``out``, ``(G, M, 1 + B + J)``. For a
    macro mean, ``out`` is the sum over its requests until `Stream.run` divides it.
    """

    rows: Scored
    positions: Positions
    metrics: Sequence[Metric]
    columns: Sequence[int]
    out: Floats

    @cached_property
    def forms(self) -> list[Form]:
        """The distinct forms of the metrics."""
        return list(dict.fromkeys(metric.form for metric in self.metrics))

    @cached_property
    def one_by_one(self) -> list[list[tuple[Form, Callable[[Weights], Any]]]]:
        """The forms that take one group at a time, prepared for each group."""
        forms = [form for form in self.forms if not isinstance(form, Additive | MannWhitney)]
        if not forms:
            return []
        groups = [self.rows.take(members) for members in self.positions]
        return [[(form, form(rows)) for form in forms] if len(rows) else [] for rows in groups]

    def put(self, form: Form, summary: Any, groups: slice, block: slice) -> None:
        """Add the values of a form's metrics, in some groups, to ``out``."""
        for column, metric in zip(self.columns, self.metrics, strict=True):
            if metric.form is form:
                with np.errstate(divide="ignore", invalid="ignore"):
                    values = metric.value(summary)
                # A number divided by a count of 0 is undefined, also if the quotient is infinite.
                values = np.where(np.isfinite(values), values, np.nan)
                out = self.out[groups, column, block]
                out += values.reshape(out.shape)

    def put_one_by_one(self, block: slice, weights: Weights) -> None:
        """Add the values of the forms that take one group at a time to ``out``."""
        for group, prepared in enumerate(self.one_by_one):
            members = self._members(group) if prepared else ()
            size = max(1, CELLS // max(len(self.positions[group]), 1))
            for start in range(0, len(weights) if prepared else 0, size):
                part = weights[start : start + size].take(members, axis=1)
                draws = slice(block.start + start, block.start + start + len(part))
                for form, summary in prepared:
                    self.put(form, summary(part), slice(group, group + 1), draws)

    def _members(self, group: int) -> NDArray[np.intp]:
        """Return the patients of a group, as columns of the weights."""
        counts = np.bincount(self.rows.patients[self.positions[group]], minlength=1)
        return self.rows.members[np.flatnonzero(counts)]


class Stream:
    """Collects requests for metrics, then computes all of them in one pass over the resamples.

    Parameters
    ----------
    resamples
        The resamples of patients.
    """

    def __init__(self, resamples: Resamples) -> None:
        self.resamples = resamples
        self._requests: list[_Request] = []
        self._one_class: dict[tuple[int, int], tuple[Scored, Scored]] = {}
        self._tables: list[tuple[Floats, Floats]] = []

    def add(
        self, rows: Scored, positions: Positions, metrics: Sequence[Metric], classes: Sequence[int]
    ) -> Floats:
        """Request metrics in groups of rows.

        Parameters
        ----------
        rows, positions
            The rows, and the positions of the rows of each of G groups; a group may be empty.
        metrics
            The M metrics.
        classes
            The classes that macro (one-vs-rest) means are taken over.

        Returns
        -------
        numpy.ndarray
            The array ``(G, M, 1 + B + J)`` that `run` fills with values; NaN where undefined.
        """
        table = np.zeros((len(positions), len(metrics), self.resamples.count))
        added = np.zeros(len(metrics))
        for request in self._split(rows, positions, metrics, classes, table):
            self._requests.append(request)
            added[request.columns] += 1
        has_rows = np.array([len(members) > 0 for members in positions], dtype=np.float64)
        self._tables.append((table, has_rows[:, None, None] * added[:, None]))
        return table

    def _split(
        self,
        rows: Scored,
        positions: Positions,
        metrics: Sequence[Metric],
        classes: Sequence[int],
        table: Floats,
    ) -> Iterator[_Request]:
        """Yield a request for the metrics of all classes, and one for each class of macro means."""
        if not metrics or not sum(map(len, positions)):
            return
        direct = [m for m, metric in enumerate(metrics) if rows.binary or metric.classes == "any"]
        if direct:
            yield _Request(rows, positions, [metrics[m] for m in direct], direct, table)
        macro = [m for m, metric in enumerate(metrics) if metric.classes == "macro"]
        if rows.binary or not macro:
            return
        of_one_class = [metrics[m].of_one_class() for m in macro]
        for class_index in classes:
            class_rows = self._versus_rest(rows, class_index)
            yield _Request(class_rows, positions, of_one_class, macro, table)

    def _versus_rest(self, rows: Scored, class_index: int) -> Scored:
        """Return the rows with one class against the rest; the same object for the same rows."""
        key = id(rows), class_index
        if key not in self._one_class:  # the rows are kept alive, so their id stays theirs
            self._one_class[key] = rows, rows.versus_rest(class_index)
        return self._one_class[key][1]

    def run(self) -> None:
        """Fill all tables that `add` returned."""
        size = self._size()
        evaluations = list(self._evaluations(size))
        for block, weights in self.resamples.blocks(size):
            drawn = transposed_weights(weights)
            for evaluate in evaluations:
                for index, form, summary in evaluate(drawn):
                    self._requests[index].put(form, summary, slice(None), block)
            for request in self._requests:
                request.put_one_by_one(block, weights)
        for table, added in self._tables:
            with np.errstate(invalid="ignore"):
                table /= added  # NaN where nothing was added

    def _size(self) -> int:
        """Return the number of resamples in a block."""
        groups = sum(len(request.positions) for request in self._requests)
        size = min(WEIGHTS // max(self.resamples.patients, 1), VALUES // max(groups, 1))
        if any(looped in request.forms for request in self._requests):
            size = min(size, SLOW)
        size -= size % LINE if size > LINE else 0
        return min(max(size, 1), self.resamples.count)

    def _evaluations(self, size: int) -> Iterator[Callable[[Weights], Summaries]]:
        """Yield functions from weights ``(P + 1, b)`` to summaries of all groups of a request."""
        for indices in self._by_rows():
            yield from self._sums(indices)
        for index, request in enumerate(self._requests):
            for form in request.forms:
                if isinstance(form, MannWhitney):
                    scan = Scan(request.rows, request.positions, self.resamples.patients, size)
                    yield partial(_pair_counts, scan, form, index)

    def _by_rows(self) -> list[list[int]]:
        """Return the indices of the requests, grouped by their rows."""
        by_rows: dict[int, list[int]] = {}
        for index, request in enumerate(self._requests):
            by_rows.setdefault(id(request.rows), []).append(index)
        return list(by_rows.values())

    def _sums(self, indices: Sequence[int]) -> Iterator[Callable[[Weights], Summaries]]:
        """Yield functions from weights to the sums that requests with the same rows need."""
        requests = [self._requests[index] for index in indices]
        rows = requests[0].rows
        forms = dict.fromkeys(form for request in requests for form in request.forms)
        features, columns = _features(rows, forms)
        if not features:
            return
        for cells in divide_rows(rows, [request.positions for request in requests], features):
            grouping_of = {indices[grouping]: grouping for grouping in cells.groups}
            chosen = {index: self._requests[index] for index in grouping_of}
            yield partial(_sum_summaries, cells, grouping_of, chosen, columns)


def _features(
    rows: Scored, forms: Iterable[Form]
) -> tuple[list[NDArray[Any]], dict[Additive, list[int]]]:
    """Return the distinct features of additive forms, and the indices of each form's features."""
    features: list[NDArray[Any]] = []
    columns: dict[Additive, list[int]] = {}
    for form in forms:
        if not isinstance(form, Additive):
            continue
        columns[form] = []
        for feature in form.features(rows):
            equal = [column for column, other in enumerate(features) if _is_same(other, feature)]
            columns[form].append(equal[0] if equal else len(features))
            features += [] if equal else [feature]
    return features, columns


def _is_same(first: NDArray[Any], second: NDArray[Any]) -> bool:
    """Return whether two arrays have the same type and values."""
    return first.dtype == second.dtype and np.array_equal(first, second)


def _pair_counts(scan: Scan, form: Form, index: int, drawn: Weights) -> Summaries:
    """Yield the counts of pairs for one request."""
    yield index, form, scan(drawn)


def _sum_summaries(
    cells: RowCells,
    grouping_of: Mapping[int, int],
    requests: Mapping[int, _Request],
    columns: Mapping[Additive, list[int]],
    drawn: Weights,
) -> Summaries:
    """Yield the summaries of additive forms for each request."""
    totals = cells.totals(drawn)
    for index, grouping in grouping_of.items():
        total = totals[grouping]  # (G, k, b)
        sums = total.transpose(0, 2, 1).reshape(-1, total.shape[1])
        for form in requests[index].forms:
            if isinstance(form, Additive):
                yield index, form, form.summary(sums[:, columns[form]])
