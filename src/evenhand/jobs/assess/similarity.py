"""Stage 4: compare the layers of the chosen cell and of supervised, for each group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from evenhand.cohort.cohort import Cohort
from evenhand.experiments.runs import Run
from evenhand.experiments.task import Task
from evenhand.jobs.assess.claims import correct_for_stages
from evenhand.jobs.assess.evaluation import Evaluation
from evenhand.jobs.assess.grid import cell_name
from evenhand.jobs.assess.settings import SUPERVISED, AssessSettings
from evenhand.jobs.similarity.layers import make_layers, similarity_record
from evenhand.jobs.similarity.settings import SimilaritySettings
from evenhand.metrics.groups import attribute_groups
from evenhand.networks.layers import layer_names
from evenhand.networks.model import Model, load_model
from evenhand.reporting.similarity_record import AttributeSummary, SeedSummary, SimilarityRecord
from evenhand.representation import Layer
from evenhand.representation.by_group import PatientLayers
from evenhand.representation.results import AttributeSimilarity
from evenhand.tables.attributes import group_of
from evenhand.training.device import make_accelerator
from evenhand.training.frozen_prefix import activations


def compare_representations(
    task: Task, settings: AssessSettings, run: Run, evaluation: Evaluation
) -> SimilarityRecord:
    """Compare layers of the chosen cell and supervised on validation patients, for each seed.

    One sample of each patient is read, the same for every seed. Groups are ranked by the mean AUC
    of both models. The record is that of the first seed, with a summary of each seed in ``seeds``.
    """
    options = SimilaritySettings(runs=(run.root, run.root), seed=settings.seed)
    cohort = draw_validation_patients(task, options)
    groups = {
        name: attribute_groups(name, group_of(cohort.table, name, cohort.levels))
        for name in settings.attribute
    }
    performance, unit = _group_auc(settings, evaluation), run.record.unit
    seeds = range(settings.seed, settings.seed + settings.seeds)
    records = []
    for seed in seeds:
        pair = (evaluation.chosen, SUPERVISED)
        first, second = (cell_name(cell, evaluation.share, seed) for cell in pair)
        models = (load_model(run.folder(first)), load_model(run.folder(second)))
        sides = [compute_layers(model, cohort, settings, options) for model in models]
        patients = PatientLayers((sides[0], sides[1]), cohort.labels, groups, performance)
        layers = (layer_names(models[0].backbone), layer_names(models[1].backbone))
        record = similarity_record(
            (first, second), layers, patients, options, split="val", unit=unit
        )
        records.append(record)
    return combine_seeds(records, seeds)


def combine_seeds(records: Sequence[SimilarityRecord], seeds: Iterable[int]) -> SimilarityRecord:
    """Return the first seed's record, with a summary of every seed.

    p-values are corrected again, because this stage has half of the page's 5 %.
    """
    corrected = [_corrected_record(record) for record in records]
    summaries = tuple(
        SeedSummary(
            seed=seed,
            attributes={
                name: AttributeSummary.of(attribute)
                for name, attribute in record.attributes.items()
            },
        )
        for seed, record in zip(seeds, corrected, strict=True)
    )
    return corrected[0].model_copy(update={"seeds": summaries})


def _corrected_record(record: SimilarityRecord) -> SimilarityRecord:
    attributes = {name: _corrected(attribute) for name, attribute in record.attributes.items()}
    return record.model_copy(update={"attributes": attributes})


def _corrected(attribute: AttributeSimilarity) -> AttributeSimilarity:
    groups = tuple(
        group
        if group.p_adjusted is None
        else replace(group, p_adjusted=correct_for_stages(group.p_adjusted))
        for group in attribute.groups
    )
    return replace(attribute, groups=groups)


def draw_validation_patients(task: Task, options: SimilaritySettings) -> Cohort:
    """Draw one sample per validation patient, from at most ``options.patients`` patients."""
    val = task.splits.val
    rng = np.random.default_rng(options.seed)
    order = val.table.iloc[rng.permutation(len(val))].drop_duplicates("patient_id")
    return val.select(np.sort(order.index[: options.patients].to_numpy()))


def compute_layers(
    model: Model, cohort: Cohort, settings: AssessSettings, options: SimilaritySettings
) -> list[Layer]:
    """Return every layer of a model, computed on a cohort."""
    names, accelerator = layer_names(model.backbone), make_accelerator(settings)
    return make_layers(
        [*activations(model, cohort, names, accelerator, options.pool).values()], options
    )


def _group_auc(settings: AssessSettings, evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """Return the AUC of each group of each attribute, as the mean of both models' AUC."""
    performance: dict[str, dict[str, float]] = {name: {} for name in settings.attribute}
    chosen = evaluation.judged[evaluation.chosen].by_group
    for (attribute, level), auc in evaluation.judged[SUPERVISED].by_group.items():
        mean = (auc[0] + chosen[attribute, level][0]) / 2
        performance[attribute][level] = float(mean)
    return performance
