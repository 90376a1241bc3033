"""A model's predictions on cohorts."""

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

BATCH = 256  # samples per forward pass; the result does not depend on it


def predict_cohorts(
    model: Model,
    cohorts: Iterable[tuple[str, Cohort]],
    accelerator: Accelerator,
    served: Callable[[str], tuple[BatchProvider, nn.Module | None]] | None = None,
) -> Predictions:
    """Return a model's predictions on stored cohorts.

    The model is put on the accelerator's device and into evaluation mode. Scores have the precision
    of float32.

    Parameters
    ----------
    model
        The model.
    cohorts
        Names of splits and their cohorts.
    accelerator
        Device and precision.
    served
        Function of a split's name; it returns the source of the split's inputs, and the part of the
        backbone that takes them (see `class_probabilities`). By default, inputs are samples.
    """
    model = model.to(accelerator.device)
    tables, levels = [], {}
    for split, cohort in cohorts:
        source, upper = served(split) if served else (BatchSource(cohort, accelerator.device), None)
        cohort_scores = class_probabilities(model, source, accelerator, upper)
        table = scored_table(split, cohort, cohort_scores)
        tables.append(table)
        levels = cohort.levels
    return Predictions(pd.concat(tables, ignore_index=True), model.spec.classes, levels)


def scored_table(split: str, cohort: Cohort, values: NDArray[np.float64]) -> pd.DataFrame:
    """Return a split's rows of predictions, from the scores ``(n, C)`` of its samples."""
    attributes = [f"attr_{name}" for name in cohort.attributes]
    table = cohort.table[["sample_id", "patient_id", "label", *attributes]]
    table = table.astype(dict.fromkeys(["patient_id", *attributes], "str"))
    table.insert(2, "split", split)
    columns = score_columns(values.shape[1])
    for k, name in enumerate(columns):
        column = k if len(columns) > 1 else 1  # for two classes, the score is that of class 1
        table.insert(4 + k, name, values[:, column].astype(np.float32).astype(np.float64))
    return table


def class_probabilities(
    model: Model, source: BatchProvider, accelerator: Accelerator, upper: nn.Module | None = None
) -> NDArray[np.float64]:
    """Return the class probabilities ``(n, C)`` of all samples of a source, in its order.

    The model is put into evaluation mode. Under a launcher, each process computes its share.

    Parameters
    ----------
    model
        The model, on the accelerator's device.
    source
        Samples, or activations at a cut.
    accelerator
        Device and precision.
    upper
        The part of the backbone above the cut; None if the source gives samples.
    """
    model.eval()
    share = np.arange(accelerator.process_index, len(source), accelerator.num_processes)
    parts = []
    with torch.inference_mode(), accelerator.autocast():
        for start in range(0, len(share), BATCH):
            inputs = to_unit_range(source.take(share[start : start + BATCH]).inputs)
            logits = model(channels_last(inputs), upper)
            parts.append(logits.double().softmax(dim=1).cpu().numpy())
    if accelerator.num_processes == 1:
        return np.concatenate(parts)
    table = np.empty((len(source), len(model.spec.classes)))
    for positions, rows in gather_object([(share, np.concatenate(parts))]):
        table[positions] = rows
    return table


def to_unit_range(inputs: Tensor) -> Tensor:
    """Return uint8 images as float32 in [0, 1]; other inputs unchanged."""
    return inputs.float() / 255 if inputs.dtype == torch.uint8 else inputs


def channels_last(inputs: Tensor) -> Tensor:
    """Return images ``(B, C, H, W)`` with their channels last in memory; other inputs unchanged.

    This makes convolutions faster, also on the CPU.
    """
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs
