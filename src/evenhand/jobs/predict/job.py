"""`evenhand predict`: score new or external patients with a run's model, and audit the scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from accelerate import Accelerator

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.prepare import store_cohort, with_change_note
from evenhand.cohort.readers import reader_of
from evenhand.cohort.registry import SERIES
from evenhand.cohort.splits import read_split_table
from evenhand.errors import EvenhandError, pick
from evenhand.evaluation.requests import resolve_intersections
from evenhand.evaluation.rows import DecisionThreshold, choose_cut, groups_in
from evenhand.evaluation.settings import PredictSettings
from evenhand.experiments.records import SourceRecord, data_fingerprint, data_settings
from evenhand.experiments.runs import Run, begin_run, finished_run
from evenhand.files import DamagedError, write_text
from evenhand.jobs.adjust.adjustment import Adjustment, apply_adjustment, read_adjustment
from evenhand.jobs.adjust.features import features_of
from evenhand.jobs.audit.job import write_audit
from evenhand.jobs.keywords import as_job
from evenhand.jobs.predict.new_data import open_new_data
from evenhand.networks.model import Model, load_model
from evenhand.reporting.page import section_page
from evenhand.reporting.section import Part, Table, part_section
from evenhand.reporting.text.vocabulary import PERCENT, display_name
from evenhand.spreadsheets import unquote_formulas, write_csv
from evenhand.tables.attributes import attribute_parts, with_intersections
from evenhand.tables.columns import PAIR
from evenhand.tables.predictions import Predictions, read_predictions, write_predictions
from evenhand.tables.settings import ValueSettings
from evenhand.training.device import make_accelerator
from evenhand.training.inputs import check_fits
from evenhand.training.predict import predict_cohorts, scored_table
from evenhand.training.settings import LoopSettings

INHERITED = (
    *("attribute", "label", "patient", "image_column", *SERIES, "bins", "window", "value_range"),
    *ValueSettings.model_fields,
)
"""The settings whose default is their value in the model's run."""


@as_job(PredictSettings, "run", "data")
def predict(settings: PredictSettings, out: Path, *, overwrite: bool = False) -> Run:
    """Score every sample of a cohort with a run's model, and audit the scores.

    A table whose label column is absent or blank is scored without an audit. Samples of one class
    are enough: metrics that need both classes are undefined, with the reason.

    The decision threshold is that of the model's validation rows. Attributes default to those of
    the model's run. If the data have the same reader as that run, label, columns and bins default
    to the run's, too.

    Parameters
    ----------
    settings
        The run, the model and the new data.
    out
        The run directory of the predictions.
    overwrite
        Whether a finished or different run in ``out`` may be replaced.

    Raises
    ------
    EvenhandError
        If the run is not finished or lacks the model, the data cannot be read, or they have a class
        that the model does not know.
    """
    trained = finished_run(settings.run)
    name = trained.model_with_weights(settings.model)
    mapped = any(text.startswith("label=") for text in settings.map)
    label_named = mapped or settings.label is not None
    settings = _inherit(settings, trained)
    model = load_model(trained.folder(name))
    settings = _without_positive(model.spec.classes, settings)
    data = open_new_data(settings, model.spec.classes, label_named=label_named)
    _check_attributes(data.cohort, settings.attribute)
    rng = np.random.default_rng(settings.seed)
    cohort = store_cohort(data.cohort, settings, model.spec.images, rng)
    check_fits(cohort, model)
    adjustment = read_adjustment(trained.folder(name))
    cut = choose_cut(read_predictions(trained.predictions_file(name)))
    if adjustment is not None:
        cut = trained.record.cuts.get(name, cut)
        if adjustment.attribute == "yes":
            _check_attributes(data.cohort, adjustment.by)
    settings = _with_intersections(settings, cohort, labelled=data.unlabelled is None)
    overlap = _overlap_notes(cohort, trained)
    run = begin_run(
        out,
        "predict",
        settings,
        fingerprint=cohort.source.fingerprint,
        reads=(trained.root, Path(cohort.source.path), *settings.exclude_patients),
        overwrite=overwrite,
    )
    source = _with_own_change(cohort, trained).source
    run.note(
        models=[name],
        source=SourceRecord.of(source),
        cuts={name: replace(cut, origin="run", how=f"{cut.how} of {settings.run}")},
        notes=[*([data.unlabelled] if data.unlabelled else []), *source.notes, *overlap],
        labelled=data.unlabelled is None,
    )
    loop = LoopSettings(device=settings.device, precision=settings.precision)
    predictions = _score(model, cohort, adjustment, make_accelerator(loop))
    predictions = _with_pairs(predictions, data.pairs)
    if data.unlabelled:
        return write_scores(run, name, predictions, cut)
    return write_audit(run, {name: predictions}, chosen=name)


