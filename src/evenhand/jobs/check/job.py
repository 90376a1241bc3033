"""`evenhand check`: measure whether a data set can support a study of fairness."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evenhand.cohort.cohort import Cohort, known_levels
from evenhand.cohort.prepare import prepare_splits
from evenhand.cohort.readers import open_cohort, reader_of
from evenhand.cohort.splits import Splits
from evenhand.cohort.thinning import Thinning
from evenhand.errors import EvenhandError
from evenhand.experiments.runs import Run, begin_run
from evenhand.files import write_json
from evenhand.jobs.check.learning import learning_findings
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
from evenhand.networks.inputs import RGB, ImageForm, Images
from evenhand.reporting.check_record import (
    FILE,
    CheckRecord,
    DuplicatePair,
    Finding,
    GroupCount,
    Status,
)

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
        Whether another or a finished run in ``out`` may be replaced.

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
