"""`evenhand check`: measure whether a data set can support a study of fairness."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.cohort.cohort import Cohort, known_levels
from evenhand.cohort.prepare import prepare_splits
from evenhand.cohort.readers import open_cohort, reader_of
from evenhand.cohort.splits import Splits
from evenhand.cohort.thinning import SHARES, Thinning
from evenhand.errors import EvenhandError
from evenhand.experiments.runs import Run, begin_run
from evenhand.files import write_json
from evenhand.jobs.check.outcomes import base_rate_findings, power_findings, request_findings
from evenhand.jobs.check.requirements import (
    ORDER,
    SHOWN,
    attribute_findings,
    duplicate_findings,
    duplicate_pairs,
    group_counts,
    leakage_finding,
    modality_finding,
    note_findings,
    overall,
    provenance_findings,
    size_findings,
    unreadable_finding,
)
from evenhand.jobs.check.settings import CheckSettings
from evenhand.jobs.keywords import as_job
from evenhand.jobs.report import write_page
from evenhand.metrics.groups import Groups, attribute_groups
from evenhand.metrics.learning_curve import ALL, LearningCurve, learning_curve
from evenhand.metrics.recipes import RecipeValues, compared_values, rarer_patients
from evenhand.metrics.resample import Bootstrap, Resamples, resample
from evenhand.metrics.rows import EVERYBODY, Key
from evenhand.metrics.scored import Scored, as_scored
from evenhand.networks.inputs import RGB, ImageForm, Images
from evenhand.progress import bar
from evenhand.reporting.check_record import (
    FILE,
    CheckRecord,
    DuplicatePair,
    Finding,
    GroupCount,
    Status,
)
from evenhand.reporting.sections.learning_curve import doubling_text
from evenhand.reporting.text.vocabulary import plain
from evenhand.tables.attributes import group_of

IMAGE_SIZE = 64
"""Side of the images that are compared to find duplicates, in pixels."""

MEANING: dict[Status, str] = {
    "pass": "Every requirement is met.",
    "warn": "You may train; read results with the warnings in mind. The exit status is 0.",
    "fail": (
        "You may train, but results cannot be trusted until the failed requirements are met. The "
        "exit status is 1, so that a script can stop here."
    ),
}
"""The meaning of the worst outcome for the user."""


@dataclass(frozen=True, eq=False)
class Requirements:
    """The requirements of a data set, measured and judged.

    Attributes
    ----------
    findings
        A finding for each requirement.
    counts
        The table of `group_counts`.
    pairs
        The table of `duplicate_pairs`.
    """

    findings: tuple[Finding, ...]
    counts: pd.DataFrame
    pairs: pd.DataFrame

    @property
    def status(self) -> Status:
        """The worst outcome."""
        return overall(self.findings)

    def record(self) -> CheckRecord:
        """Return the content of ``check.json``."""
        return CheckRecord(
            status=self.status,
            findings=self.findings,
            counts=tuple(GroupCount(**row) for row in _rows(self.counts)),
            pairs=len(self.pairs),
            duplicates=tuple(DuplicatePair(**row) for row in _rows(self.pairs.head(SHOWN))),
        )


@as_job(CheckSettings, "data")
def check(settings: CheckSettings, out: Path, *, overwrite: bool = False) -> Run:
    """Measure the requirements of a data set; write ``check.json`` and a page.

    The splits are those that every job makes from the same settings. If the settings name no
    attribute, all attributes of the data with at least two known levels are checked.

    Parameters
    ----------
    settings
        The data, and the limits of each requirement.
    out
        The run directory.
    overwrite
        Whether a finished or different run in ``out`` may be replaced.

    Raises
    ------
    EvenhandError
        If the data cannot be read, or have a single class or a single level.
    """
    settings, splits = _prepare(settings)
    source = splits.train.source
    run = begin_run(
        out,
        "check",
        settings,
        fingerprint=source.fingerprint,
        reads=(Path(source.path), *settings.exclude_patients),
        overwrite=overwrite,
    )
    with run.phase("measurement"):
        requirements = measure_requirements(splits, settings)
    write_json(run.root / FILE, requirements.record().as_json())
    write_page(run)
    run.finish()  # last: a finished run is complete
    return run


def measure_data(settings: CheckSettings) -> Requirements:
    """Measure the requirements of a data set and write no file; see `check`."""
    settings, splits = _prepare(settings)
    return measure_requirements(splits, settings)


def _prepare(settings: CheckSettings) -> tuple[CheckSettings, Splits]:
    """Return the settings with the attributes to check, and the stored, split data."""
    settings = settings.model_copy(update={"skip_unreadable": True})
    cohort = open_cohort(settings)
    if not settings.attribute:
        usable = (name for name in cohort.attributes if len(known_levels(cohort.table, name)) > 1)
        settings = settings.model_copy(update={"attribute": tuple(usable)})
    Thinning.of_texts(settings.curve, cohort.levels)  # refuses wrong levels before data are stored
    images = _image_form(cohort, settings.channels)
    return settings, prepare_splits(settings, images, np.random.default_rng(settings.seed))


def _image_form(cohort: Cohort, channels: int | None) -> Images | None:
    """Return the form in which images are read; None for series, which bring their channels."""
    if not cohort.channels:
        return ImageForm(IMAGE_SIZE, IMAGE_SIZE, channels or RGB).plain
    if channels is not None:
        raise EvenhandError(
            f"--channels {channels}: the samples are series, which have channels of their own. "
            "Leave it out."
        )
    return None


def measure_requirements(splits: Splits, settings: CheckSettings) -> Requirements:
    """Measure the requirements of stored, split data."""
    counts = group_counts(splits, settings.attribute)
    pairs = duplicate_pairs(splits, settings)
    return Requirements(tuple(_findings(splits, settings, counts, pairs)), counts, pairs)


def findings_text(record: CheckRecord) -> str:
    """Return the findings as a text table, with their counts and the meaning of the outcome."""
    lines = [f"{'':<6}{'requirement':<13}{'of':<18}measured"]
    for finding in record.findings:
        about = "" if finding.about == "*" else finding.about
        lines.append(f"{finding.status:<6}{finding.requirement:<13}{about:<18}{finding.measured}")
        if finding.status in ("warn", "fail"):
            lines.append(f"{'':<37}threshold: {finding.threshold}")
    count = Counter(finding.status for finding in record.findings)
    total = ", ".join(f"{count[status]} {status}" for status in ORDER)
    return "\n".join([*lines, "", total, MEANING[record.status]])


def _findings(
    splits: Splits, settings: CheckSettings, counts: pd.DataFrame, pairs: pd.DataFrame
) -> Iterator[Finding]:
    attributes = settings.attribute
    data_set = reader_of(settings.data)[0].about
    yield from attribute_findings(splits, attributes, settings)
    yield from size_findings(counts, settings)
    yield from base_rate_findings(splits, attributes, settings)
    yield from power_findings(splits, attributes, settings)
    yield from request_findings(splits, attributes, settings)
    yield from learning_findings(splits, attributes, settings)
    yield modality_finding(splits.train, data_set, settings)
    yield unreadable_finding(splits, settings)
    yield leakage_finding(splits)
    yield from duplicate_findings(pairs, settings)
    yield from note_findings(splits.train)
    yield from provenance_findings(splits.train, data_set)


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as dictionaries; missing values are None."""
    return [
        {str(name): None if pd.isna(value) else value for name, value in row.items()}
        for row in table.astype(object).to_dict("records")
    ]


