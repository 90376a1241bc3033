"""What the network of each entry reveals of the attributes to its last layer, fold by fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel
from scipy.special import stdtrit

from evenhand.errors import EvenhandError
from evenhand.evaluation.rows import groups_in
from evenhand.experiments.task import Task
from evenhand.files import checked, read_object, write_json
from evenhand.jobs.benchmark.entries import ERM
from evenhand.jobs.probing import LEVEL, PATIENTS, probed_levels
from evenhand.jobs.rereading import draw_one_per_patient
from evenhand.networks.model import Model
from evenhand.own.probing import probe
from evenhand.reporting.probe_record import ProbeRow
from evenhand.representation.jackknife import Jackknifed
from evenhand.tables.predictions import Predictions
from evenhand.training.activations import HEAD_INPUT, activations
from evenhand.training.device import make_accelerator

FILE = "probe.json"


Folders = Sequence[Sequence[Path]]
"""Where the fits of an entry are kept, by fold and seed."""


class FoundRecord(BaseModel, frozen=True):
    """How well a probe found an attribute in what the last layer of one network is given."""

    value: float
    influence: tuple[float, ...]
    """Of each patient of the fold who was probed, on the value."""
    n: int


class NetworkProbe(BaseModel, frozen=True):
    """The probes of one network (``probe.json``), by attribute; none where it is undefined."""

    attributes: dict[str, FoundRecord]


@dataclass(frozen=True, eq=False)
class _Fold:
    """The probes of an entry in one fold: the value of each seed, and the patients' influence."""

    values: NDArray[np.float64]  # (S,)
    influence: NDArray[np.float64]  # (patients,), the mean over seeds
    n: int

    def less(self, other: _Fold) -> _Fold:
        return replace(
            self, values=self.values - other.values, influence=self.influence - other.influence
        )


def probe_network(folder: Path, task: Task, model: Model, predictions: Predictions) -> None:
    """Probe what the last layer is given of test patients of the fold, one sample of each."""
    samples = draw_one_per_patient(predictions.of_split("test"), PATIENTS, task.settings.seed)
    test = task.splits.test
    order = pd.Index(test.table["sample_id"]).get_indexer(pd.Index(samples.table["sample_id"]))
    layers = activations(model, test.select(order), [HEAD_INPUT], make_accelerator(task.settings))
    features, patients = layers[HEAD_INPUT], samples.table["patient_id"].to_numpy()
    attributes = {}
    for name, groups in groups_in(samples, task.settings.attribute).items():
        levels, _ = probed_levels(groups, samples)
        try:
            result = probe(features, levels, given=samples.labels, patients=patients)
        except EvenhandError:  # too few patients of a level in this fold
            continue
        influence = tuple(result.jackknifed.influence.tolist())
        attributes[name] = FoundRecord(value=result.value, influence=influence, n=result.n)
    write_json(folder / FILE, NetworkProbe(attributes=attributes).model_dump())


def probe_rows(folders: Mapping[str, Folders], attributes: Sequence[str]) -> tuple[ProbeRow, ...]:
    """Return how well attributes are found in each network, and less than in those of erm.

    An AUC is the mean over folds and seeds. Its error is that of patients (jackknife) and of seeds
    (their variance in each fold); the interval is Student's, with a degree of freedom for each fold
    and further seed, and normal with one seed.
    """
    read = {name: [[*map(_read, seeds)] for seeds in folds] for name, folds in folders.items()}
    rows: list[ProbeRow] = []
    for attribute in attributes:
        folds = {name: _folds(records, attribute) for name, records in read.items()}
        rows += [_row(name, attribute, own) for name, own in folds.items()]
        rows += [
            _row(name, attribute, _less(own, folds[ERM]), against=ERM)
            for name, own in folds.items()
            if name != ERM
        ]
    return tuple(rows)


def _folds(records: Sequence[Sequence[NetworkProbe]], attribute: str) -> list[_Fold] | None:
    """Return the probes of every fold; None where one is undefined."""
    folds = []
    for by_seed in records:
        defined = [
            record.attributes[attribute] for record in by_seed if attribute in record.attributes
        ]
        if len(defined) < len(by_seed):
            return None
        influence = np.mean([record.influence for record in defined], axis=0)
        values = np.array([record.value for record in defined])
        folds.append(_Fold(values, influence, defined[0].n))
    return folds


def _read(folder: Path) -> NetworkProbe:
    return checked(NetworkProbe, read_object(folder / FILE), folder / FILE)


def _less(own: list[_Fold] | None, other: list[_Fold] | None) -> list[_Fold] | None:
    if own is None or other is None:
        return None
    return [fold.less(base) for fold, base in zip(own, other, strict=True)]


def _row(
    name: str, attribute: str, folds: Sequence[_Fold] | None, against: str | None = None
) -> ProbeRow:
    about = ProbeRow(model=name, against=against, attribute=attribute, layer=HEAD_INPUT)
    if folds is None:
        why = "in some fold, a level has too few test patients"
        return about.model_copy(update={"undefined": why})
    value = float(np.mean([fold.values.mean() for fold in folds]))
    low, high = _interval(value, folds)
    if against is None:
        low, high = max(low, 0.0), min(high, 1.0)
    patients = sum(len(fold.influence) for fold in folds)
    numbers = {"value": value, "low": low, "high": high, "patients": patients}
    return about.model_copy(update={**numbers, "n": sum(fold.n for fold in folds)})


def _interval(value: float, folds: Sequence[_Fold]) -> tuple[float, float]:
    """Return the ends of the interval of a mean over folds and seeds."""
    influence = np.concatenate([fold.influence for fold in folds]) / len(folds)
    by_patients = float(Jackknifed(np.array(value), influence).error)
    seeds = len(folds[0].values)
    if seeds == 1:
        low, high = Jackknifed(np.array(value), influence).interval(LEVEL)
        return float(low), float(high)
    by_seeds = sum(float(fold.values.var(ddof=1)) for fold in folds) / seeds / len(folds) ** 2
    reach = float(stdtrit(len(folds) * (seeds - 1), (1 + LEVEL) / 2))
    error = float(np.hypot(by_patients, np.sqrt(by_seeds)))
    return value - reach * error, value + reach * error
