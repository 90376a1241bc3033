"""Requirements on a data set: its attributes, the size of its groups, leaks and duplicates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from evenhand.cohort.cohort import Cohort, known_levels
from evenhand.cohort.duplicates import find_duplicates
from evenhand.cohort.registry import DataSet
from evenhand.cohort.splits import Splits
from evenhand.cohort.store.samples import SampleStore
from evenhand.errors import count_text
from evenhand.jobs.check.settings import CheckSettings, Limits
from evenhand.reporting.check_record import Finding, Status
from evenhand.tables.attributes import UNKNOWN, group_of

ORDER: tuple[Status, ...] = ("pass", "note", "warn", "fail")


def at_most(value: float, limits: Limits) -> Status:
    """Judge a number that should be small: warn above the first limit, fail above the second.

    Examples
    --------
    >>> at_most(0.1, (0.05, 0.3))
    'warn'
    """
    return "fail" if value > limits[1] else "warn" if value > limits[0] else "pass"


def at_least(value: float, limits: Limits) -> Status:
    """Judge a number that should be large: warn below the first limit, fail below the second.

    Examples
    --------
    >>> at_least(50, (50, 10))
    'pass'
    """
    return "fail" if value < limits[1] else "warn" if value < limits[0] else "pass"


def overall(findings: Sequence[Finding]) -> Status:
    """Return the worst outcome; notes do not count."""
    judged = (finding.status for finding in findings if finding.status != "note")
    return max(judged, key=ORDER.index, default="pass")


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


NAMED = 3
"""The largest number of unreadable files that a finding names."""
SHOWN = 200
"""The largest number of duplicate pairs that the record lists."""


def modality_finding(cohort: Cohort, about: DataSet, settings: CheckSettings) -> Finding:
    """Judge the number of modalities: the channels of series; images count as one."""
    count = len(cohort.channels) or 1
    channels = (
        count_text(count, "channel") if cohort.channels else "one modality, whatever its colours"
    )
    return Finding(
        "modalities",
        "*",
        f"{about.modality}: {channels}; read as {cohort.source.stored}",
        count,
        f"at least {settings.modalities}",
        "pass" if count >= settings.modalities else "note",
    )


def unreadable_finding(splits: Splits, settings: CheckSettings) -> Finding:
    """Judge the share of all samples that cannot be read.

    Samples are counted before patients are drawn or excluded. A missing file counts as one sample,
    a missing volume as all of its slices, and a missing recording as one.
    """
    store, source = splits.train.read, splits.train.source
    assert isinstance(store, SampleStore)
    problems = {*store.unreadable.values()}
    absent = sum(problem not in problems for problem in source.left_out) * (source.slices or 1)
    lost = absent + len(store.unreadable)
    total = lost + len(store.ids)
    return Finding(
        "unreadable",
        "*",
        f"{lost:,} of {total:,} samples cannot be read{_first_files(source.left_out)}",
        lost / total,
        f"at most {settings.unreadable[0]:.0%} (fails above {settings.unreadable[1]:.0%})",
        at_most(lost / total, settings.unreadable),
    )


def _first_files(left_out: Sequence[str]) -> str:
    """Return the first unreadable files, and the flag with which jobs skip them, as text."""
    if not left_out:
        return ""
    more = f"; … and {len(left_out) - NAMED:,} more" if len(left_out) > NAMED else ""
    named = "; ".join(text.rstrip(".") for text in left_out[:NAMED])
    return f": {named}{more}. Other jobs leave them out with --skip-unreadable"


def leakage_finding(splits: Splits) -> Finding:
    """Judge the number of patients that are in two splits."""
    patients = {name: set(cohort.table["patient_id"]) for name, cohort in splits.items()}
    shared = sum(
        len(patients[first] & patients[second]) for first, second in combinations(patients, 2)
    )
    return Finding(
        "leakage",
        "*",
        f"{shared} {splits.train.source.unit}s are in two splits",
        shared,
        "none",
        "fail" if shared else "pass",
    )


def duplicate_pairs(splits: Splits, settings: CheckSettings) -> pd.DataFrame:
    """Return pairs of samples of different patients that are exact or near duplicates.

    Returns
    -------
    pandas.DataFrame
        ``sample``, ``split``, ``other_sample``, ``other_split``, ``correlation``, ``exact``. Pairs
        across splits come first.
    """
    rows = pd.concat(
        [cohort.table.assign(split=name) for name, cohort in splits.items()], ignore_index=True
    )
    pairs = find_duplicates(replace(splits.train, table=rows), settings.near, settings.seed)
    first, second = rows.iloc[pairs["first"]], rows.iloc[pairs["second"]]
    table = pd.DataFrame(
        {
            "sample": first["sample_id"].to_numpy(),
            "split": first["split"].to_numpy(),
            "other_sample": second["sample_id"].to_numpy(),
            "other_split": second["split"].to_numpy(),
            "correlation": pairs["correlation"].astype(float).round(4),
            "exact": pairs["exact"],
        }
    )
    same_split = table["split"] == table["other_split"]
    return table.loc[same_split.sort_values(kind="stable").index].reset_index(drop=True)


def duplicate_findings(pairs: pd.DataFrame, settings: CheckSettings) -> Iterator[Finding]:
    """Judge duplicates: pairs across splits fail, pairs inside a split warn."""
    across = pairs["split"] != pairs["other_split"]
    exact = pairs["exact"].astype(bool)
    for kind, relation, rows in (
        ("exact", "the same", exact),
        ("near", f"correlated by {settings.near:g} or more", ~exact),
    ):
        between, inside = int((rows & across).sum()), int((rows & ~across).sum())
        yield Finding(
            "duplicates",
            kind,
            f"{between} pairs of different patients across splits {relation}, {inside} inside a "
            "split",
            between + inside,
            "none (inside a split: warns)",
            "fail" if between else "warn" if inside else "pass",
        )


def note_findings(cohort: Cohort) -> Iterator[Finding]:
    """Yield the notes of the reader as warnings, such as values that often stand for unknown."""
    for note in cohort.source.notes:
        yield Finding("note", "*", note, None, "no notes", "warn")


def provenance_findings(cohort: Cohort, about: DataSet) -> Iterator[Finding]:
    """Judge whether licence, source and the meaning of the label are stated."""
    own_data = bool(about.yours)
    lacking: Status = "note" if own_data else "warn"
    for requirement, text, threshold in (
        ("licence", "" if own_data else about.licence, "stated"),
        ("access", "" if own_data else about.access, "stated: others can get the same data"),
        ("label", cohort.source.label, "its meaning stated"),
    ):
        recorded = text or "not recorded: the data are your own"
        yield Finding(requirement, "*", recorded, None, threshold, "pass" if text else lacking)