Floats = NDArray[np.float64]

CELLS = 8  # along either side of a coarse image
DRAWS = 4  # subsets of the training patients at each share
STRENGTH = 0.1  # inverse of the ridge penalty, of standardised features
CHUNK = 1024  # samples read at a time


def learning_findings(
    splits: Splits, attributes: Sequence[str], settings: CheckSettings
) -> Iterator[Finding]:
    """Judge the gain from the last doubling of training patients, for the worst-served groups."""
    thinnings = Thinning.of_texts(settings.curve, splits.train.levels)
    if not thinnings:
        return
    curves = _Curves(splits, attributes, settings.seed)
    with bar("learning curves", len(thinnings)) as advance:
        for thinning in thinnings:
            curve = curves.curve(thinning)
            advance()
            yield from _curve_findings(curve, attributes)


def _curve_findings(curve: LearningCurve, attributes: Sequence[str]) -> Iterator[Finding]:
    """Yield a finding for the thinned group, and for the worst-served group of each attribute."""
    worst = [curve.worst(attribute) for attribute in attributes]
    for key in dict.fromkeys((curve.own, *worst)):
        if key is not None and key in curve.keys:
            change = curve.of_doubling(key)
            yield Finding(
                "learning",
                curve.name,
                f"{doubling_text(curve, key)} {_auc_text(curve, key)}",
                change.value,
                "a linear model on coarse samples gains nothing from the last half of the patients",
                "warn" if change.better or change.value is None else "pass",
                change.p_adjusted,
            )


def _auc_text(curve: LearningCurve, key: Key) -> str:
    """Return a sentence with the AUC at each share of the patients."""
    means = (float(values[key][:, 0].mean()) for values in curve.values.values())
    listed = ", ".join("undefined" if mean != mean else plain(mean) for mean in means)
    return f"AUC with {', '.join(f'{share:.0%}' for share in curve.values)}: {listed}."


