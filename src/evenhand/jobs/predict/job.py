"""`evenhand predict`: a run's model on new or external patients, then audited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.prepare import stored_cohort
from evenhand.cohort.readers import reader_of
from evenhand.cohort.registry import SERIES
from evenhand.cohort.splits import read_split_table
from evenhand.errors import EvenhandError, pick
from evenhand.evaluation.intersections import resolve_intersections
from evenhand.evaluation.rows import choose_cut
from evenhand.evaluation.settings import PredictSettings
from evenhand.experiments.records import SourceRecord, data_settings
from evenhand.experiments.runs import Run, begin_run, finished_run
from evenhand.jobs.adjust.adjustment import Adjustment, apply, read_adjustment
from evenhand.jobs.adjust.features import last_inputs
from evenhand.jobs.audit.job import write_audit
from evenhand.jobs.keywords import with_keywords
from evenhand.jobs.predict.new_data import open_new_data
from evenhand.jobs.predict.unlabelled import write_scores
from evenhand.networks.checkpoints import load_model
from evenhand.networks.model import Model
from evenhand.runs import run_scope
from evenhand.tables.attributes import attribute_parts, with_intersections
from evenhand.tables.columns import PAIR
from evenhand.tables.predictions import Predictions, read_predictions
from evenhand.tables.settings import ValueSettings
from evenhand.training.device import make_accelerator
from evenhand.training.inputs import check_fits
from evenhand.training.predict import predict_cohorts, scored_table
from evenhand.training.settings import LoopSettings

INHERITED = (
    *("attribute", "label", "patient", "image_column", *SERIES, "bins", "window", "value_range"),
    *ValueSettings.model_fields,
)
"""Settings that are as in the model's run unless they are given; the model knows its classes."""


@with_keywords(PredictSettings, "run", "data")
@run_scope()
def predict(settings: PredictSettings, out: Path, *, overwrite: bool = False) -> Run:
    """Apply a run's model to every sample of a cohort, and audit its scores of those with labels.

    A table whose label column is absent or blank is scored without an audit. Samples of
    one class are enough: a metric that needs both is undefined, with the reason.

    Decisions are cut at the threshold that the model's own validation rows gave. Attributes
    that the settings leave open are as in the model's run; so are label, columns and bins where
    the data have the same reader.

    Parameters
    ----------
    settings
        The run, the model and the data.
    out
        The run directory of the predictions.
    overwrite
        Whether another or a finished run in ``out`` may be replaced.

    Raises
    ------
    EvenhandError
        The run is not finished or lacks the model, the data cannot be read, or a class of theirs is
        not among the model's.
    """
    trained = finished_run(settings.run)
    name = trained.model_with_weights(settings.model)
    named = settings.label is not None or any(text.startswith("label=") for text in settings.map)
    settings = _inherit(settings, trained)
    model = load_model(trained.folder(name))
    settings = _with_classes_of(model.spec.classes, settings)
    data = open_new_data(settings, model.spec.classes, label_named=named)
    _check_attributes(data.cohort, settings.attribute)
    rng = np.random.default_rng(settings.seed)
    cohort = stored_cohort(data.cohort, settings, model.spec.images, rng)
    check_fits(cohort, model)
    adjustment = read_adjustment(trained.folder(name))
    cut = choose_cut(read_predictions(trained.predictions_file(name)))
    if adjustment is not None:
        cut = trained.record.cuts.get(name, cut)
        needed = adjustment.by if adjustment.attribute == "yes" else ()
        _check_attributes(data.cohort, needed)
    settings = _crossed(settings, cohort, labelled=data.unlabelled is None)
    overlap = _overlap(cohort, trained)
    run = begin_run(
        out,
        "predict",
        settings,
        fingerprint=cohort.source.fingerprint,
        reads=(trained.root, Path(cohort.source.path), *settings.exclude_patients),
        overwrite=overwrite,
    )
    source = cohort.source
    run.note(
        models=[name],
        source=SourceRecord.of(source),
        cuts={name: replace(cut, origin="run", how=f"{cut.how} of {settings.run}")},
        notes=[*([data.unlabelled] if data.unlabelled else []), *source.notes, *overlap],
        labelled=data.unlabelled is None,
    )
    loop = LoopSettings(device=settings.device, precision=settings.precision)
    predictions = _scores(model, cohort, adjustment, make_accelerator(loop))
    if data.pairs is not None:
        shared = predictions.table["sample_id"].map(data.pairs).fillna("")
        predictions = replace(predictions, table=predictions.table.assign(**{PAIR: shared}))
    if data.unlabelled:
        return write_scores(run, name, predictions, cut)
    return write_audit(run, {name: predictions}, chosen=name)


def _crossed(settings: PredictSettings, cohort: Cohort, *, labelled: bool) -> PredictSettings:
    """Return settings with the intersections that are looked at; too small ones are excluded."""
    if not labelled:  # samples and flags are counted, and nothing is compared
        every = with_intersections(settings.attribute, settings.intersections)
        return settings.model_copy(update={"attribute": every})
    even = np.full((len(cohort), len(cohort.classes)), 1 / len(cohort.classes))
    rows = Predictions(scored_table("test", cohort, even), cohort.classes, cohort.levels)
    return resolve_intersections(settings, settings.attribute, {"": rows}, "test")


def _scores(
    model: Model, cohort: Cohort, adjustment: Adjustment | None, accelerator: Accelerator
) -> Predictions:
    """Return the model's predictions, adjusted as those of its own run are."""
    predictions = predict_cohorts(model, [("test", cohort)], accelerator)
    if adjustment is None:
        return predictions
    inferred = adjustment.attribute == "inferred"
    features = last_inputs(model, cohort, accelerator) if inferred else None
    return apply(adjustment, predictions, features)


def _with_classes_of(classes: tuple[str, ...], settings: PredictSettings) -> PredictSettings:
    """Return settings without a positive class, which is the model's; refuse another one."""
    if settings.positive not in (None, classes[-1]):
        raise EvenhandError(
            f"--positive {settings.positive}: the scores of {settings.run} are the probability of "
            f"{classes[-1]}, and stay that. Leave --positive out."
        )
    return settings.model_copy(update={"positive": None})


def _inherit(settings: PredictSettings, trained: Run) -> PredictSettings:
    earlier = data_settings(trained.record)
    same_reader = reader_of(settings.data)[0] is reader_of(earlier.data)[0]
    names = INHERITED if same_reader else ("attribute",)
    update = {name: getattr(earlier, name) for name in names if not getattr(settings, name)}
    return PredictSettings.model_validate({**settings.model_dump(), **update})


def _check_attributes(cohort: Cohort, attributes: Sequence[str]) -> None:
    """Check that there are samples, and the attributes; a single class or level will do."""
    if not len(cohort):
        raise EvenhandError(f"{cohort.source.path}: no sample is left.")
    for name in sorted({part for attribute in attributes for part in attribute_parts(attribute)}):
        pick("attribute", name, cohort.attributes)


def _overlap(cohort: Cohort, trained: Run) -> list[str]:
    """Say how many of the patients the model has been trained or tuned on."""
    splits = read_split_table(trained.root / "splits.csv")
    seen = set(splits.loc[splits["split"] != "test", "patient_id"])
    patients = set(cohort.table["patient_id"])
    met = len(patients & seen)
    if not met:
        return []
    return [
        f"{met} of {len(patients)} patients bear an id that the model's training or validation "
        "data have, too; if they are the same people, these numbers are too good. "
        "--exclude-patients leaves them out."
    ]
