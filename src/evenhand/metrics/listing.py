"""Every number that can be asked for, as a table."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from functools import partial
from textwrap import fill
from typing import Any

import pandas as pd

from evenhand.metrics.aggregates import CONTRASTS, DETECTABLE, SUMMARIES
from evenhand.metrics.fairness import FAIRNESS
from evenhand.metrics.registry import METRICS
from evenhand.registry import caution_in

HEADINGS = {
    "group": "Of each group (--metric NAME):",
    "suffix": "Across the groups, of each metric (--across NAME):",
    "across": "Across the groups, by name (--across NAME):",
}
DETECTABLE_DOC = """Return the difference from the reference that is found with 80 % power.

Misleads as a result: it says what these patients could show, and nothing of the model.
"""
KINDS = {"score": "scores", "decision": "decisions", "label": "labels"}


def list_metrics() -> pd.DataFrame:
    """Return a row for each metric: name, kind, direction, ideal, needs, source, title, caution.

    ``caution`` says when it misleads.

    ``kind`` is ``"group"`` for a number about one group, ``"across"`` for one across groups, and
    ``"suffix"`` for what can be asked across groups of any metric (rows call it ``auc_gap``).
    """
    groups = [
        (
            *(
                metric.name,
                "group",
                metric.direction,
                metric.ideal,
                KINDS[metric.needs],
                metric.source,
            ),
            *(metric.title, metric.caution),
        )
        for metric in METRICS.values()
    ]
    across = [
        (
            *(
                metric.name,
                "across",
                metric.direction,
                metric.ideal,
                " and ".join(metric.metrics),
                metric.source,
            ),
            *(metric.title, metric.caution),
        )
        for metric in FAIRNESS.values()
    ]
    docs = {name: function.__doc__ or "" for name, function in {**SUMMARIES, **CONTRASTS}.items()}
    docs[DETECTABLE] = DETECTABLE_DOC
    suffixes = [
        (name, "suffix", "", None, "any metric", "", _suffix_title(doc), caution_in(doc))
        for name, doc in docs.items()
    ]
    columns = ["name", "kind", "direction", "ideal", "needs", "source", "title", "caution"]
    return pd.DataFrame([*groups, *suffixes, *across], columns=columns)


def _suffix_title(doc: str) -> str:
    title = doc.partition("\n")[0].removeprefix("Return ")
    return title[:1].upper() + title[1:]


def metric_listing() -> str:
    """Return every metric and comparison as text, a paragraph for each kind."""
    table = list_metrics()
    adjustable = [name for name, metric in METRICS.items() if isinstance(metric.value, partial)]
    other = f"{', '.join(adjustable)} take another number in brackets, as in {adjustable[0]}[0.95]."
    return (
        "\n\n".join(
            f"{title}\n" + "\n".join(_entry(row) for row in of_kind.to_dict("records"))
            for kind, title in HEADINGS.items()
            for of_kind in [table[table["kind"] == kind]]
        )
        + f"\n\n{other}"
    )


def _entry(row: Mapping[Hashable, Any]) -> str:
    ideal = "" if row["ideal"] is None or math.isnan(row["ideal"]) else f", ideal {row['ideal']:g}"
    better = {"higher": "higher is better", "lower": "lower is better"}.get(row["direction"], "")
    facts = "; ".join(
        filter(None, (f"{better}{ideal}".removeprefix(", "), f"from {row['needs']}", row["source"]))
    )
    lines = [f"  {row['name']:<36}{row['title']}", f"{'':<38}{facts}"]
    wide = fill(row["caution"], 98, initial_indent=f"{'':<38}", subsequent_indent=f"{'':<38}")
    return "\n".join([*lines, wide] if row["caution"] else lines)
