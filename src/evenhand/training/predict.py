"""What a model says about each sample of a cohort."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor, nn

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.store.batches import BatchProvider, BatchSource
from evenhand.networks.model import Model
from evenhand.tables.columns import score_columns
from evenhand.tables.predictions import Predictions

BATCH = 256  # samples scored at a time; the result does not depend on it


def predict(
    model: Model,
    cohorts: Iterable[tuple[str, Cohort]],
    accelerator: Accelerator,
    served: Callable[[str], tuple[BatchProvider, nn.Module | None]] | None = None,
) -> Predictions:
    """Return the predictions of a model on stored cohorts, each under the name of its split.

    The model goes to the accelerator's device and into evaluation mode. Scores have the precision
    of float32. ``served`` gives, for the name of a split, what is read in the place of its samples,
    and the rest of the backbone that takes it (see `scores`).
    """
    model = model.to(accelerator.device)
    tables, levels = [], {}
    for split, cohort in cohorts:
        source, rest = served(split) if served else (BatchSource(cohort, accelerator.device), None)
        cohort_scores = scores(model, source, accelerator, rest)
        table = scored_table(split, cohort, cohort_scores)
        tables.append(table)
        levels = cohort.levels
    return Predictions(pd.concat(tables, ignore_index=True), model.spec.classes, levels)


def scored_table(split: str, cohort: Cohort, values: NDArray[np.float64]) -> pd.DataFrame:
    """Return the rows of predictions of one split, with scores ``(n, C)`` of its samples."""
    attributes = [f"attr_{name}" for name in cohort.attributes]
    table = cohort.table[["sample_id", "patient_id", "label", *attributes]]
    table = table.astype(dict.fromkeys(["patient_id", *attributes], "str"))
    table.insert(2, "split", split)
    columns = score_columns(values.shape[1])
    for place, name in enumerate(columns):
        column = place if len(columns) > 1 else 1
        table.insert(4 + place, name, values[:, column].astype(np.float32).astype(np.float64))
    return table


def scores(
    model: Model, source: BatchProvider, accelerator: Accelerator, rest: nn.Module | None = None
) -> NDArray[np.float64]:
    """Return class probabilities ``(n, C)`` of every sample of a source, in its order.

    The model is put into evaluation mode. Under a launcher each process scores its share. With the
    rest of the backbone behind a cut, the source serves activations at the cut.
    """
    model.eval()
    own = np.arange(accelerator.process_index, len(source), accelerator.num_processes)
    parts = []
    with torch.inference_mode(), accelerator.autocast():
        for start in range(0, len(own), BATCH):
            inputs = unit(source.take(own[start : start + BATCH]).inputs)
            logits = model(channels_last(inputs), rest)
            parts.append(logits.double().softmax(dim=1).cpu().numpy())
    if accelerator.num_processes == 1:
        return np.concatenate(parts)
    table = np.empty((len(source), len(model.spec.classes)))
    for positions, rows in gather_object([(own, np.concatenate(parts))]):
        table[positions] = rows
    return table


def unit(inputs: Tensor) -> Tensor:
    """Return uint8 images as float32 in [0, 1], and series as they are."""
    return inputs.float() / 255 if inputs.dtype == torch.uint8 else inputs


def channels_last(inputs: Tensor) -> Tensor:
    """Return images ``(B, C, H, W)`` with their channels last in memory, and others as they are.

    Convolutions are faster so, on the CPU too.
    """
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs
