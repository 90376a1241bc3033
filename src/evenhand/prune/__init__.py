"""FairPrune: remove the parameters that the privileged group needs and the others do not."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evenhand.prune.job import prune
    from evenhand.prune.settings import PruneSettings

_HOMES = {"PruneSettings": "settings", "prune": "job"}

__all__ = ["PruneSettings", "prune"]


def __getattr__(name: str) -> Any:
    """Load the module that defines ``name``."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
