"""Requirements on protected attributes and on the size of their groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from evenhand.cohort.cohort import Cohort, known_levels
from evenhand.cohort.splits import Splits
from evenhand.jobs.check.findings import at_least, at_most
from evenhand.jobs.check.settings import CheckSettings
from evenhand.reporting.check_record import Finding
from evenhand.tables.attributes import group_of
from evenhand.tables.levels import UNKNOWN
from evenhand.wording import count_text

COLUMNS = ("attribute", "group", "split", "patients", "samples", "positives", "fewest")


def group_counts(splits: Splits, attributes: Sequence[str]) -> pd.DataFrame:
    """Count patients, samples and cases by attribute, group and split.

    Returns
    -------
    pandas.DataFrame
        ``attribute``, ``group``, ``split``, ``patients``, ``samples``, ``positives`` (of class 1;
        missing for more than two classes) and ``fewest`` (samples of the rarest class).
    """
    rows = [
        row
        for attribute in attributes
        for split, cohort in splits.items()
        for row in _counts(cohort, attribute, split)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"positives": "Int64"})


def attribute_findings(
    splits: Splits, attributes: Sequence[str], settings: CheckSettings
) -> Iterator[Finding]:
    """Judge the number of attributes, and the share of patients whose level is unknown."""
    table = pd.concat([cohort.table for _, cohort in splits.items()])
    listed = f"{len(attributes)}: {', '.join(attributes)}" if attributes else "none"
    unusable = [name for name in splits.train.attributes if len(known_levels(table, name)) < 2]
    yield Finding(
        requirement="attributes",
        about="*",
        measured=f"{listed}; without two known levels: {', '.join(unusable)}"
        if unusable
        else listed,
        value=len(attributes),
        threshold="at least 1 protected attribute",
        status="pass" if attributes else "fail",
    )
    for attribute in attributes:
        level = group_of(table, attribute, splits.train.levels)
        patients = table["patient_id"].groupby(level, observed=True).nunique()
        missing = int(patients.get(UNKNOWN, 0))
        total = table["patient_id"].nunique()
        named_levels = patients.drop(UNKNOWN, errors="ignore")
        sizes = ", ".join(
            f"{name} {count_text(int(count), 'patient')}" for name, count in named_levels.items()
        )
        yield Finding(
            requirement="unknown",
            about=attribute,
            measured=f"{missing / total:.1%} unknown ({missing:,} of "
            f"{count_text(total, 'patient')}); {sizes}",
            value=missing / total,
            threshold=f"at most {settings.unknown[0]:.0%} (fails above {settings.unknown[1]:.0%})",
            status=at_most(missing / total, settings.unknown),
        )


def size_findings(counts: pd.DataFrame, settings: CheckSettings) -> Iterator[Finding]:
    """Judge each attribute's smallest group in any split, by its patients and its rarest class."""
    for requirement, column, limits, unit in (
        ("patients", "patients", settings.patients, "patients"),
        ("cases", "fewest", settings.cases, "samples of its rarest class"),
    ):
        named_levels = counts[counts["group"] != UNKNOWN]
        for attribute, rows in named_levels.groupby("attribute", sort=False):
            least = rows.iloc[int(rows[column].to_numpy().argmin())]
            value = int(least[column])
            short = int((rows[column] < limits[0]).sum())
            yield Finding(
                requirement=requirement,
                about=str(attribute),
                measured=f"{value:,} {unit} in the smallest group "
                f"({least['group']}, {least['split']}); "
                f"{short} of {len(rows)} groups (each split counted) are below {limits[0]:g}",
                value=value,
                threshold=f"at least {limits[0]:g} (fails below {limits[1]:g})",
                status=at_least(value, limits),
            )


def _counts(cohort: Cohort, attribute: str, split: str) -> Iterator[dict[str, Any]]:
    groups = group_of(cohort.table, attribute, cohort.levels)
    for group in groups.cat.categories:
        rows = cohort.table[(groups == group).to_numpy()]
        class_counts = np.bincount(rows["label"], minlength=len(cohort.classes))
        if len(rows) or group != UNKNOWN:
            yield {
                "attribute": attribute,
                "group": group,
                "split": split,
                "patients": rows["patient_id"].nunique(),
                "samples": len(rows),
                "positives": class_counts[1] if len(class_counts) == 2 else None,
                "fewest": class_counts.min(),
            }
