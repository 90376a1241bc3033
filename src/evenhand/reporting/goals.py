"""What a search optimises, as the report names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evenhand.reporting.text.numbers import finite


@dataclass(frozen=True)
class Goal:
    """An objective: its name, whether more is better, and whether an interval's end is taken."""

    name: str
    maximise: bool = True
    bound: bool = False

    @property
    def label(self) -> str:
        """The name, with what is taken of it."""
        end = "lower" if self.maximise else "upper"
        return f"{self.name} ({end} end of its interval)" if self.bound else self.name


def complete(row: Mapping[Any, Any], goal: str) -> bool:
    """Whether a trial was trained to its end and has a value."""
    return row["state"] == "complete" and finite(row[goal]) is not None
