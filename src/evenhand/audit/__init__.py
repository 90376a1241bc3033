"""Audit: predictions in, metric rows and a report out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evenhand.audit.comparison import compare
    from evenhand.audit.job import audit
    from evenhand.audit.settings import AuditSettings, CompareSettings, PredictSettings

_HOMES = {
    "AuditSettings": "settings",
    "CompareSettings": "settings",
    "PredictSettings": "settings",
    "audit": "job",
    "compare": "comparison",
}

__all__ = ["AuditSettings", "CompareSettings", "PredictSettings", "audit", "compare"]


def __getattr__(name: str) -> Any:
    """Load the module that defines ``name``."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