def _with_intersections(
    settings: PredictSettings, cohort: Cohort, *, labelled: bool
) -> PredictSettings:
    """Return settings whose attributes include the intersections; small groups are excluded."""
    if not labelled:  # samples are only counted, so that no group is too small
        attributes = with_intersections(settings.attribute, settings.intersections)
        return settings.model_copy(update={"attribute": attributes})
    equal_scores = np.full((len(cohort), len(cohort.classes)), 1 / len(cohort.classes))
    rows = Predictions(scored_table("test", cohort, equal_scores), cohort.classes, cohort.levels)
    return resolve_intersections(settings, settings.attribute, {"": rows}, "test")


def _score(
    model: Model, cohort: Cohort, adjustment: Adjustment | None, accelerator: Accelerator
) -> Predictions:
    """Return the model's predictions after its adjustment, if it has one."""
    predictions = predict_cohorts(model, [("test", cohort)], accelerator)
    if adjustment is None:
        return predictions
    inferred = adjustment.attribute == "inferred"
    features = features_of(model, cohort, accelerator) if inferred else None
    return apply_adjustment(adjustment, predictions, features)


def _with_pairs(predictions: Predictions, pairs: Mapping[str, str] | None) -> Predictions:
    """Return predictions with the column of pair ids, if the data have pair ids."""
    if pairs is None:
        return predictions
    column = predictions.table["sample_id"].map(pairs).fillna("")
    return replace(predictions, table=predictions.table.assign(**{PAIR: column}))


def _without_positive(classes: tuple[str, ...], settings: PredictSettings) -> PredictSettings:
    """Return settings without a positive class; refuse one that is not the model's."""
    if settings.positive not in (None, classes[-1]):
        raise EvenhandError(
            f"--positive {settings.positive}: the scores of {settings.run} are probabilities of "
            f"{classes[-1]}, which cannot be changed. Leave --positive out."
        )
    return settings.model_copy(update={"positive": None})


def _inherit(settings: PredictSettings, trained: Run) -> PredictSettings:
    earlier = data_settings(trained.record)
    same_reader = reader_of(settings.data)[0] is reader_of(earlier.data)[0]
    names = INHERITED if same_reader else ("attribute",)
    update = {name: getattr(earlier, name) for name in names if not getattr(settings, name)}
    return PredictSettings.model_validate({**settings.model_dump(), **update})


def _check_attributes(cohort: Cohort, attributes: Sequence[str]) -> None:
    """Check that there are samples, and that they have the attributes."""
    if not len(cohort):
        raise EvenhandError(
            f"{cohort.source.path}: no sample is left. Exclude fewer patients, or give other data."
        )
    for name in sorted({part for attribute in attributes for part in attribute_parts(attribute)}):
        pick("attribute", name, cohort.attributes)


def _with_own_change(cohort: Cohort, trained: Run) -> Cohort:
    """Return a cohort with a note if it is the data of the model's run, and has changed since.

    The run's path may be relative, so that other data have the same path in another working
    directory; the run's own data share patients with it, too.
    """
    earlier = trained.record.source
    is_own = (
        earlier is not None
        and bool(earlier.path)
        and Path(earlier.path).resolve() == Path(cohort.source.path).resolve()
        and not _patients(trained).isdisjoint(cohort.table["patient_id"])
    )
    recorded = data_fingerprint(trained.record) if is_own else None
    return with_change_note(cohort, recorded, trained.root)


