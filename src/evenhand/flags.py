"""Flags that are made from the fields of settings, which also hold the flags' help texts.

A setting without a flag comes from the file of ``--config``, else it has its default.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import typer
import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typer.core import TyperCommand

from evenhand.errors import EvenhandError, first_few
from evenhand.plugins import import_modules
from evenhand.settings import (
    Settings,
    current_settings,
    earlier_settings,
    plain_values,
    problems,
    refuse_both_names,
)

Job = Callable[[Any, Any, bool], None]
"""A command: it takes settings, the folder of the run, and whether to replace an earlier run."""

SettingsType = TypeVar("SettingsType", bound=Settings)


class Sections(TyperCommand):
    """A command whose help shows flags under headings, and that refuses repeated or empty flags."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of the command line.

        Raises
        ------
        EvenhandError
            If a flag that takes one value is given twice, a value is empty, or a word is not UTF-8.
        """
        words = list(args)
        _refuse_broken_text(words)
        values, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for parameter in order:
            if _takes_one_value(parameter) and order.count(parameter) > 1:
                raise EvenhandError(_repeated_flag_text(parameter, words))
            value = values[parameter.name]
            if value == "" or (isinstance(value, list | tuple) and "" in value):
                raise EvenhandError(
                    f"{_display_name(parameter)} is given an empty value. Give it a value or leave "
                    "it out (is a variable of the shell unset?)."
                )
        return list(super().parse_args(ctx, words))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the usage line's words; arguments have no brackets, as all are required."""
        options, *arguments = super().collect_usage_pieces(ctx)
        return [options, *(re.sub(r"[\[\]{}]", "", piece) for piece in arguments)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the help of arguments and flags, each group under its heading."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if getattr(parameter, "hidden", False):
                continue
            words, text = parameter.get_help_record(ctx) or ("", "")
            if parameter.param_type_name == "argument":
                heading, words = "Arguments", str(parameter.metavar)
            else:
                heading = getattr(parameter, "rich_help_panel", None) or "Options"
            sections.setdefault(heading, []).append((words, text))
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def _takes_one_value(parameter: Any) -> bool:
    is_flag = parameter.param_type_name == "option"
    return is_flag and not (parameter.multiple or parameter.is_flag)


def _refuse_broken_text(words: list[str]) -> None:
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise EvenhandError(
                f"{word!a} on the command line is not valid UTF-8. Rename the file or folder."
            ) from None


def _repeated_flag_text(parameter: Any, words: list[str]) -> str:
    values = []
    for position, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in parameter.opts:
            end = position + 1 + parameter.nargs
            values.append(value if equals else " ".join(words[position + 1 : end]))
    name = _display_name(parameter)
    return f"{name} is given more than once: {' and '.join(values)}. Give it once."


def _display_name(parameter: Any) -> str:
    """Return the name of a flag or an argument in messages."""
    is_argument = parameter.param_type_name == "argument"
    return str(parameter.metavar if is_argument else parameter.opts[0])


def with_flags(
    function: Job,
    settings: type[Settings],
    positional: tuple[str, ...],
    more: tuple[inspect.Parameter, ...] = (),
) -> Callable[..., None]:
    """Return a job as a typer command, with a flag or an argument for each setting.

    Parameters
    ----------
    function
        The job. If its ``out`` has a default, ``--out`` is optional.
    settings
        The class of its settings.
    positional
        The settings that are arguments instead of flags.
    more
        Flags that print a list and stop; the job does not get their values.
    """

    def run(**arguments: Any) -> None:
        for listing in more:
            arguments.pop(listing.name)
        out, config, overwrite = (
            arguments.pop("out"),
            arguments.pop("config"),
            arguments.pop("overwrite"),
        )
        function(gather_settings(settings, config, arguments, positional), out, overwrite)

    # typer reads the flags from this attribute; mypy does not know it
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [*_setting_parameters(settings, positional), *_common_flags(function), *more]
    )
    return run


