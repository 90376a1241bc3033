"""The register of readers: one function per kind of data set."""

from __future__ import annotations

from collections.abc import Callable

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.settings import DataSettings
from evenhand.errors import EvenhandError

Reader = Callable[[str, DataSettings], Cohort]
"""Makes a cohort from what follows ``reader:`` in DATA, and from the settings."""

READERS: dict[str, Reader] = {}


def reader(name: str) -> Callable[[Reader], Reader]:
    """Register a reader under the name that DATA begins with; its docstring's first line says what.

    A reader checks its input as a whole before it returns, and names file and row of what it
    refuses. It reads no sample.
    """

    def register(function: Reader) -> Reader:
        READERS[name] = function
        return function

    return register


def refuse_settings(name: str, settings: DataSettings, unused: tuple[str, ...]) -> None:
    """Refuse settings that a reader has no use for.

    Raises
    ------
    EvenhandError
        One of them is given.
    """
    given = [f"--{field.replace('_', '-')}" for field in unused if getattr(settings, field)]
    if given:
        raise EvenhandError(
            f"{' and '.join(given)} cannot be given with {name}: data: the layout says it already."
        )
