"""Cohorts: readers, attributes, splits by patient, the sample store, phantoms.

Names load on first use, so that ``DataSettings`` can be had without pandas.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evenhand.cohort.attributes import (
        UNKNOWN,
        Attribute,
        distinct,
        group_of,
        mapped,
        named,
        parts_of,
        race,
        sex,
        white,
    )
    from evenhand.cohort.bins import Bins, binned, is_measurement, parse_bins
    from evenhand.cohort.cohort import Cohort, Read, Source, UnreadableError, check_usable, counts
    from evenhand.cohort.labels import Label, by_value, chest_labels, each_value
    from evenhand.cohort.phantoms import PhantomSettings, make_phantoms
    from evenhand.cohort.prepare import prepare_splits
    from evenhand.cohort.published import Samples, published
    from evenhand.cohort.readers import known_readers, open_cohort
    from evenhand.cohort.registry import DataSet, Entry, Reader, reader
    from evenhand.cohort.series import Recordings, Series, whole_recordings
    from evenhand.cohort.series_phantoms import SeriesPhantomSettings, make_series_phantoms
    from evenhand.cohort.settings import DataSettings, SplitSettings
    from evenhand.cohort.splits import (
        Splits,
        draw_patients,
        exclude_patients,
        read_splits,
        split_patients,
        write_splits,
    )
    from evenhand.cohort.store import SampleStore, default_cache, store_samples

_HOMES = {
    "attributes": "UNKNOWN Attribute distinct group_of mapped named parts_of race sex white",
    "bins": "Bins binned is_measurement parse_bins",
    "cohort": "Cohort Read Source UnreadableError check_usable counts",
    "labels": "Label by_value chest_labels each_value",
    "phantoms": "PhantomSettings make_phantoms",
    "prepare": "prepare_splits",
    "published": "Samples published",
    "readers": "known_readers open_cohort",
    "registry": "DataSet Entry Reader reader",
    "series": "Recordings Series whole_recordings",
    "series_phantoms": "SeriesPhantomSettings make_series_phantoms",
    "settings": "DataSettings SplitSettings",
    "splits": ("Splits draw_patients exclude_patients read_splits split_patients write_splits"),
    "store": "SampleStore default_cache store_samples",
}

__all__ = [
    "UNKNOWN",
    "Attribute",
    "Bins",
    "Cohort",
    "DataSet",
    "DataSettings",
    "Entry",
    "Label",
    "PhantomSettings",
    "Read",
    "Reader",
    "Recordings",
    "SampleStore",
    "Samples",
    "Series",
    "SeriesPhantomSettings",
    "Source",
    "SplitSettings",
    "Splits",
    "UnreadableError",
    "binned",
    "by_value",
    "check_usable",
    "chest_labels",
    "counts",
    "default_cache",
    "distinct",
    "draw_patients",
    "each_value",
    "exclude_patients",
    "group_of",
    "is_measurement",
    "known_readers",
    "make_phantoms",
    "make_series_phantoms",
    "mapped",
    "named",
    "open_cohort",
    "parse_bins",
    "parts_of",
    "prepare_splits",
    "published",
    "race",
    "read_splits",
    "reader",
    "sex",
    "split_patients",
    "store_samples",
    "white",
    "whole_recordings",
    "write_splits",
]


def __getattr__(name: str) -> Any:
    """Load the module that defines ``name``."""
    for home, names in _HOMES.items():
        if name in names.split():
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
