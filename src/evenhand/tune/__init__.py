"""FairTune: search, on validation fairness, which parts of a network may change."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evenhand.tune.job import tune
    from evenhand.tune.settings import TuneSettings

_HOMES = {"TuneSettings": "settings", "tune": "job"}

__all__ = ["TuneSettings", "tune"]


def __getattr__(name: str) -> Any:
    """Load the module that defines ``name``."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
