"""Compute features: the inputs of the last layer of a run's model, for every sample."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.prepare import DataOverrides, reopen
from evenhand.cohort.store.batches import BatchSource
from evenhand.errors import EvenhandError
from evenhand.experiments.records import data_fingerprint, data_settings
from evenhand.experiments.runs import Run
from evenhand.jobs.adjust.settings import AdjustSettings
from evenhand.methods.afterwards.dfr import LastLayer
from evenhand.networks.model import Model, load_model
from evenhand.progress import bar
from evenhand.tables.predictions import Predictions
from evenhand.tables.settings import ValueSettings
from evenhand.training.device import make_accelerator
from evenhand.training.predict import BATCH, channels_last, to_unit_range
from evenhand.training.settings import LoopSettings

Features = NDArray[np.float32]
"""Inputs ``(n, D)`` of the last layer."""

TOLERANCE = 1e-3
"""The largest allowed difference of a score from the stored predictions, wide enough for bf16."""


@dataclass(frozen=True, eq=False)
class Network:
    """A run's model, its features in the order of the run's predictions, and notes on its data."""

    model: Model
    features: Features
    notes: tuple[str, ...] = ()


def read_network(
    run: Run, name: str, predictions: Predictions, settings: AdjustSettings
) -> Network:
    """Open the run's data again and compute the features of every sample, in one pass.

    Raises
    ------
    EvenhandError
        If the data cannot be read, or the model's scores differ from the predictions.
    """
    model = load_model(run.folder(name))
    overrides = DataOverrides(
        settings.data, (), (), settings.cache, settings.skip_unreadable, ValueSettings()
    )
    splits = reopen(
        run.root,
        data_settings(run.record),
        model.spec.images,
        overrides,
        data_fingerprint(run.record),
    )
    loop = LoopSettings(device=settings.device, precision=settings.precision)
    accelerator = make_accelerator(loop)
    cohorts = [cohort for _, cohort in splits.items()]
    features = np.concatenate([features_of(model, cohort, accelerator) for cohort in cohorts])
    model.cpu()
    ids = pd.concat([cohort.table["sample_id"] for cohort in cohorts]).astype(str)
    names = predictions.table["sample_id"].astype(str)
    rows = pd.Index(ids).get_indexer(pd.Index(names))
    if len(absent := names[rows < 0]):
        raise EvenhandError(
            f"sample {absent.iloc[0]!r} of the predictions in {run.root} is not among the run's "
            "data. Give the data that the run was trained on with --data."
        )
    network = Network(model, features[rows], splits.train.source.notes)
    _check_scores(network, predictions, run)
    return network


def features_of(model: Model, cohort: Cohort, accelerator: Accelerator) -> Features:
    """Return the inputs ``(n, D)`` of the last linear layer for a stored cohort."""
    model = model.to(accelerator.device).eval()
    source = BatchSource(cohort, accelerator.device)
    parts = []
    with (
        torch.inference_mode(),
        accelerator.autocast(),
        record_features(model) as latest,
        bar("reading features", len(source)) as advance,
    ):
        for start in range(0, len(source), BATCH):
            rows = np.arange(start, min(start + BATCH, len(source)))
            model(channels_last(to_unit_range(source.take(rows).inputs)))
            parts.append(latest[0].float().cpu().numpy())
            advance(len(rows))
    return np.concatenate(parts)


def last_layer(model: Model) -> nn.Linear:
    """Return the linear layer of a model that computes the logits."""
    layers = [module for module in model.head.modules() if isinstance(module, nn.Linear)]
    return layers[-1]


@contextmanager
def record_features(model: Model) -> Iterator[list[Tensor]]:
    """Yield a list that holds the last layer's input of the latest forward pass."""
    latest: list[Tensor] = []

    def record(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        latest[:] = [inputs[0]]

    hook = last_layer(model).register_forward_pre_hook(record)
    try:
        yield latest
    finally:
        hook.remove()


def last_layer_arrays(model: Model) -> LastLayer:
    """Return a model's last layer as arrays."""
    layer = last_layer(model)
    weight = layer.weight.detach().double().numpy()
    return LastLayer(weight, layer.bias.detach().double().numpy(), 0.0, np.zeros_like(weight))


def set_last_layer(model: Model, layer: LastLayer) -> None:
    """Replace the weights of a model's last layer."""
    linear = last_layer(model)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(layer.weight))
        linear.bias.copy_(torch.from_numpy(layer.bias))


def _check_scores(network: Network, predictions: Predictions, run: Run) -> None:
    """Check that the last layer maps the features to the stored scores of the test rows."""
    test = (predictions.table["split"] == "test").to_numpy()
    scores = last_layer_arrays(network.model).apply(network.features[test])
    difference = float(np.abs(scores - predictions.scores[test]).max(initial=0.0))
    if difference > TOLERANCE:
        raise EvenhandError(
            f"the model in {run.root} gives its test samples other scores than its predictions "
            f"(by up to {difference:.2g}): the data have changed, or the scores were adjusted "
            "before. Give the run that trained the model."
        )
