"""Activations of a model's layers on a cohort."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.store.batches import BatchSource
from evenhand.errors import EvenhandError, first_few
from evenhand.networks.layers import Pool, record_activations
from evenhand.networks.model import Model
from evenhand.progress import bar
from evenhand.training.predict import BATCH, channels_last, to_unit_range

HEAD_INPUT = "head input"
"""Name that stands, among layers, for the head's input."""


def activations(
    model: Model,
    cohort: Cohort,
    layers: Sequence[str],
    accelerator: Accelerator,
    pool: Pool = "auto",
) -> dict[str, NDArray[np.float32]]:
    """Return the activations ``(n, D)`` of layers on a stored cohort, in its order, from one pass.

    The model is put on the accelerator's device and into evaluation mode.

    Parameters
    ----------
    model
        The model.
    cohort
        The cohort, with a sample store behind it.
    layers
        Names from `layer_names`; also `HEAD_INPUT`.
    accelerator
        Device and precision.
    pool
        How the outputs of a layer become one row per sample; see `record_activations`.
    """
    model = model.to(accelerator.device).eval()
    source = BatchSource(cohort, accelerator.device)
    by_layer: dict[str, NDArray[np.float32]] = {}
    with (
        torch.inference_mode(),
        accelerator.autocast(),
        record_activations(model, [name for name in layers if name != HEAD_INPUT], pool) as outputs,
        bar("reading layers", len(source)) as advance,
    ):
        for start in range(0, len(source), BATCH):
            positions = np.arange(start, min(start + BATCH, len(source)))
            inputs = channels_last(to_unit_range(source.take(positions).inputs))
            outputs[HEAD_INPUT] = model.features(inputs)
            if unused := [name for name in layers if name not in outputs]:
                raise EvenhandError(
                    f"the layers {first_few(unused)} of {model.spec.backbone} did not run on a "
                    "batch, so they have no representations. Name other layers with --layer."
                )
            for name in layers:
                rows = outputs[name].float().cpu().numpy()
                if name not in by_layer:
                    by_layer[name] = np.empty((len(source), rows.shape[1]), np.float32)
                by_layer[name][positions] = rows
            advance(len(positions))
    return by_layer
