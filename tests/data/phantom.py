"""Phantoms, which need no files."""

from __future__ import annotations

from pathlib import Path

from evenhand.cohort.settings import DataSettings


def settings(root: Path) -> DataSettings:
    """Return the settings of phantoms with two images per patient."""
    return DataSettings(data="phantom:patients=60,images=2,size=24", attribute=("group",))
