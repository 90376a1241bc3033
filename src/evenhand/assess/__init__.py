"""The assessment of a data set and of models trained on it, stage by stage."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evenhand.assess.requirements.job import check
    from evenhand.assess.requirements.settings import CheckSettings

_HOMES = {
    "CheckSettings": "requirements.settings",
    "check": "requirements.job",
}

__all__ = ["CheckSettings", "check"]


def __getattr__(name: str) -> Any:
    """Load the module that defines ``name``."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
