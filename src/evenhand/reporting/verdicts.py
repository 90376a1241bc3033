"""Verdicts: every statement that a page makes in words, as a row that a pipeline can read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import BaseModel

from evenhand.files import checked, read_object, write_json

SCHEMA = 1


@dataclass(frozen=True)
class Verdict:
    """One statement that a page makes in words.

    Attributes
    ----------
    about
        What it is about, in a few words (``"gap"``, ``"fairtune against full"``).
    attribute
        The protected attribute, ``"*"`` for everybody.
    claim
        Whether the page claims a difference; False where the data cannot tell.
    text
        What the page says of it, in a few sentences.
    p_adjusted
        The p-value of the claim, corrected over the family of the page; None where there is none.
    """

    about: str
    attribute: str
    claim: bool
    text: str
    p_adjusted: float | None = None


class _File(BaseModel):
    verdicts: tuple[Verdict, ...]


def write_verdicts(path: Path, verdicts: Iterable[Verdict]) -> None:
    """Write verdicts as ``verdicts.json``: ``{"schema": 1, "verdicts": [{...}, ...]}``."""
    rows = [asdict(verdict) for verdict in verdicts]
    write_json(path, {"schema": SCHEMA, "verdicts": rows})


def read_verdicts(path: Path) -> tuple[Verdict, ...]:
    """Read what `write_verdicts` has written.

    Raises
    ------
    EvenhandError
        The file is absent, damaged, or of a later version.
    """
    return checked(_File, read_object(path, SCHEMA), path).verdicts
