"""Refuse pandas columns whose rows are in different orders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from evenhand.errors import EvenhandError


def group_columns(groups: Any) -> dict[str, Any]:
    """Return the columns of ``groups=`` by the name that messages use, unchanged."""
    if isinstance(groups, pd.DataFrame | Mapping):
        return {f"groups[{str(name)!r}]": groups[name] for name in groups}
    return {"groups": groups}


def refuse_other_order(columns: Mapping[str, Any]) -> None:
    """Refuse pandas columns with equal indexes in different orders: rows match by position."""
    indexed = {name: column.index for name, column in columns.items() if hasattr(column, "index")
               and isinstance(column.index, pd.Index)}  # fmt: skip
    first_name, first_index = next(iter(indexed.items()), ("", pd.Index([])))
    for name, index in indexed.items():
        if index.equals(first_index) or len(index) != len(first_index):
            continue
        if set(index) == set(first_index):
            raise EvenhandError(
                f"{name} and {first_name} have the same index in another order, but rows are "
                f"matched by position. Put them in the same order: {name}.loc[{first_name}.index]."
            )
