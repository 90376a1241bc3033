"""Convert tensors, Series, data frames and lists to arrays; refuse columns in different orders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.errors import EvenhandError


def as_array(values: Any) -> NDArray[Any]:
    """Return a tensor, Series, data frame or sequence as an array.

    A missing value in a list stays missing. Sparse matrices become dense. A data frame of numbers
    and booleans, also of pandas' nullable types, becomes an array of numbers with NaN where a value
    is missing.

    Raises
    ------
    EvenhandError
        If the values are masked or complex, or a tensor on the device "meta".
    """
    if np.ma.isMaskedArray(values):
        raise EvenhandError(
            "masked arrays are not taken, since their masks would be lost. Leave the masked rows "
            "out of all arrays."
        )
    if hasattr(values, "detach"):
        return _array_of_tensor(values)
    if hasattr(values, "toarray"):  # of scipy.sparse
        values = values.toarray()
    if isinstance(values, pd.DataFrame) and all(map(pd.api.types.is_numeric_dtype, values.dtypes)):
        values = values.to_numpy(np.float64, na_value=np.nan) if _is_mixed(values) else values
    array = np.asarray(values)
    if array.dtype.kind == "c":
        raise EvenhandError("complex numbers are not taken. Give real numbers, such as .real.")
    if array.dtype.kind == "U" and not isinstance(values, np.ndarray):
        return np.asarray(values, dtype="object")  # numpy would turn NaN beside text into "nan"
    return array


def group_array(column: Any) -> NDArray[Any]:
    """Return a column of groups as an array; masked values become missing."""
    is_masked = np.ma.isMaskedArray(column) and column.ndim == 1
    return as_array(pd.Series(column) if is_masked else column)


def _array_of_tensor(tensor: Any) -> NDArray[Any]:
    if tensor.is_meta:
        raise EvenhandError(
            "a tensor on the device 'meta' has no values. Give a tensor with values, as on 'cpu'."
        )
    if tensor.is_complex():
        raise EvenhandError("complex numbers are not taken. Give real numbers, such as .real.")
    dense = tensor.detach().cpu()
    if str(dense.layout) != "torch.strided":
        dense = dense.to_dense()
    return np.asarray(dense.float() if str(dense.dtype) == "torch.bfloat16" else dense)


def _is_mixed(frame: pd.DataFrame) -> bool:
    """Return whether numpy would make objects of a data frame of numbers."""
    return frame.to_numpy().dtype == object


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
