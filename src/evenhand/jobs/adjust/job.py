"""`evenhand adjust`: fit methods to validation rows, score the test rows once, compare."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from evenhand.cohort.prepare import current_data, merge_values
from evenhand.cohort.splits import read_split_table
from evenhand.errors import EvenhandError, pick
from evenhand.evaluation.requests import resolve_requests
from evenhand.experiments.inputs import Inputs, find_inputs, read_inputs
from evenhand.experiments.records import Parent, data_settings
from evenhand.experiments.runs import Run, begin_run, finished_run
from evenhand.files import fingerprint, write_text
from evenhand.jobs.adjust.adjustment import JUDGED, read_adjustment, write_adjustment
from evenhand.jobs.adjust.fitting import FittedMethod, UnadjustedModel, check_methods, fit_methods
from evenhand.jobs.adjust.settings import AdjustSettings
from evenhand.jobs.audit.job import notes_of
from evenhand.jobs.evaluate import evaluate
from evenhand.jobs.keywords import as_job
from evenhand.methods.registry import post_hoc_from_text
from evenhand.tables.attributes import attribute_parts
from evenhand.tables.predictions import write_predictions

BEFORE = "unadjusted"
"""The name of the model before any adjustment."""


@as_job(AdjustSettings, "input")
def adjust(settings: AdjustSettings, out: Path, *, overwrite: bool = False) -> Run:
    """Adjust a trained model by one or several methods, without training it again.

    Methods are fitted to validation rows, and score the test rows once. Each adjusted model is
    compared with the unadjusted one on the same test patients.

    Parameters
    ----------
    settings
        The run or the predictions file, the attributes, the methods, and the metrics.
    out
        The run directory of the adjusted models.
    overwrite
        Whether a finished or different run in ``out`` may be replaced.

    Raises
    ------
    EvenhandError
        If the input cannot be read, has no validation or test rows, or lacks what a method needs.
        Nothing is written in these cases.
    """
    before, inputs = _open_input(settings)
    settings = settings.model_copy(
        update={"attribute": before.attributes, "metric": _metrics(settings)}
    )
    check_methods(before)
    resolve_requests({BEFORE: before.predictions}, settings.attribute, settings, inputs.cuts)
    fitted = fit_methods(before)
    settings = _with_data_settings(settings, before)
    run = begin_run(
        out,
        "adjust",
        settings,
        fingerprint=fingerprint((), inputs.files.values()),
        reads=(settings.input,),
        overwrite=overwrite,
    )
    names = [BEFORE, *fitted]
    cuts = {name: after.cut for name, after in fitted.items() if after.cut is not None}
    parent = None
    if before.run is not None:
        parent = Parent(run=str(before.run.root), model=before.name, record=before.run.record)
    run.note(
        models=names,
        pairs=[(name, BEFORE) for name in fitted],
        source=inputs.source,
        cuts={**inputs.cuts, **cuts},
        parent=parent,
        notes=[*notes_of({BEFORE: before.predictions}), *before.notes],
    )
    _write_models(run, before, fitted)
    chosen = next(iter(fitted)) if len(fitted) == 1 else None
    with run.phase("evaluation"):
        evaluate(run, chosen=chosen)
    run.finish(chosen=chosen)
    return run


def _open_input(settings: AdjustSettings) -> tuple[UnadjustedModel, Inputs]:
    """Read the predictions, and find the run with the model that made them."""
    run = finished_run(settings.input) if settings.input.is_dir() else None
    if run is None and settings.model is not None:
        raise EvenhandError(
            f"--model {settings.model}: {settings.input} is not a run; it has the scores of one "
            "model. Leave --model out."
        )
    inputs = find_inputs((settings.input,), () if settings.model is None else (settings.model,))
    if len(inputs.files) > 1:
        raise EvenhandError(
            f"{settings.input} has several models and chose none: {', '.join(inputs.files)}. "
            "Name one with --model."
        )
    models, attributes = read_inputs(inputs, settings, settings.condition)
    ((name, predictions),) = models.items()
    if settings.method_attribute is not None:
        for part in attribute_parts(settings.method_attribute):
            pick("--method-attribute", part, predictions.levels)
    if run is not None and not _has_network(run, name):
        run = None
    if run is None and settings.data is not None:
        raise EvenhandError(
            f"--data {settings.data}: {settings.input} has no model that could read the data. "
            "Leave --data out, or give the run that trained the model."
        )
    if run is not None:
        read_split_table(run.root / "splits.csv")  # refuses a missing or damaged file
    before = UnadjustedModel(settings, predictions, attributes, run, name)
    cuts = {BEFORE: inputs.cuts[name]} if name in inputs.cuts else {}
    return before, replace(inputs, cuts=cuts)


def _has_network(run: Run, name: str) -> bool:
    """Return whether a run has a network that gives a model's scores without an adjustment."""
    adjustment = read_adjustment(run.folder(name))
    adjusted = adjustment is not None and not adjustment.in_weights
    return (run.folder(name) / "model.safetensors").is_file() and not adjusted


def _metrics(settings: AdjustSettings) -> tuple[str, ...]:
    """Return the metrics of the settings and of the methods; none if the settings name none."""
    if not settings.metric:
        return ()
    methods = (post_hoc_from_text(text)[0] for text in settings.method)
    judged = (name for method in methods for name in JUDGED.get(method, ()))
    return tuple(dict.fromkeys((*settings.metric, *judged)))


def _with_data_settings(settings: AdjustSettings, before: UnadjustedModel) -> AdjustSettings:
    """Return the settings, completed by the data settings of the model's run."""
    if before.run is None:
        return settings
    earlier = data_settings(before.run.record)
    update = {
        "data": current_data(earlier.data, settings.data),
        "bins": settings.bins or earlier.bins,
        "positive": settings.positive or earlier.positive,
    }
    return settings.model_copy(update=update | merge_values(earlier, settings))


def _write_models(run: Run, before: UnadjustedModel, fitted: dict[str, FittedMethod]) -> None:
    """Write predictions, weights and adjustments of every model."""
    write_predictions(run.predictions_file(BEFORE), before.predictions)
    if before.run is not None:
        splits = (before.run.root / "splits.csv").read_text("utf-8")
        write_text(run.root / "splits.csv", splits)
    for name, after in fitted.items():
        folder = run.folder(name)
        if after.model is not None:
            _write_model(folder, before, after)
        write_adjustment(folder, after.adjustment)
        write_predictions(run.predictions_file(name), after.predictions)


def _write_model(folder: Path, before: UnadjustedModel, after: FittedMethod) -> None:
    from evenhand.networks.model import read_model_record, save_model

    assert before.run is not None
    assert after.model is not None
    record = read_model_record(before.run.folder(before.name))
    facts = record.model_dump(mode="json", by_alias=True, exclude={"schema_version", "spec"})
    save_model(folder, after.model, **facts)
