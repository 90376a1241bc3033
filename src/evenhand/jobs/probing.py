"""The attribute probe of a run's models: compute the content of ``probe.json``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from evenhand.cohort.cohort import Cohort
from evenhand.errors import EvenhandError, count_text
from evenhand.evaluation.rows import groups_in
from evenhand.metrics.groups import Groups
from evenhand.networks.layers import layer_names
from evenhand.networks.model import Model
from evenhand.own.probing import probe
from evenhand.progress import bar
from evenhand.reporting.probe_record import ProbeRecord, ProbeRow
from evenhand.reporting.text.vocabulary import join_words
from evenhand.representation.probe import ProbeResult
from evenhand.tables.attributes import UNKNOWN
from evenhand.tables.predictions import Predictions
from evenhand.training.frozen_prefix import HEAD_INPUT, activations

PATIENTS = 2000
"""The largest number of patients that are probed, with one sample each."""
FEWEST = 10
"""The smallest number of patients of a level that is probed."""
LEVEL = 0.95
"""The confidence level of intervals."""

Layers = Mapping[str, NDArray[np.float32]]
"""The activations ``(n, D)`` of each layer."""


def read_layers(model: Model, cohort: Cohort, accelerator: Accelerator) -> Layers:
    """Return the activations of each layer, averaged over positions, and the head's input."""
    names = (*layer_names(model.backbone), HEAD_INPUT)
    return activations(model, cohort, names, accelerator, "mean")


def probe_record(
    layers: Mapping[str, Layers],
    samples: Predictions,
    attributes: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    *,
    split: str,
    seed: int,
) -> ProbeRecord:
    """Probe the layers of models for attributes, conditional on the label.

    Parameters
    ----------
    layers
        The layers of each model, on the same samples.
    samples
        Predictions of these samples, with labels, patients and attributes.
    attributes
        The attributes that are probed.
    pairs
        Pairs of models: each layer that both have is compared, first minus second.
    split
        The split of the samples.
    seed
        The seed of the folds.
    """
    rows: list[ProbeRow] = []
    notes: list[str] = []
    groups_by_attribute = groups_in(samples, attributes)
    with bar("probing", len(groups_by_attribute) * sum(map(len, layers.values()))) as advance:
        for attribute, groups in groups_by_attribute.items():
            levels, small_levels = probed_levels(groups, samples)
            notes += [f"{attribute}: {text}" for text in small_levels]
            results: dict[tuple[str, str], ProbeResult] = {}
            for model, model_layers in layers.items():
                for layer, features in model_layers.items():
                    row, result = _probe_layer(
                        model, attribute, layer, features, levels, samples, seed
                    )
                    rows.append(row)
                    if result is not None:
                        results[model, layer] = result
                    advance(text=f"{model}, {layer}")
            rows += _differences(results, attribute, layers, pairs)
    return ProbeRecord(split=split, level=LEVEL, rows=tuple(rows), notes=tuple(notes))


def probed_levels(groups: Groups, samples: Predictions) -> tuple[NDArray[np.str_], list[str]]:
    """Return each sample's level, and a note about the levels that have too few patients.

    Samples of these levels have the level ``unknown``, which is not probed.
    """
    names = np.array([*groups.levels, UNKNOWN], dtype=np.str_)[groups.codes]
    patients = samples.table["patient_id"].to_numpy()
    small = []
    for level in groups.levels:
        rows = names == level
        count = len(np.unique(patients[rows]))
        if level != UNKNOWN and count < FEWEST:
            small.append(f"{level} ({count_text(count, 'patient')})")
            names[rows] = UNKNOWN
    if not small:
        return names, []
    return names, [f"{join_words(small)} left out; a probe takes {FEWEST} patients of a level."]


def _probe_layer(
    model: str,
    attribute: str,
    layer: str,
    features: NDArray[np.float32],
    levels: NDArray[np.str_],
    samples: Predictions,
    seed: int,
) -> tuple[ProbeRow, ProbeResult | None]:
    patients = samples.table["patient_id"].to_numpy()
    key = {"model": model, "attribute": attribute, "layer": layer}
    try:
        result = probe(
            features, levels, given=samples.labels, patients=patients, level=LEVEL, seed=seed
        )
    except EvenhandError as error:  # a single level, or no two samples that can be compared
        return ProbeRow(**key, undefined=str(error)), None
    numbers = {name: getattr(result, name) for name in ("value", "low", "high", "n", "patients")}
    return ProbeRow(**key, **numbers), result


def _differences(
    results: Mapping[tuple[str, str], ProbeResult],
    attribute: str,
    layers: Mapping[str, Layers],
    pairs: Sequence[tuple[str, str]],
) -> Iterator[ProbeRow]:
    """Yield the paired difference of each layer that both models of a pair have."""
    for model, against in pairs:
        for layer in layers[model]:
            result, reference = results.get((model, layer)), results.get((against, layer))
            if result is None or reference is None:
                continue
            difference = result.less(reference)
            yield ProbeRow(
                model=model,
                against=against,
                attribute=attribute,
                layer=layer,
                value=difference.value,
                low=difference.low,
                high=difference.high,
                n=result.n,
                patients=result.patients,
            )
