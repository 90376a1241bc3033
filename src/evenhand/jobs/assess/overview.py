"""A large grid at a glance: the best of each kind on validation, what is told apart, every cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evenhand.jobs.assess.claims import RecipeClaims
from evenhand.jobs.assess.evaluation import Evaluation
from evenhand.jobs.assess.evidence import text_of
from evenhand.jobs.assess.grid import Cell, cells_of, with_share
from evenhand.jobs.assess.labels import share_text
from evenhand.jobs.assess.settings import LABELLED, SUPERVISED, AssessSettings
from evenhand.jobs.assess.values import Value
from evenhand.reporting.part import Fold, Part, Table
from evenhand.reporting.text.numbers import plain
from evenhand.wording import counted

LARGE = 12
"""Cells and shares of labels above which a grid is shown at a glance."""


@dataclass(frozen=True)
class _Row:
    """One recipe at one share of labels."""

    evaluation: Evaluation
    cell: Cell

    @property
    def validated(self) -> float:
        return self.evaluation.validated[self.cell.recipe]


def overview_part(
    evaluations: Sequence[Evaluation], every: Sequence[RecipeClaims], settings: AssessSettings
) -> Part | None:
    """Show the best of each kind, and every cell in a table that folds; None of a small grid."""
    rows = list(_rows(evaluations, settings))
    if len(rows) <= LARGE:
        return None
    fits = sum(len(row.evaluation.models[row.cell.recipe]) for row in rows)
    shown = sum(claim.sign != 0 for claims in every for claim in claims.family)
    judged = sum(len(claims.family) for claims in every)
    target = settings.target[0]
    sentences = (
        f"{counted(fits, 'fit')}: {counted(len(rows), 'cell')}, "
        f"{counted(evaluations[0].seeds, 'seed')} of each. Of {counted(judged, 'difference')} "
        f"between the best cells, {shown or 'none'} "
        f"{'is' if shown == 1 else 'are'} told apart (corrected). Best means the best {target} on "
        "validation patients, mean over seeds; numbers beside it are on test patients, which chose "
        "nothing. What is best of many is flattered on validation.",
    )
    table = _table("Best of each kind", _best(rows), target)
    whole = sorted(rows, key=lambda row: -row.validated)
    every_row = _table(
        "Every cell, the best on validation first", [("", row) for row in whole], target
    )
    fold = Fold(f"Every cell: {counted(len(rows), 'row')}", Part(tables=(every_row,)))
    return Part(sentences=sentences, tables=(table,), folds=(fold,))


def _rows(evaluations: Sequence[Evaluation], settings: AssessSettings) -> Iterator[_Row]:
    by_share = {evaluation.share: evaluation for evaluation in evaluations}
    for cell in cells_of(settings):
        if cell.seed == settings.seed:
            yield _Row(by_share[cell.share], cell)


def _best(rows: Sequence[_Row]) -> list[tuple[str, _Row]]:
    """Return the best row of each start, strategy and share, with what it is the best of."""
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
        if row.validated > best.setdefault(kind, row).validated:
            best[kind] = row
    return list(best.items())


def _table(title: str, rows: Sequence[tuple[str, _Row]], target: str) -> Table:
    attributes = tuple(rows[0][1].evaluation.judged[SUPERVISED].deviation)
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
            plain(row.validated),
            text_of(Value.of(row.evaluation.judged[row.cell.recipe].auc)),
            *(text_of(row.evaluation.deviation(row.cell.recipe, name)) for name in attributes),
        )
        for kind, row in rows
    )
    return Table(title, columns if rows[0][0] else columns[1:], shown)
