"""Numbers by group from anybody's labels, scores and groups, as a table, a figure or a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.errors import EvenhandError, import_extra, pick, some
from evenhand.files import to_path, write_text
from evenhand.metrics import (
    DETECTABLE,
    Bootstrap,
    Groups,
    Measured,
    Plan,
    RowNames,
    Scored,
    as_table,
    compared_levels,
    judge,
    measure_part,
    scored,
)
from evenhand.own.inputs import as_array, as_groups
from evenhand.reporting import (
    ModelSamples,
    Report,
    detectable_differences,
    render,
    render_table,
    verdicts_of,
)
from evenhand.reporting.charts.axes import draw_forest
from evenhand.reporting.estimates import find, first
from evenhand.reporting.sections.groups import everyone_line, group_lines, group_look
from evenhand.reporting.terminal import print_table, print_verdicts
from evenhand.reporting.text.vocabulary import shown
from evenhand.tables.bins import FEW
from evenhand.tables.row_order import group_columns, refuse_other_order

SPLIT = "test"
"""What rows call their split, as those of predictions that know none."""


@dataclass(frozen=True, eq=False, repr=False)
class GroupTable:
    """Numbers by group with their intervals, counts and tests.

    Attributes
    ----------
    page
        What the page shows; its ``rows`` are the numbers.
    """

    page: Report

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The numbers: a row each, with the columns of ``metrics.json``."""
        return as_table(self.page.rows)

    def __repr__(self) -> str:
        shown_rows = (row for row in self.page.rows if row.aggregate != DETECTABLE)
        numbers = list(dict.fromkeys(row.metric for row in shown_rows))
        verdicts = print_verdicts(verdicts_of(self.page))
        return "\n\n".join(filter(None, (print_table(self.frame, SPLIT, numbers), verdicts)))

    def _repr_html_(self) -> str:
        """Return the tables of every attribute and the verdicts, for notebooks."""
        return render_table(self.page)

    def plot(self, metric: str, ax: Any = None, *, model: str | None = None) -> Any:
        """Draw a metric of every group with its interval, as the page does.

        Parameters
        ----------
        metric
            One of the metrics that were measured.
        ax
            Matplotlib's axes; by default new ones.
        model
            Which model, where there are two.

        Returns
        -------
        matplotlib.axes.Axes
            The axes, with values on the x axis.

        Raises
        ------
        EvenhandError
            The metric was not measured, there is no such model, or matplotlib is not installed.
        """
        model = self.page.main_model if model is None else self.page.called.get(model, model)
        pick("model", model, dict.fromkeys(self.page.models))
        rows = find(self.page.single, model=model)
        measured = dict.fromkeys(row.base for row in rows if row.of_group)
        pick("metric in this table", metric, measured)
        groups = {
            shown(attribute): group_lines(
                find(rows, attribute=attribute), metric, self.page.positive
            )
            for attribute in self.page.attributes
        }
        overall = first(rows, attribute="*", metric=metric)
        top = [] if overall is None else [everyone_line(overall, self.page.positive)]
        look = group_look(metric, overall, self.page.positive)
        if ax is None:
            ax = _new_axes(len(top) + sum(1 + len(lines) for lines in groups.values()))
        return draw_forest(top, groups, look, ax)

    def report(self, path: str | Path) -> Path:
        """Write the page of an audit with these numbers; return its path.

        Raises
        ------
        EvenhandError
            The name of the file does not end in ``.html``, or it cannot be written.
        """
        file = to_path(path, "report(path)")
        if file.suffix.lower() != ".html":
            raise EvenhandError(f"report({str(path)!r}): give a file whose name ends in .html.")
        if not file.parent.is_dir():
            raise EvenhandError(f"report({str(path)!r}): there is no folder {file.parent}.")
        write_text(file, render(self.page))
        return file


def measure_groups(
    y_true: Any,
    y_score: Any,
    groups: Any,
    *,
    patients: Any = None,
    metrics: Sequence[str] = ("auc",),
    aggregates: Sequence[str] = ("worst", "gap"),
    threshold: float = 0.5,
    against: Any = None,
    seed: int = 0,
    level: float = 0.95,
    replicates: int = 1000,
    names: tuple[str, str] = ("model", "reference"),
) -> GroupTable:
    """Measure a model, or two, for everybody and by group, with intervals by patient.

    The numbers are those of ``evenhand audit`` on the same rows.

    Parameters
    ----------
    y_true
        ``(n,)`` classes, 0 … C-1; of two classes, 1 is the positive one.
    y_score
        ``(n,)`` probability of class 1, or ``(n, C)`` of each class.
    groups
        The groups of all rows: a Series, a mapping of names to arrays, or a data frame with a
        column for each attribute. Missing levels are ``"unknown"``, which is not compared.
    patients
        ``(n,)``; by default each row is a patient. Resampling keeps a patient's rows together.
    metrics, aggregates
        Names as ``evenhand audit --list-metrics`` prints them: of each group, and across groups.
        With a gap comes how large a difference would be found (``detectable``).
    threshold
        Class 1 is decided at this score and above; it must not come from these rows.
    against
        Another model's scores of the same rows. Each number is then also the paired difference:
        the first model less this one.
    seed, level, replicates
        The seed of the resamples, the coverage of the intervals, and how many resamples.
    names
        What rows and page call the model, and the other one.

    Returns
    -------
    GroupTable
        ``frame``, ``plot(metric)``, ``report(path)``; notebooks show it as a table.

    Raises
    ------
    EvenhandError
        Lengths differ, a score is no probability, a label is none of the classes, a name is not
        known, groups are measurements or single patients, or rows are in another order.

    Examples
    --------
    >>> table = measure_groups([0, 1] * 20, [0.2, 0.7, 0.6, 0.4] * 10, {"sex": ["f", "m"] * 20})
    >>> rows = table.frame.set_index(["attribute", "group", "metric"])
    >>> float(rows.loc[("*", "*", "auc"), "value"])
    0.75
    """
    columns = {"y_true": y_true, "y_score": y_score, "against": against, "patients": patients}
    refuse_other_order({**columns, **group_columns(groups)})
    if y_score is None:
        raise EvenhandError("y_score=None: give the probability of class 1, or of each class.")
    if len({*names}) < 2:
        raise EvenhandError(f"names={names!r}: give the two models two different names.")
    if not 0 <= threshold <= 1:
        raise EvenhandError(f"threshold={threshold!r}: give a number from 0 to 1.")
    scores = dict(zip(names, (y_score, against), strict=True))
    models = {
        name: _scored(y_true, of_model, patients, threshold)
        for name, of_model in scores.items()
        if of_model is not None
    }
    rows = models[names[0]]
    _refuse_measurements(group_columns(groups))
    coded = as_groups(groups, len(rows))
    _refuse_single_patients(coded, rows)
    plan = Plan(
        _listed(metrics), _with_detectable(aggregates), bootstrap=Bootstrap(replicates, level)
    )
    numbers = judge(list(_parts(models, coded, plan, seed)))
    samples = {name: _samples(model, coded, plan) for name, model in models.items() if model.binary}
    return GroupTable(
        Report(
            title="Measured by group",
            rows=numbers,
            attributes=tuple(coded),
            split=SPLIT,
            samples=samples,
            detectable=detectable_differences(numbers, names[0], SPLIT),
            threshold_rule=f"Decision rule: fixed at {threshold:g}." if rows.binary else "",
        )
    )


