"""The attribute probe of a run's models: what ``probe.json`` holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from evenhand.cohort.cohort import Cohort
from evenhand.errors import EvenhandError
from evenhand.evaluation.rows import groups_in
from evenhand.metrics.groups import UNKNOWN, Groups
from evenhand.networks.layers import layer_names
from evenhand.networks.model import Model
from evenhand.own.probing import probe
from evenhand.progress import bar
from evenhand.reporting.probe_record import ProbeRecord, ProbeRow
from evenhand.reporting.text.numbers import listed
from evenhand.representation.probe import ProbeResult
from evenhand.tables.predictions import Predictions
from evenhand.training.activations import HEAD_INPUT, activations
from evenhand.wording import counted

PATIENTS = 2000
"""Patients, at most, that are probed; of each one sample."""
FEWEST = 10
"""Patients of a level without which the probe leaves it out."""
LEVEL = 0.95

Layers = Mapping[str, NDArray[np.float32]]
"""The activations ``(n, D)`` of each layer."""


def read_layers(model: Model, cohort: Cohort, accelerator: Accelerator) -> Layers:
    """Return what each layer, and the head, is given of every sample, averaged over places."""
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
    """Probe every layer of some models for some attributes, given the label.

    Parameters
    ----------
    layers
        The layers of each model, on the same samples.
    samples
        These samples: their labels, patients and attributes.
    pairs
        Models whose layers are compared, the first less the second, where both have the layer.
    split, seed
        Whose samples they are, and the seed of the folds.
    """
    rows: list[ProbeRow] = []
    notes: list[str] = []
    every = groups_in(samples, attributes)
    with bar("probing", len(every) * sum(map(len, layers.values()))) as advance:
        for attribute, groups in every.items():
            levels, left_out = probed_levels(groups, samples)
            notes += [f"{attribute}: {text}" for text in left_out]
            results: dict[tuple[str, str], ProbeResult] = {}
            for model, of_model in layers.items():
                for layer, features in of_model.items():
                    row, result = _probed(model, attribute, layer, features, levels, samples, seed)
                    rows.append(row)
                    if result is not None:
                        results[model, layer] = result
                    advance(text=f"{model}, {layer}")
            rows += _differences(results, attribute, layers, pairs)
    return ProbeRecord(split=split, level=LEVEL, rows=tuple(rows), notes=tuple(notes))


def probed_levels(groups: Groups, samples: Predictions) -> tuple[NDArray[np.str_], list[str]]:
    """Return each sample's level, ``unknown`` where it has too few patients, and who these are."""
    names = np.array([*groups.levels, UNKNOWN], dtype=np.str_)[groups.codes]
    patients = samples.table["patient_id"].to_numpy()
    few = []
    for level in groups.levels:
        own = names == level
        count = len(np.unique(patients[own]))
        if level != UNKNOWN and count < FEWEST:
            few.append(f"{level} ({counted(count, 'patient')})")
            names[own] = UNKNOWN
    if not few:
        return names, []
    return names, [f"{listed(few)} left out; a probe takes {FEWEST} patients of a level."]


def _probed(
    model: str,
    attribute: str,
    layer: str,
    features: NDArray[np.float32],
    levels: NDArray[np.str_],
    samples: Predictions,
    seed: int,
) -> tuple[ProbeRow, ProbeResult | None]:
    patients = samples.table["patient_id"].to_numpy()
    about = {"model": model, "attribute": attribute, "layer": layer}
    try:
        result = probe(
            features, levels, given=samples.labels, patients=patients, level=LEVEL, seed=seed
        )
    except EvenhandError as error:  # one level alone, or no two samples that could be compared
        return ProbeRow(**about, undefined=str(error)), None
    numbers = {name: getattr(result, name) for name in ("value", "low", "high", "n", "patients")}
    return ProbeRow(**about, **numbers), result


def _differences(
    results: Mapping[tuple[str, str], ProbeResult],
    attribute: str,
    layers: Mapping[str, Layers],
    pairs: Sequence[tuple[str, str]],
) -> Iterator[ProbeRow]:
    """Yield the paired difference of each layer that both models of a pair have."""
    for model, against in pairs:
        for layer in layers[model]:
            after, before = results.get((model, layer)), results.get((against, layer))
            if after is None or before is None:
                continue
            apart = after.less(before)
            yield ProbeRow(
                model=model,
                against=against,
                attribute=attribute,
                layer=layer,
                value=apart.value,
                low=apart.low,
                high=apart.high,
                n=after.n,
                patients=after.patients,
            )
