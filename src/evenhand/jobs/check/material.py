"""Requirements on the samples themselves: what they are, whether they leak, where they are from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations

import pandas as pd

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.duplicates import find_duplicates
from evenhand.cohort.registry import DataSet
from evenhand.cohort.splits import Splits
from evenhand.cohort.store.samples import SampleStore
from evenhand.jobs.check.findings import at_most
from evenhand.jobs.check.settings import CheckSettings
from evenhand.reporting.check_record import Finding, Status
from evenhand.wording import counted

NAMED = 3
"""Files that cannot be read, at most, that are named."""
SHOWN = 200
"""Pairs of duplicates, at most, that are listed."""


def modality_finding(cohort: Cohort, about: DataSet, settings: CheckSettings) -> Finding:
    """Judge the number of modalities: channels of series, one for images."""
    count = len(cohort.channels) or 1
    channels = (
        counted(count, "channel") if cohort.channels else "one modality, whatever its colours"
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
    """Judge the share of samples that cannot be read, of all that there are.

    Both are counted before patients are drawn or kept out. An absent file is one sample, that of a
    volume all of its slices; how many windows an absent recording had is not known.
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
        f"{lost:,} of {total:,} samples cannot be read{_first(source.left_out)}",
        lost / total,
        f"at most {settings.unreadable[0]:.0%} (fails above {settings.unreadable[1]:.0%})",
        at_most(lost / total, settings.unreadable),
    )


def _first(left_out: Sequence[str]) -> str:
    """Name the first files that cannot be read, and the flag without which jobs refuse them."""
    if not left_out:
        return ""
    more = f"; … and {len(left_out) - NAMED:,} more" if len(left_out) > NAMED else ""
    named = "; ".join(text.rstrip(".") for text in left_out[:NAMED])
    return f": {named}{more}. Other jobs leave them out with --skip-unreadable"


def leakage_finding(splits: Splits) -> Finding:
    """Say how many patients are in two splits."""
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
    """Return pairs of samples of different patients that are the same, exactly or nearly.

    Returns
    -------
    pandas.DataFrame
        ``sample``, ``split``, ``other_sample``, ``other_split``, ``correlation``, ``exact``; the
        pairs across splits first.
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
    together = table["split"] == table["other_split"]
    return table.loc[together.sort_values(kind="stable").index].reset_index(drop=True)


def duplicate_findings(pairs: pd.DataFrame, settings: CheckSettings) -> Iterator[Finding]:
    """Judge duplicates: none may be across splits; those inside a split warn."""
    across = pairs["split"] != pairs["other_split"]
    exact = pairs["exact"].astype(bool)
    for kind, what, rows in (
        ("exact", "the same", exact),
        ("near", f"correlated by {settings.near:g} or more", ~exact),
    ):
        apart, together = int((rows & across).sum()), int((rows & ~across).sum())
        yield Finding(
            "duplicates",
            kind,
            f"{apart} pairs of different patients across splits {what}, {together} inside a split",
            apart + together,
            "none (inside a split: warns)",
            "fail" if apart else "warn" if together else "pass",
        )


def note_findings(cohort: Cohort) -> Iterator[Finding]:
    """Yield the notes of the reader as warnings, such as values that often stand for unknown."""
    for note in cohort.source.notes:
        yield Finding("note", "*", note, None, "no notes", "warn")


def provenance_findings(cohort: Cohort, about: DataSet) -> Iterator[Finding]:
    """Say under which licence the data are, where to get them, and what the label means."""
    label, own = cohort.source.label, bool(about.yours)
    lacking: Status = "note" if own else "warn"
    for requirement, text, wanted in (
        ("licence", "" if own else about.licence, "stated"),
        ("access", "" if own else about.access, "stated: others can get the same data"),
        ("label", label, "its meaning stated"),
    ):
        recorded = text or "not recorded: the data are your own"
        yield Finding(requirement, "*", recorded, None, wanted, "pass" if text else lacking)
