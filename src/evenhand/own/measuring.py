"""Metrics by group from your own labels, scores and groups: a table, a figure or a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.errors import (
    EvenhandError,
    check_count,
    check_level,
    check_seed,
    first_few,
    import_extra,
    pick,
)
from evenhand.files import to_path, write_text
from evenhand.metrics import (
    DETECTABLE,
    Bootstrap,
    Groups,
    Measured,
    Plan,
    RowNames,
    Scored,
    as_scored,
    as_table,
    compared_levels,
    judge,
    measure_part,
)
from evenhand.own.inputs import as_groups
from evenhand.reporting import (
    ModelSamples,
    Report,
    render,
    render_table,
    verdicts_of,
)
from evenhand.reporting.charts.forest import draw_forest
from evenhand.reporting.estimates import find_rows, first_row
from evenhand.reporting.sections.groups import everyone_entry, group_entries, group_frame
from evenhand.reporting.terminal import print_table, print_verdicts
from evenhand.reporting.text.vocabulary import display_name
from evenhand.tables.arrays import as_array, group_array, group_columns, refuse_other_order
from evenhand.tables.bins import FEW
from evenhand.tables.spelling import check_names

SPLIT = "test"
"""The split in the rows, as for predictions without a column ``split``."""


MOST = 1_000_000
"""The largest number of resamples."""


@dataclass(frozen=True, eq=False, repr=False)
class GroupTable:
    """Metrics by group with intervals, counts and tests.

    Attributes
    ----------
    page
        The content of the page; ``page.rows`` are the numbers.
    """

    page: Report

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A data frame of all numbers, one a row, with the columns of ``metrics.json``."""
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
        """Draw a metric of every group with its interval, like the figure of the page.

        Parameters
        ----------
        metric
            One of the metrics that were measured.
        ax
            Matplotlib's axes; by default, new axes.
        model
            The name of the model, if the table has two; by default, the first one.

        Returns
        -------
        matplotlib.axes.Axes
            The axes, with the metric on the x axis.

        Raises
        ------
        EvenhandError
            If the metric was not measured, there is no such model, or matplotlib is not installed.
        """
        model = self.page.main_model if model is None else self.page.shown_name(model)
        pick("model", model, dict.fromkeys(self.page.models))
        rows = find_rows(self.page.single, model=model)
        measured = dict.fromkeys(row.base for row in rows if row.is_of_group)
        pick("metric in this table", metric, measured)
        groups = {
            display_name(attribute): group_entries(
                find_rows(rows, attribute=attribute), metric, self.page.positive
            )
            for attribute in self.page.attributes
        }
        overall = first_row(rows, attribute="*", metric=metric)
        top = [] if overall is None else [everyone_entry(overall, self.page.positive)]
        frame = group_frame(metric, overall, self.page.positive)
        if ax is None:
            ax = _new_axes(len(top) + sum(1 + len(entries) for entries in groups.values()))
        return draw_forest(top, groups, frame, ax)

    def report(self, path: str | Path) -> Path:
        """Write the report page of these numbers as HTML; return its path.

        Raises
        ------
        EvenhandError
            If the file's name does not end in ``.html``, or the file cannot be written.
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

    ``evenhand audit`` computes the same numbers from the same rows.

    Parameters
    ----------
    y_true
        ``(n,)`` classes, 0 … C-1; with two classes, 1 is the positive class.
    y_score
        ``(n,)`` probabilities of class 1, or ``(n, C)`` probabilities of each class.
    groups
        The groups of all rows: a Series, a mapping of names to arrays, or a data frame with a
        column for each attribute. Values that are missing, masked, blank, or mean unknown ("not
        reported") become ``"unknown"``, which is not compared.
    patients
        ``(n,)`` patients; by default each row is a patient. Resampling keeps a patient's rows
        together.
    metrics
        Names of metrics, as ``evenhand audit --list-metrics`` prints them.
    aggregates
        Names of aggregates across groups, from the same list. ``gap`` adds ``detectable``: the
        smallest difference that these data would show.
    threshold
        Rows with this score or more are decided as class 1. The threshold must not be chosen on
        these rows.
    against
        Another model's scores of the same rows. The table then has paired differences, too: the
        first model minus this one.
    seed
        The seed of the resamples.
    level
        The nominal coverage of the intervals, in (0, 1).
    replicates
        The number of resamples.
    names
        The names of the first and of the other model in rows and page.

    Returns
    -------
    GroupTable
        The numbers: ``.frame``, ``.plot(metric)``, ``.report(path)``. Notebooks show a table.

    Raises
    ------
    EvenhandError
        If lengths differ, a score is not a probability, a label is not one of the classes, labels,
        scores or patients are masked or complex, no metric is named, a metric or aggregate does not
        exist, a setting is outside of its range, a group has several spellings, groups are
        measurements or single patients, or indexes show that rows are in different orders.

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
    if len({*_names("names", names)}) != 2 or len(names) != 2:
        raise EvenhandError(f"names={names!r}: give the two models two different names.")
    if not (isinstance(threshold, Real) and 0 <= threshold <= 1):
        raise EvenhandError(f"threshold={threshold!r}: give a number from 0 to 1.")
    metrics, aggregates = _names("metrics", metrics), _names("aggregates", aggregates)
    if not metrics:
        raise EvenhandError("metrics is empty: name one metric at least, as in metrics=('auc',).")
    check_seed(seed)
    check_count("replicates", replicates, most=MOST)
    check_level(level)
    scores = dict(zip(names, (y_score, against), strict=True))
    models = {
        name: _scored(y_true, model_scores, patients, threshold)
        for name, model_scores in scores.items()
        if model_scores is not None
    }
    rows = models[names[0]]
    _refuse_measurements(group_columns(groups))
    coded = as_groups(groups, len(rows))
    _refuse_single_patients(coded, rows)
    plan = Plan(metrics, _with_detectable(aggregates), bootstrap=Bootstrap(replicates, level))
    numbers = judge(list(_parts(models, coded, plan, seed)))
    samples = {name: _samples(model, coded, plan) for name, model in models.items() if model.binary}
    return GroupTable(
        Report(
            title="Measured by group",
            rows=numbers,
            attributes=tuple(coded),
            split=SPLIT,
            samples=samples,
            threshold_rule=f"Decision rule: fixed at {threshold:g}." if rows.binary else "",
        )
    )


def _parts(
    models: Mapping[str, Scored], groups: Mapping[str, Groups], plan: Plan, seed: int
) -> Iterator[Measured]:
    """Yield the numbers of each model, then of the first minus the second; resamples are equal."""
    measure = partial(measure_part, groups=groups, plan=plan)
    for name, rows in models.items():
        rng = np.random.default_rng(seed)
        yield measure(rows, rng=rng, names=RowNames(name, split=SPLIT))
    if len(models) > 1:
        (first, rows), (second, against) = models.items()
        rng = np.random.default_rng(seed)
        yield measure(rows, against=against, rng=rng, names=RowNames(first, second, SPLIT))


def _samples(rows: Scored, groups: Mapping[str, Groups], plan: Plan) -> ModelSamples:
    return ModelSamples(
        rows, groups, {name: compared_levels(plan, name, column) for name, column in groups.items()}
    )


def _scored(y_true: Any, y_score: Any, patients: Any, threshold: float) -> Scored:
    """Check the arrays, and join them; errors use the names of `measure_groups`' parameters."""
    labels, scores = as_array(y_true), as_array(y_score)
    patient_ids = None if patients is None else as_array(patients)
    arrays = {"y_true": labels, "scores": scores, "patients": patient_ids}
    counts = {
        name: len(values) for name, values in arrays.items() if values is not None and values.ndim
    }
    if len({*counts.values()}) > 1:
        lengths_text = ", ".join(f"{name} has {count:,}" for name, count in counts.items())
        raise EvenhandError(
            f"{lengths_text} rows; give one row for each sample, in the same order."
        )
    return as_scored(labels, scores, patients=patient_ids, threshold=threshold)


