"""The main numbers of a run as a short table."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from evenhand.metrics import MetricRow
from evenhand.metrics.rows import EVERYBODY

PREFERRED = ("auc", "accuracy")
"""The metrics of a summary: the first of these that the run has, else the run's first metric."""
ACROSS = ("worst", "gap")


def summary_table(rows: Sequence[MetricRow], split: str) -> str:
    """Return an HTML table: a metric of each model for everybody, its worst group and its gap.

    Parameters
    ----------
    rows
        The rows of ``metrics.json``.
    split
        The split to show.
    """
    shown = [
        row for row in rows if row.split == split and row.against is None and row.group == EVERYBODY
    ]
    overall = [row for row in shown if row.attribute == EVERYBODY]
    measured = [row.base for row in overall]
    metric = next((name for name in (*PREFERRED, *measured) if name in measured), None)
    columns: dict[str, tuple[str, str | None]] = {f"{metric}, everybody": (EVERYBODY, None)}
    for attribute in dict.fromkeys(row.attribute for row in shown):
        if attribute != EVERYBODY:
            columns |= {
                f"{metric}, {aggregate} by {attribute}": (attribute, aggregate)
                for aggregate in ACROSS
            }
    cells = {
        (row.model, (row.attribute, row.aggregate)): row for row in shown if row.base == metric
    }
    lines = [
        [
            str(row.model),
            f"{row.n:,}",
            *(_cell(cells.get((row.model, column))) for column in columns.values()),
        ]
        for row in overall
        if row.base == metric
    ]
    return _table(["model", "samples", *columns], lines) if lines else ""


def _cell(row: MetricRow | None) -> str:
    """Return a value with its interval as text; empty if there is no row."""
    if row is None:
        return ""
    if row.value is None:
        return "undefined"
    has_interval = row.low is not None and row.high is not None
    interval = f" ({row.low:.3f} to {row.high:.3f})" if has_interval else ""
    return f"{row.value:.3f}{interval}"


def _table(head: list[str], lines: list[list[str]]) -> str:
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in lines
    )
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"
