"""Pre-training without labels: two views of each sample, and a method that brings them together."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evenhand.pretrain.job import pretrain
    from evenhand.pretrain.settings import PretrainSettings

_HOMES = {"PretrainSettings": "settings", "pretrain": "job"}

__all__ = ["PretrainSettings", "pretrain"]


def __getattr__(name: str) -> Any:
    """Load the module that defines ``name``."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
