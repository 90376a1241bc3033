"""The base class of all settings, the checks that settings share, and their earlier names."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from types import NoneType, UnionType
from typing import Any, ClassVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError, ValidationInfo, field_validator

from evenhand.errors import EvenhandError, unknown_name

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


SETTINGS: Mapping[str, str] = {"objective": "target", "objective_bound": "pessimistic"}
"""Earlier name of a setting → its name today."""

SSL_SETTINGS: Mapping[str, str] = {"method": "ssl", "label_shares": "label_share"}
"""The same for jobs that pre-train; in other jobs, ``method`` is a mitigation method."""

TARGETS: Mapping[str, str] = {
    "min_auc": "auc_worst",
    "overall_auc": "auc",
    "min_acc": "accuracy_worst",
    "acc_gap": "accuracy_gap",
    "overall_acc": "accuracy",
    "min_acc_argmax": "accuracy_worst_argmax",
    "acc_gap_argmax": "accuracy_gap_argmax",
    "overall_acc_argmax": "accuracy_argmax",
    "max_loss": "log_loss_worst",
    "eodd_difference": "equalized_odds_difference",
}
"""Earlier name of a target → its name today."""


def current_target(text: str) -> str:
    """Return a target with today's name in place of an earlier one.

    Examples
    --------
    >>> current_target("min_auc:age"), current_target("acc_gap=0.02"), current_target("auc_gap")
    ('auc_worst:age', 'accuracy_gap=0.02', 'auc_gap')
    """
    stem, *_ = re.split("[:=]", text, maxsplit=1)
    return TARGETS.get(stem, stem) + text[len(stem) :]


def earlier_settings(fields: Collection[str] = ()) -> Mapping[str, str]:
    """Return the mapping of earlier names to today's, for a job with the settings ``fields``.

    Examples
    --------
    >>> earlier_settings(["ssl", "seed"])["method"], "method" in earlier_settings(["seed"])
    ('ssl', False)
    """
    return {**SETTINGS, **SSL_SETTINGS} if "ssl" in fields else SETTINGS


def refuse_both_names(
    names: Collection[str], fields: Collection[str] = (), word: Callable[[str], str] = str
) -> None:
    """Refuse a setting that the user gives under both its earlier name and today's.

    Parameters
    ----------
    names
        The names of the settings that the user gives.
    fields
        The names of all settings of the job.
    word
        Writes a name as the user does, for example as a flag.

    Raises
    ------
    EvenhandError
        If ``names`` has both names of a setting.
    """
    for name, now in earlier_settings(fields).items():
        if name in names and now in names:
            raise EvenhandError(
                f"{word(name)} is the earlier name of {word(now)}; give one of them."
            )


def current_settings(settings: Mapping[str, Any], fields: Collection[str] = ()) -> dict[str, Any]:
    """Return the settings of a command or a run under today's names.

    ``fields`` are the names of the job's settings: jobs that pre-train used to call their SSL
    objective ``method``. If a setting has both names, the value under today's name counts, unless
    it is None: earlier prunings wrote a stopping ``target`` beside the ``objective``.

    Examples
    --------
    >>> current_settings({"objective": ["min_auc"], "seed": 0})
    {'target': ['auc_worst'], 'seed': 0}
    >>> current_settings({"objective": "auc_gap", "target": "auc_worst=0.8"})
    {'target': 'auc_worst=0.8'}
    """
    names = earlier_settings(fields)
    current: dict[str, Any] = {}
    for key, value in settings.items():
        name = names.get(key, key)
        if name == key or settings.get(name) is None:
            current.setdefault(name, None)
            current[name] = value if value is not None else current[name]
    target = current.get("target")
    if isinstance(target, str):
        current["target"] = current_target(target)
    elif isinstance(target, list | tuple):
        current["target"] = type(target)(
            current_target(target_name) if isinstance(target_name, str) else target_name
            for target_name in target
        )
    return current


def current_record(value: Any) -> Any:
    """Return the content of a JSON file with today's names of targets in keys and values.

    Examples
    --------
    >>> current_record({"name": "min_auc", "val": {"max_loss": 0.4}})
    {'name': 'auc_worst', 'val': {'log_loss_worst': 0.4}}
    """
    if isinstance(value, str):
        return current_target(value)
    if isinstance(value, list):
        return [current_record(item) for item in value]
    if isinstance(value, dict):
        return {current_target(name): current_record(item) for name, item in value.items()}
    return value
