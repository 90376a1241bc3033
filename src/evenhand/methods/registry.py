"""Registry of mitigation methods. A new method is one file in one of two folders."""

from __future__ import annotations

import ast
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

from evenhand.errors import EvenhandError, check_name, pick, unknown_setting
from evenhand.methods.post_hoc import COMPUTED, PostHoc
from evenhand.registry import Registry, caution_in

Stage = Literal["training", "afterwards"]
PACKAGES: dict[Stage, str] = {
    "training": "evenhand.methods.in_training",
    "afterwards": "evenhand.methods.afterwards",
}
M = TypeVar("M", bound=Callable[..., Any])


@dataclass(frozen=True)
class Method:
    """A mitigation method.

    Attributes
    ----------
    name
        Its name on the command line (``"group-dro"``).
    title
        One line.
    stage
        ``"training"``: it changes how a model is trained; ``"afterwards"``: it works on a trained
        model's output.
    module
        The module that defines it.
    caution
        A sentence about when it misleads, or "".
    definition
        The class or function; None for the module's ``METHOD``.
    """

    name: str
    title: str
    stage: Stage
    module: str
    caution: str = ""
    definition: Any = None

    def load(self) -> Any:
        """Import the method: a class of training methods, or a `PostHoc`."""
        return import_module(self.module).METHOD if self.definition is None else self.definition


OWN: Registry[Method] = Registry("method")
"""The methods that are not built in, by name."""


def register_method(
    name: str, module: str | None = None, *, title: str = "", stage: Stage = "training"
) -> Callable[[M], M]:
    """Register your own method: as a decorator, or by the module that defines it as ``METHOD``.

    Parameters
    ----------
    name
        Its name on the command line.
    module
        The module that defines the method; it is imported on first use. None if the decorated
        class or function is the method.
    title
        One line; by default the first line of the decorated object's docstring.
    stage
        ``"training"`` for a class of `evenhand.methods.base.TrainingMethod`, ``"afterwards"`` for
        a function of arrays.

    Raises
    ------
    EvenhandError
        If the name is taken.

    Examples
    --------
    >>> _ = register_method("mine", "my_package.mine", title="A method of my own.")
    >>> methods()["mine"].title
    'A method of my own.'
    >>> OWN.remove("mine")
    """

    def register(definition: M) -> M:
        line = title or (definition.__doc__ or "").partition("\n")[0]
        caution = caution_in(definition.__doc__)
        _add(Method(name, line, stage, definition.__module__, caution, definition))
        return definition

    if module is not None:
        _add(Method(name, title, stage, module))
    return register


def _add(method: Method) -> None:
    if method.name in _built_in():
        raise EvenhandError(f"there is a method {method.name!r} already; choose another name.")
    OWN.add(method.name, method, module=method.module, title=method.title)


def methods(stage: Stage | None = None) -> dict[str, Method]:
    """Return the methods of one stage, or of both, by name, without importing them.

    Examples
    --------
    >>> [name for name in methods("training") if "dro" in name]
    ['group-dro']
    """
    table = _built_in() | dict(OWN)
    return {name: method for name, method in table.items() if stage in (None, method.stage)}


def find_method(name: str, stage: Stage | None = None) -> Method:
    """Return a method by its name.

    Raises
    ------
    UnknownNameError
        If no method has that name; the message lists the names.
    """
    return pick("method", name, methods(stage))


def training_method(name: str, **settings: Any) -> Any:
    """Return a training method for a loop of your own.

    Parameters
    ----------
    name
        The method's name; `methods` lists all names.
    **settings
        The method's hyper-parameters: keywords of its class.

    Raises
    ------
    EvenhandError
        If no method has that name, it lacks a setting, or a required setting is missing.

    Examples
    --------
    >>> training_method("group-dro", rate=0.1).rate
    0.1
    """
    check_name("name", name)
    kind = find_method(name, "training").load()
    allowed = inspect.signature(kind).parameters
    for setting in settings:
        if setting not in allowed:
            raise unknown_setting(name, setting, allowed)
    missing = [
        parameter.name
        for parameter in allowed.values()
        if parameter.default is parameter.empty and parameter.name not in settings
    ]
    if missing:
        raise EvenhandError(f"{name} needs {', '.join(missing)}: give it as a keyword.")
    hints = get_type_hints(kind.__init__, include_extras=True)
    return kind(**{key: _typed(name, key, value, hints) for key, value in settings.items()})


def method_from_text(text: str, **more: Any) -> Any:
    """Return the training method that ``NAME`` or ``NAME:SETTING=VALUE,…`` describes.

    Parameters
    ----------
    text
        The text, as on the command line.
    **more
        Settings that cannot be written as text, such as ``wrong`` of ``jtt``.

    Raises
    ------
    EvenhandError
        If no method or setting has that name, or a value has the wrong type.

    Examples
    --------
    >>> method_from_text("group-balance:how=weights,by=attribute").how
    'weights'
    """
    name, settings = method_settings(text, computed=more)
    return training_method(name, **settings, **more)