def _patients(trained: Run, but: str | None = None) -> set[str]:
    """Return the patients of a run, without those of the split ``but``."""
    splits = read_split_table(trained.root / "splits.csv")
    return set(splits.loc[splits["split"] != but, "patient_id"])


def _overlap_notes(cohort: Cohort, trained: Run) -> list[str]:
    """Return a note on the patients that the model was trained or validated on, if any."""
    seen = _patients(trained, but="test")
    patients = set(cohort.table["patient_id"])
    shared = len(patients & seen)
    if not shared:
        return []
    return [
        f"{shared} of {len(patients)} patients have an id that also occurs in the model's training "
        "or validation data. If they are the same people, these numbers look better than they are. "
        "--exclude-patients leaves them out."
    ]


COLUMNS = ("attribute", "group", "n", "patients", "flagged")


def write_scores(run: Run, name: str, predictions: Predictions, cut: DecisionThreshold) -> Run:
    """Write scores without labels, ``groups.csv`` and a page, and finish the run.

    ``predictions.parquet`` has the usual columns except ``label``. ``groups.csv`` counts samples
    and patients of each group and, for two classes, flagged samples (score ≥ threshold).
    """
    write_predictions(run.predictions_file(name), predictions, labelled=False)
    counts = flagged_counts(predictions, run.record.attributes, cut)
    write_csv(run.root / "groups.csv", counts)
    run.note(chosen=name)
    write_unlabelled_page(run)
    run.finish(chosen=name)
    return run


def flagged_counts(
    predictions: Predictions, attributes: Sequence[str], cut: DecisionThreshold
) -> pd.DataFrame:
    """Count samples, patients and flagged samples, of everybody and of each group."""
    rows = predictions.table.assign(flagged=np.nan)
    if len(predictions.classes) == 2:
        rows = rows.assign(flagged=predictions.scores >= cut.thresholds(predictions))

    def count(part: pd.DataFrame) -> tuple[int, int, object]:
        return len(part), part["patient_id"].nunique(), part["flagged"].sum(min_count=1)

    counts = [("*", "*", *count(rows))]
    for attribute, groups in groups_in(predictions, attributes).items():
        for level in groups.levels:
            counts.append((attribute, level, *count(rows.iloc[groups.rows(level)])))
    return pd.DataFrame(counts, columns=list(COLUMNS)).astype({"flagged": "Int64"})


def _read_counts(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path).astype({"flagged": "Int64"})
    except (OSError, ValueError, KeyError) as error:
        raise DamagedError(path, f"it cannot be read as counts of groups ({error})") from error
    return table.assign(**{name: unquote_formulas(table[name]) for name in ("attribute", "group")})


def write_unlabelled_page(run: Run) -> None:
    """Write the report of a run without labels, from the files of the run."""
    record = run.record
    counts = _read_counts(run.root / "groups.csv")
    table = Table(
        "Samples of each group",
        ("Group", "Samples", "Patients", "Flagged"),
        tuple(_row(*row) for row in counts.itertuples(index=False, name=None)),
    )
    part = Part(sentences=record.notes, tables=(table,))
    path = record.source.path if record.source else ""
    introduction = f"{counts['n'][0]:,} samples of {path}, scored by {record.chosen}."
    section = part_section("groups", "Scores without labels", part)
    page = section_page(
        f"evenhand predict: {run.root.resolve().name}", introduction, (section,), record
    )
    write_text(run.root / "report.html", page)


def printed_counts(run: Run) -> Iterator[str]:
    """Yield the table of counts of a run without labels, and then its notes, as text."""
    yield _read_counts(run.root / "groups.csv").to_string(index=False, na_rep="")
    for note in run.record.notes:
        yield f"\n{note}"


def _row(attribute: str, group: str, n: int, patients: int, flagged: int) -> tuple[str, ...]:
    name = "everybody" if attribute == "*" else f"{display_name(attribute)}: {display_name(group)}"
    share = "" if pd.isna(flagged) else f"{flagged:,} ({PERCENT.text(flagged / max(n, 1))})"
    return name, f"{n:,}", f"{patients:,}", share