def _parts(
    models: Mapping[str, Scored], groups: Mapping[str, Groups], plan: Plan, seed: int
) -> Iterator[Measured]:
    """Yield the numbers of each model, and of the first less the second; all draw alike."""
    measured = partial(measure_part, groups=groups, plan=plan)
    for name, rows in models.items():
        rng = np.random.default_rng(seed)
        yield measured(rows, rng=rng, names=RowNames(name, split=SPLIT))
    if len(models) > 1:
        (first, rows), (second, against) = models.items()
        rng = np.random.default_rng(seed)
        yield measured(rows, against=against, rng=rng, names=RowNames(first, second, SPLIT))


def _samples(rows: Scored, groups: Mapping[str, Groups], plan: Plan) -> ModelSamples:
    return ModelSamples(
        rows, groups, {name: compared_levels(plan, name, own) for name, own in groups.items()}
    )


def _scored(y_true: Any, y_score: Any, patients: Any, threshold: float) -> Scored:
    """Return arrays checked and together; two lengths are named as the caller names them."""
    labels, scores = as_array(y_true), as_array(y_score)
    owners = None if patients is None else as_array(patients)
    lengths = {"y_true": labels, "scores": scores, "patients": owners}
    counts = {
        name: len(values) for name, values in lengths.items() if values is not None and values.ndim
    }
    if len({*counts.values()}) > 1:
        lengths_text = ", ".join(f"{name} has {count:,}" for name, count in counts.items())
        raise EvenhandError(f"{lengths_text} rows; give one for each sample, in the same order.")
    return scored(labels, scores, patients=owners, threshold=threshold)


def _listed(names: Sequence[str]) -> tuple[str, ...]:
    """Return names without repetition; one alone will do."""
    return (names,) if isinstance(names, str) else tuple(dict.fromkeys(names))


def _with_detectable(aggregates: Sequence[str]) -> tuple[str, ...]:
    """Add to gaps how large a difference would be found: no verdict goes without it."""
    listed = _listed(aggregates)
    return tuple(dict.fromkeys((*listed, DETECTABLE))) if "gap" in listed else listed


def _refuse_measurements(columns: Mapping[str, Any]) -> None:
    """Refuse numbers with many values, of which nobody has said where groups begin."""
    for name, column in columns.items():
        values = as_array(column)
        if values.dtype.kind not in "iuf":
            continue
        count = len(np.unique(values[np.isfinite(values)]))
        if count > FEW:
            raise EvenhandError(
                f"{name} holds numbers, {count:,} different ones. Say where groups begin, as in "
                "pd.cut(age, [0, 40, 60, 120], right=False); or make them names by "
                ".astype(str) if each of them is a group."
            )


def _refuse_single_patients(groups: Mapping[str, Groups], rows: Scored) -> None:
    """Refuse an attribute none of whose groups has two patients."""
    for name, own in groups.items():
        counts = patients_of(own, rows.patients)
        compared = [counts[own.levels.index(level)] for level in own.compared()]
        if len(compared) > 1 and max(compared) == 1:
            raise EvenhandError(
                f"each of the {len(compared):,} groups of {name!r} "
                f"({some(map(repr, own.compared()))}) has one patient, of whom nothing can be said "
                "with an interval. Give an attribute that patients share."
            )


def patients_of(groups: Groups, patients: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the number of patients of each level.

    Examples
    --------
    >>> from evenhand.metrics.groups import groups_of
    >>> patients_of(groups_of(["f", "f", "m"]), np.array([0, 0, 1])).tolist()
    [1, 1]
    """
    own = groups.codes >= 0
    pairs = np.unique(np.stack([groups.codes[own], patients[own]]), axis=1)
    return np.bincount(pairs[0], minlength=len(groups.levels))


def _new_axes(rows: int) -> Any:
    """Return new axes with room for so many rows and their values."""
    figures = import_extra("matplotlib.pyplot", "plot", "figures")
    return figures.subplots(figsize=(7, 0.6 + 0.45 * rows), layout="constrained")[1]
