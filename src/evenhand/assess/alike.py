"""Stage 4: whether a self-supervised and a supervised model represent each group alike."""

from __future__ import annotations

from typing import Any

import numpy as np

from evenhand.assess.evaluation import Evaluation
from evenhand.assess.grid import Cell
from evenhand.assess.settings import SUPERVISED, AssessSettings
from evenhand.assess.similarity.measured import Patients, make_layers, measure_similarity
from evenhand.assess.similarity.settings import SimilaritySettings
from evenhand.cohort.attributes import group_of
from evenhand.finetune.training import Task
from evenhand.measure.groups import groups_of
from evenhand.models.checkpoints import load_model
from evenhand.models.layers import layer_names
from evenhand.runs import Run
from evenhand.train.activations import activations
from evenhand.train.device import make_accelerator


def similarity_of(task: Task, settings: AssessSettings, run: Run, found: Evaluation) -> Any:
    """Compare layers of the chosen cell and supervised, first seed, on validation patients.

    One sample of each patient is read. Groups are ranked by the mean of both models' AUC.
    """
    cells = [Cell(name, found.share, settings.seed) for name in (found.chosen, SUPERVISED)]
    how = SimilaritySettings(
        runs=(run.root, run.root), model=tuple(cell.name for cell in cells), seed=settings.seed
    )
    val = task.splits.val
    rng = np.random.default_rng(settings.seed)
    order = val.table.iloc[rng.permutation(len(val))].drop_duplicates("patient_id")
    cohort = val.select(np.sort(order.index[: how.patients].to_numpy()))
    models = [load_model(run.model(cell.name)) for cell in cells]
    names = [layer_names(model.backbone) for model in models]
    accelerator = make_accelerator(settings)
    layers = [
        make_layers(list(activations(model, cohort, of, accelerator, how.pool).values()), how)
        for model, of in zip(models, names, strict=True)
    ]
    groups = {
        name: groups_of(group_of(cohort.table, name, cohort.levels)) for name in settings.attribute
    }
    served: dict[str, dict[str, float]] = {name: {} for name in settings.attribute}
    for (attribute, level), auc in found.judged[SUPERVISED].by_group.items():
        both = (auc[0] + found.judged[found.chosen].by_group[attribute, level][0]) / 2
        served[attribute][level] = float(both)
    patients = Patients((layers[0], layers[1]), cohort.labels, groups, served)
    about = {
        "schema": 1,
        "models": [cell.name for cell in cells],
        "layers": [list(of) for of in names],
        "widths": [[layer.width for layer in side] for side in layers],
        "kernel": how.kernel,
        "split": "val",
        "unit": run.facts["source"]["unit"],
        "level": how.level,
    }
    return about | measure_similarity(patients, how)
