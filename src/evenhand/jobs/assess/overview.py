"""The overview of a large grid: the best cell of each kind on validation, and all cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evenhand.jobs.assess.claims import RecipeClaims
from evenhand.jobs.assess.evaluation import Evaluation
from evenhand.jobs.assess.evidence import value_text
from evenhand.jobs.assess.grid import Cell, grid_cells, with_share
from evenhand.jobs.assess.labels import share_text
from evenhand.jobs.assess.settings import LABELLED, AssessSettings
from evenhand.jobs.assess.values import Value
from evenhand.reporting.part import HiddenPart, Part, Table
from evenhand.reporting.text.numbers import plain
from evenhand.wording import count_text

LARGE = 12
"""The number of cells and shares of labels above which a grid has an overview."""


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
