"""Numbers as people read them."""

from __future__ import annotations

import math

MINUS = "\N{MINUS SIGN}"
NBSP = "\N{NO-BREAK SPACE}"


def plain(value: float, digits: int = 3) -> str:
    """Return a number with a fixed count of decimals and a true minus sign.

    Examples
    --------
    >>> plain(0.84217)
    '0.842'
    """
    text = f"{value:.{digits}f}"
    if float(text) == 0:  # no "-0.000"
        text = text.removeprefix("-")
    return text.replace("-", MINUS)


def percent(share: float, digits: int = 1) -> str:
    """Return a share (0–1) as a percentage."""
    return f"{plain(100 * share, digits)}{NBSP}%"


def signed(text: str) -> str:
    """Put a plus before the text of a positive number.

    Examples
    --------
    >>> signed("0.040"), signed("0.000")
    ('+0.040', '0.000')
    """
    nothing = not any(digit in text for digit in "123456789")
    return text if nothing or text.startswith(MINUS) else f"+{text}"


def whole(share: float) -> str:
    """Return a share (0–1) as a count out of a hundred, rounded half up.

    Examples
    --------
    >>> whole(0.605)
    '61'
    """
    return plain(math.floor(100 * share + 0.5 + 1e-9), 0)


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun.

    Examples
    --------
    >>> counted(1, "patient"), counted(1204, "patient")
    ('1 patient', '1,204 patients')
    """
    noun = one if count == 1 else many or f"{one}s"
    return f"{count:,} {noun}"


def listed(items: list[str] | tuple[str, ...], last: str = "and") -> str:
    """Return items as a phrase.

    Examples
    --------
    >>> listed(["sex", "age", "site"])
    'sex, age and site'
    """
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"


def duration(seconds: float) -> str:
    """Return a wall time.

    Examples
    --------
    >>> duration(4.21), duration(75), duration(7300)
    ('4.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
