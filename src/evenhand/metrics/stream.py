"""Values of metrics in many groups, all of them from one pass over the resamples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenhand.metrics.forms import Additive, MannWhitney, Scan, looped, side_by_side
from evenhand.metrics.registry import Floats, Form, Metric, Weights
from evenhand.metrics.resample import Resamples
from evenhand.metrics.scored import Places, Scored
from evenhand.metrics.sums import Cells, cells_of

WEIGHTS = 2**25
"""How many weights (patients × resamples, a byte each) are in memory at a time."""

LINE = 32
"""A block has a multiple of so many resamples, if it has more: a patient's weights then lie in as
few lines of the cache as they can."""

VALUES = 2**21
"""How many sums (groups × resamples) are in memory at a time."""

CELLS = 2**23
"""How many cells (rows × resamples) a form that takes one group at a time works on."""

SLOW = 10
"""Resamples in a block where a form loops over them; the progress bar moves once a block."""

Summaries = Iterator[tuple[int, Form, Any]]
"""The number of a request, a form, and the form's summaries ``(G * b,)`` of its groups."""


@dataclass(frozen=True, eq=False)
class _Request:
    """Metrics to compute in groups of rows; a macro mean is one request for each class.

    The values of the metrics are added to the ``columns`` of ``out``, ``(G, M, 1 + B + J)``. Where
    a value is a mean over requests, ``out`` holds their sum until `Stream.run` divides it.
    """

    rows: Scored
    places: Places
    metrics: Sequence[Metric]
    columns: Sequence[int]
    out: Floats

    @cached_property
    def forms(self) -> list[Form]:
        """The forms of its metrics."""
        return list(dict.fromkeys(metric.form for metric in self.metrics))

    @cached_property
    def one_by_one(self) -> list[list[tuple[Form, Callable[[Weights], Any]]]]:
        """The forms that take one group at a time, prepared for each group."""
        forms = [form for form in self.forms if not isinstance(form, Additive | MannWhitney)]
        if not forms:
            return []
        groups = [self.rows.take(members) for members in self.places]
        return [[(form, form(rows)) for form in forms] if len(rows) else [] for rows in groups]

    def put(self, form: Form, summary: Any, groups: slice, block: slice) -> None:
        """Add the values of a form's metrics, in some groups, to ``out``."""
        for column, metric in zip(self.columns, self.metrics, strict=True):
            if metric.form is form:
                with np.errstate(divide="ignore", invalid="ignore"):
                    values = metric.value(summary)
                # A count over nothing is undefined, also where IEEE division calls it infinite.
                values = np.where(np.isfinite(values), values, np.nan)
                out = self.out[groups, column, block]
                out += values.reshape(out.shape)

    def put_one_by_one(self, block: slice, weights: Weights) -> None:
        """Put the values of the forms that take one group at a time."""
        for group, prepared in enumerate(self.one_by_one):
            own = self._members(group) if prepared else ()
            size = max(1, CELLS // max(len(self.places[group]), 1))
            for start in range(0, len(weights) if prepared else 0, size):
                part = weights[start : start + size].take(own, axis=1)
                draws = slice(block.start + start, block.start + start + len(part))
                for form, summary in prepared:
                    self.put(form, summary(part), slice(group, group + 1), draws)

    def _members(self, group: int) -> NDArray[np.intp]:
        times = np.bincount(self.rows.patients[self.places[group]], minlength=1)
        return self.rows.members[np.flatnonzero(times)]


class Stream:
    """Collects requests for metrics, then computes all of them in one pass over the resamples.

    Parameters
    ----------
    resamples
        The weights of the patients in each resample.
    """

    def __init__(self, resamples: Resamples) -> None:
        self.resamples = resamples
        self._requests: list[_Request] = []
        self._one_class: dict[tuple[int, int], tuple[Scored, Scored]] = {}
        self._tables: list[tuple[Floats, Floats]] = []

    def add(
        self, rows: Scored, places: Places, metrics: Sequence[Metric], classes: Sequence[int]
    ) -> Floats:
        """Request metrics in groups of rows.

        Parameters
        ----------
        rows, places
            The rows, and the positions of each of the G groups' rows; a group may be empty.
        classes
            The classes that a macro (one-vs-rest) mean is taken over.

        Returns
        -------
        numpy.ndarray
            The values, ``(G, M, 1 + B + J)``, which `run` fills; NaN where undefined.
        """
        table = np.zeros((len(places), len(metrics), self.resamples.count))
        added = np.zeros(len(metrics))
        for request in self._split(rows, places, metrics, classes, table):
            self._requests.append(request)
            added[request.columns] += 1
        has_rows = np.array([len(members) > 0 for members in places], dtype=np.float64)
        self._tables.append((table, has_rows[:, None, None] * added[:, None]))
        return table

    def _split(
        self,
        rows: Scored,
        places: Places,
        metrics: Sequence[Metric],
        classes: Sequence[int],
        table: Floats,
    ) -> Iterator[_Request]:
        """Yield one request for metrics of all classes, and one of each class for macro means."""
        if not metrics or not sum(map(len, places)):
            return
        whole = [m for m, metric in enumerate(metrics) if rows.binary or metric.classes == "any"]
        if whole:
            yield _Request(rows, places, [metrics[m] for m in whole], whole, table)
        macro = [m for m, metric in enumerate(metrics) if metric.classes == "macro"]
        if rows.binary or not macro:
            return
        of_one_class = [metrics[m].of_one_class() for m in macro]
        for which in classes:
            own = self._versus_rest(rows, which)
            yield _Request(own, places, of_one_class, macro, table)

    def _versus_rest(self, rows: Scored, which: int) -> Scored:
        """Return the rows with one class against the rest; the same object for the same rows."""
        key = id(rows), which
        if key not in self._one_class:  # keeps the rows too, so that no other object gets their id
            self._one_class[key] = rows, rows.versus_rest(which)
        return self._one_class[key][1]

    def run(self) -> None:
        """Fill all tables that `add` returned."""
        size = self._size()
        evaluations = list(self._evaluations(size))
        for block, weights in self.resamples.blocks(size):
            drawn = side_by_side(weights)
            for evaluate in evaluations:
                for number, form, summary in evaluate(drawn):
                    self._requests[number].put(form, summary, slice(None), block)
            for request in self._requests:
                request.put_one_by_one(block, weights)
        for table, added in self._tables:
            with np.errstate(invalid="ignore"):
                table /= added  # 0 / 0 where nothing was added

    def _size(self) -> int:
        """Return how many resamples a block has."""
        groups = sum(len(request.places) for request in self._requests)
        size = min(WEIGHTS // max(self.resamples.patients, 1), VALUES // max(groups, 1))
        if any(looped in request.forms for request in self._requests):
            size = min(size, SLOW)
        size -= size % LINE if size > LINE else 0
        return min(max(size, 1), self.resamples.count)

    def _evaluations(self, size: int) -> Iterator[Callable[[Weights], Summaries]]:
        """Yield functions from weights ``(P + 1, b)`` to summaries of all groups of a request."""
        for numbers in self._of_same_rows():
            yield from self._sums(numbers)
        for number, request in enumerate(self._requests):
            for form in request.forms:
                if isinstance(form, MannWhitney):
                    scan = Scan(request.rows, request.places, self.resamples.patients, size)
                    yield partial(_counted, scan, form, number)

    def _of_same_rows(self) -> list[list[int]]:
        """Return the numbers of the requests, grouped by the rows that they are about."""
        alike: dict[int, list[int]] = {}
        for number, request in enumerate(self._requests):
            alike.setdefault(id(request.rows), []).append(number)
        return list(alike.values())

    def _sums(self, numbers: Sequence[int]) -> Iterator[Callable[[Weights], Summaries]]:
        """Yield functions from weights to the sums that requests about the same rows need."""
        requests = [self._requests[number] for number in numbers]
        rows = requests[0].rows
        forms = dict.fromkeys(form for request in requests for form in request.forms)
        features, columns = _features(rows, forms)
        if not features:
            return
        for cells in cells_of(rows, [request.places for request in requests], features):
            own = {numbers[grouping]: grouping for grouping in cells.groups}
            yield partial(_added_up, cells, own, {n: self._requests[n] for n in own}, columns)


def _features(
    rows: Scored, forms: Iterable[Form]
) -> tuple[list[NDArray[Any]], dict[Additive, list[int]]]:
    """Return the distinct columns that additive forms add up, and the columns of each form."""
    features: list[NDArray[Any]] = []
    columns: dict[Additive, list[int]] = {}
    for form in forms:
        if not isinstance(form, Additive):
            continue
        columns[form] = []
        for feature in form.features(rows):
            alike = [column for column, other in enumerate(features) if _same(other, feature)]
            columns[form].append(alike[0] if alike else len(features))
            features += [] if alike else [feature]
    return features, columns


def _same(first: NDArray[Any], second: NDArray[Any]) -> bool:
    return first.dtype == second.dtype and np.array_equal(first, second)


def _counted(scan: Scan, form: Form, number: int, drawn: Weights) -> Summaries:
    yield number, form, scan(drawn)


def _added_up(
    cells: Cells,
    own: Mapping[int, int],
    requests: Mapping[int, _Request],
    columns: Mapping[Additive, list[int]],
    drawn: Weights,
) -> Summaries:
    totals = cells.totals(drawn)
    for number, grouping in own.items():
        total = totals[grouping]  # (G, k, b)
        sums = total.transpose(0, 2, 1).reshape(-1, total.shape[1])
        for form in requests[number].forms:
            if isinstance(form, Additive):
                yield number, form, form.summary(sums[:, columns[form]])
