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
        binned,
        distinct,
        group_of,
        is_measurement,
        mapped,
        parse_bins,
        parts_of,
    )
    from evenhand.cohort.cohort import Cohort, Read, Source, UnreadableError, check_usable, counts
    from evenhand.cohort.phantoms import PhantomSettings, make_phantoms
    from evenhand.cohort.prepare import prepare_splits
    from evenhand.cohort.readers import known_readers, open_cohort
    from evenhand.cohort.registry import Reader, reader
    from evenhand.cohort.settings import DataSettings
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
    "attributes": (
        "UNKNOWN Attribute binned distinct group_of is_measurement mapped parse_bins parts_of"
    ),
    "cohort": "Cohort Read Source UnreadableError check_usable counts",
    "phantoms": "PhantomSettings make_phantoms",
    "prepare": "prepare_splits",
    "readers": "known_readers open_cohort",
    "registry": "Reader reader",
    "settings": "DataSettings",
    "splits": ("Splits draw_patients exclude_patients read_splits split_patients write_splits"),
    "store": "SampleStore default_cache store_samples",
}

__all__ = [
    "UNKNOWN",
    "Attribute",
    "Cohort",
    "DataSettings",
    "PhantomSettings",
    "Read",
    "Reader",
    "SampleStore",
    "Source",
    "Splits",
    "UnreadableError",
    "binned",
    "check_usable",
    "counts",
    "default_cache",
    "distinct",
    "draw_patients",
    "exclude_patients",
    "group_of",
    "is_measurement",
    "known_readers",
    "make_phantoms",
    "mapped",
    "open_cohort",
    "parse_bins",
    "parts_of",
    "prepare_splits",
    "read_splits",
    "reader",
    "split_patients",
    "store_samples",
    "write_splits",
]


def __getattr__(name: str) -> Any:
    """Load the module that defines ``name``."""
    for home, names in _HOMES.items():
        if name in names.split():
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
