"""Order the levels of an attribute, and detect codes that often mean unknown."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from contextlib import suppress

UNKNOWN = "unknown"
"""The level of samples whose level is not known."""

_RANGE = re.compile(
    r"(?P<below><=?|≤|under |below |up to |less than )\s*[\d.]+.*"
    r"|(?P<above>>=?|≥|over |above |more than )\s*(?P<least>\d+(\.\d+)?).*"
    r"|(?P<first>-?\d+(\.\d+)?)\s*(\+|(-|\u2013|to|and)\s*<?\s*[a-z\d].*|years?.*|y)?"
)
_SIGNS = re.compile(r"[-_./*?+]+")
_CODES = re.compile(
    r"u|x|uk|unk|ukn|unkn|nk|ni|dk|ns|nr|nd|n\.a\.|n\.d\.|k\.a\.|inc|tbd|missing|undefined|none"
    r"|undetermined|indeterminate|blank|empty|not applicable|no data|no answer",
    re.IGNORECASE,
)
_NUMBERS = re.compile("7|8|9|77|88|99|777|888|9999?|-1|-7|-8|-9|-77|-88|-9999?|-99")
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_MONTH = rf"({'|'.join(_MONTHS)})[a-z]*\.?"
_DATED = re.compile(
    rf"(?P<day>\d{{1,2}})[-/ .](?P<month>{_MONTH})|(?P<first>{_MONTH})[-/ .](?P<last>\d{{1,2}})",
    re.IGNORECASE,
)
_FROM = re.compile(r"[<>≤≥]?=?\s*\d")  # how a range or a number begins


def level_order(value: str) -> tuple[float, tuple[tuple[int, float, str], ...]]:
    """Return the sort key of a level: numbers as numbers, ranges by their lower end, then words.

    Digits within words count as numbers, so that "site 2" comes before "site 10".

    Examples
    --------
    >>> sorted(["60+", "30-59", "<30"], key=level_order)
    ['<30', '30-59', '60+']
    >>> sorted(["10", "9", "site 10", "site 2"], key=level_order)
    ['9', '10', 'site 2', 'site 10']
    """
    parts = tuple(
        (0, float(part), "") if part.isdecimal() else (1, 0.0, part)
        for part in re.split(r"(\d+)", value)
        if part
    )
    return _lower_end(value), parts


def likely_unknown(levels: Iterable[str]) -> tuple[str, ...]:
    """Return the levels that often are codes for unknown, such as "U", "." and "9".

    A number next to another level (8 and 9) is not such a code; nor is "-" if "+" is a level.

    Examples
    --------
    >>> likely_unknown(["F", "M", "U", "9", "-"])
    ('U', '9', '-')
    >>> likely_unknown(["8", "9", "10"]), likely_unknown(["+", "-"])
    ((), ())
    """
    names = list(levels)
    return tuple(level for level in names if _is_code(level, names))


def ranges_as_dates(levels: Iterable[str]) -> dict[str, str]:
    """Return date → range, for ranges of numbers that a spreadsheet has turned into dates.

    If no other level is a range or a number, the result is empty.

    Examples
    --------
    >>> ranges_as_dates(["0-9", "19-Oct", "20-39"]), ranges_as_dates(["Sep-19", "Oct-19"])
    ({'19-Oct': '10-19'}, {})
    """
    names = list(levels)
    dates = {level: match for level in names if (match := _DATED.fullmatch(level))}
    if not any(_FROM.match(level) for level in names if level not in dates):
        return {}
    return {level: _range_of(match) for level, match in dates.items()}


def _range_of(date: re.Match[str]) -> str:
    month = _MONTHS.index((date["month"] or date["first"])[:3].casefold()) + 1
    low, high = sorted((month, int(date["day"] or date["last"])))
    return f"{low}-{high}"


def _is_code(level: str, levels: list[str]) -> bool:
    if _NUMBERS.fullmatch(level) and {*levels} != {"-1", "1"}:
        number = int(level)
        near = {str(number - 1), str(number + 1), f"{number - 1}.0", f"{number + 1}.0"}
        return not near & {*levels}
    signs = _SIGNS.fullmatch(level) is not None and not {"+", "-"} <= {*levels}
    return signs or _CODES.fullmatch(level) is not None


def _lower_end(value: str) -> float:
    with suppress(ValueError):
        return math.inf if math.isnan(float(value)) else float(value)
    range_ = _RANGE.fullmatch(value.casefold())
    if range_ is None:
        return math.inf
    if range_["below"]:
        return -math.inf
    return float(range_["least"] or range_["first"])
