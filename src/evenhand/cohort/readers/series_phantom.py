"""Series phantoms as DATA: ``series_phantom:patients=400,harder=0.5,seed=3``."""

from __future__ import annotations

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.phantoms.images import ATTRIBUTES
from evenhand.cohort.phantoms.series import SeriesPhantomSettings, make_series_phantoms
from evenhand.cohort.readers.phantom import phantom_settings
from evenhand.cohort.registry import DataSet, register_reader
from evenhand.cohort.settings import DataSettings

ABOUT = DataSet(
    title="series phantoms with a planted, known bias",
    task="sick, or well",
    modality="vital signs made from a seed",
    licence="none is needed",
    access="no download: give series_phantom:, or series_phantom:patients=400,harder=0.5,seed=3",
    attributes=tuple(ATTRIBUTES.values()),
    caution="Misleads as evidence about patients: its biases are planted.",
)


@register_reader("series_phantom", ABOUT)
def read_series_phantom(path: str, settings: DataSettings) -> Cohort:
    """Make series with a planted bias, by the SeriesPhantomSettings after the colon."""
    return make_series_phantoms(phantom_settings(SeriesPhantomSettings, path, settings))
