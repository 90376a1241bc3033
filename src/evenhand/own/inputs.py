"""Convert labels, groups and patients to the arrays that the engines take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.errors import EvenhandError, count_text
from evenhand.metrics.groups import Groups, groups_of
from evenhand.metrics.rows import EVERYBODY
from evenhand.tables.arrays import as_array, group_array
from evenhand.tables.attributes import attribute_by_value, attribute_of_values, read_groups
from evenhand.tables.reading import read_column
from evenhand.tables.spelling import check_names


def as_groups(groups: Any, count: int) -> dict[str, Groups]:
    """Return the groups of each attribute from a Series, an array, a mapping or a data frame.

    Values are read as from a table: blanks around them are removed, and values that are missing,
    masked, blank, or mean unknown ("not reported") become the level ``"unknown"``. Categories
    without rows are no groups. A Series without a name, or an array, becomes the attribute
    ``"group"``.

    Raises
    ------
    EvenhandError
        If a column has another length than ``count`` or is called ``"*"``, there is no column, or
        a group has several spellings.

    Examples
    --------
    >>> as_groups({"sex": ["m", "f ", ""]}, 3)["sex"].levels
    ('f', 'm', 'unknown')
    """
    if isinstance(groups, pd.DataFrame | Mapping):
        check_names(groups, "columns of groups")
        columns = {str(name): groups[name] for name in groups}
    else:
        columns = {str(getattr(groups, "name", None) or "group"): groups}
        check_names(columns, "the name of groups")
    if not columns:
        raise EvenhandError("groups= has no column; give a column for each protected attribute.")
    if EVERYBODY in columns:
        raise EvenhandError(
            f"groups of {EVERYBODY!r}: {EVERYBODY!r} stands for all samples in the results. Give "
            "the attribute another name."
        )
    return {name: _groups_of(column, count, name) for name, column in columns.items()}


def _groups_of(column: Any, count: int, name: str) -> Groups:
    """Return the groups of a column; a categorical column keeps the order of its categories."""
    what = f"groups of {name!r}"
    if isinstance(getattr(column, "dtype", None), pd.CategoricalDtype) and len(column) == count:
        values = pd.Series(column).cat.remove_unused_categories()
        categories = read_column(pd.Series(values.cat.categories))
        text = pd.Series([*categories, None], dtype="str").take(values.cat.codes.to_numpy())
        raw, order = read_groups(text, what), read_groups(categories, what).dropna()
        rule = attribute_by_value(name, name, {level: level for level in order})
    else:
        raw = read_groups(of_length(group_array(column), count, what), what)
        rule = attribute_of_values(name, name, raw)
    return groups_of(rule.levels_of(raw)).without_empty_unknown()


def as_labels(y_true: Any) -> NDArray[np.int64]:
    """Return labels ``(n,)`` as whole numbers from 0.

    Raises
    ------
    EvenhandError
        If ``y_true`` is empty, has another shape than ``(n,)``, or holds values other than whole
        numbers from 0.
    """
    labels = as_array(y_true)
    whole = labels.dtype.kind in "iub" or (
        labels.dtype.kind == "f" and bool((labels == np.round(labels)).all())
    )
    if labels.ndim != 1 or not len(labels) or not whole or labels.min() < 0:
        raise EvenhandError(
            f"y_true is {labels.shape} of {labels.dtype}; give classes (n,) as whole numbers from "
            "0, one for each row."
        )
    return labels.astype(np.int64)


def of_length(values: Any, count: int, what: str) -> NDArray[Any]:
    """Return values as an array ``(count,)``.

    Raises
    ------
    EvenhandError
        If ``values`` have another length; the message calls them ``what``.
    """
    array = as_array(values)
    if array.ndim != 1 or len(array) != count:
        raise EvenhandError(
            f"{what}: {array.shape} values for {count} rows; give one value for each row."
        )
    return array


def as_codes(values: Any, count: int, what: str) -> NDArray[np.intp]:
    """Return a number from 0 for each value of an array ``(count,)``; equal values have the same.

    Raises
    ------
    EvenhandError
        If ``values`` have another length, or one is missing; the message calls them ``what``.
    """
    column = pd.Series(of_length(values, count, what))
    missing = np.flatnonzero(column.isna())
    if len(missing):
        raise EvenhandError(
            f"{what}: row {missing[0]} has no value ({count_text(len(missing), 'row')} in all). "
            "Leave these rows out."
        )
    return pd.factorize(column, sort=True)[0].astype(np.intp)


def as_numbers(values: Any, what: str) -> NDArray[np.float64]:
    """Return values as an array of numbers.

    Raises
    ------
    EvenhandError
        If a value is not a number; the message calls the values ``what``.
    """
    try:
        return as_array(values).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise EvenhandError(
            f"{what}: {type(values).__name__} holds no numbers ({error}); give an array, a tensor "
            "or a list of numbers."
        ) from error
