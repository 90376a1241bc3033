"""What all settings have in common."""

from __future__ import annotations

from pydantic import BaseModel

SEEDS = 2**32
"""Seeds lie below this number, which is what all libraries take."""


class Settings(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True):
    """What a job is told, checked as it is made.

    Checks are built at their first use, so that ``--help`` does not wait for those of every job.
    """
