"""`evenhand compare`: paired differences between models on the same samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import pandas as pd

from evenhand.errors import EvenhandError, count_text
from evenhand.evaluation.requests import advice_of, permutations_note, resolve_intersections
from evenhand.evaluation.rows import shared_rows, split_rows
from evenhand.evaluation.settings import CompareSettings
from evenhand.experiments.inputs import Inputs, find_inputs, read_inputs
from evenhand.experiments.records import MatchedRecord
from evenhand.experiments.runs import Run, open_run
from evenhand.files import write_json
from evenhand.jobs.audit.job import begin_audit, notes_of, write_audit
from evenhand.jobs.keywords import as_job
from evenhand.jobs.probing import PATIENTS, probe_record, read_layers
from evenhand.jobs.rereading import draw_one_per_patient, reread_samples
from evenhand.networks.model import Model, load_model
from evenhand.reporting.probe_record import FILE
from evenhand.spreadsheets import write_csv
from evenhand.tables.predictions import Predictions
from evenhand.training.device import make_accelerator
from evenhand.training.settings import LoopSettings


@as_job(CompareSettings, "inputs")
def compare(settings: CompareSettings, out: Path, *, overwrite: bool = False) -> Run:
    """Compare models in pairs, on the samples that all models scored.

    A difference is the new model minus its reference: the first input minus a later one. Every
    number is subtracted, in the data and in each resample of the patients. Samples that a model
    lacks are left out; ``unmatched.csv`` lists them.

    Parameters
    ----------
    settings
        The inputs (predictions files, or runs with their chosen model), the
        attributes, and the metrics.
    out
        The run directory of the comparison.
    overwrite
        Whether a finished or different run in ``out`` may be replaced.

    Raises
    ------
    EvenhandError
        If there are fewer than two models, they share no sample, they differ about the label or
        the patient of a sample, or a metric cannot be measured. Nothing is written in these cases.
    """
    inputs = find_inputs(settings.inputs, settings.model)
    if len(inputs.files) < 2:
        raise EvenhandError(
            f"a comparison needs two models; there is {', '.join(inputs.files)}. Give another run "
            "or file, or several models of a run with --model (--model all for all of them)."
        )
    models, attributes = read_inputs(inputs, settings, settings.condition)
    matched = match_samples(models, settings.split)
    trained = _read_models(inputs) if settings.probe else {}
    resolved = resolve_intersections(settings, attributes, matched.models, settings.split)
    attributes = resolved.attribute
    run, requests = begin_audit(
        "compare", resolved, out, inputs, matched.models, overwrite=overwrite
    )
    counts = matched.unmatched["model"].value_counts()
    run.note(
        pairs=list(combinations(_new_first(models, inputs), 2)),
        matched=MatchedRecord(
            samples=matched.samples,
            patients=matched.patients,
            unmatched={name: int(counts.get(name, 0)) for name in models},
        ),
        notes=[
            *(advice.why for advice in advice_of(settings)),
            *permutations_note(models, attributes, settings),
            _matched_text(matched),
            *notes_of(models),
        ],
    )
    write_csv(run.root / "unmatched.csv", matched.unmatched)
    if trained:
        with run.phase("probing"):
            _write_probe(run, trained, matched.models, settings)
    return write_audit(run, matched.models, chosen=None, requests=requests)


def _read_models(inputs: Inputs) -> dict[str, tuple[Run, Model]]:
    """Return the run and the network of each compared model.

    Raises
    ------
    EvenhandError
        If an input is a predictions file without a network.
    """
    trained = {}
    for name, file in inputs.files.items():
        folder = file.parent
        if not (folder / "model.safetensors").is_file():
            raise EvenhandError(
                f"--probe reads the layers of the networks, but there is no network beside {file}. "
                "Compare runs that trained a model, or leave --probe out."
            )
        trained[name] = (open_run(folder.parent.parent), load_model(folder))
    return trained


def _write_probe(
    run: Run,
    trained: Mapping[str, tuple[Run, Model]],
    models: Mapping[str, Predictions],
    settings: CompareSettings,
) -> None:
    """Probe the layers of every model on the same patients, and compare the run's pairs."""
    record, first = run.record, next(iter(models.values()))
    samples = draw_one_per_patient(first.of_split(settings.split), PATIENTS, settings.seed)
    accelerator = make_accelerator(LoopSettings())
    cohorts = {
        name: reread_samples(source, model, samples, data=None, cache=None)
        for name, (source, model) in trained.items()
    }
    changes = dict.fromkeys(note for cohort in cohorts.values() for note in cohort.source.notes)
    run.note(notes=[*record.notes, *changes])
    layers = {
        name: read_layers(model, cohorts[name], accelerator) for name, (_, model) in trained.items()
    }
    probes = probe_record(
        layers,
        samples,
        record.attributes,
        record.pairs or (),
        split=settings.split,
        seed=settings.seed,
    )
    write_json(run.root / FILE, probes.model_dump())


