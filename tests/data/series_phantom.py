"""Series phantoms, which need no files."""

from __future__ import annotations

from pathlib import Path

from evenhand.cohort.settings import DataSettings


def settings(root: Path) -> DataSettings:
    """Return the settings of series phantoms with two windows per patient."""
    return DataSettings(data="series_phantom:patients=60,windows=2", attribute=("group",))
