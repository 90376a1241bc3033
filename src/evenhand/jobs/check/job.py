"""`evenhand check`: measure what a data set must have, instead of trusting that it has it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evenhand.cohort.cohort import Cohort, known_levels
from evenhand.cohort.prepare import prepare_splits
from evenhand.cohort.readers import open_cohort, reader_of
from evenhand.cohort.splits import Splits
from evenhand.errors import EvenhandError
from evenhand.experiments.runs import begin_run
from evenhand.files import write_json
from evenhand.jobs.assess.pages import write_page
from evenhand.jobs.check.findings import ORDER, Finding, Status, overall
from evenhand.jobs.check.groups import attribute_findings, group_counts, size_findings
from evenhand.jobs.check.material import (
    SHOWN,
    duplicate_findings,
    duplicate_pairs,
    leakage_finding,
    modality_finding,
    note_findings,
    provenance_findings,
    unreadable_finding,
)
from evenhand.jobs.check.outcomes import base_rate_findings, power_findings, request_findings
from evenhand.jobs.check.settings import CheckSettings
from evenhand.jobs.keywords import with_keywords
from evenhand.networks.inputs import RGB, ImageForm, Images
from evenhand.runs import run_scope

IMAGE_SIZE = 64
"""Side of the images that are looked through for duplicates, in pixels."""


@dataclass(frozen=True, eq=False)
class Requirements:
    """What was measured of a data set.

    Attributes
    ----------
    findings
        Each requirement with its outcome.
    counts
        See `group_counts`.
    pairs
        See `duplicate_pairs`.
    """

    findings: tuple[Finding, ...]
    counts: pd.DataFrame
    pairs: pd.DataFrame

    @property
    def status(self) -> Status:
        """The worst outcome."""
        return overall(self.findings)

    def records(self) -> dict[str, Any]:
        """Return what ``check.json`` holds."""
        return {
            "schema": 1,
            "status": self.status,
            "findings": [asdict(finding) for finding in self.findings],
            "counts": _records(self.counts),
            "pairs": len(self.pairs),
            "duplicates": _records(self.pairs.head(SHOWN)),
        }


@with_keywords(CheckSettings, "data")
@run_scope()
def check(
    settings: CheckSettings, out: Path | None = None, *, overwrite: bool = False
) -> Requirements:
    """Measure a data set's requirements; write ``check.json`` and a page where ``out`` is given.

    The splits are those that any job makes of the same settings. Without an attribute every one
    is looked at that the reader knows and of which samples have two levels.

    Raises
    ------
    EvenhandError
        The data cannot be read, or have one class or one level only.
    """
    settings = settings.model_copy(update={"skip_unreadable": True})
    cohort = open_cohort(settings)
    if not settings.attribute:
        usable = (name for name in cohort.attributes if len(known_levels(cohort.table, name)) > 1)
        settings = settings.model_copy(update={"attribute": tuple(usable)})
    images = _looked_through_as(cohort, settings.channels)
    splits = prepare_splits(settings, images, np.random.default_rng(settings.seed))
    if out is None:
        return measure_requirements(splits, settings)
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
    write_json(run.root / "check.json", requirements.records())
    write_page(run)
    run.finish()  # last: a finished run lacks nothing
    return requirements


def _looked_through_as(cohort: Cohort, channels: int | None) -> Images | None:
    """Return what images are read as; None for series, which have channels of their own."""
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


def text_table(requirements: Requirements) -> str:
    """Return the findings as text, and what they come to."""
    lines = [f"{'':<6}{'requirement':<13}{'of':<18}measured"]
    for finding in requirements.findings:
        about = "" if finding.about == "*" else finding.about
        lines.append(f"{finding.status:<6}{finding.requirement:<13}{about:<18}{finding.measured}")
        if finding.status != "pass":
            lines.append(f"{'':<37}threshold: {finding.threshold}")
    count = {
        status: sum(finding.status == status for finding in requirements.findings)
        for status in ORDER
    }
    lines.append("")
    lines.append(", ".join(f"{number} {status}" for status, number in count.items()))
    return "\n".join(lines)


def _findings(
    splits: Splits, settings: CheckSettings, counts: pd.DataFrame, pairs: pd.DataFrame
) -> Iterator[Finding]:
    attributes = settings.attribute
    about = reader_of(settings.data)[0]
    yield from attribute_findings(splits, attributes, settings)
    yield from size_findings(counts, settings)
    yield from base_rate_findings(splits, attributes, settings)
    yield from power_findings(splits, attributes, settings)
    yield from request_findings(splits, attributes, settings)
    yield modality_finding(splits.train, about.about, settings)
    yield unreadable_finding(splits, settings)
    yield leakage_finding(splits)
    yield from duplicate_findings(pairs, settings)
    yield from note_findings(splits.train)
    yield from provenance_findings(splits.train, about.about)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as JSON values: missing is null."""
    return [
        {str(name): None if pd.isna(value) else value for name, value in row.items()}
        for row in table.astype(object).to_dict("records")
    ]
