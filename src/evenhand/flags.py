"""Flags made from settings, so that a setting has one home: its field says the flag's text.

A flag without a value leaves its setting to the file of ``--config``, then to its default.
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

from evenhand.earlier_names import current_settings, earlier_settings, refuse_both_names
from evenhand.errors import EvenhandError, some
from evenhand.plugins import import_modules
from evenhand.settings import Settings, plain_values, problems

Job = Callable[[Any, Any, bool], None]
"""A command: its settings, the folder of the run, whether to replace the run that is there."""

Asked = TypeVar("Asked", bound=Settings)


class Sections(TyperCommand):
    """A command whose help shows its flags under headings, and that refuses unclear flags."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of the command line.

        Raises
        ------
        EvenhandError
            A flag that takes one value is given twice, or a value is empty.
        """
        words = list(args)
        _refuse_no_text(words)
        values, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for parameter in order:
            if _takes_one_value(parameter) and order.count(parameter) > 1:
                raise EvenhandError(_given_twice(parameter, words))
            value = values[parameter.name]
            if value == "" or (isinstance(value, list | tuple) and "" in value):
                raise EvenhandError(
                    f"{_shown(parameter)} is given an empty value. Give it a value or leave it out "
                    "(is a variable of the shell unset?)."
                )
        return list(super().parse_args(ctx, words))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return what the usage line shows: all arguments are needed, and bear no brackets."""
        options, *arguments = super().collect_usage_pieces(ctx)
        return [options, *(re.sub(r"[\[\]{}]", "", piece) for piece in arguments)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and flags, each with its text."""
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


def _refuse_no_text(words: list[str]) -> None:
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise EvenhandError(
                f"{word!a} on the command line is no text in UTF-8. Rename the file or folder."
            ) from None


def _given_twice(parameter: Any, words: list[str]) -> str:
    values = []
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in parameter.opts:
            end = place + 1 + parameter.nargs
            values.append(value if equals else " ".join(words[place + 1 : end]))
    return f"{_shown(parameter)} is given more than once: {' and '.join(values)}. Give it once."


def _shown(parameter: Any) -> str:
    """Return what messages call a flag or an argument."""
    is_argument = parameter.param_type_name == "argument"
    return str(parameter.metavar if is_argument else parameter.opts[0])


def with_flags(
    function: Job,
    settings: type[Settings],
    positional: tuple[str, ...],
    more: tuple[inspect.Parameter, ...] = (),
) -> Callable[..., None]:
    """Return a job as typer takes commands: with a flag, or an argument, for each setting.

    Where the function can do without ``out`` so can the user; ``more`` are flags that answer by
    themselves.
    """

    def run(**arguments: Any) -> None:
        for answered in more:
            arguments.pop(answered.name)
        out, config, overwrite = (
            arguments.pop("out"),
            arguments.pop("config"),
            arguments.pop("overwrite"),
        )
        function(gather(settings, config, arguments, positional), out, overwrite)

    # What typer reads a command's flags from; mypy knows functions without it.
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [*_parameters(settings, positional), *_common(function), *more]
    )
    return run


def flag_name(setting: str) -> str:
    """Return the flag of a setting; Python keeps the name ``import`` for itself."""
    return "--import" if setting == "imports" else f"--{setting.replace('_', '-')}"


def flag(
    name: str, kind: Any, default: Any, text: str, *, metavar: str | None = None, **more: Any
) -> inspect.Parameter:
    """Return a flag; ``default`` is shown by its text, and ``...`` makes the flag required."""
    words = flag_name(name)
    info = typer.Option(words, help=text, metavar=metavar, show_default=False, **more)
    return _keyword(name, kind, default, info)


def _keyword(name: str, kind: Any, default: Any, info: Any) -> inspect.Parameter:
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=default, annotation=Annotated[kind, info])


def _common(function: Job) -> tuple[inspect.Parameter, ...]:
    """Return the flags of every job."""
    out = inspect.signature(function).parameters["out"].default
    return (
        flag("out", Path | None, out, "folder of the run", metavar="PATH"),
        flag("config", Path | None, None, "YAML file of settings; a flag beats it", metavar="PATH"),
        flag(
            "overwrite",
            bool,
            False,
            "begin anew, and delete the run that is in the folder, also an unfinished one",
        ),
    )


def _parameters(settings: type[Settings], positional: tuple[str, ...]) -> list[inspect.Parameter]:
    """Return one parameter per setting; none has a default, so that a given flag can be told."""
    fields = settings.model_fields
    arguments = [_argument(name, fields[name]) for name in positional]
    headings = _headings(settings)
    flags = [name for name in headings if name not in positional]
    return [
        *arguments,
        *(_flag(name, fields[name], headings[name]) for name in flags),
        *(
            _alias(name, fields[now])
            for name, now in earlier_settings(fields).items()
            if now in fields
        ),
    ]


def _alias(name: str, field: FieldInfo) -> inspect.Parameter:
    """Return the flag of a setting's earlier name, which help does not show."""
    return flag(name, _parsed_as(field.annotation) | None, None, "", hidden=True)


def _headings(settings: type[Settings]) -> dict[str, str]:
    """Return the heading of each setting: the title of the class that first has it.

    They come in the order of help, a job's own before what it shares with others.
    """
    headings: dict[str, str] = {}
    owners = [owner for owner in settings.__mro__[::-1] if issubclass(owner, Settings)]
    for owner in owners:
        for name in owner.model_fields:
            headings.setdefault(name, str(owner.model_config.get("title")))
    order = list(dict.fromkeys(owner.model_config.get("title") for owner in owners))[::-1]
    return dict(sorted(headings.items(), key=lambda item: order.index(item[1])))


def _argument(name: str, field: FieldInfo) -> inspect.Parameter:
    text = f"{field.description}{_default(field)}"
    info = typer.Argument(help=text, metavar=name.upper(), show_default=False)
    return _keyword(name, _parsed_as(field.annotation) | None, None, info)


def _flag(name: str, field: FieldInfo, heading: str) -> inspect.Parameter:
    kind = field.annotation
    text = f"{field.description}{_default(field)}"
    own = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    metavar = str(own["metavar"]) if "metavar" in own else _metavar(kind)
    more: dict[str, Any] = {"metavar": metavar, "rich_help_panel": heading}
    if name == "imports":
        more |= {"is_eager": True, "callback": import_given, "metavar": "MODULE"}
    return flag(name, _parsed_as(kind) | None, None, text, **more)


def import_given(modules: list[str] | None) -> list[str] | None:
    """Import the modules of ``--import`` before any other flag is looked at."""
    import_modules(modules or ())
    return modules


def _default(field: FieldInfo) -> str:
    """Return what help says of a setting's default, where its own text says nothing."""
    value = field.default
    if value is PydanticUndefined:
        return " [required]"
    if value is None or value is False or value == ():
        return ""
    values = value if isinstance(value, tuple) else (value,)
    between = ", " if Ellipsis in get_args(field.annotation) else " "
    shown = (f"{value:g}" if isinstance(value, float) else str(value) for value in values)
    return f" [default: {between.join(shown)}]"


def _parsed_as(kind: Any) -> Any:
    """Return what the parser makes of a setting: a switch or text, which the settings check."""
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
    """Return what help shows for a setting's value; None for a switch."""
    names = {bool: None, int: "INTEGER", float: "NUMBER", Path: "PATH", str: "TEXT"}
    if kind in names:
        return names[kind]
    parts = [part for part in get_args(kind) if part not in (NoneType, Ellipsis)]
    if get_origin(kind) is Literal:
        return "|".join(map(str, parts))
    return " ".join(str(_metavar(part)) for part in parts)


def gather(
    settings: type[Asked],
    config: Path | None,
    arguments: Mapping[str, Any],
    positional: tuple[str, ...],
) -> Asked:
    """Return settings from a file and flags.

    Raises
    ------
    EvenhandError
        The file is no YAML of settings, or a value is not allowed; all of them are listed.
    """

    def word(name: str) -> str:
        return name.upper() if name in positional else flag_name(name)

    fields = settings.model_fields
    flags = {name: value for name, value in arguments.items() if value is not None and value != []}
    refuse_both_names(flags, fields, word)
    file = current_settings(_from_file(config), fields) if config else {}
    values = plain_values(settings, file) | current_settings(flags, fields)
    try:
        return settings.model_validate(values)
    except ValidationError as error:
        raise EvenhandError("; ".join(problems(error, settings, word))) from None


def _from_file(config: Path) -> dict[str, Any]:
    try:
        values = yaml.load(config.read_text(encoding="utf-8"), _OnceEach)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise EvenhandError(f"--config {config} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise EvenhandError(f"--config {config} holds no settings; write NAME: VALUE lines.")
    empty = [str(name) for name, value in values.items() if value == ""]
    if empty:
        raise EvenhandError(
            f"--config {config}: {some(empty)} has an empty value. Give it one or leave it out."
        )
    return {"imports" if name == "import" else str(name): value for name, value in values.items()}


_WHOLE = "tag:yaml.org,2002:int"


class _OnceEach(yaml.SafeLoader):
    """A safe loader that refuses a name twice; the standard loader would use the last.

    Whole numbers are those of YAML 1.2: 010 is ten and 1:30 is text, not 8 and 90.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names: dict[Hashable, Any] = {}
        for key, value in node.value:
            name = str(self.construct_object(key, deep=True)).replace("-", "_")
            if name in names:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{name!r} comes twice; give it once", key.start_mark
                )
            names[name] = self.construct_object(value, deep=True)
        return names


def _whole_number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))


_OnceEach.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != _WHOLE]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_OnceEach.add_implicit_resolver(_WHOLE, re.compile("[-+]?[0-9]+$"), list("-+0123456789"))
_OnceEach.add_constructor(_WHOLE, _whole_number)
