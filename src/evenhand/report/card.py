"""The model card: what a model is, what it was made from, and how it does by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from evenhand.report.numbers import plain

SHOWN = ("auc", "accuracy", "sensitivity", "specificity", "auc_worst", "auc_gap")


def model_card(facts: Mapping[str, Any], rows: pd.DataFrame, name: str) -> str:
    """Return the card of one model of a run as Markdown with front matter.

    Parameters
    ----------
    facts
        What ``run.json`` holds.
    rows
        The run's metric rows.
    name
        The model's name in the run.
    """
    settings, source = facts["settings"], facts.get("source", {})
    front = {
        "library_name": "evenhand",
        "tags": "[medical, fairness]",
        "job": facts["job"],
        "model": name,
        "backbone": settings.get("backbone", "unknown"),
    }
    return "\n".join(
        [
            "---",
            *(f"{key}: {value}" for key, value in front.items()),
            "---",
            f"# {settings.get('backbone', 'Model')}, {name}",
            "",
            f"Trained on {source.get('reader', 'unknown data')}: {source.get('label', '')}.",
            "It is made for research; it is no medical device.",
            "",
            "## Test patients, by group",
            "",
            *_table(rows, name),
            "",
            "## Versions",
            "",
            *(f"- {package} {version}" for package, version in facts["versions"].items()),
            "",
        ]
    )


def _table(rows: pd.DataFrame, name: str) -> Sequence[str]:
    of = rows[(rows["model"] == name) & (rows["split"] == "test") & rows["against"].isna()]
    lines = ["| metric | group | value | 95 % interval | n |", "|---|---|---|---|---|"]
    for row in of[of["metric"].isin(SHOWN)].to_dict("records"):
        group = "everybody" if row["attribute"] == "*" else f"{row['attribute']}: {row['group']}"
        value = plain(row["value"]) if pd.notna(row["value"]) else f"undefined: {row['undefined']}"
        known = pd.notna(row["low"]) and pd.notna(row["high"])
        between = f"{plain(row['low'])} to {plain(row['high'])}" if known else ""
        lines.append(f"| {row['metric']} | {group} | {value} | {between} | {row['n']} |")
    return lines