def _new_first(models: Mapping[str, Predictions], inputs: Inputs) -> list[str]:
    """Return the names of the models, each before its references.

    The order is the user's. A pruning run lists the oldest model first, so its order is reversed.
    """
    names = list(models)
    return names[::-1] if inputs.job == "prune" else names


def _matched_text(matched: MatchedModels) -> str:
    counts = matched.unmatched["model"].value_counts(sort=False)
    unmatched = ", ".join(f"{count} of {name}" for name, count in counts.items())
    return (
        f"Compared on the {count_text(matched.samples, 'sample')} of "
        f"{count_text(matched.patients, 'patient')} that all models have scored; not matched: "
        f"{unmatched or 'none'}."
    )


@dataclass(frozen=True, eq=False)
class MatchedModels:
    """Predictions of several models, with the same samples in the reported split.

    Attributes
    ----------
    models
        Model → predictions. The reported split has only the shared samples; other splits, on which
        thresholds are chosen, have all samples.
    samples, patients
        The number of shared samples and of their patients.
    unmatched
        A row for each other sample of a model: ``model``, ``sample_id``, ``patient_id``, ``why``
        (it is not shared).
    """

    models: dict[str, Predictions]
    samples: int
    patients: int
    unmatched: pd.DataFrame


def match_samples(models: Mapping[str, Predictions], split: str) -> MatchedModels:
    """Return the predictions of several models on their shared samples.

    A model whose predictions lack names of classes gets those of another model.

    Raises
    ------
    EvenhandError
        If no sample is shared by all models, the classes differ, or a shared sample has two labels,
        patients or groups.
    """
    classes = {
        len(predictions.classes): predictions.classes
        for predictions in models.values()
        if predictions.has_class_names
    }
    samples = {
        name: set(split_rows(predictions, split).table["sample_id"])
        for name, predictions in models.items()
    }
    shared = set.intersection(*samples.values())
    if not shared:
        counts = ", ".join(f"{len(ids)} in {name}" for name, ids in samples.items())
        raise EvenhandError(
            f"no sample of the split {split!r} is in all of the predictions ({counts}); give "
            "models that have scored the same samples, under the same sample ids."
        )
    restricted = {
        name: Predictions(
            _restrict(predictions.table, shared, split),
            _named_classes(predictions, classes),
            predictions.levels,
        )
        for name, predictions in models.items()
    }
    first, *others = restricted.values()
    for other in others:
        shared_rows(first.of_split(split), other.of_split(split))  # refuses differences
    unmatched = [_unmatched(name, models, split, shared) for name in models]
    table = first.of_split(split).table
    return MatchedModels(
        restricted,
        len(table),
        table["patient_id"].nunique(),
        pd.concat(unmatched, ignore_index=True),
    )


def _named_classes(
    predictions: Predictions, classes: Mapping[int, tuple[str, ...]]
) -> tuple[str, ...]:
    """Return the names of the classes; if they are only numbered, those of another model."""
    names = predictions.classes
    return names if predictions.has_class_names else classes.get(len(names), names)


def _restrict(table: pd.DataFrame, shared: set[str], split: str) -> pd.DataFrame:
    """Return the table with only the shared samples in the split."""
    in_other_split = table["split"] != split if "split" in table else False
    return table[table["sample_id"].isin(shared) | in_other_split].reset_index(drop=True)


def _unmatched(
    name: str, models: Mapping[str, Predictions], split: str, shared: set[str]
) -> pd.DataFrame:
    table = models[name].of_split(split).table
    rows = table.loc[~table["sample_id"].isin(shared), ["sample_id", "patient_id"]]
    others = {
        other: _split_of_samples(predictions)
        for other, predictions in models.items()
        if other != name
    }
    why = [_why_unmatched(sample, others, split) for sample in rows["sample_id"]]
    return rows.assign(model=name, why=why)[["model", "sample_id", "patient_id", "why"]]


def _why_unmatched(sample: str, others: Mapping[str, Mapping[str, str]], split: str) -> str:
    return "; ".join(
        f"in the split {splits[sample]} of {other}" if sample in splits else f"not in {other}"
        for other, splits in others.items()
        if splits.get(sample) != split
    )


def _split_of_samples(predictions: Predictions) -> dict[str, str]:
    """Return sample id → split."""
    table = predictions.table
    splits = table["split"] if "split" in table else ["test"] * len(table)
    return dict(zip(table["sample_id"], splits, strict=True))
