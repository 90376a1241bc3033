"""Jobs as functions: settings by keyword, with the names of the command line, or as one object."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Protocol, TypeVar, get_origin, overload

from pydantic import ValidationError

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.datasets import READER, hand_over
from evenhand.earlier_names import current_settings, refuse_both_names
from evenhand.errors import EvenhandError, unknown_name
from evenhand.files import to_path
from evenhand.settings import Settings, plain_values, problems

StrPath = str | os.PathLike[str]
S = TypeVar("S", bound=Settings)
T = TypeVar("T", bound=Settings, contravariant=True)
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class JobFunction(Protocol[T, R_co]):
    """A job that takes its settings as one object, or as keywords."""

    __name__: str

    @overload
    def __call__(
        self, settings: T, /, out: StrPath | None = None, *, overwrite: bool = ..., **more: Any
    ) -> R_co: ...

    @overload
    def __call__(
        self, *arguments: Any, out: StrPath | None = None, overwrite: bool = ..., **settings: Any
    ) -> R_co: ...


def with_keywords(
    kind: type[S], *positional: str
) -> Callable[[Callable[..., R]], JobFunction[S, R]]:
    """Return a decorator that lets a job be called with keywords.

    Parameters
    ----------
    kind
        The class of the job's settings; each of its fields is a keyword. Where several values are
        allowed, one alone will do.
    positional
        The settings that may be given by position, as on the command line. If the last of them
        takes several values, it takes all that follow.
    """

    def decorate(function: Callable[..., R]) -> JobFunction[S, R]:
        parameters = inspect.signature(function).parameters
        options = [name for name in parameters if name not in ("settings", "out")]

        @wraps(function)
        def call(*arguments: Any, **keywords: Any) -> R:
            chosen = {name: keywords.pop(name) for name in options if name in keywords}
            if "settings" in keywords:
                arguments = (keywords.pop("settings"), *arguments)
            if arguments and isinstance(arguments[0], kind):
                settings, out = _object(kind, arguments, keywords)
            else:
                out = keywords.pop("out", None)
                settings = make_settings(kind, _by_name(kind, positional, arguments, keywords))
            if out is not None:
                return function(settings, to_path(out, "out"), **chosen)
            if parameters["out"].default is inspect.Parameter.empty:
                raise EvenhandError("out is missing: name the folder of the run.")
            return function(settings, **chosen)

        # What help() and notebooks show; mypy knows functions without it.
        call.__signature__ = _signature(kind, positional, parameters)  # type: ignore[attr-defined]
        return call

    return decorate


def make_settings(kind: type[S], keywords: Mapping[str, Any]) -> S:
    """Return settings from keywords.

    A path or a run may stand for a text, a cohort for DATA, and one value for several.

    Raises
    ------
    EvenhandError
        A keyword is not known (the message names the nearest one), or a value is not allowed.

    Examples
    --------
    >>> from evenhand.experiments.settings import FinetuneSettings
    >>> make_settings(FinetuneSettings, {"data": "cases.csv", "attribute": "sex"}).attribute
    ('sex',)
    """
    refuse_both_names(keywords, kind.model_fields)
    values = current_settings(keywords, kind.model_fields)
    for name in values.keys() - kind.model_fields.keys():
        raise unknown_name("setting", name, kind.model_fields)
    handed = {
        name: hand_over(value) if isinstance(value, Cohort) else value
        for name, value in values.items()
    }
    try:
        settings = kind.model_validate(plain_values(kind, handed))
    except ValidationError as error:
        raise EvenhandError("; ".join(problems(error, kind))) from None
    refuse_workers(settings)
    return settings


def refuse_workers(settings: Settings) -> None:
    """Refuse workers for a cohort of this process, which no other process sees.

    Raises
    ------
    EvenhandError
        There are several, or they are elsewhere.
    """
    workers, engine = (getattr(settings, name, None) for name in ("workers", "engine"))
    ours = str(getattr(settings, "data", "")).startswith(f"{READER}:")
    if ours and ((workers or 1) > 1 or engine not in (None, "local")):
        flag = f"workers={workers}" if engine in (None, "local") else f"engine={engine!r}"
        raise EvenhandError(
            f"{flag}: a cohort that Cohort.from_dataset made is known to this process alone, and "
            "workers are others. Leave it out; or register a reader that makes the cohort "
            "(evenhand.register_reader) in a module, and name that with imports=."
        )


def _object(
    kind: type[S], arguments: Sequence[Any], keywords: dict[str, Any]
) -> tuple[S, StrPath | None]:
    """Return the settings and the folder of a call with a settings object."""
    settings, *rest = arguments
    out = keywords.pop("out", None)
    if rest and out is None:
        out, *rest = rest
    if rest or keywords:
        raise EvenhandError(
            f"{kind.__name__} is given, and so is {', '.join([*map(repr, rest), *keywords])}: give "
            "one settings object, or keywords alone. settings.model_copy(update={…}) changes some."
        )
    return settings, out


def _by_name(
    kind: type[Settings],
    positional: Sequence[str],
    arguments: Sequence[Any],
    keywords: dict[str, Any],
) -> dict[str, Any]:
    """Return settings by name, those that are given by position among them."""
    *first, last = positional
    values: dict[str, Any] = dict(zip(first, arguments, strict=False))
    rest = arguments[len(first) :]
    if len(rest) == 1:
        values[last] = rest[0]
    elif rest and _is_several(kind.model_fields[last].annotation):
        values[last] = tuple(rest)
    elif rest:
        raise EvenhandError(
            f"{rest[1]!r} has no name: by position come {', '.join(positional)}; name all else, as "
            "in out=FOLDER."
        )
    for name in values.keys() & keywords.keys():
        raise EvenhandError(f"{name} is given twice: {values[name]!r} and {keywords[name]!r}.")
    return values | keywords


def _is_several(kind: Any) -> bool:
    return get_origin(kind) is tuple


def _signature(
    kind: type[Settings], positional: Sequence[str], parameters: Mapping[str, inspect.Parameter]
) -> inspect.Signature:
    """Return the parameters of a job as keywords: its settings, the folder, its own options."""
    fields, required = kind.model_fields, inspect.Parameter.empty

    def parameter(name: str, place: Any) -> inspect.Parameter:
        field = fields[name]
        default = required if field.is_required() else field.get_default()
        return inspect.Parameter(name, place, default=default, annotation=field.annotation)

    by_name = inspect.Parameter.KEYWORD_ONLY
    first = [parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in positional]
    own = [
        parameter.replace(kind=by_name)
        for name, parameter in parameters.items()
        if name != "settings"
    ]
    rest = [parameter(name, by_name) for name in fields if name not in positional]
    return inspect.Signature([*first, *own, *rest])
