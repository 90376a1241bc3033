"""Overviews of a grid: the best cell of each kind on validation, all cells, label efficiency."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from evenhand.errors import count_text
from evenhand.jobs.assess.claims import RecipeClaims
from evenhand.jobs.assess.evaluation import Evaluation, Value
from evenhand.jobs.assess.evidence import value_text
from evenhand.jobs.assess.grid import Cell, grid_cells, with_share
from evenhand.jobs.assess.settings import LABELLED, AssessSettings
from evenhand.reporting.charts.linear_axis import PlotFrame
from evenhand.reporting.charts.lines import LineChart, LineValue, XTick, line_chart
from evenhand.reporting.section import HiddenPart, Part, Table
from evenhand.reporting.text.vocabulary import plain

LARGE = 12
"""A grid has an overview if it has more rows than this (a row: a cell at one share of labels)."""


@dataclass(frozen=True)
class _Row:
    """One recipe at one share of labels."""

    evaluation: Evaluation
    cell: Cell

    @property
    def validation_value(self) -> float:
        return self.evaluation.validation_values[self.cell.recipe]


def overview_part(
    evaluations: Sequence[Evaluation], all_claims: Sequence[RecipeClaims], settings: AssessSettings
) -> Part | None:
    """Return the overview: the best cell of each kind, and a hidden table of all cells.

    None if the grid is small.
    """
    rows = list(_rows(evaluations, settings))
    if len(rows) <= LARGE:
        return None
    fits = sum(len(row.evaluation.models[row.cell.recipe]) for row in rows)
    shown = sum(claim.sign != 0 for claims in all_claims for claim in claims.family)
    judged = sum(len(claims.family) for claims in all_claims)
    target = settings.target[0]
    sentences = (
        f"{count_text(fits, 'fit')}: {count_text(len(rows), 'cell')}, "
        f"{count_text(evaluations[0].seeds, 'seed')} of each. Of "
        f"{count_text(judged, 'difference')} between the best cells, {shown or 'none'} "
        f"{'is' if shown == 1 else 'are'} certain (corrected). Best means the best {target} on "
        "validation patients, mean over seeds. The best of many values looks better on validation "
        "than it is; the other numbers are on test patients, who took no part in the choice.",
    )
    table = _table("Best of each kind", _best_of_kinds(rows), target)
    ranked = sorted(rows, key=lambda row: -row.validation_value)
    all_cells = _table(
        "Every cell, the best on validation first", [("", row) for row in ranked], target
    )
    hidden = HiddenPart(f"Every cell: {count_text(len(rows), 'row')}", Part(tables=(all_cells,)))
    return Part(sentences=sentences, tables=(table,), hidden=(hidden,))


def _rows(evaluations: Sequence[Evaluation], settings: AssessSettings) -> Iterator[_Row]:
    by_share = {evaluation.share: evaluation for evaluation in evaluations}
    for cell in grid_cells(settings):
        if cell.seed == settings.seed:
            yield _Row(by_share[cell.share], cell)


def _best_of_kinds(rows: Sequence[_Row]) -> list[tuple[str, _Row]]:
    """Return the name and the best row of each start, strategy and share of labels."""
    tuned = [row for row in rows if row.cell.strategy not in LABELLED]
    labelled = [row for row in rows if row.cell.strategy in LABELLED]
    kinds = [
        *((f"start {row.cell.start}" if row.cell.start else "pre-trained", row) for row in tuned),
        *((f"strategy {row.cell.strategy}", row) for row in tuned),
        *((f"labels {share_text(row.cell.share)}", row) for row in tuned),
        *((row.cell.strategy, row) for row in labelled),
    ]
    best: dict[str, _Row] = {}
    for kind, row in kinds:
        if row.validation_value > best.setdefault(kind, row).validation_value:
            best[kind] = row
    return list(best.items())


def _table(title: str, rows: Sequence[tuple[str, _Row]], target: str) -> Table:
    attributes = rows[0][1].evaluation.attributes
    columns = (
        "Kind",
        "Cell",
        f"Validation {target}",
        "Test AUC",
        *(f"Deviation, {name}" for name in attributes),
    )
    shown = tuple(
        (
            *((kind,) if kind else ()),
            with_share(row.cell.recipe, row.cell.share),
            plain(row.validation_value),
            value_text(Value.of(row.evaluation.judged[row.cell.recipe].auc)),
            *(value_text(row.evaluation.deviation(row.cell.recipe, name)) for name in attributes),
        )
        for kind, row in rows
    )
    return Table(title, columns if rows[0][0] else columns[1:], shown)


def label_part(evaluations: Sequence[Evaluation], all_claims: Sequence[RecipeClaims]) -> Part:
    """Return the section about shares of labels: AUC and deviation of each arm, and the claims."""
    attributes = evaluations[0].attributes
    charts = [_chart(evaluations, "AUC", Evaluation.auc_over_seeds)]
    for name in attributes:
        deviation = partial(Evaluation.deviation_over_seeds, attribute=name)
        charts.append(_chart(evaluations, f"Deviation from parity, {name}", deviation))
    seeds = evaluations[0].seeds
    return Part(
        sentences=(
            "Each arm is represented by the cell that validation chose at that share. Intervals "
            f"are over {'patients and seeds' if seeds > 1 else 'patients; there is one seed'}. "
            "Claims at each share are corrected together with all other claims of this page.",
        ),
        charts=tuple(charts),
        tables=(_share_table(evaluations, attributes), _claims_table(all_claims, attributes)),
    )


def _chart(
    evaluations: Sequence[Evaluation], title: str, value: Callable[[Evaluation, str], Value]
) -> LineChart:
    by_rising_share = evaluations[::-1]
    series: dict[str, list[LineValue]] = {arm: [] for arm in evaluations[0].arms}
    for evaluation in by_rising_share:
        for arm, cell in evaluation.arms.items():
            number = value(evaluation, cell)
            series[arm].append(LineValue(number.value, number.low, number.high))
    ticks = [
        XTick(math.log(evaluation.share), share_text(evaluation.share))
        for evaluation in by_rising_share
    ]
    frame = PlotFrame(title, "", "share of the training patients with labels", title)
    return line_chart(dict(series), ticks, frame)


def _share_table(evaluations: Sequence[Evaluation], attributes: Sequence[str]) -> Table:
    rows = []
    for evaluation in evaluations[::-1]:
        for arm, cell in evaluation.arms.items():
            values = [evaluation.auc_over_seeds(cell)]
            values += [evaluation.deviation_over_seeds(cell, name) for name in attributes]
            name = arm if arm == cell else f"{arm} ({cell})"
            texts = map(value_text, values)
            rows.append((f"{share_text(evaluation.share)}, {name}", *texts))
    columns = ("Labels, arm", "AUC", *(f"Deviation, {name}" for name in attributes))
    return Table("By share of labels", columns, tuple(rows))


def _claims_table(all_claims: Sequence[RecipeClaims], attributes: Sequence[str]) -> Table:
    rows = []
    for claims in all_claims:
        name = f"{share_text(claims.evaluation.share)}, {claims.cell} against {claims.against}"
        fairness = ["no claim"] * 2 * len(attributes)
        if claims.evaluation.allows_claims(claims.cell, claims.against):
            signs = [claims.deviation[name].sign for name in attributes]
            fairness = [_outcome(sign, "fairer", "less fair") for sign in signs]
            losses = [claims.levelled_down(name) for name in attributes]
            fairness += ["levelled down" if groups else "not shown" for groups in losses]
        rows.append((name, _outcome(claims.everybody.sign, "higher", "lower"), *fairness))
    columns = (
        "Labels, cells",
        "AUC",
        *(f"Deviation, {name}" for name in attributes),
        *(f"Levelling down, {name}" for name in attributes),
    )
    return Table("Claims", columns, tuple(rows))


def _outcome(sign: int, better: str, worse: str) -> str:
    return {1: better, 0: "not certain", -1: worse}[sign]


def share_text(share: float) -> str:
    """Return a share of labels as text.

    Examples
    --------
    >>> share_text(0.05), share_text(1.0)
    ('5 %', '100 %')
    """
    return f"{100 * share:g} %"
