"""Fine-tuning: one strategy, one fit, and everything about it in a run directory."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evenhand.finetune.job import finetune
    from evenhand.finetune.predicting import predict
    from evenhand.finetune.settings import FinetuneSettings

_HOMES = {"FinetuneSettings": "settings", "finetune": "job", "predict": "predicting"}

__all__ = ["FinetuneSettings", "finetune", "predict"]


def __getattr__(name: str) -> Any:
    """Load the module that defines ``name``."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
