"""Formats of numbers for readers."""

from __future__ import annotations

import math
from dataclasses import dataclass

MINUS = "\N{MINUS SIGN}"
NBSP = "\N{NO-BREAK SPACE}"
SMALLEST_P = 0.001
"""p-values below this are shown as "< 0.001"."""


def plain(value: float, digits: int = 3) -> str:
    """Return a number with a fixed number of decimals, and a minus sign instead of a hyphen.

    Examples
    --------
    >>> plain(0.84217)
    '0.842'
    """
    text = f"{value:.{digits}f}"
    if float(text) == 0:  # no "-0.000"
        text = text.removeprefix("-")
    return text.replace("-", MINUS)


def plain_or_undefined(value: float | None, digits: int = 3) -> str:
    """Return a number as `plain` does, and None as "undefined"."""
    return "undefined" if value is None else plain(value, digits)


def p_value_text(p: float) -> str:
    """Return a p-value as ``= 0.031``, or as ``< 0.001`` if it is smaller than that.

    Examples
    --------
    >>> p_value_text(0.0312), p_value_text(0.0002)
    ('= 0.031', '< 0.001')
    """
    return f"= {plain(p)}" if p >= SMALLEST_P else f"< {SMALLEST_P}"


@dataclass(frozen=True)
class Scale:
    """A format of values.

    Attributes
    ----------
    factor, digits, unit
        The value is multiplied by the factor, rounded to so many decimals, and gets the unit.
    signed
        Whether positive values have a plus sign.
    """

    factor: float = 1.0
    digits: int = 3
    unit: str = ""
    signed: bool = False

    def number(self, value: float) -> str:
        """Return a value without its unit."""
        text = plain(self.factor * value, self.digits)
        return signed(text) if self.signed else text

    def text(self, value: float) -> str:
        r"""Return a value with its unit.

        Examples
        --------
        >>> POINTS.text(0.14), Scale(signed=True).text(0.14)
        ('14.0\xa0points', '+0.140')
        """
        return self.number(value) + self.unit

    def interval(self, low: float | None, high: float | None) -> str:
        """Return an interval with its unit, empty if an end is None.

        Examples
        --------
        >>> Scale().interval(0.6, 0.75)
        '0.600 to 0.750'
        """
        if low is None or high is None:
            return ""
        return f"{self.number(low)} to {self.number(high)}{self.unit}"


PLAIN = Scale()
SIGNED = Scale(signed=True)
PERCENT = Scale(100.0, 1, f"{NBSP}%")
POINTS = Scale(100.0, 1, f"{NBSP}points")
"""Differences of percentages."""


def signed(text: str) -> str:
    """Return the text of a number with a plus sign if the number is positive.

    Examples
    --------
    >>> signed("0.040"), signed("0.000")
    ('+0.040', '0.000')
    """
    is_zero = not any(digit in text for digit in "123456789")
    return text if is_zero or text.startswith(MINUS) else f"+{text}"


def out_of_hundred(share: float) -> str:
    """Return a share (0–1) as a count out of a hundred, rounded half up.

    Examples
    --------
    >>> out_of_hundred(0.605)
    '61'
    """
    return plain(hundredths(share), 0)


def hundredths(share: float) -> int:
    """Return a share (0–1) as a whole number of hundredths, rounded half up.

    Examples
    --------
    >>> hundredths(0.605), hundredths(-0.02)
    (61, -2)
    """
    return math.floor(100 * share + 0.5 + 1e-9)  # 100 * 0.605 is 60.49999… in floating point


def join_words(items: list[str] | tuple[str, ...], last: str = "and") -> str:
    """Return items as a phrase.

    Examples
    --------
    >>> join_words(["sex", "age", "site"])
    'sex, age and site'
    """
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"


def duration(seconds: float) -> str:
    """Return a duration in seconds as text.

    Examples
    --------
    >>> duration(4.21), duration(75), duration(7300)
    ('4.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, remainder = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {remainder} s"
    return f"{minutes // 60} h {minutes % 60} min"