def method_settings(text: str, computed: Iterable[str] = ()) -> tuple[str, dict[str, Any]]:
    """Return a training method's name and its settings, each converted to its type.

    Parameters
    ----------
    text
        ``NAME`` or ``NAME:SETTING=VALUE,…``.
    computed
        Settings that cannot be written as text.

    Raises
    ------
    EvenhandError
        If no method has that name, a value has the wrong type, or a setting is computed.

    Examples
    --------
    >>> method_settings("group-dro:rate=0.1")
    ('group-dro', {'rate': 0.1})
    """
    name, _, listed = text.partition(":")
    kind = find_method(name, "training").load()
    hints = get_type_hints(kind.__init__, include_extras=True)
    return name, _settings(text, listed, hints, computed)


def method_text(name: str, settings: Mapping[str, Any]) -> str:
    """Return a method and its settings as the command line takes them.

    Examples
    --------
    >>> method_text("group-dro", {"rate": 0.1, "adjustment": 2.0}), method_text("erm", {})
    ('group-dro:rate=0.1,adjustment=2', 'erm')
    """
    listed = ",".join(
        f"{setting}={str(value).removesuffix('.0')}" for setting, value in settings.items()
    )
    return f"{name}:{listed}" if listed else name


def post_hoc_from_text(text: str, **more: Any) -> tuple[str, PostHoc, dict[str, Any]]:
    """Return the name of a method for trained models, the method, and the settings in the text.

    Parameters
    ----------
    text
        ``NAME`` or ``NAME:SETTING=VALUE,…``; ``/`` separates several values of a setting.
    **more
        Further settings; they are checked in the same way.

    Raises
    ------
    EvenhandError
        If no method or setting has that name, a value has the wrong type, or a setting is repeated.

    Examples
    --------
    >>> name, method, settings = post_hoc_from_text("thresholds:aim=net-benefit,value=0.2")
    >>> name, method.takes, settings
    ('thresholds', 'scores', {'aim': 'net-benefit', 'value': 0.2})
    """
    name, _, listed = text.partition(":")
    method: PostHoc = find_method(name, "afterwards").load()
    hints = get_type_hints(method.fit, include_extras=True)
    settings = _settings(text, listed, hints, dict.fromkeys(COMPUTED))
    method.check_settings(name, {**settings, **more})
    if repeated := sorted(settings.keys() & more.keys()):
        raise EvenhandError(f"{', '.join(repeated)} of {name} is given twice.")
    typed = {setting: _typed(text, setting, value, hints) for setting, value in more.items()}
    return name, method, {**settings, **typed}


def _settings(
    text: str, listed: str, hints: Mapping[str, Any], computed: Iterable[str]
) -> dict[str, Any]:
    """Return the settings in ``SETTING=VALUE,…``, each converted to its type."""
    settings: dict[str, Any] = {}
    for item in filter(None, listed.split(",")):
        setting, _, value = item.partition("=")
        if setting in computed:
            raise EvenhandError(f"--method {text}: {setting} is computed, and cannot be given.")
        if setting in settings:
            raise EvenhandError(f"--method {text}: {setting} is given twice.")
        settings[setting] = _typed(text, setting, value, hints)
    return settings


def _typed(text: str, setting: str, value: Any, hints: Mapping[str, Any]) -> Any:
    """Return a value converted to its setting's type; unknown settings are returned unchanged."""
    if setting not in hints:
        return value
    hint = hints[setting]
    value_type = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    is_list = isinstance(value, str) and get_origin(value_type) is Sequence
    try:
        return TypeAdapter(hint).validate_python(value.split("/") if is_list else value)
    except PydanticSchemaGenerationError:  # an array, such as the wrong rows of jtt
        return value
    except ValidationError as error:
        problem = error.errors()[0]["msg"].lower()
        raise EvenhandError(f"--method {text}: {setting}={value!r}: {problem}.") from error


@cache
def _built_in() -> dict[str, Method]:
    table = {}
    for stage, package in PACKAGES.items():
        spec = find_spec(package)
        assert spec is not None
        assert spec.submodule_search_locations is not None
        for module in pkgutil.iter_modules(spec.submodule_search_locations):
            source = Path(spec.submodule_search_locations[0], f"{module.name}.py")
            doc = ast.get_docstring(ast.parse(source.read_text("utf-8"))) or ""
            name, title = module.name.replace("_", "-"), doc.partition("\n")[0]
            path = f"{package}.{module.name}"
            table[name] = Method(name, title, stage, path, caution_in(doc))
    return table
