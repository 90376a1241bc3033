"""The list of all metrics and comparisons across groups, as a table and as text."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from functools import partial
from textwrap import fill
from typing import Any

import pandas as pd

from evenhand.metrics.aggregates import CONTRASTS, DETECTABLE, SUMMARIES
from evenhand.metrics.fairness import FAIRNESS, Fairness
from evenhand.metrics.registry import METRICS, Metric
from evenhand.registry import caution_in

HEADINGS = {
    "group": "Metrics of each group (--metric NAME):",
    "suffix": "Comparisons across groups, for each metric (--across NAME):",
    "across": "Fairness metrics across groups (--across NAME):",
}
DETECTABLE_DOC = """Return the difference from the reference that a test finds with 80 % power.

Misleads as a result: it describes the sample size, not the model.
"""
KINDS = {"score": "scores", "decision": "decisions", "label": "labels"}


def list_metrics() -> pd.DataFrame:
    """Return a table with a row for each metric and comparison.

    Its columns are name, kind, direction, ideal, needs, source, title and caution (when it
    misleads). ``kind`` is ``"group"`` for a metric of one group, ``"across"`` for a fairness metric
    across groups, and ``"suffix"`` for a comparison of any metric across groups (``gap``, as in
    ``auc_gap``).
    """
    groups = [_row(metric, "group", KINDS[metric.needs]) for metric in METRICS.values()]
    across = [_row(metric, "across", " and ".join(metric.metrics)) for metric in FAIRNESS.values()]
    docs = {name: function.__doc__ or "" for name, function in {**SUMMARIES, **CONTRASTS}.items()}
    docs[DETECTABLE] = DETECTABLE_DOC
    suffixes = [
        (name, "suffix", "", None, "any metric", "", _suffix_title(doc), caution_in(doc))
        for name, doc in docs.items()
    ]
    columns = ["name", "kind", "direction", "ideal", "needs", "source", "title", "caution"]
    return pd.DataFrame([*groups, *suffixes, *across], columns=columns)


def _row(metric: Metric | Fairness, kind: str, needs: str) -> tuple[str | float | None, ...]:
    """Return the row of a metric, with its kind and what it is computed from."""
    facts = (metric.direction, metric.ideal, needs, metric.source)
    return metric.name, kind, *facts, metric.title, metric.caution


def _suffix_title(doc: str) -> str:
    title = doc.partition("\n")[0].removeprefix("Return ")
    return title[:1].upper() + title[1:]


def metric_listing() -> str:
    """Return every metric and comparison as text, a paragraph for each kind."""
    table = list_metrics()
    paragraphs = [
        "\n".join([title, *map(_entry, table[table["kind"] == kind].to_dict("records"))])
        for kind, title in HEADINGS.items()
    ]
    adjustable = [name for name, metric in METRICS.items() if isinstance(metric.value, partial)]
    note = f"{', '.join(adjustable)} take another number in brackets, as in {adjustable[0]}[0.95]."
    return "\n\n".join([*paragraphs, note])


def _entry(row: Mapping[Hashable, Any]) -> str:
    """Return the lines of one metric: name and title, facts, caution."""
    ideal = "" if row["ideal"] is None or math.isnan(row["ideal"]) else f", ideal {row['ideal']:g}"
    better = {"higher": "higher is better", "lower": "lower is better"}.get(row["direction"], "")
    facts = "; ".join(
        filter(None, (f"{better}{ideal}".removeprefix(", "), f"from {row['needs']}", row["source"]))
    )
    lines = [f"  {row['name']:<36}{row['title']}", f"{'':<38}{facts}"]
    caution = fill(row["caution"], 98, initial_indent=f"{'':<38}", subsequent_indent=f"{'':<38}")
    return "\n".join([*lines, caution] if row["caution"] else lines)
