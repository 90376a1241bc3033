"""Write counts and flags for sentences."""

from __future__ import annotations

import shlex


def count_text(number: float, noun: str, plural: str = "") -> str:
    """Return a number with its noun, in the singular for 1; by default, the plural has an s.

    Examples
    --------
    >>> count_text(1, "epoch"), count_text(0.5, "point"), count_text(1204, "image")
    ('1 epoch', '0.5 points', '1,204 images')
    """
    return f"{number:,.12g} {noun if number == 1 else plural or f'{noun}s'}"


def flag_text(name: str, value: str) -> str:
    """Return a flag with its value, quoted for a shell.

    Examples
    --------
    >>> print(flag_text("bins", "age=60"), flag_text("bins", "age group=60"))
    --bins age=60 --bins 'age group=60'
    """
    return f"--{name} {shlex.quote(value)}"
