"""What all settings have in common."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ValidationInfo, field_validator

SEEDS = 2**32
"""Seeds lie below this number, which is what all libraries take."""


class Settings(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True):
    """What a job is told, checked as it is made.

    Checks are built at their first use, so that ``--help`` does not wait for those of every job.
    """

    @field_validator("*")
    @classmethod
    def _check_repeated(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a value that a repeatable setting has twice."""
        kind = cls.model_fields[str(info.field_name)].annotation
        if Ellipsis in get_args(kind) and len({*value}) < len(value):
            twice = next(each for each in value if value.count(each) > 1)
            raise ValueError(f"{str(twice)!r} comes twice; give it once")
        return value