class _Curves:
    """Computes learning curves of one data set, and makes its samples coarse once."""

    def __init__(self, splits: Splits, attributes: Sequence[str], seed: int) -> None:
        self.train, self.test, self.seed = splits.train, splits.test, seed
        self.attributes = attributes
        self.inputs = _coarse(splits.train)
        self.rows = {name: row for row, name in enumerate(splits.train.table["sample_id"])}
        self.test_inputs = _coarse(splits.test)
        table, levels = splits.test.table, splits.test.levels
        self.groups: dict[str, Groups] = {
            name: attribute_groups(name, group_of(table, name, levels)) for name in attributes
        }
        rng = np.random.default_rng(seed)
        patients = table["patient_id"].nunique()
        self.resamples: Resamples = resample(patients, Bootstrap(), rng)

    def curve(self, thinning: Thinning) -> LearningCurve:
        """Return the learning curve when a thinning removes training patients."""
        patients, values = {}, {}
        for share in (*SHARES, ALL):
            parts = [
                thinning.thin(
                    self.train, share, self.attributes, np.random.default_rng([self.seed, draw])
                )
                for draw in range(DRAWS)
            ]
            patients[share] = float(np.mean([thinning.patients(part) for part in parts]))
            values[share] = self._measure(parts)
        rng = np.random.default_rng([self.seed, DRAWS])
        rarer = {key: self._rarer(key) for key in values[ALL]}
        return learning_curve(thinning.name, thinning.auc, patients, values, rarer, rng)

    def _measure(self, parts: Sequence[Cohort]) -> RecipeValues:
        """Return the numbers ``(draws, 1 + B)`` of a model for each draw of training patients."""
        distinct = parts[:1] if len(parts[0]) == len(self.train) else parts
        by_draw = [
            compared_values(self._score(part), self.groups, self.resamples, overall=("auc",))
            for part in distinct
        ]
        repeated = by_draw * (len(parts) // len(by_draw))
        return {key: np.stack([values[key] for values in repeated]) for key in by_draw[0]}

    def _score(self, part: Cohort) -> Scored:
        rows = np.array([self.rows[name] for name in part.table["sample_id"]])
        scores = _linear_scores(self.inputs[rows], part.labels, self.test_inputs, len(part.classes))
        test = self.test
        return as_scored(
            test.labels,
            scores[:, 1] if len(test.classes) == 2 else scores,
            patients=test.table["patient_id"].to_numpy(),
            classes=test.classes,
        )

    def _rarer(self, key: Key) -> int:
        """Return the number of patients of the rarer class, in the smallest group of a number."""
        rows = as_scored(
            self.test.labels,
            np.full((len(self.test), len(self.test.classes)), 1 / len(self.test.classes)),
            patients=self.test.table["patient_id"].to_numpy(),
            classes=self.test.classes,
        )
        if key.attribute == EVERYBODY:
            return rarer_patients(rows)
        groups = self.groups[key.attribute]
        levels = groups.compared() if key.group == EVERYBODY else [key.group]
        return min(rarer_patients(rows, groups.rows(level)) for level in levels)


def _linear_scores(
    inputs: Floats, labels: NDArray[np.int64], others: Floats, classes: int
) -> Floats:
    """Fit a ridge logistic regression, and return its probabilities ``(m, C)`` for ``others``."""
    from sklearn.linear_model import LogisticRegression

    mean, spread = inputs.mean(axis=0), inputs.std(axis=0)
    spread[spread == 0] = np.inf
    model = LogisticRegression(C=STRENGTH, max_iter=200)
    model.fit((inputs - mean) / spread, labels)
    scores = np.zeros((len(others), classes))
    scores[:, model.classes_] = model.predict_proba((others - mean) / spread)
    return scores


def _coarse(cohort: Cohort) -> Floats:
    """Return each sample as a few numbers, ``(n, D)``."""
    ids = cohort.table["sample_id"]
    coarse = _coarse_series if cohort.channels else _coarse_images
    chunks = (ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK))
    return np.concatenate([coarse(np.stack([cohort.read(name) for name in part]))
                           for part in chunks])  # fmt: skip


def _coarse_images(samples: NDArray[Any]) -> Floats:
    """Return the mean of each cell and channel of images ``(n, H, W, C)``."""
    edges = [
        np.unique(np.linspace(0, size, CELLS + 1).astype(int)[:-1]) for size in samples.shape[1:3]
    ]
    sums = np.add.reduceat(samples.astype(np.float64), edges[0], axis=1)
    cells: Floats = np.add.reduceat(sums, edges[1], axis=2).reshape(len(samples), -1)
    return cells


def _coarse_series(samples: NDArray[Any]) -> Floats:
    """Return mean, spread and observed share of each channel of series ``(n, T, C)``."""
    observed = ~np.isnan(samples)
    count = np.maximum(observed.sum(axis=1), 1)
    filled = np.where(observed, samples, 0.0)
    mean = filled.sum(axis=1) / count
    deviation = np.where(observed, samples - mean[:, None], 0.0)
    spread = np.sqrt((deviation**2).sum(axis=1) / count)
    return np.concatenate([mean, spread, observed.mean(axis=1)], axis=1)
