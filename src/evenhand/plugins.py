"""Import plug-ins: modules outside Evenhand that register metrics, readers, networks and so on.

Installed packages declare them as entry points; users name other modules with ``--import``.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    model_serializer,
    model_validator,
)

from evenhand.errors import EvenhandError
from evenhand.settings import Settings

RECORDED = "recorded"
"""The pydantic context for settings that are read from a file, which import no module."""

PLUGINS = "evenhand.plugins"
"""The entry-point group of plug-ins: each entry is imported, and called if it is callable."""

_loaded: list[str] = []


@cache
def _entry_points() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=PLUGINS))


def load_plugins() -> None:
    """Import every installed plug-in once: the entry points of the group ``evenhand.plugins``.

    Raises
    ------
    EvenhandError
        If a plug-in cannot be imported.
    """
    for plugin in _entry_points():
        if plugin.value in _loaded:
            continue
        _loaded.append(plugin.value)
        try:
            loaded = plugin.load()
            if callable(loaded):
                loaded()
        except (Exception, SystemExit) as error:
            raise EvenhandError(
                f"the plug-in {plugin.name} = {plugin.value} of an installed package cannot be "
                f"imported: {error}. Repair that package, or uninstall it."
            ) from error


def import_modules(names: Iterable[str]) -> None:
    """Import a user's modules, which register their entries; they may be in the working directory.

    Raises
    ------
    EvenhandError
        If a name is not that of a module, no such module exists, or the import raises an error or
        ends Python.
    """
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            raise EvenhandError(
                f"--import {name}: give a module's name as Python imports it, such as my_package."
                "my_module, without a path and without .py."
            )
        folder = str(Path.cwd())
        if folder not in sys.path:
            sys.path.append(folder)
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not f"{name}.".startswith(f"{error.name}."):
                raise _import_error(name, error) from error
            raise EvenhandError(
                f"--import {name}: there is no module {error.name!r} in {folder} or among the "
                "installed packages. Run the command in the folder of the module, or add that "
                "folder to PYTHONPATH."
            ) from None
        except EvenhandError:
            raise
        except (Exception, SystemExit) as error:
            raise _import_error(name, error) from error


def _import_error(name: str, error: BaseException) -> EvenhandError:
    """Return the error for a user's module whose import failed, with file and line."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return EvenhandError(
        f"--import {name}: the module cannot be imported: {type(error).__name__}: {error} "
        f"({last.filename}, line {last.lineno}). Correct it there."
    )


def require_imports(run: Path, settings: Mapping[str, Any]) -> None:
    """Refuse a run whose plug-ins are not imported: a file must not decide which code runs.

    Raises
    ------
    EvenhandError
        If the run was made with ``--import MODULE`` and this command lacks that flag.
    """
    missing = [name for name in settings.get("imports", ()) if name not in sys.modules]
    if missing:
        flags = " ".join(f"--import {name}" for name in missing)
        raise EvenhandError(
            f"the run in {run} was made with {flags}. Give this command the same flags: the run "
            "needs these modules, and Evenhand imports only modules that the user names."
        )


class ImportSettings(Settings, title="Plug-ins"):
    """The setting that names the user's plug-ins."""

    imports: tuple[str, ...] = Field(
        (),
        description="module of your own that registers metrics, readers, strategies, networks and "
        "the like, by its name in Python; repeatable",
    )

    @model_validator(mode="after")
    def _import(self, info: ValidationInfo) -> ImportSettings:
        if info.context != RECORDED:
            import_modules(self.imports)
        return self

    @model_serializer(mode="wrap")
    def _without_empty_imports(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out an empty list of modules, as in runs of earlier versions."""
        values: dict[str, Any] = serialise(self)
        if not values.get("imports"):
            values.pop("imports", None)
        return values

    def __getstate__(self) -> dict[Any, Any]:
        """Add Python's import path, because a worker may have another working directory."""
        return super().__getstate__() | {"path": list(sys.path) if self.imports else []}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """Import the modules in a worker before it looks up any name."""
        path = state.pop("path", [])
        super().__setstate__(state)
        sys.path += [folder for folder in path if folder not in sys.path]
        import_modules(self.imports)
