"""The parameters of jobs: settings as keywords or as one object, a folder, and notices."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Protocol, TypeVar, get_origin, overload

from pydantic import ValidationError

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.datasets import READER, store_in_process
from evenhand.errors import EvenhandError, unknown_name
from evenhand.files import to_path
from evenhand.runs import run_scope
from evenhand.settings import Settings, current_settings, plain_values, problems, refuse_both_names

StrPath = str | os.PathLike[str]
"""A path as text or as a path object."""
S = TypeVar("S", bound=Settings)
T = TypeVar("T", bound=Settings, contravariant=True)
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

Notify = Callable[[str], None]
"""Shows a text to the user."""


def ignore_text(text: str) -> None:
    """Show nothing to the user."""


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


def as_job(kind: type[S], *positional: str) -> Callable[[Callable[..., R]], JobFunction[S, R]]:
    """Return a decorator for a job, whose settings then are keywords or one settings object.

    The job runs in a `run_scope`.

    Parameters
    ----------
    kind
        The class of the job's settings; each of its fields is a keyword. A setting that takes
        several values also accepts one value alone.
    positional
        The settings that may be positional arguments, as on the command line. If the last of them
        takes several values, it takes all remaining positional arguments.
    """

    def decorate(function: Callable[..., R]) -> JobFunction[S, R]:
        parameters = inspect.signature(function).parameters
        options = [name for name in parameters if name not in ("settings", "out")]

        @wraps(function)
        def call(*arguments: Any, **keywords: Any) -> R:
            given_options = {name: keywords.pop(name) for name in options if name in keywords}
            if "settings" in keywords:
                arguments = (keywords.pop("settings"), *arguments)
            if arguments and isinstance(arguments[0], kind):
                settings, out = _settings_and_out(kind, arguments, keywords)
            else:
                out = keywords.pop("out", None)
                settings = make_settings(kind, _by_name(kind, positional, arguments, keywords))
            if out is None:
                raise EvenhandError("out is missing: name the folder of the run.")
            with run_scope():
                return function(settings, to_path(out, "out"), **given_options)

        # help() and notebooks show this signature; mypy does not know the attribute
        call.__signature__ = _signature(kind, positional, parameters)  # type: ignore[attr-defined]
        return call

    return decorate


def make_settings(kind: type[S], keywords: Mapping[str, Any]) -> S:
    """Return settings from keywords.

    A path or a run is accepted where a setting takes text, a cohort as ``data``, and one value
    where a setting takes several.

    Raises
    ------
    EvenhandError
        If a keyword is unknown (the message names the nearest one), or a value is not allowed.

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
    without_cohorts = {
        name: store_in_process(value) if isinstance(value, Cohort) else value
        for name, value in values.items()
    }
    try:
        settings = kind.model_validate(plain_values(kind, without_cohorts))
    except ValidationError as error:
        raise EvenhandError("; ".join(problems(error, kind))) from None
    refuse_workers(settings)
    return settings


def refuse_workers(settings: Settings) -> None:
    """Refuse worker processes for a cohort that only this process can read.

    Raises
    ------
    EvenhandError
        If the settings name several workers, or another engine than ``local``.
    """
    workers, engine = (getattr(settings, name, None) for name in ("workers", "engine"))
    in_memory = str(getattr(settings, "data", "")).startswith(f"{READER}:")
    if in_memory and ((workers or 1) > 1 or engine not in (None, "local")):
        keyword = f"workers={workers}" if engine in (None, "local") else f"engine={engine!r}"
        raise EvenhandError(
            f"{keyword}: a cohort that Cohort.from_dataset made exists in this process only, and "
            f"workers cannot read it. Leave {keyword} out; or register a reader that makes "
            "the cohort (evenhand.register_reader) in a module, and name that with imports=."
        )


def _settings_and_out(
    kind: type[S], arguments: Sequence[Any], keywords: dict[str, Any]
) -> tuple[S, StrPath | None]:
    """Return the settings and the folder of a call with a settings object."""
    settings, *rest = arguments
    out = keywords.pop("out", None)
    if rest and out is None:
        out, *rest = rest
    if rest or keywords:
        raise EvenhandError(
            f"{kind.__name__} is given together with {', '.join([*map(repr, rest), *keywords])}: "
            "give a settings object alone, or keywords alone. settings.model_copy(update={…}) "
            "returns settings with some values changed."
        )
    return settings, out


def _by_name(
    kind: type[Settings],
    positional: Sequence[str],
    arguments: Sequence[Any],
    keywords: dict[str, Any],
) -> dict[str, Any]:
    """Return the values of positional arguments and keywords, by setting."""
    *first, last = positional
    values: dict[str, Any] = dict(zip(first, arguments, strict=False))
    rest = arguments[len(first) :]
    if len(rest) == 1:
        values[last] = rest[0]
    elif rest and _takes_several(kind.model_fields[last].annotation):
        values[last] = tuple(rest)
    elif rest:
        raise EvenhandError(
            f"{rest[1]!r} has no name: only {', '.join(positional)} may be given without one. Give "
            "it as a keyword, as in out=FOLDER."
        )
    for name in values.keys() & keywords.keys():
        raise EvenhandError(f"{name} is given twice: {values[name]!r} and {keywords[name]!r}.")
    return values | keywords


def _takes_several(kind: Any) -> bool:
    return get_origin(kind) is tuple


def _signature(
    kind: type[Settings], positional: Sequence[str], parameters: Mapping[str, inspect.Parameter]
) -> inspect.Signature:
    """Return the signature of a job: a parameter for each setting, ``out`` and further options."""
    fields, required = kind.model_fields, inspect.Parameter.empty

    def setting_parameter(name: str, form: Any) -> inspect.Parameter:
        field = fields[name]
        default = required if field.is_required() else field.get_default()
        return inspect.Parameter(name, form, default=default, annotation=field.annotation)

    keyword = inspect.Parameter.KEYWORD_ONLY
    both = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature(
        [
            *(setting_parameter(name, both) for name in positional),
            *(
                parameter.replace(kind=keyword)
                for name, parameter in parameters.items()
                if name != "settings"
            ),
            *(setting_parameter(name, keyword) for name in fields if name not in positional),
        ]
    )
