"""Verdicts: the statements of a page in a form that programs can read (``verdicts.json``)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import BaseModel

from evenhand.files import read_json_record, write_json

SCHEMA = 1


@dataclass(frozen=True)
class Verdict:
    """A statement of a page.

    Attributes
    ----------
    about
        Its topic (``"gap"``, ``"fairtune against full"``).
    attribute
        The protected attribute, ``"*"`` for everybody.
    claim
        Whether it claims a difference; False if the data do not show one.
    text
        The statement in a few sentences.
    p_adjusted
        The p-value of the claim, corrected over the family of the page; None if nothing was tested.
    warning
        Whether it warns that a model is not shown to be better than chance.
    """

    about: str
    attribute: str
    claim: bool
    text: str
    p_adjusted: float | None = None
    warning: bool = False


class _File(BaseModel):
    verdicts: tuple[Verdict, ...]


def write_verdicts(path: Path, verdicts: Iterable[Verdict]) -> None:
    """Write verdicts as ``verdicts.json``: ``{"schema": 1, "verdicts": [{...}, ...]}``."""
    rows = [asdict(verdict) for verdict in verdicts]
    write_json(path, {"schema": SCHEMA, "verdicts": rows})


def read_verdicts(path: Path) -> tuple[Verdict, ...]:
    """Read ``verdicts.json``.

    Raises
    ------
    EvenhandError
        If the file is absent, damaged, or written by a later version.
    """
    return read_json_record(_File, path, SCHEMA).verdicts
