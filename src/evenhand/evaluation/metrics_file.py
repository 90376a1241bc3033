"""``metrics.json``, read and checked."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from evenhand.files import DamagedError, checked, read_object
from evenhand.metrics import COLUMNS, as_table

SCHEMA = 1


class _Metrics(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    schema_version: int = Field(alias="schema")
    rows: list[dict[str, str | int | float | None]]


def read_rows(path: Path) -> pd.DataFrame:
    """Return the rows of a ``metrics.json``, with the columns ``COLUMNS``.

    Raises
    ------
    EvenhandError
        The file is absent or damaged, or a later version wrote it.
    """
    advice = f"`evenhand report {path.parent}` writes it again."
    try:
        rows = checked(_Metrics, read_object(path, SCHEMA), path).rows
        for number, row in enumerate(rows):
            if absent := [name for name in COLUMNS if name not in row]:
                raise DamagedError(path, f"row {number} lacks {absent[0]!r}")
        return as_table(rows)
    except DamagedError as error:
        raise DamagedError(path, error.problem, advice) from None
    except (TypeError, ValueError) as error:
        raise DamagedError(path, f"a row has a value of the wrong type ({error})", advice) from None
