"""`evenhand similarity`: compare the layers of two runs' models, for each group."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evenhand.errors import EvenhandError, count_text, first_few
from evenhand.evaluation.rows import choose_cut, groups_in, scored_rows, shared_rows
from evenhand.experiments.runs import Run, begin_run, finished_run
from evenhand.files import write_json
from evenhand.jobs.keywords import as_job
from evenhand.jobs.report import write_page
from evenhand.jobs.rereading import draw_one_per_patient, reread_samples
from evenhand.jobs.similarity.layers import make_layers, similarity_record
from evenhand.jobs.similarity.settings import SimilaritySettings
from evenhand.metrics import Plan, measure
from evenhand.networks.layers import find_layers, layer_names
from evenhand.networks.model import Model, load_model
from evenhand.reporting.similarity_record import FILE, SimilarityRecord, mean
from evenhand.representation.by_group import PatientLayers
from evenhand.tables.predictions import Predictions, read_predictions
from evenhand.training.device import make_accelerator
from evenhand.training.frozen_prefix import activations
from evenhand.training.settings import LoopSettings


@as_job(SimilaritySettings, "runs")
def similarity(settings: SimilaritySettings, out: Path, *, overwrite: bool = False) -> Run:
    """Compare the layers of two models for each group, and report on it.

    One sample of each patient of the split is drawn, and both models read the same samples.

    Parameters
    ----------
    settings
        The runs, the attributes and the measure of similarity.
    out
        The run directory.
    overwrite
        Whether a finished or different run in ``out`` may be replaced.

    Raises
    ------
    EvenhandError
        If a run is not finished or lacks the model, the runs have other patients, the data are not
        those of the runs, or a layer or an attribute is unknown.
    """
    chosen = _chosen_models(settings)
    predictions = _read_predictions(chosen, settings)
    attributes = settings.attribute or chosen[0][0].record.attributes
    groups_in(predictions[0], attributes)  # refuses unknown attributes
    models = [load_model(run.folder(name)) for run, name in chosen]
    layer_pairs = _compared_layers(models, settings)
    # several samples of a patient are similar in any model, and would raise the similarity
    samples = draw_one_per_patient(predictions[0], settings.patients, settings.seed)
    if len(samples) < settings.minimum:
        raise EvenhandError(
            f"the split {settings.split!r} has {count_text(len(samples), 'patient')}, fewer than "
            f"--minimum {settings.minimum}. Choose a larger split, or a lower --minimum."
        )
    source, data, cache = chosen[0][0], settings.data, settings.cache
    cohorts = [reread_samples(source, model, samples, data=data, cache=cache) for model in models]
    run = begin_run(
        out,
        "similarity",
        settings.model_copy(update={"attribute": attributes}),
        fingerprint="-".join(run.head.fingerprint for run, _ in chosen),
        reads=(*settings.runs, Path(cohorts[0].source.path)),
        overwrite=overwrite,
    )
    run.note(notes=cohorts[0].source.notes)
    with run.phase("reading layers"):
        accelerator = make_accelerator(LoopSettings(device=settings.device))
        features = [
            activations(model, cohort, names, accelerator, settings.pool)
            for model, cohort, names in zip(models, cohorts, layer_pairs, strict=True)
        ]
    with run.phase("measurement"):
        sides = [make_layers(list(layers.values()), settings) for layers in features]
        groups, performance = groups_in(samples, attributes), _group_auc(predictions, attributes)
        patients = PatientLayers((sides[0], sides[1]), samples.labels, groups, performance)
        first, second = (f"{run.root.resolve().name}/{name}" for run, name in chosen)
        unit = chosen[0][0].record.unit
        record = similarity_record(
            (first, second), layer_pairs, patients, settings, split=settings.split, unit=unit
        )
    write_json(run.root / FILE, record.as_json())
    write_page(run)
    run.finish()  # last: a finished run is complete
    return run


def similarity_text(similarity: SimilarityRecord) -> str:
    """Return a text table of each group's mean similarity over layers, and of the contrasts."""
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


def _chosen_models(settings: SimilaritySettings) -> list[tuple[Run, str]]:
    """Return the two runs, each with the name of its model."""
    if len(settings.model) not in (0, 2):
        raise EvenhandError(
            f"--model is given {len(settings.model)} time(s). Give it twice, once for each run, or "
            "leave it out."
        )
    pairs = []
    for index, path in enumerate(settings.runs):
        run = finished_run(path)
        name = settings.model[index] if settings.model else None
        pairs.append((run, run.model_with_weights(name)))
    if pairs[0] == pairs[1]:
        raise EvenhandError(
            f"{settings.runs[0]} and its model {pairs[0][1]} are named twice, but two different "
            "models are needed. Name another run, or two models of this one with --model."
        )
    return pairs


def _read_predictions(
    chosen: list[tuple[Run, str]], settings: SimilaritySettings
) -> tuple[Predictions, Predictions]:
    """Return both models' predictions of the split, and refuse different samples."""
    first, second = (
        read_predictions(run.predictions_file(name)).of_split(settings.split)
        for run, name in chosen
    )
    if not len(first) and not len(second):
        raise EvenhandError(
            f"the runs have no rows of the split {settings.split!r}. Name another --split."
        )
    unshared = sorted(set(first.table["sample_id"]) ^ set(second.table["sample_id"]))
    if unshared:
        raise EvenhandError(
            f"{settings.runs[0]} and {settings.runs[1]} are not of the same cohort: "
            f"{count_text(len(unshared), 'sample')} of the split {settings.split!r} are in one of "
            f"them only ({first_few(unshared)}). Train both on the same data, with the same "
            "--split and --seed."
        )
    return shared_rows(first, second)


def _compared_layers(
    models: list[Model], settings: SimilaritySettings
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the layers of each model that are compared.

    A layer that the user names may be in one model only; `find_layers` refuses a layer that is in
    neither, and a model that has none of the named layers.
    """
    first, second = (layer_names(model.backbone) for model in models)
    existing = (first, second)
    if not settings.layer:
        return existing
    for name in settings.layer:
        if not any(name in names for names in existing):
            find_layers(models[0], [name])
    compared = [[name for name in settings.layer if name in names] for names in existing]
    for model, names in zip(models, compared, strict=True):
        if not names:
            find_layers(model, settings.layer)
    first, second = (
        find_layers(model, names) for model, names in zip(models, compared, strict=True)
    )
    return first, second


def _group_auc(
    predictions: tuple[Predictions, Predictions], attributes: tuple[str, ...]
) -> dict[str, dict[str, float]]:
    """Return the AUC of each group of each attribute, as the mean of both models' AUC."""
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