def _names(argument: str, names: Any) -> tuple[str, ...]:
    """Return names without repetition; a single name becomes a tuple.

    Raises
    ------
    EvenhandError
        If there are other values than names.
    """
    listed = (names,) if isinstance(names, str) else names
    if not (
        isinstance(listed, Iterable) and all(isinstance(name, str) and name for name in listed)
    ):
        raise EvenhandError(f"{argument}={names!r}: give a name, or several as a tuple.")
    check_names(dict.fromkeys(listed), argument)
    return tuple(dict.fromkeys(listed))


def _with_detectable(names: tuple[str, ...]) -> tuple[str, ...]:
    """Add the detectable difference to a gap, since verdicts about gaps state it."""
    return tuple(dict.fromkeys((*names, DETECTABLE))) if "gap" in names else names


def _refuse_measurements(columns: Mapping[str, Any]) -> None:
    """Refuse columns of numbers or dates with more than `FEW` values, which are measurements."""
    for name, column in columns.items():
        values = group_array(column)
        if values.ndim != 1:
            continue
        measured = values[[isinstance(value, Real | datetime) for value in values.tolist()]]
        present = measured[measured == measured]  # without NaN and NaT
        count = len({*present.tolist()})
        if count > FEW and 2 * len(present) > len(values):
            raise EvenhandError(
                f"{name} holds numbers or dates, {count:,} different ones. Give groups, for "
                "example pd.cut(age, [0, 40, 60, 120], right=False); if each value is a group, "
                "give .astype(str)."
            )


def _refuse_single_patients(groups: Mapping[str, Groups], rows: Scored) -> None:
    """Refuse an attribute none of whose groups has two patients."""
    for name, column in groups.items():
        counts = count_patients(column, rows.patients)
        compared = [counts[column.levels.index(level)] for level in column.compared()]
        if len(compared) > 1 and max(compared) == 1:
            raise EvenhandError(
                f"each of the {len(compared):,} groups of {name!r} "
                f"({first_few(map(repr, column.compared()))}) has one patient, so no interval can "
                "be computed. Give an attribute whose groups have several patients."
            )


def count_patients(groups: Groups, patients: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the number of patients of each level, ``(levels,)``.

    Examples
    --------
    >>> from evenhand.metrics.groups import groups_of
    >>> count_patients(groups_of(["f", "f", "m"]), np.array([0, 0, 1])).tolist()
    [1, 1]
    """
    in_group = groups.codes >= 0
    pairs = np.unique(np.stack([groups.codes[in_group], patients[in_group]]), axis=1)
    return np.bincount(pairs[0], minlength=len(groups.levels))


def _new_axes(rows: int) -> Any:
    """Return new axes whose height fits the number of rows."""
    figures = import_extra("matplotlib.pyplot", "plot", "figures")
    return figures.subplots(figsize=(7, 0.6 + 0.45 * rows), layout="constrained")[1]
