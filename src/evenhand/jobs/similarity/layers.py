"""Measure the similarity of two models' layers, and make its record."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evenhand.jobs.similarity.settings import SimilaritySettings
from evenhand.reporting.similarity_record import SimilarityRecord
from evenhand.representation import Layer, rbf_layer
from evenhand.representation.by_group import Comparison, PatientLayers, measure_similarity


def make_layers(
    features: Sequence[NDArray[np.float32]], settings: SimilaritySettings
) -> list[Layer]:
    """Return layers with the kernel of the settings, from activations ``(n, D)``."""
    if settings.kernel == "linear":
        return [Layer(rows) for rows in features]
    rng = np.random.default_rng(settings.seed)
    return [rbf_layer(rows, settings.bandwidth, rng) for rows in features]


def similarity_record(
    models: tuple[str, str],
    layers: tuple[tuple[str, ...], tuple[str, ...]],
    patients: PatientLayers,
    settings: SimilaritySettings,
    *,
    split: str,
    unit: str,
) -> SimilarityRecord:
    """Measure similarity by group, and return the content of ``similarity.json``.

    Parameters
    ----------
    models
        The names of the two models.
    layers
        The names of the layers of each model.
    patients
        The layers, labels and groups of the compared samples.
    settings
        The measure of similarity.
    split
        The split of the samples.
    unit
        The unit that stands for the patient: patient, lesion or stay.
    """
    first, second = (tuple(layer.width for layer in side) for side in patients.layers)
    return SimilarityRecord(
        models=models,
        layers=layers,
        widths=(first, second),
        kernel=settings.kernel,
        split=split,
        unit=unit,
        level=settings.level,
        **vars(measure_similarity(patients, comparison_of(settings))),
    )


def comparison_of(settings: SimilaritySettings) -> Comparison:
    """Return the part of the settings that ``measure_similarity`` takes."""
    return Comparison(
        settings.batch, settings.minimum, settings.level, settings.permutations, settings.seed
    )
