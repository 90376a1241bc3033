"""Write CSV files in which no spreadsheet reads a text as a formula."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from evenhand.files import write_text

# The beginning of a formula; a text with quotes before it gets one more quote.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_QUOTED = re.compile(r"'+[=+\-@\t\r]")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, whole or not at all, for a spreadsheet to open.

    Text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return gets a quote before
    it. A spreadsheet then shows it as text and computes nothing
    (https://owasp.org/www-community/attacks/CSV_Injection). `unquote_formulas` removes the quote.
    """
    safe = table.apply(lambda column: column.map(quote_formula))
    safe.columns = pd.Index([quote_formula(name) for name in table.columns])
    write_text(path, safe.to_csv(index=False, lineterminator="\n"))


def quote_formula(cell: object) -> object:
    """Return a cell with a quote if it is text that looks like a formula; numbers are unchanged.

    Examples
    --------
    >>> quote_formula("=1+1"), quote_formula("60+"), quote_formula(-1.5)
    ("'=1+1", '60+', -1.5)
    """
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def unquote_formulas(column: pd.Series) -> pd.Series:
    """Return a column of text without the quotes of `write_csv`.

    Examples
    --------
    >>> unquote_formulas(pd.Series(["'=1+1", "''-1", "'tis", "60+"])).tolist()
    ['=1+1', "'-1", "'tis", '60+']
    """
    return column.map(
        lambda cell: cell[1:] if isinstance(cell, str) and _QUOTED.match(cell) else cell
    )
