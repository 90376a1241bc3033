"""Stage 4: whether a self-supervised and a supervised model represent each group alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from evenhand.cohort.cohort import Cohort
from evenhand.experiments.runs import Run
from evenhand.experiments.task import Task
from evenhand.jobs.assess.claims import on_page
from evenhand.jobs.assess.evaluation import Evaluation
from evenhand.jobs.assess.grid import with_share
from evenhand.jobs.assess.settings import SUPERVISED, AssessSettings
from evenhand.jobs.similarity.layers import make_layers, similarity_record
from evenhand.jobs.similarity.settings import SimilaritySettings
from evenhand.metrics.groups import attribute_groups
from evenhand.networks.checkpoints import load_model
from evenhand.networks.layers import layer_names
from evenhand.networks.model import Model
from evenhand.reporting.similarity_record import AttributeSummary, SeedSummary, SimilarityRecord
from evenhand.representation import Layer
from evenhand.representation.by_group import Patients
from evenhand.representation.results import AttributeSimilarity
from evenhand.tables.attributes import group_of
from evenhand.training.activations import activations
from evenhand.training.device import make_accelerator


def similarity_of(
    task: Task, settings: AssessSettings, run: Run, evaluation: Evaluation
) -> SimilarityRecord:
    """Compare layers of the chosen cell and supervised on validation patients, seed by seed.

    One sample of each patient is read, the same ones for every seed. Groups are ranked by the mean
    of both models' AUC. What is returned is of the first seed; ``seeds`` has what each of them
    comes to.
    """
    how = SimilaritySettings(runs=(run.root, run.root), seed=settings.seed)
    cohort = one_each(task, how)
    groups = {
        name: attribute_groups(name, group_of(cohort.table, name, cohort.levels))
        for name in settings.attribute
    }
    served, unit = _served(settings, evaluation), run.record.unit
    seeds = range(settings.seed, settings.seed + settings.seeds)
    records = []
    for seed in seeds:
        pair = (evaluation.chosen, SUPERVISED)
        first, second = (f"{with_share(cell, evaluation.share)}-seed{seed}" for cell in pair)
        models = (load_model(run.folder(first)), load_model(run.folder(second)))
        sides = [layers_of(model, cohort, settings, how) for model in models]
        patients = Patients((sides[0], sides[1]), cohort.labels, groups, served)
        layers = (layer_names(models[0].backbone), layer_names(models[1].backbone))
        record = similarity_record((first, second), layers, patients, how, split="val", unit=unit)
        records.append(record)
    return of_all_seeds(records, seeds)


def of_all_seeds(records: Sequence[SimilarityRecord], seeds: Iterable[int]) -> SimilarityRecord:
    """Return the first record, with the summary of every seed.

    p-values are corrected once more: this stage has its share of the 5 % of the page.
    """
    corrected = [_on_page(record) for record in records]
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


def _on_page(record: SimilarityRecord) -> SimilarityRecord:
    attributes = {name: _corrected(attribute) for name, attribute in record.attributes.items()}
    return record.model_copy(update={"attributes": attributes})


def _corrected(attribute: AttributeSimilarity) -> AttributeSimilarity:
    groups = tuple(
        group if group.p_adjusted is None else replace(group, p_adjusted=on_page(group.p_adjusted))
        for group in attribute.groups
    )
    return replace(attribute, groups=groups)


def one_each(task: Task, how: SimilaritySettings) -> Cohort:
    """Draw one sample of each validation patient, of so many as are wanted."""
    val = task.splits.val
    rng = np.random.default_rng(how.seed)
    order = val.table.iloc[rng.permutation(len(val))].drop_duplicates("patient_id")
    return val.select(np.sort(order.index[: how.patients].to_numpy()))


def layers_of(
    model: Model, cohort: Cohort, settings: AssessSettings, how: SimilaritySettings
) -> list[Layer]:
    """Return every layer of a model, as the patients of a cohort make it."""
    names, accelerator = layer_names(model.backbone), make_accelerator(settings)
    return make_layers([*activations(model, cohort, names, accelerator, how.pool).values()], how)


def _served(settings: AssessSettings, evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """Return the AUC of each group, the mean of both models'."""
    served: dict[str, dict[str, float]] = {name: {} for name in settings.attribute}
    for (attribute, level), auc in evaluation.judged[SUPERVISED].by_group.items():
        both = (auc[0] + evaluation.judged[evaluation.chosen].by_group[attribute, level][0]) / 2
        served[attribute][level] = float(both)
    return served
