"""Read samples of a finished run again, to compute the activations of its model's layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.prepare import current_data, with_change_note
from evenhand.cohort.readers import open_cohort
from evenhand.cohort.store.samples import store_samples
from evenhand.errors import EvenhandError, first_few
from evenhand.experiments.records import data_fingerprint, data_settings
from evenhand.experiments.runs import Run
from evenhand.networks.model import Model
from evenhand.tables.predictions import Predictions
from evenhand.training.inputs import check_fits


def draw_one_per_patient(predictions: Predictions, patients: int, seed: int) -> Predictions:
    """Draw one sample per patient, from at most ``patients`` patients, in the table's order."""
    rng = np.random.default_rng(seed)
    table = predictions.table.iloc[rng.permutation(len(predictions))]
    drawn = table.drop_duplicates("patient_id").head(patients).sort_index()
    return Predictions(drawn.reset_index(drop=True), predictions.classes, predictions.levels)


def reread_samples(
    run: Run, model: Model, samples: Predictions, *, data: str | None, cache: Path | None
) -> Cohort:
    """Return a cohort of samples of a run's data, stored in the input size of a model.

    Parameters
    ----------
    run
        The run that read the data.
    model
        The model that will read them.
    samples
        Predictions of the samples; the cohort has their order.
    data
        The place of the data, if they were moved after the run; else None.
    cache
        Folder of decoded samples.

    Raises
    ------
    EvenhandError
        If the data cannot be read, lack a sample, or do not fit the model.
    """
    earlier = data_settings(run.record)
    settings = earlier.model_copy(update={"data": current_data(earlier.data, data), "cache": cache})
    whole = with_change_note(open_cohort(settings), data_fingerprint(run.record), run.root)
    rows = pd.Index(whole.table["sample_id"]).get_indexer(pd.Index(samples.table["sample_id"]))
    absent = samples.table["sample_id"][rows < 0]
    if len(absent):
        raise EvenhandError(
            f"{settings.data} lacks {len(absent)} of the {len(samples)} samples that the models "
            f"scored: {first_few(absent)}. Give the present place of {run.root}'s data with --data."
        )
    cohort = store_samples(whole.select(rows), model.spec.images, cache)
    check_fits(cohort, model)
    return cohort
