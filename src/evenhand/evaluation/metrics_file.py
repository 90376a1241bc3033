"""Write, read and check the rows of ``metrics.json``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from evenhand.evaluation import metrics_schema1
from evenhand.files import DamagedError, read_json_record, write_rows_json
from evenhand.metrics import COLUMNS, MetricRow, as_records

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
        columns = metrics_schema1.COLUMNS if is_schema_1 else COLUMNS
        rows = []
        for number, row in enumerate(file.rows):
            if absent := [name for name in columns if name not in row]:
                raise DamagedError(path, f"row {number} lacks {absent[0]!r}")
            values = metrics_schema1.as_schema_2(row) if is_schema_1 else row
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
