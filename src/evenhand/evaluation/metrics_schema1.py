"""Convert rows of ``metrics.json`` of schema 1 to schema 2.

In schema 1, the name of the metric held the aggregate (``auc_gap``), and ``method`` held how the
number was computed, separated by semicolons. No other module parses these texts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from evenhand.metrics import CONTRASTS, DETECTABLE, SUMMARIES, is_metric

COLUMNS = (
    *("model", "against", "split", "attribute", "group", "metric"),
    *("threshold", "value", "low", "high", "level", "method", "p", "p_adjusted"),
    *("n", "patients", "positives", "replicates_undefined", "undefined"),
)
AGGREGATES = (*SUMMARIES, *CONTRASTS, DETECTABLE, "less_overall")
PREFIXES = {
    "approximate: ": "approximate",
    "no interval: ": "no_interval",
    "p of ": "p_method",
}


def as_schema_2(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of schema 1 with the columns of schema 2.

    Examples
    --------
    >>> row = dict.fromkeys(COLUMNS) | {"metric": "auc_difference", "low": -0.1, "high": 0.1}
    >>> row["method"] = "t; approximate: 9 patients; from a; b"
    >>> new = as_schema_2(row)
    >>> [new[name] for name in ("base", "aggregate", "interval_method", "approximate", "reference")]
    ['auc', 'difference', 't', '9 patients', 'a; b']
    """
    unchanged = {name: row[name] for name in COLUMNS if name != "method"}
    base, aggregate = _split_name(str(row["metric"]))
    columns = _split_method(row["method"] or "", has_interval=row["low"] is not None)
    return {**unchanged, "base": base, "aggregate": aggregate, **columns}


def _split_name(metric: str) -> tuple[str, str | None]:
    for aggregate in AGGREGATES:
        base = metric.removesuffix(f"_{aggregate}")
        if base != metric and is_metric(base):
            return base, aggregate
    return metric, None


def _split_method(method: str, *, has_interval: bool) -> dict[str, str | None]:
    """Return the columns of schema 2 that ``method`` held.

    The name of the reference may contain semicolons. Only ``no interval: …`` can follow it.
    """
    names = ("interval_method", "no_interval", "approximate", "p_method", "reference")
    columns: dict[str, str | None] = dict.fromkeys(names)
    reference = re.search(r"(?:^|; )from (.*?)(; no interval: .*)?$", method, re.DOTALL)
    if reference:
        columns["reference"] = reference[1]
        method = method[: reference.start()] + (reference[2] or "")
    notes = []
    for index, part in enumerate(filter(None, method.split("; "))):
        prefix = next((prefix for prefix in PREFIXES if part.startswith(prefix)), None)
        if prefix:
            columns[PREFIXES[prefix]] = part.removeprefix(prefix)
        elif has_interval and index == 0:
            columns["interval_method"] = part
        else:
            notes.append(part)
    return {**columns, "note": "; ".join(notes) or None}
