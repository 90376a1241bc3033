"""Write counts and flags for sentences."""

from __future__ import annotations

import shlex


def counted(number: float, thing: str, things: str = "") -> str:
    """Return a number with its noun, in the singular for 1.

    ``things`` is the plural; by default, ``thing`` with an s.

    Examples
    --------
    >>> counted(1, "epoch"), counted(2, "epoch"), counted(0.5, "point"), counted(1200, "image")
    ('1 epoch', '2 epochs', '0.5 points', '1200 images')
    """
    return f"{number:.10g} {thing if number == 1 else things or f'{thing}s'}"


def flag_text(name: str, value: str) -> str:
    """Return a flag with its value, quoted for a shell.

    Examples
    --------
    >>> print(flag_text("bins", "age=60"), flag_text("bins", "age group=60"))
    --bins age=60 --bins 'age group=60'
    """
    return f"--{name} {shlex.quote(value)}"
