"""Errors that a user can correct, checks that raise them, and the wording of their texts."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Mapping
from importlib import import_module
from numbers import Integral, Real
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")

SHOWN = 5  # the largest number of values that a message lists


class EvenhandError(Exception):
    """A mistake that the user can correct.

    The message says what was given, what is allowed and what to do next, with file and row if there
    is one. The command line prints only this message and exits with status 2.
    """


class UnknownNameError(EvenhandError):
    """An unknown name."""


def pick(what: str, name: str, choices: Mapping[str, T]) -> T:
    """Return the value with a name.

    Parameters
    ----------
    what
        The kind of value, for the message (``"backbone"``).
    name
        The name that the user gave.
    choices
        Name → value.

    Raises
    ------
    UnknownNameError
        If no value has the name; the message lists the names, and the nearest one.

    Examples
    --------
    >>> pick("metric", "auc", {"auc": 1, "accuracy": 2})
    1
    """
    if name in choices:
        return choices[name]
    raise unknown_name(what, name, choices)


def check_seed(seed: object) -> None:
    """Refuse a seed that is not a whole number from 0.

    Raises
    ------
    EvenhandError
        If ``seed`` is of another type, or negative.

    Examples
    --------
    >>> check_seed(1.5)
    Traceback (most recent call last):
    evenhand.errors.EvenhandError: seed=1.5: give a whole number ≥ 0.
    """
    if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
        raise EvenhandError(f"seed={seed!r}: give a whole number ≥ 0.")


def check_count(argument: str, count: object, *, least: int = 1, most: int = 2**31 - 1) -> None:
    """Refuse a count that is not a whole number from ``least`` to ``most``.

    Raises
    ------
    EvenhandError
        If ``count`` is of another type, or outside of this range.

    Examples
    --------
    >>> check_count("draws", 0, most=100)
    Traceback (most recent call last):
    evenhand.errors.EvenhandError: draws=0: give a whole number from 1 to 100.
    """
    whole = int(count) if isinstance(count, Integral) and not isinstance(count, bool) else None
    if whole is None or not least <= whole <= most:
        raise EvenhandError(f"{argument}={count!r}: give a whole number from {least} to {most:,}.")


def check_name(argument: str, name: object) -> None:
    """Refuse a name that is no text.

    Raises
    ------
    EvenhandError
        If ``name`` is of another type.
    """
    if not isinstance(name, str):
        raise EvenhandError(f"{argument}={name!r}: give a name, as text.")


def check_level(level: object) -> None:
    """Refuse a coverage of intervals that is not a number between 0 and 1.

    Raises
    ------
    EvenhandError
        If ``level`` is of another type, or outside of this range.
    """
    if not (isinstance(level, Real) and not isinstance(level, bool) and 0 < float(level) < 1):
        raise EvenhandError(f"level={level!r}: give a coverage between 0 and 1, such as 0.95.")


def unknown_name(what: str, name: str, choices: Iterable[str]) -> UnknownNameError:
    """Return the error for an unknown name; for the parameters see `pick`."""
    names = sorted(choices)
    listed = ", ".join(names)
    return UnknownNameError(f"no {what} {name!r}; there are: {listed}.{_nearest(name, names)}")


def unknown_setting(what: str, name: str, choices: Iterable[str]) -> UnknownNameError:
    """Return the error for an unknown setting of ``what``, which has the settings ``choices``."""
    names = list(choices)
    listed = ", ".join(names) or "none"
    return UnknownNameError(
        f"{what} has no setting {name!r}; it has: {listed}.{_nearest(name, names)}"
    )


def _nearest(name: str, names: list[str]) -> str:
    longer = [longer for longer in names if len(name) > 2 and longer.startswith(name)]
    near = longer or difflib.get_close_matches(name, names, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def import_extra(module: str, extra: str, what: str = "this") -> ModuleType:
    """Import a module of a package that an extra of Evenhand installs.

    ``what`` is the feature that needs the package, for the message.

    Raises
    ------
    EvenhandError
        If the package is not installed; the message is the line that installs it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise EvenhandError(
            f"{package} is needed for {what} and is not installed: pip install 'evenhand[{extra}]'"
        ) from error


def first_few(values: Iterable[object]) -> str:
    """Return the first few values joined by commas, and the number of further ones."""
    texts = [str(value) for value in values]
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return ", ".join(texts[:SHOWN]) + more


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
