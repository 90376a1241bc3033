"""What a step takes out, by the name of the structure."""

from __future__ import annotations

from evenhand.prune.loop import Remove, remove_weights


def remover(structure: str) -> Remove:
    """Return how what counts least is taken out."""
    return {"weight": remove_weights}[structure]
