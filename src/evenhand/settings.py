"""What all settings have in common."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel

SEEDS = 2**32
"""Seeds lie below this number, which is what all libraries take."""


class Settings(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True):
    """What a job is told, checked as it is made.

    Checks are built at their first use, so that ``--help`` does not wait for those of every job.
    """

    machine: ClassVar[frozenset[str]] = frozenset()
    """Settings of this class that say where a job works and how much room it may take. A run keeps
    none of them, and may be continued with others."""

    @classmethod
    def machine_settings(cls) -> frozenset[str]:
        """Return the settings that a run does not keep, of this class and those it is made of."""
        bases = [base for base in cls.__mro__ if issubclass(base, Settings)]
        return frozenset[str]().union(*(base.machine for base in bases))

    def kept(self) -> dict[str, Any]:
        """Return what a run keeps of its settings, as JSON values."""
        return self.model_dump(mode="json", exclude={*self.machine_settings()})
