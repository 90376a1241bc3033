"""The main numbers of a run as a short table."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from html import escape
from typing import Any

import pandas as pd

LEADING = ("auc", "accuracy")
"""The metrics that a summary is about: the first of them that a run has, else its first one."""
ACROSS = ("worst", "gap")


def summary_table(rows: pd.DataFrame, split: str) -> str:
    """Return an HTML table: each model's leading metric for everybody, its worst group, its gap.

    Parameters
    ----------
    rows
        The rows of ``metrics.json``.
    split
        The split that is shown.
    """
    single = rows[(rows["split"] == split) & rows["against"].isna()]
    overall = single[single["attribute"] == "*"]
    measured = list(overall["metric"].unique())
    leading = next((name for name in (*LEADING, *measured) if name in measured), None)
    if leading is None:
        return ""
    columns = {f"{leading}, everybody": ("*", leading)}
    for attribute in single.loc[single["attribute"] != "*", "attribute"].unique():
        columns |= {
            f"{leading}, {aggregate} by {attribute}": (attribute, f"{leading}_{aggregate}")
            for aggregate in ACROSS
        }
    whole = {
        (row["model"], row["attribute"], row["metric"]): row
        for row in single[single["group"] == "*"].to_dict("records")
    }
    lines = [
        [model, f"{whole[model, '*', leading]['n']:,}"]
        + [_cell(whole.get((model, *place))) for place in columns.values()]
        for model in overall["model"].unique()
    ]
    return _table(["model", "samples", *columns], lines)


def _cell(row: Mapping[Hashable, Any] | None) -> str:
    """Return a value with its interval; nothing where it was not measured."""
    if row is None:
        return ""
    if pd.isna(row["value"]):
        return "undefined"
    has_interval = pd.notna(row["low"]) and pd.notna(row["high"])
    interval = f" ({row['low']:.3f} to {row['high']:.3f})" if has_interval else ""
    return f"{row['value']:.3f}{interval}"


def _table(head: list[str], lines: list[list[str]]) -> str:
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in lines
    )
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"
