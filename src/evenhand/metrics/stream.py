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
"""Patients × resamples whose weights, a byte each, are held at a time."""

VALUES = 2**21
"""Groups × resamples whose sums are held at a time."""

CELLS = 2**23
"""Rows × resamples that a form which takes one group after the other works on at a time."""

SLOW = 10
"""Resamples at a time where they are gone through one by one, so that a bar moves on."""

Found = Iterator[tuple[int, Form, Any]]
"""Numbers of problems, and the summaries ``(G * b,)`` of a form that they have."""


@dataclass(frozen=True, eq=False)
class _Problem:
    """Metrics of groups of rows of two classes, or of any number where they take these as is.

    ``out`` gets the values of the metrics ``at`` these places, ``(G, M, 1 + B + J)``; where it is
    the mean of several problems' values, it first gets their sum.
    """

    rows: Scored
    places: Places
    metrics: Sequence[Metric]
    at: Sequence[int]
    out: Floats

    @cached_property
    def forms(self) -> list[Form]:
        """The forms of its metrics."""
        return list(dict.fromkeys(metric.form for metric in self.metrics))

    @cached_property
    def one_by_one(self) -> list[list[tuple[Form, Callable[[Weights], Any]]]]:
        """Of each group, the forms that are computed for one group at a time, prepared."""
        forms = [form for form in self.forms if not isinstance(form, Additive | MannWhitney)]
        if not forms:
            return []
        groups = [self.rows.take(at) for at in self.places]
        return [[(form, form(rows)) for form in forms] if len(rows) else [] for rows in groups]

    def put(self, form: Form, summary: Any, groups: slice, block: slice) -> None:
        """Add the values of the metrics of a form to what is there of some groups."""
        for place, metric in zip(self.at, self.metrics, strict=True):
            if metric.form is form:
                with np.errstate(divide="ignore", invalid="ignore"):
                    values = metric.value(summary)
                # A count over nothing is undefined, also where IEEE division calls it infinite.
                values = np.where(np.isfinite(values), values, np.nan)
                out = self.out[groups, place, block]
                out += values.reshape(out.shape)

    def put_one_by_one(self, block: slice, weights: Weights) -> None:
        """Put the values of the forms that are computed for one group at a time."""
        for group, prepared in enumerate(self.one_by_one):
            own = self._members(group) if prepared else ()
            size = max(1, CELLS // max(len(self.places[group]), 1))
            for start in range(0, len(weights) if prepared else 0, size):
                part = weights[start : start + size].take(own, axis=1)
                at = slice(block.start + start, block.start + start + len(part))
                for form, summary in prepared:
                    self.put(form, summary(part), slice(group, group + 1), at)

    def _members(self, group: int) -> NDArray[np.intp]:
        return self.rows.members[np.unique(self.rows.patients[self.places[group]])]


class Stream:
    """Collects what is to be computed, then computes it in one pass over the resamples.

    Parameters
    ----------
    resamples
        Weights of the patients.
    """

    def __init__(self, resamples: Resamples) -> None:
        self.resamples = resamples
        self._problems: list[_Problem] = []
        self._one_class: dict[tuple[int, int], tuple[Scored, Scored]] = {}
        self._tables: list[tuple[Floats, Floats]] = []

    def add(
        self, rows: Scored, places: Places, metrics: Sequence[Metric], classes: Sequence[int]
    ) -> Floats:
        """Ask for metrics in groups of rows.

        Parameters
        ----------
        rows, places
            The rows, and which of them each of the G groups has; a group may be empty.
        classes
            The classes that one-vs-rest means are taken over.

        Returns
        -------
        numpy.ndarray
            ``(G, M, 1 + B + J)``, which `run` fills: the values, NaN where one is undefined.
        """
        table = np.zeros((len(places), len(metrics), self.resamples.count))
        problems = np.zeros(len(metrics))
        for problem in self._split(rows, places, metrics, classes, table):
            self._problems.append(problem)
            problems[problem.at] += 1
        there = np.array([len(at) > 0 for at in places], dtype=np.float64)
        self._tables.append((table, there[:, None, None] * problems[:, None]))
        return table

    def _split(
        self,
        rows: Scored,
        places: Places,
        metrics: Sequence[Metric],
        classes: Sequence[int],
        table: Floats,
    ) -> Iterator[_Problem]:
        """Yield the problems that the metrics are made of; with two classes it is one."""
        if not metrics or not sum(map(len, places)):
            return
        whole = [at for at, metric in enumerate(metrics) if rows.binary or metric.classes == "any"]
        if whole:
            yield _Problem(rows, places, [metrics[at] for at in whole], whole, table)
        macro = [at for at, metric in enumerate(metrics) if metric.classes == "macro"]
        if rows.binary or not macro:
            return
        of_one = [metrics[at].of_one_class() for at in macro]
        for which in classes:
            own = self._versus_rest(rows, which)
            yield _Problem(own, places, of_one, macro, table)

    def _versus_rest(self, rows: Scored, which: int) -> Scored:
        """Return one class against the rest, the same object for the same rows."""
        key = id(rows), which
        if key not in self._one_class:  # with the rows, so that their id is not used again
            self._one_class[key] = rows, rows.versus_rest(which)
        return self._one_class[key][1]

    def run(self) -> None:
        """Fill all tables that were returned by `add`."""
        size = self._size()
        evaluations = list(self._evaluations(size))
        for block, weights in self.resamples.blocks(size):
            drawn = side_by_side(weights)
            for evaluate in evaluations:
                for number, form, summary in evaluate(drawn):
                    self._problems[number].put(form, summary, slice(None), block)
            for problem in self._problems:
                problem.put_one_by_one(block, weights)
        for table, problems in self._tables:
            with np.errstate(invalid="ignore"):
                table /= problems  # 0 / 0 where nothing was added

    def _size(self) -> int:
        """Return how many resamples are worked on at a time."""
        groups = sum(len(problem.places) for problem in self._problems)
        size = min(WEIGHTS // max(self.resamples.patients, 1), VALUES // max(groups, 1))
        if any(looped in problem.forms for problem in self._problems):
            size = min(size, SLOW)
        return min(max(size, 1), self.resamples.count)

    def _evaluations(self, size: int) -> Iterator[Callable[[Weights], Found]]:
        """Yield functions from weights ``(P + 1, b)`` to summaries of all groups of a problem."""
        for numbers in self._of_same_rows():
            yield from self._sums(numbers)
        for number, problem in enumerate(self._problems):
            for form in problem.forms:
                if isinstance(form, MannWhitney):
                    scan = Scan(problem.rows, problem.places, self.resamples.patients, size)
                    yield partial(_counted, scan, form, number)

    def _of_same_rows(self) -> list[list[int]]:
        """Return the numbers of the problems that are about the same rows, together."""
        alike: dict[int, list[int]] = {}
        for number, problem in enumerate(self._problems):
            alike.setdefault(id(problem.rows), []).append(number)
        return list(alike.values())

    def _sums(self, numbers: Sequence[int]) -> Iterator[Callable[[Weights], Found]]:
        """Yield the functions to the sums of problems that are about the same rows."""
        problems = {number: self._problems[number] for number in numbers}
        forms = dict.fromkeys(form for of in problems.values() for form in of.forms)
        features, columns = _features(self._problems[numbers[0]].rows, forms)
        if not features:
            return
        rows, places = problems[numbers[0]].rows, [of.places for of in problems.values()]
        for cells in cells_of(rows, places, features):
            own = {numbers[at]: at for at in cells.groups}
            yield partial(_added_up, cells, own, {n: self._problems[n] for n in own}, columns)


def _features(
    rows: Scored, forms: Iterable[Form]
) -> tuple[list[NDArray[Any]], dict[Additive, list[int]]]:
    """Return the different columns that the additive forms add up, and which ones each form has."""
    features: list[NDArray[Any]] = []
    columns: dict[Additive, list[int]] = {}
    for form in forms:
        if not isinstance(form, Additive):
            continue
        columns[form] = []
        for feature in form.features(rows):
            alike = [at for at, other in enumerate(features) if _same(other, feature)]
            columns[form].append(alike[0] if alike else len(features))
            features += [] if alike else [feature]
    return features, columns


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.dtype == other.dtype and np.array_equal(one, other)


def _counted(scan: Scan, form: Form, number: int, drawn: Weights) -> Found:
    yield number, form, scan(drawn)


def _added_up(
    cells: Cells,
    own: Mapping[int, int],
    problems: Mapping[int, _Problem],
    columns: Mapping[Additive, list[int]],
    drawn: Weights,
) -> Found:
    totals = cells.totals(drawn)
    for number, at in own.items():
        sums = totals[at].transpose(0, 2, 1).reshape(-1, totals[at].shape[1])
        for form in problems[number].forms:
            if isinstance(form, Additive):
                yield number, form, form.summary(sums[:, columns[form]])