def flag_name(setting: str) -> str:
    """Return the flag of a setting; ``imports`` is ``--import``, which Python reserves."""
    return "--import" if setting == "imports" else f"--{setting.replace('_', '-')}"


def make_flag(
    name: str, kind: Any, default: Any, text: str, *, metavar: str | None = None, **more: Any
) -> inspect.Parameter:
    """Return a flag of a command.

    Parameters
    ----------
    name
        The setting.
    kind, default
        The type and the default of its value; the default ``...`` makes the flag required.
    text
        The help text, which also states the default.
    metavar
        The word for the value in the help.
    more
        Further options of `typer.Option`.
    """
    words = flag_name(name)
    info = typer.Option(words, help=text, metavar=metavar, show_default=False, **more)
    return _keyword(name, kind, default, info)


def _keyword(name: str, kind: Any, default: Any, info: Any) -> inspect.Parameter:
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=default, annotation=Annotated[kind, info])


def _common_flags(function: Job) -> tuple[inspect.Parameter, ...]:
    """Return the flags of every job."""
    out = inspect.signature(function).parameters["out"].default
    return (
        make_flag("out", Path | None, out, "folder of the run", metavar="PATH"),
        make_flag(
            "config", Path | None, None, "YAML file of settings; a flag beats it", metavar="PATH"
        ),
        make_flag(
            "overwrite",
            bool,
            False,
            "delete the run in the folder, finished or not, and start again",
        ),
    )


def _setting_parameters(
    settings: type[Settings], positional: tuple[str, ...]
) -> list[inspect.Parameter]:
    """Return one parameter per setting; its default None means that the flag is not given."""
    fields = settings.model_fields
    arguments = [_argument(name, fields[name]) for name in positional]
    headings = _headings(settings)
    flags = [name for name in headings if name not in positional]
    return [
        *arguments,
        *(_setting_flag(name, fields[name], headings[name]) for name in flags),
        *(
            _hidden_flag(earlier, fields[name])
            for earlier, name in earlier_settings(fields).items()
            if name in fields
        ),
    ]


def _hidden_flag(earlier: str, field: FieldInfo) -> inspect.Parameter:
    """Return the flag of a setting's earlier name, which help does not show."""
    return make_flag(earlier, _parsed_type(field.annotation) | None, None, "", hidden=True)


def _headings(settings: type[Settings]) -> dict[str, str]:
    """Return the heading of each setting: the title of the first class that defines it.

    Settings are in the order of the help: those of the job before those it shares with other jobs.
    """
    headings: dict[str, str] = {}
    owners = [owner for owner in settings.__mro__[::-1] if issubclass(owner, Settings)]
    for owner in owners:
        for name in owner.model_fields:
            headings.setdefault(name, str(owner.model_config.get("title")))
    order = list(dict.fromkeys(owner.model_config.get("title") for owner in owners))[::-1]
    return dict(sorted(headings.items(), key=lambda item: order.index(item[1])))


def _argument(name: str, field: FieldInfo) -> inspect.Parameter:
    text = f"{field.description}{_default_text(field)}"
    info = typer.Argument(help=text, metavar=name.upper(), show_default=False)
    return _keyword(name, _parsed_type(field.annotation) | None, None, info)


def _setting_flag(name: str, field: FieldInfo, heading: str) -> inspect.Parameter:
    kind = field.annotation
    text = f"{field.description}{_default_text(field)}"
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    metavar = str(extra["metavar"]) if "metavar" in extra else _metavar(kind)
    more: dict[str, Any] = {"metavar": metavar, "rich_help_panel": heading}
    if name == "imports":
        more |= {"is_eager": True, "callback": import_plugins, "metavar": "MODULE"}
    return make_flag(name, _parsed_type(kind) | None, None, text, **more)


def import_plugins(modules: list[str] | None) -> list[str] | None:
    """Import the modules of ``--import``; typer calls this before it reads the other flags."""
    import_modules(modules or ())
    return modules


