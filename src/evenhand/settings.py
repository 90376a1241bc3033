"""What all settings have in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from types import NoneType, UnionType
from typing import Any, ClassVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError, ValidationInfo, field_validator

from evenhand.errors import unknown_name

SEEDS = 2**32
"""Seeds lie below this number, which is what all libraries take."""


class Settings(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True):
    """What a job is told, checked as it is made.

    Checks are built at their first use, so that ``--help`` does not wait for those of every job.
    """

    machine: ClassVar[frozenset[str]] = frozenset()
    """Settings of this class that say where a job works and how much room it may take. A run keeps
    none of them, and may be continued with others."""

    @field_validator("*")
    @classmethod
    def _check_repeated(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a value that a repeatable setting has twice."""
        kind = cls.model_fields[str(info.field_name)].annotation
        if Ellipsis in get_args(kind) and len({*value}) < len(value):
            twice = next(each for each in value if value.count(each) > 1)
            raise ValueError(f"{str(twice)!r} comes twice; give it once")
        return value

    @classmethod
    def machine_settings(cls) -> frozenset[str]:
        """Return the settings that a run does not keep, of this class and those it is made of."""
        bases = [base for base in cls.__mro__ if issubclass(base, Settings)]
        return frozenset[str]().union(*(base.machine for base in bases))

    def kept(self) -> dict[str, Any]:
        """Return what a run keeps of its settings, as JSON values."""
        return self.model_dump(mode="json", exclude={*self.machine_settings()})


def plain_values(kind: type[Settings], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as the settings take them; names that are no settings are left as they are.

    A path or a number may stand for a text, and one value for several.
    """
    fields = kind.model_fields
    return {
        name: _plain(value, fields[name].annotation) if name in fields else value
        for name, value in values.items()
    }


def _plain(value: Any, kind: Any) -> Any:
    """Return a value as its setting takes it."""
    parts = [part for part in get_args(kind) if part not in (NoneType, Ellipsis)]
    if get_origin(kind) in (Union, UnionType):
        return None if value is None else _plain(value, parts[0])
    if get_origin(kind) is tuple:
        if isinstance(value, str | os.PathLike | int | float):
            value = (value,)
        is_list = isinstance(value, list | tuple)
        return tuple(_plain(item, parts[0]) for item in value) if is_list else value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if kind is str and is_number else value


def problems(
    error: ValidationError, settings: type[Settings], word: Callable[[str], str] = str
) -> Iterator[str]:
    """Yield what is wrong with settings, each by its name as ``word`` writes it."""
    for problem in error.errors():
        text = problem["msg"].removeprefix("Value error, ")
        if not problem["loc"]:  # of several settings together, which the text names
            yield text
            continue
        name = str(problem["loc"][0])
        if problem["type"] == "missing":
            field = settings.model_fields.get(name)
            about = f": {field.description}" if field and field.description else ""
            yield f"{word(name)} is missing{about}"
        elif problem["type"] == "extra_forbidden":
            yield str(unknown_name("setting", name, settings.model_fields))
        elif problem["type"] == "tuple_type":
            yield f"{word(name)}: give one value or a list of values (given: {problem['input']!r})"
        else:
            yield f"{word(name)}: {text} (given: {problem['input']!r})"
