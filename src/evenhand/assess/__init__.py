"""The assessment of a data set and of models trained on it, stage by stage."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evenhand.assess.job import assess
    from evenhand.assess.requirements.job import check
    from evenhand.assess.requirements.settings import CheckSettings
    from evenhand.assess.settings import AssessSettings
    from evenhand.assess.similarity.job import similarity
    from evenhand.assess.similarity.settings import SimilaritySettings

_HOMES = {
    "AssessSettings": "settings",
    "CheckSettings": "requirements.settings",
    "SimilaritySettings": "similarity.settings",
    "assess": "job",
    "check": "requirements.job",
    "similarity": "similarity.job",
}

__all__ = ["AssessSettings", "CheckSettings", "SimilaritySettings", "assess", "check", "similarity"]


def __getattr__(name: str) -> Any:
    """Load the module that defines ``name``."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
