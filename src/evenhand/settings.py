"""The base class of all settings, and the checks that settings share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from types import NoneType, UnionType
from typing import Any, ClassVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError, ValidationInfo, field_validator

from evenhand.errors import unknown_name

SEEDS = 2**32
"""Seeds are below this number, as all libraries accept such seeds."""


class Settings(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True):
    """The settings of a job, checked on construction.

    Each class builds its checks at their first use, so that ``--help`` is fast.
    """

    unrecorded: ClassVar[frozenset[str]] = frozenset()
    """Settings of this class that a run does not record: folders, memory, workers. The run
    may be continued with other values of them."""

    @field_validator("*")
    @classmethod
    def _check_repeated(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a repeated value in a setting that takes several values."""
        kind = cls.model_fields[str(info.field_name)].annotation
        if Ellipsis in get_args(kind) and len({*value}) < len(value):
            repeated = next(item for item in value if value.count(item) > 1)
            raise ValueError(f"{str(repeated)!r} is given twice; give it once")
        return value

    @classmethod
    def unrecorded_settings(cls) -> frozenset[str]:
        """Return the names of the unrecorded settings of this class and its base classes."""
        bases = [base for base in cls.__mro__ if issubclass(base, Settings)]
        return frozenset[str]().union(*(base.unrecorded for base in bases))

    def recorded(self) -> dict[str, Any]:
        """Return the settings that ``run.json`` records, as JSON values."""
        return self.model_dump(mode="json", exclude={*self.unrecorded_settings()})


def plain_values(kind: type[Settings], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values in the types that settings take; leave unknown names unchanged.

    A path or a number becomes text where a setting takes text; one value becomes a tuple where it
    takes several.
    """
    fields = kind.model_fields
    return {
        name: _plain(value, fields[name].annotation) if name in fields else value
        for name, value in values.items()
    }


def _plain(value: Any, kind: Any) -> Any:
    """Return a value in the type that its setting takes."""
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
    error: ValidationError, settings: type[Settings], display_name: Callable[[str], str] = str
) -> Iterator[str]:
    """Yield a message for each wrong setting; ``display_name`` writes the name of a setting."""
    for problem in error.errors():
        text = problem["msg"].removeprefix("Value error, ")
        if not problem["loc"]:  # a conflict of several settings, which the text names
            yield text
            continue
        name = str(problem["loc"][0])
        if problem["type"] == "missing":
            field = settings.model_fields.get(name)
            description = f": {field.description}" if field and field.description else ""
            yield f"{display_name(name)} is missing{description}"
        elif problem["type"] == "extra_forbidden":
            yield str(unknown_name("setting", name, settings.model_fields))
        elif problem["type"] == "tuple_type":
            yield (
                f"{display_name(name)}: give one value or a list of values "
                f"(given: {problem['input']!r})"
            )
        else:
            yield f"{display_name(name)}: {text} (given: {problem['input']!r})"
