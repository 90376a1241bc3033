"""Prepare data for a job: open a cohort, or that of an earlier run, store it, and split it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from evenhand.cohort.cohort import Cohort, check_usable
from evenhand.cohort.readers import open_cohort
from evenhand.cohort.registry import READERS
from evenhand.cohort.settings import DataSettings, SplitSettings
from evenhand.cohort.splits import (
    Splits,
    draw_patients,
    exclude_patients,
    read_splits,
    split_patients,
)
from evenhand.cohort.store.samples import store_samples
from evenhand.errors import EvenhandError
from evenhand.networks.inputs import Images
from evenhand.tables.settings import ValueSettings


def prepare_splits(
    settings: SplitSettings, images: Images | None, rng: np.random.Generator
) -> Splits:
    """Open a cohort, store its samples, exclude patients, and split it.

    Parameters
    ----------
    settings
        The settings of the data and the splits.
    images
        Size and channels of the images; None for the default, and for series.
    rng
        Draws the patients (``--patient-share``) and their splits.

    Raises
    ------
    EvenhandError
        If a step refuses the data. Complete sample stores may remain; nothing else is written.
    """
    cohort = prepare_cohort(settings, images, rng)
    check_usable(cohort, settings.attribute)
    return split_patients(cohort, settings.attribute, settings.split, rng)


def prepare_cohort(
    settings: DataSettings, images: Images | None, rng: np.random.Generator
) -> Cohort:
    """Open a cohort, store its samples and exclude patients; see `prepare_splits`."""
    return store_cohort(open_cohort(settings), settings, images, rng)


def store_cohort(
    cohort: Cohort, settings: DataSettings, images: Images | None, rng: np.random.Generator
) -> Cohort:
    """Store the samples of an open cohort, and exclude patients; see `prepare_splits`."""
    cohort = store_samples(
        cohort,
        images,
        settings.cache,
        skip_unreadable=settings.skip_unreadable,
    )
    cohort = exclude_patients(cohort, settings.exclude_patients)
    if settings.patient_share == 1:
        return cohort
    return draw_patients(cohort, settings.patient_share, settings.attribute, rng)


@dataclass(frozen=True)
class DataOverrides:
    """Settings of the data that replace or extend those of an earlier run.

    Attributes
    ----------
    data
        The present path of the data, with or without the reader's name; None if it has not changed.
    attribute
        Attributes in addition to those of the run.
    bins
        Bins of numeric attributes; if empty, those of the run.
    cache
        The folder of decoded samples.
    skip_unreadable
        Whether samples that cannot be read are left out.
    values
        Rules for values, added to those of the run.
    """

    data: str | None
    attribute: Sequence[str]
    bins: Sequence[str]
    cache: Path | None
    skip_unreadable: bool
    values: ValueSettings


def reopen(
    root: Path,
    earlier: DataSettings,
    images: Images | None,
    overrides: DataOverrides,
    recorded: str | None,
) -> Splits:
    """Return the splits of an earlier run, with a sample store behind them.

    Parameters
    ----------
    root
        The run directory.
    earlier
        The settings with which the run read its data.
    images
        Size and channels of the images; None for the default, and for series.
    overrides
        Settings that replace or extend the earlier ones.
    recorded
        The fingerprint of the data that the run recorded. If the present data have another, the
        notes of their source say so.

    Raises
    ------
    EvenhandError
        If the run has no splits, or if the data are absent, lack a sample of the run or lack an
        attribute.
    """
    splits = root / "splits.csv"
    if not splits.is_file():
        raise EvenhandError(
            f"the run in {root} has no splits.csv; it did not train a model. Give a run that did."
        )
    settings = DataSettings.model_validate(
        vars(earlier)
        | {
            "data": current_data(earlier.data, overrides.data),
            "attribute": tuple(dict.fromkeys([*earlier.attribute, *overrides.attribute])),
            "bins": tuple(overrides.bins) or earlier.bins,
        }
        | merge_values(earlier, overrides.values)
    )
    cohort = with_change_note(open_cohort(settings), recorded, root)
    stored = store_samples(
        cohort, images, overrides.cache, skip_unreadable=overrides.skip_unreadable
    )
    return read_splits(splits, stored)


def with_change_note(cohort: Cohort, recorded: str | None, root: Path) -> Cohort:
    """Return a cohort with a note if its data have changed since an earlier run.

    Parameters
    ----------
    cohort
        The present data.
    recorded
        The fingerprint that the earlier run recorded; no note without it.
    root
        The directory of the earlier run.
    """
    source = cohort.source
    if not recorded or recorded == source.fingerprint:
        return cohort
    note = (
        f"The data have changed since the run in {root} was made: a table has another content, or "
        "a file another size or time of change (a copy may have another time). If labels or "
        "images differ, the model was trained on other data than these."
    )
    return replace(cohort, source=replace(source, notes=(*source.notes, note)))


def merge_values(earlier: ValueSettings, current: ValueSettings) -> dict[str, tuple[str, ...]]:
    """Return the earlier rules for values, followed by the current ones."""
    return {
        name: (*getattr(earlier, name), *getattr(current, name))
        for name in ValueSettings.model_fields
    }


def current_data(earlier: str, current: str | None) -> str:
    """Return the current DATA; a path without a reader's name keeps the earlier reader."""
    if current is None:
        return earlier
    reader = earlier.partition(":")[0]
    is_path = current.partition(":")[0] not in READERS
    return f"{reader}:{current}" if is_path and reader in READERS else current
