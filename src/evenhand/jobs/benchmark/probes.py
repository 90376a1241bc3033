"""Probe the networks of the entries: predict attributes from the inputs of the last layer."""

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
from evenhand.files import read_json_record, write_json
from evenhand.jobs.benchmark.entries import ERM
from evenhand.jobs.probing import LEVEL, PATIENTS, probed_levels
from evenhand.jobs.rereading import draw_one_per_patient
from evenhand.networks.model import Model
from evenhand.own.probing import probe
from evenhand.reporting.probe_record import FILE, ProbeRow
from evenhand.representation.jackknife import JackknifeEstimate
from evenhand.tables.predictions import Predictions
from evenhand.training.device import make_accelerator
from evenhand.training.frozen_prefix import HEAD_INPUT, activations

Folders = Sequence[Sequence[Path]]
"""The folders of the fits of an entry, by fold and seed."""


class AttributeProbe(BaseModel, frozen=True):
    """The probe of one network for one attribute.

    Attributes
    ----------
    value
        The AUC of the probe.
    influence
        The influence of each probed patient of the fold on the value.
    n
        The number of samples.
    """

    value: float
    influence: tuple[float, ...]
    n: int


class NetworkProbe(BaseModel, frozen=True):
    """The probes of one network (``probe.json``), by attribute, without undefined ones."""

    attributes: dict[str, AttributeProbe]


@dataclass(frozen=True, eq=False)
class _FoldProbe:
    """The probes of an entry in a fold.

    ``values`` ``(S,)`` has the value of each seed, ``influence`` ``(patients,)`` the mean influence
    over seeds, and ``n`` is the number of samples.
    """

    values: NDArray[np.float64]
    influence: NDArray[np.float64]
    n: int

    def less(self, other: _FoldProbe) -> _FoldProbe:
        return replace(
            self, values=self.values - other.values, influence=self.influence - other.influence
        )


def probe_network(folder: Path, task: Task, model: Model, predictions: Predictions) -> None:
    """Probe the inputs of the last layer, on one sample of each test patient of the fold."""
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
        attributes[name] = AttributeProbe(value=result.value, influence=influence, n=result.n)
    write_json(folder / FILE, NetworkProbe(attributes=attributes).model_dump())


def probe_rows(folders: Mapping[str, Folders], attributes: Sequence[str]) -> tuple[ProbeRow, ...]:
    """Return the AUC of the probes of each entry, and its difference from that of erm.

    The AUC is the mean over folds and seeds. Its variance is that over patients (jackknife) plus
    that over seeds within folds. The interval is Student's, with a degree of freedom for each fold
    and each seed after the first; with one seed it is normal.
    """
    probes = {name: [[*map(_read, seeds)] for seeds in folds] for name, folds in folders.items()}
    rows: list[ProbeRow] = []
    for attribute in attributes:
        by_entry = {name: _fold_probes(records, attribute) for name, records in probes.items()}
        rows += [_row(name, attribute, folds) for name, folds in by_entry.items()]
        rows += [
            _row(name, attribute, _less(folds, by_entry[ERM]), against=ERM)
            for name, folds in by_entry.items()
            if name != ERM
        ]
    return tuple(rows)


def _fold_probes(
    records: Sequence[Sequence[NetworkProbe]], attribute: str
) -> list[_FoldProbe] | None:
    """Return the probes of every fold; None if one is undefined."""
    folds = []
    for by_seed in records:
        defined = [
            record.attributes[attribute] for record in by_seed if attribute in record.attributes
        ]
        if len(defined) < len(by_seed):
            return None
        influence = np.mean([record.influence for record in defined], axis=0)
        values = np.array([record.value for record in defined])
        folds.append(_FoldProbe(values, influence, defined[0].n))
    return folds


def _read(folder: Path) -> NetworkProbe:
    return read_json_record(NetworkProbe, folder / FILE)


def _less(
    folds: list[_FoldProbe] | None, reference: list[_FoldProbe] | None
) -> list[_FoldProbe] | None:
    if folds is None or reference is None:
        return None
    return [fold.less(other) for fold, other in zip(folds, reference, strict=True)]


def _row(
    name: str, attribute: str, folds: Sequence[_FoldProbe] | None, against: str | None = None
) -> ProbeRow:
    row = ProbeRow(model=name, against=against, attribute=attribute, layer=HEAD_INPUT)
    if folds is None:
        reason = "in some fold, a level has too few test patients"
        return row.model_copy(update={"undefined": reason})
    value = float(np.mean([fold.values.mean() for fold in folds]))
    low, high = _interval(value, folds)
    if against is None:
        low, high = max(low, 0.0), min(high, 1.0)
    patients = sum(len(fold.influence) for fold in folds)
    numbers = {"value": value, "low": low, "high": high, "patients": patients}
    return row.model_copy(update={**numbers, "n": sum(fold.n for fold in folds)})


def _interval(value: float, folds: Sequence[_FoldProbe]) -> tuple[float, float]:
    """Return the ends of the interval of a mean over folds and seeds."""
    influence = np.concatenate([fold.influence for fold in folds]) / len(folds)
    patient_error = float(JackknifeEstimate(np.array(value), influence).error)
    seeds = len(folds[0].values)
    if seeds == 1:
        low, high = JackknifeEstimate(np.array(value), influence).interval(LEVEL)
        return float(low), float(high)
    seed_variance = sum(float(fold.values.var(ddof=1)) for fold in folds) / seeds / len(folds) ** 2
    quantile = float(stdtrit(len(folds) * (seeds - 1), (1 + LEVEL) / 2))
    error = float(np.hypot(patient_error, np.sqrt(seed_variance)))
    return value - quantile * error, value + quantile * error
