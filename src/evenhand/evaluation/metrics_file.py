"""Write, read and check the rows of ``metrics.json``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from evenhand.files import DamagedError, read_json_record, write_rows_json
from evenhand.metrics import (
    COLUMNS,
    CONTRASTS,
    DETECTABLE,
    SUMMARIES,
    MetricRow,
    as_records,
    is_metric,
)

SCHEMA = 2
ROW = TypeAdapter(MetricRow)


class _Metrics(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    schema_version: int = Field(alias="schema")
    rows: list[dict[str, Any]]


def write_metrics(path: Path, rows: Iterable[MetricRow]) -> None:
    """Write rows as ``metrics.json``: ``{"schema": 2, "rows": [{...}, ...]}``."""
    write_rows_json(path, {"schema": SCHEMA}, as_records(rows))


def read_metrics(path: Path) -> list[MetricRow]:
    """Return the rows of a ``metrics.json`` of this or an earlier schema.

    Raises
    ------
    EvenhandError
        If the file is absent or damaged, or a later version wrote it.
    """
    advice = f"`evenhand report {path.parent}` writes it again."
    try:
        file = read_json_record(_Metrics, path, SCHEMA)
        is_schema_1 = file.schema_version == 1
        columns = COLUMNS_1 if is_schema_1 else COLUMNS
        rows = []
        for number, row in enumerate(file.rows):
            if absent := [name for name in columns if name not in row]:
                raise DamagedError(path, f"row {number} lacks {absent[0]!r}")
            values = as_schema_2(row) if is_schema_1 else row
            rows.append(_parse_row(values, number, path))
        return rows
    except DamagedError as error:
        raise DamagedError(path, error.problem, advice) from None


def _parse_row(values: Mapping[str, Any], number: int, path: Path) -> MetricRow:
    fields = {name: values[name] for name in COLUMNS if name != "metric" and name in values}
    try:
        # From JSON, because strict validation of Python values accepts only MetricRow objects.
        row = ROW.validate_json(json.dumps(fields), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        wrong = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        problem = f"row {number} has a value of the wrong type ({wrong}: {first['input']!r})"
        raise DamagedError(path, problem) from None
    if row.metric != values["metric"]:
        problem = f"row {number} has the metric {values['metric']!r}, where {row.metric!r} belongs"
        raise DamagedError(path, problem)
    return row


COLUMNS_1 = (
    *("model", "against", "split", "attribute", "group", "metric"),
    *("threshold", "value", "low", "high", "level", "method", "p", "p_adjusted"),
    *("n", "patients", "positives", "replicates_undefined", "undefined"),
)
AGGREGATES_1 = (*SUMMARIES, *CONTRASTS, DETECTABLE, "less_overall")
PREFIXES_1 = {
    "approximate: ": "approximate",
    "no interval: ": "no_interval",
    "p of ": "p_method",
}


def as_schema_2(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of schema 1 with the columns of schema 2.

    In schema 1, the name of the metric held the aggregate (``auc_gap``), and ``method`` held how
    the number was computed, separated by semicolons. No other code parses these texts.

    Examples
    --------
    >>> row = dict.fromkeys(COLUMNS_1) | {"metric": "auc_difference", "low": -0.1, "high": 0.1}
    >>> row["method"] = "t; approximate: 9 patients; from a; b"
    >>> new = as_schema_2(row)
    >>> [new[name] for name in ("base", "aggregate", "interval_method", "approximate", "reference")]
    ['auc', 'difference', 't', '9 patients', 'a; b']
    """
    unchanged = {name: row[name] for name in COLUMNS_1 if name != "method"}
    base, aggregate = _split_name(str(row["metric"]))
    columns = _split_method(row["method"] or "", has_interval=row["low"] is not None)
    return {**unchanged, "base": base, "aggregate": aggregate, **columns}


def _split_name(metric: str) -> tuple[str, str | None]:
    for aggregate in AGGREGATES_1:
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
        prefix = next((prefix for prefix in PREFIXES_1 if part.startswith(prefix)), None)
        if prefix:
            columns[PREFIXES_1[prefix]] = part.removeprefix(prefix)
        elif has_interval and index == 0:
            columns["interval_method"] = part
        else:
            notes.append(part)
    return {**columns, "note": "; ".join(notes) or None}
