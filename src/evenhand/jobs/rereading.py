"""Samples that a finished model has scored, read again for its layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.readers import open_cohort
from evenhand.cohort.reopen import data_now
from evenhand.cohort.store.samples import store_samples
from evenhand.errors import EvenhandError, some
from evenhand.experiments.records import data_settings
from evenhand.experiments.runs import Run
from evenhand.networks.model import Model
from evenhand.tables.predictions import Predictions
from evenhand.training.inputs import check_fits


def one_each(predictions: Predictions, most: int, seed: int) -> Predictions:
    """Draw one sample of each patient, of at most so many patients, in the table's order."""
    rng = np.random.default_rng(seed)
    table = predictions.table.iloc[rng.permutation(len(predictions))]
    drawn = table.drop_duplicates("patient_id").head(most).sort_index()
    return Predictions(drawn.reset_index(drop=True), predictions.classes, predictions.levels)


def samples_again(
    run: Run, model: Model, samples: Predictions, *, data: str | None, cache: Path | None
) -> Cohort:
    """Return samples of a run's data, stored in the size that a model takes.

    Parameters
    ----------
    run
        The run that read the data.
    model
        The model that will read them.
    samples
        The samples, and their order.
    data
        Where the data lie now; None where they lay then.
    cache
        Folder of decoded samples.

    Raises
    ------
    EvenhandError
        The data cannot be read, lack a sample, or do not suit the model.
    """
    earlier = data_settings(run.record)
    now = {"data": data_now(earlier.data, data), "cache": cache}
    settings = earlier.model_copy(update=now)
    whole = open_cohort(settings)
    place = pd.Index(whole.table["sample_id"]).get_indexer(pd.Index(samples.table["sample_id"]))
    absent = samples.table["sample_id"][place < 0]
    if len(absent):
        raise EvenhandError(
            f"{settings.data} lacks {len(absent)} of the {len(samples)} samples that the runs were "
            f"scored on: {some(absent)}. Say with --data where the data of {run.root} lie now."
        )
    cohort = store_samples(whole.select(place), model.spec.images, cache)
    check_fits(cohort, model)
    return cohort
