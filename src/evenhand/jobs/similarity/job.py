"""`evenhand similarity`: how alike two runs' models represent each group, layer by layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evenhand.errors import EvenhandError, some
from evenhand.evaluation.rows import choose_cut, groups_in, scored_rows, shared_rows
from evenhand.experiments.runs import Run, begin_run, finished_run
from evenhand.files import write_json
from evenhand.jobs.assess.pages import write_page
from evenhand.jobs.keywords import with_keywords
from evenhand.jobs.rereading import one_each, samples_again
from evenhand.jobs.similarity.layers import make_layers, similarity_record
from evenhand.jobs.similarity.settings import SimilaritySettings
from evenhand.metrics import Plan, measure
from evenhand.networks.checkpoints import load_model
from evenhand.networks.layers import find_layers, layer_names
from evenhand.networks.model import Model
from evenhand.reporting.similarity_record import FILE, SimilarityRecord, mean
from evenhand.representation.by_group import Patients
from evenhand.runs import run_scope
from evenhand.tables.predictions import Predictions, read_predictions
from evenhand.training.activations import activations
from evenhand.training.device import make_accelerator
from evenhand.training.settings import LoopSettings
from evenhand.wording import counted


@with_keywords(SimilaritySettings, "runs")
@run_scope()
def similarity(settings: SimilaritySettings, out: Path, *, overwrite: bool = False) -> Run:
    """Compare the layers of two models, group by group, and report on it.

    One sample of each patient of the split is drawn. Both models read it; nothing is trained.

    Raises
    ------
    EvenhandError
        A run is not finished, lacks the model, or was made of other patients; the data are not
        those of the runs; a layer or an attribute is not known.
    """
    chosen = _chosen(settings)
    predictions = _same_rows(chosen, settings)
    attributes = settings.attribute or chosen[0][0].record.attributes
    groups_in(predictions[0], attributes)  # refuses attributes that are not known
    models = [load_model(run.folder(name)) for run, name in chosen]
    wanted = _layers(models, settings)
    # Samples of one patient are alike in both models, and would be taken for similarity.
    picked = one_each(predictions[0], settings.patients, settings.seed)
    if len(picked) < settings.minimum:
        raise EvenhandError(
            f"the split {settings.split!r} has {counted(len(picked), 'patient')}, and --minimum is "
            f"{settings.minimum}: too few for a claim. Give more patients, or a lower --minimum."
        )
    source, data, cache = chosen[0][0], settings.data, settings.cache
    cohorts = [samples_again(source, model, picked, data=data, cache=cache) for model in models]
    run = begin_run(
        out,
        "similarity",
        settings.model_copy(update={"attribute": attributes}),
        fingerprint="-".join(run.head.fingerprint for run, _ in chosen),
        reads=(*settings.runs, Path(cohorts[0].source.path)),
        overwrite=overwrite,
    )
    with run.phase("reading layers"):
        accelerator = make_accelerator(LoopSettings(device=settings.device))
        features = [
            activations(model, cohort, names, accelerator, settings.pool)
            for model, cohort, names in zip(models, cohorts, wanted, strict=True)
        ]
    with run.phase("measurement"):
        sides = [make_layers(list(layers.values()), settings) for layers in features]
        groups, performance = groups_in(picked, attributes), _performance(predictions, attributes)
        patients = Patients((sides[0], sides[1]), picked.labels, groups, performance)
        first, second = (f"{run.root.resolve().name}/{name}" for run, name in chosen)
        unit = chosen[0][0].record.unit
        record = similarity_record(
            (first, second), wanted, patients, settings, split=settings.split, unit=unit
        )
    write_json(run.root / FILE, record.as_json())
    write_page(run)
    run.finish()  # last: a finished run lacks nothing
    return run


def text_table(similarity: SimilarityRecord) -> str:
    """Return each group's mean similarity over layers, and the differences, as text."""
    lines = [f"{'attribute':<14}{'group':<20}{'patients':>9}{'mean CKA':>10}  p (corrected)"]
    for name, attribute in similarity.attributes.items():
        for group in attribute.groups:
            if group.value is None:
                numbers = f"  {group.undefined}"
            else:
                p = float("nan") if group.p_adjusted is None else group.p_adjusted
                numbers = f"{mean(group.value):>10.3f}  {p:.3f}"
            lines.append(f"{name:<14}{group.group:<20}{group.patients:>9}{numbers}")
        if contrast := attribute.contrast:
            size = contrast.size
            lines.append(
                f"{name:<14}{contrast.best} less {contrast.worst}: mean size "
                f"{size.value:.3f} ({size.low:.3f} to {size.high:.3f})"
            )
    return "\n".join(lines)


def _chosen(settings: SimilaritySettings) -> list[tuple[Run, str]]:
    """Return the two runs with their models."""
    if len(settings.model) not in (0, 2):
        raise EvenhandError(
            f"--model is given {len(settings.model)} time(s): give one for each of the two runs, "
            "or none."
        )
    pairs = []
    for place, path in enumerate(settings.runs):
        run = finished_run(path)
        name = settings.model[place] if settings.model else None
        pairs.append((run, run.model_with_weights(name)))
    if pairs[0] == pairs[1]:
        raise EvenhandError(
            f"{settings.runs[0]} and {pairs[0][1]} are named twice; a model is like itself. Name "
            "another run, or two models of this one with --model."
        )
    return pairs


def _same_rows(
    chosen: list[tuple[Run, str]], settings: SimilaritySettings
) -> tuple[Predictions, Predictions]:
    """Return both models' predictions of the split, whose rows must be the same."""
    first, second = (
        read_predictions(run.predictions_file(name)).of_split(settings.split)
        for run, name in chosen
    )
    apart = sorted(set(first.table["sample_id"]) ^ set(second.table["sample_id"]))
    if apart or not len(first):
        raise EvenhandError(
            f"{settings.runs[0]} and {settings.runs[1]} are not of the same cohort: "
            f"{counted(len(apart), 'sample')} of the split {settings.split!r} are in one of them "
            f"only ({some(apart)}). Train both on the same data, with the same --split and --seed."
            if apart
            else f"the runs have no rows of the split {settings.split!r}."
        )
    return shared_rows(first, second)


def _layers(
    models: list[Model], settings: SimilaritySettings
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the layers of each model; a layer that the user names may be in one model only."""
    first, second = (layer_names(model.backbone) for model in models)
    names_of = (first, second)
    if not settings.layer:
        return names_of
    for name in settings.layer:
        if not any(name in names for names in names_of):
            find_layers(models[0], [name])
    wanted = [[name for name in settings.layer if name in names] for names in names_of]
    for model, names in zip(models, wanted, strict=True):
        if not names:
            find_layers(model, settings.layer)
    first, second = (find_layers(model, names) for model, names in zip(models, wanted, strict=True))
    return first, second


def _performance(
    predictions: tuple[Predictions, Predictions], attributes: tuple[str, ...]
) -> dict[str, dict[str, float]]:
    """Return the AUC of each group, the mean of both models', on all rows of the split."""
    plan = Plan(metrics=("auc",), across=(), bootstrap=None)
    tables = [
        measure(
            scored_rows(prediction, choose_cut(prediction)),
            groups_in(prediction, attributes),
            plan,
            rng=np.random.default_rng(0),
        )
        for prediction in predictions
    ]
    rows = tables[0].assign(value=(tables[0]["value"] + tables[1]["value"]) / 2)
    return {
        name: {
            str(row["group"]): float(row["value"])
            for row in rows[rows["attribute"] == name].to_dict("records")
        }
        for name in dict.fromkeys(rows["attribute"])
        if name != "*"
    }