def _default_text(field: FieldInfo) -> str:
    """Return the default of a setting for its help; "" for None, False and ()."""
    value = field.default
    if value is PydanticUndefined:
        return " [required]"
    if value is None or value is False or value == ():
        return ""
    values = value if isinstance(value, tuple) else (value,)
    separator = ", " if Ellipsis in get_args(field.annotation) else " "
    texts = (f"{value:g}" if isinstance(value, float) else str(value) for value in values)
    return f" [default: {separator.join(texts)}]"


def _parsed_type(kind: Any) -> Any:
    """Return the type that typer parses: a switch, text or texts; pydantic checks the value."""
    if kind is bool:
        return bool
    kinds = [part for part in get_args(kind) if part is not NoneType]
    if NoneType in get_args(kind) and len(kinds) == 1 and get_origin(kinds[0]) is tuple:
        kind = kinds[0]
    if get_origin(kind) is not tuple:
        return str
    parts = get_args(kind)
    return list[str] if parts[-1] is Ellipsis else tuple.__class_getitem__((str,) * len(parts))


def _metavar(kind: Any) -> str | None:
    """Return the word for a setting's value in the help; None for a switch."""
    names = {bool: None, int: "INTEGER", float: "NUMBER", Path: "PATH", str: "TEXT"}
    if kind in names:
        return names[kind]
    parts = [part for part in get_args(kind) if part not in (NoneType, Ellipsis)]
    if get_origin(kind) is Literal:
        return "|".join(map(str, parts))
    return " ".join(str(_metavar(part)) for part in parts)


def gather_settings(
    settings: type[SettingsType],
    config: Path | None,
    arguments: Mapping[str, Any],
    positional: tuple[str, ...],
) -> SettingsType:
    """Return settings from a file and flags; a flag beats the file.

    Raises
    ------
    EvenhandError
        If the file is not YAML of settings, or values are not allowed; the text lists all of them.
    """

    def display_name(name: str) -> str:
        return name.upper() if name in positional else flag_name(name)

    fields = settings.model_fields
    flags = {name: value for name, value in arguments.items() if value is not None and value != []}
    refuse_both_names(flags, fields, display_name)
    file = current_settings(_read_config(config), fields) if config else {}
    values = plain_values(settings, file) | current_settings(flags, fields)
    try:
        return settings.model_validate(values)
    except ValidationError as error:
        raise EvenhandError("; ".join(problems(error, settings, display_name))) from None


def _read_config(config: Path) -> dict[str, Any]:
    try:
        values = yaml.load(config.read_text(encoding="utf-8"), _StrictLoader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise EvenhandError(f"--config {config} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise EvenhandError(f"--config {config} holds no settings; write NAME: VALUE lines.")
    empty = [str(name) for name, value in values.items() if value == ""]
    if empty:
        raise EvenhandError(
            f"--config {config}: {first_few(empty)} has an empty value. Give it one or leave it "
            "out."
        )
    return {"imports" if name == "import" else str(name): value for name, value in values.items()}


_INTEGER = "tag:yaml.org,2002:int"


class _StrictLoader(yaml.SafeLoader):
    """A safe loader that refuses repeated names; the standard loader uses the last value.

    It reads whole numbers as YAML 1.2 does: 010 is ten (not 8), and 1:30 is text (not 90).
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names: dict[Hashable, Any] = {}
        for key, value in node.value:
            name = str(self.construct_object(key, deep=True)).replace("-", "_")
            if name in names:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{name!r} is given twice; give it once", key.start_mark
                )
            names[name] = self.construct_object(value, deep=True)
        return names


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))


_StrictLoader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != _INTEGER]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_StrictLoader.add_implicit_resolver(_INTEGER, re.compile("[-+]?[0-9]+$"), list("-+0123456789"))
_StrictLoader.add_constructor(_INTEGER, _integer)
