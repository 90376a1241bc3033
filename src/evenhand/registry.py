"""One way to register things by name: built-in ones, a plug-in's, and those of ``--import``.

A registry knows the names and the one-line titles of its built-in entries from their source, so
that help texts list them and import nothing heavy; an entry's module is imported when it is used.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

from evenhand.errors import EvenhandError, pick
from evenhand.plugins import load_plugins

T = TypeVar("T")

ROOT = Path(__file__).parent


@dataclass(frozen=True)
class Listed:
    """What is known of an entry without importing it."""

    title: str
    module: str
    usage: str = ""  # how what follows the name is written


class Registry(Mapping[str, T], Generic[T]):
    """Things of one kind by name.

    Parameters
    ----------
    kind
        What one of them is called in messages (``"metric"``).
    source
        The folder or file below the package whose source registers the built-in ones.
    decorators
        The decorators that register there: the name is their first argument, or else that of the
        function, and the title is the first line of the function's docstring.

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

    def add(self, name: str, value: T, *, module: str, title: str = "", usage: str = "") -> None:
        """Register a thing that a module defines.

        Raises
        ------
        EvenhandError
            The name is taken by another module, or holds what separates names in flags.
        """
        owner = {**self._built_in, **self._added}.get(name)
        if owner is not None and owner.module != module:
            raise EvenhandError(
                f"there is a {self.kind} {name!r} already, in {owner.module}; {module} has to "
                "choose another name."
            )
        if not re.fullmatch(r"[^\W\d][\w+-]*", name):
            raise EvenhandError(
                f"{name!r} is no name of a {self.kind}: it begins with a letter, and goes on with "
                "letters, digits, _, - and +."
            )
        self._values[name] = value
        self._added[name] = Listed(title, module, usage)

    def remove(self, name: str) -> None:
        """Forget a thing that was registered, as tests do."""
        del self._values[name]
        del self._added[name]

    def find(self, name: str) -> T:
        """Return the thing of a name.

        Raises
        ------
        UnknownNameError
            There is none; the message lists those that there are.
        """
        return pick(self.kind, name, self)

    def titles(self) -> dict[str, str]:
        """Return the names with their titles; nothing is imported.

        Built-in ones come first; those of plug-ins are there once these are loaded.
        """
        return {name: one.title for name, one in {**self._built_in, **self._added}.items()}

    def usages(self) -> tuple[str, ...]:
        """Return the names as they are written (``last-K``), in the order of `titles`."""
        listed = {**self._built_in, **self._added}
        return tuple(f"{name}{one.usage}" for name, one in listed.items())

    def is_added(self, name: str) -> bool:
        """Return whether a name has been registered by now, without looking further."""
        return name in self._values

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
        for module in dict.fromkeys(one.module for one in self._built_in.values()):
            importlib.import_module(module)
        load_plugins()

    @cached_property
    def _built_in(self) -> dict[str, Listed]:
        """The built-in entries, as their source registers them."""
        if not self._source:
            return {}
        place = ROOT / self._source
        files = sorted(place.glob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
        return {name: one for file in files for name, one in _registered_in(file, self._decorators)}


def _module_of(file: Path) -> str:
    return ".".join((ROOT.name, *file.relative_to(ROOT).with_suffix("").parts))


def _registered_in(file: Path, decorators: Collection[str]) -> Iterator[tuple[str, Listed]]:
    """Yield what a decorator registers in a file, by name."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        for call in node.decorator_list:
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
                continue
            if call.func.id in decorators:
                title = (ast.get_docstring(node) or "").partition("\n")[0]
                name, usage = (*_texts(call), "", "")[:2]
                yield name or node.name, Listed(title, _module_of(file), usage)


def _texts(call: ast.Call) -> list[str]:
    """Return the texts among the first two arguments of a call."""
    constants = [one.value for one in call.args[:2] if isinstance(one, ast.Constant)]
    return [one for one in constants if isinstance(one, str)]
