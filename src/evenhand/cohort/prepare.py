"""Prepare data for a job: open a cohort, store its samples, exclude patients, split it."""

from __future__ import annotations

import numpy as np

from evenhand.cohort.cohort import Cohort, check_usable
from evenhand.cohort.readers import open_cohort
from evenhand.cohort.settings import DataSettings, SplitSettings
from evenhand.cohort.splits import Splits, draw_patients, exclude_patients, split_patients
from evenhand.cohort.store.samples import store_samples
from evenhand.networks.inputs import Images


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
