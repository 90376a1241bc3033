"""Registries: named entries that Evenhand, a plug-in or a module of ``--import`` adds.

A registry reads the names and one-line titles of its built-in entries from their source text.
Therefore, help texts list them without importing torch. An entry's module is imported at first use.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, wraps
from itertools import chain
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from evenhand.errors import EvenhandError, pick
from evenhand.plugins import load_plugins

T = TypeVar("T")

F = TypeVar("F", bound=Callable[..., Any])

ROOT = Path(__file__).parent


@dataclass(frozen=True)
class Listed:
    """The description of an entry, read from its source text without importing its module."""

    title: str
    module: str
    usage: str = ""  # the text after the name, such as "-K" in last-K
    caution: str = ""  # the paragraph of its docstring that begins with "Misleads"


class Registry(Mapping[str, T], Generic[T]):
    """The entries of one kind (metrics, readers, …), by name.

    Parameters
    ----------
    kind
        The kind of entry, for messages (``"metric"``).
    source
        The folder or file, relative to the package, that registers the built-in entries.
    decorators
        The names of the decorators that register built-in entries. An entry's name is the
        decorator's first argument, or else the function's name; its title is the first line of the
        docstring.

    Examples
    --------
    >>> sizes = Registry("size")
    >>> sizes.add("small", 1, module="my_sizes", title="Fits everywhere.")
    >>> sizes["small"], sizes.titles()
    (1, {'small': 'Fits everywhere.'})
    """

    def __init__(self, kind: str, source: str = "", decorators: Collection[str] = ()) -> None:
        self.kind = kind
        self._source, self._decorators = source, decorators
        self._values: dict[str, T] = {}
        self._added: dict[str, Listed] = {}

    def add(
        self, name: str, value: T, *, module: str, title: str = "", usage: str = "", doc: str = ""
    ) -> None:
        """Register an entry of a module; ``doc`` is its docstring, for `cautions`.

        Raises
        ------
        EvenhandError
            If another module has registered the name, or the name has a character that flags use as
            a separator.
        """
        earlier = self._listed().get(name)
        if earlier is not None and earlier.module != module:
            raise EvenhandError(
                f"{earlier.module} has registered a {self.kind} {name!r} already; choose another "
                f"name in {module}."
            )
        if not re.fullmatch(r"[^\W\d][\w+-]*", name):
            raise EvenhandError(
                f"{name!r} cannot be the name of a {self.kind}: a name begins with a letter, and "
                "has only letters, digits, _, - and +."
            )
        self._values[name] = value
        self._added[name] = Listed(title, module, usage, caution_in(doc))

    def remove(self, name: str) -> None:
        """Remove a registered entry, as tests do."""
        del self._values[name]
        del self._added[name]

    def find(self, name: str) -> T:
        """Return the entry with a name.

        Raises
        ------
        UnknownNameError
            If no entry has the name; the message lists all names.
        """
        return pick(self.kind, name, self)

    def titles(self) -> dict[str, str]:
        """Return name → title, without importing anything.

        Built-in entries come first, then those of loaded plug-ins.
        """
        return {name: entry.title for name, entry in self._listed().items()}

    def cautions(self) -> dict[str, str]:
        """Return name → the paragraph on when the entry misleads, or ""; see `titles`."""
        return {name: entry.caution for name, entry in self._listed().items()}

    def usages(self) -> tuple[str, ...]:
        """Return the names as users write them (``last-K``), in the order of `titles`."""
        return tuple(f"{name}{entry.usage}" for name, entry in self._listed().items())

    def is_added(self, name: str) -> bool:
        """Return whether a name has been registered, without importing anything."""
        return name in self._values

    def _listed(self) -> dict[str, Listed]:
        return {**self._built_in, **self._added}

    def __getitem__(self, name: str) -> T:
        if name not in self._values and name in self._built_in:
            importlib.import_module(self._built_in[name].module)
        if name not in self._values:
            self._import_all()
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        self._import_all()
        return iter(self._values)

    def __len__(self) -> int:
        self._import_all()
        return len(self._values)

    def _import_all(self) -> None:
        for module in self._modules:
            importlib.import_module(module)
        load_plugins()

    @cached_property
    def _modules(self) -> tuple[str, ...]:
        """The modules of the built-in entries."""
        return tuple(dict.fromkeys(entry.module for entry in self._built_in.values()))

    @cached_property
    def _built_in(self) -> dict[str, Listed]:
        """The built-in entries, as their source registers them."""
        if not self._source:
            return {}
        path = ROOT / self._source
        files = sorted(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
        return dict(chain.from_iterable(_registered_in(file, self._decorators) for file in files))


def caution_in(doc: str | None) -> str:
    """Return the paragraph of a docstring that begins with "Misleads", else "".

    Examples
    --------
    >>> lines = ["Share of hits.", "", "    Misleads where cases", "    are rare."]
    >>> caution_in(chr(10).join(lines))
    'Misleads where cases are rare.'
    """
    paragraphs = (" ".join(text.split()) for text in inspect.cleandoc(doc or "").split("\n\n"))
    return next((text for text in paragraphs if text.startswith("Misleads")), "")


def _module_of(file: Path) -> str:
    return ".".join((ROOT.name, *file.relative_to(ROOT).with_suffix("").parts))


def _registered_in(file: Path, decorators: Collection[str]) -> Iterator[tuple[str, Listed]]:
    """Yield the names and entries that the decorators register in a file."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        for call in node.decorator_list:
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
                continue
            if call.func.id in decorators:
                doc = ast.get_docstring(node) or ""
                title = doc.partition("\n")[0]
                name, usage = (*_text_arguments(call), "", "")[:2]
                entry = Listed(title, _module_of(file), usage, caution_in(doc))
                yield name or node.name, entry


def _text_arguments(call: ast.Call) -> list[str]:
    """Return the literal texts among the first two arguments of a call."""
    constants = [arg.value for arg in call.args[:2] if isinstance(arg, ast.Constant)]
    return [value for value in constants if isinstance(value, str)]


def name_in_errors(function: F, kind: str) -> F:
    """Return a user's function whose errors name it; Evenhand's functions are unchanged.

    Raises
    ------
    EvenhandError
        If a call of the function fails; the message names the entry, its module and the line.
    """
    if function.__module__.partition(".")[0] == "evenhand":
        return function

    @wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        try:
            return function(*arguments, **keywords)
        except EvenhandError:
            raise
        except Exception as error:
            frames = [frame for frame in traceback.extract_tb(error.__traceback__)
                      if frame.filename == function.__code__.co_filename]  # fmt: skip
            line = f" (line {frames[-1].lineno} of {frames[-1].filename})" if frames else ""
            raise EvenhandError(
                f"the {kind} {function.__name__!r} of the module {function.__module__} fails with "
                f"{type(error).__name__}: {error}{line}. Correct it, or leave the {kind} out."
            ) from error

    return cast(F, call)
