"""Tiny files in each data set's real layout: one module per reader, named like it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from evenhand.cohort.settings import DataSettings


def tiny(reader: str, root: Path) -> DataSettings:
    """Write a reader's tiny data below ``root`` and return the settings that name them.

    A module has ``make_<reader>(root)``, which returns the path to give, or ``settings(root)``.
    """
    module = import_module(f"tests.data.{reader}")
    if hasattr(module, "settings"):
        built: DataSettings = module.settings(root)
        return built
    path = getattr(module, f"make_{reader}")(root)
    return DataSettings(data=f"{reader}:{path}")
