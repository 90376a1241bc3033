"""The page of a check: the requirements of a data set, group counts and duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evenhand.errors import count_text
from evenhand.experiments.records import RunRecord, data_settings
from evenhand.reporting.check_record import CheckRecord, Finding, GroupCount
from evenhand.reporting.page import section_page
from evenhand.reporting.section import section, sections_of
from evenhand.reporting.text.vocabulary import display_name, join_words
from evenhand.reporting.verdicts import Verdict
from evenhand.settings import Settings

TITLES = {
    "attributes": "Protected attributes",
    "unknown": "Patients of unknown level",
    "patients": "Patients in the smallest group",
    "cases": "Cases in the smallest group",
    "base_rate": "Difference in base rate",
    "detectable": "Smallest detectable gap",
    "request": "Further patients that are needed",
    "learning": "Gain from more training patients",
    "modalities": "Modalities",
    "unreadable": "Samples that cannot be read",
    "leakage": "Patients in two splits",
    "duplicates": "Duplicate samples",
    "licence": "Licence",
    "access": "Source of the data",
    "label": "Label",
    "note": "Note of the reader",
}
"""The titles of requirements by name."""

CSS_CLASSES = {"pass": "better", "note": "", "warn": "unsure", "fail": "worse"}


@dataclass(frozen=True)
class FindingRow:
    """A row of the table of requirements."""

    title: str
    about: str
    measured: str
    threshold: str
    status: str
    css_class: str


@dataclass(frozen=True)
class GroupRow:
    """The patients, samples and positives of a group, a cell for each split."""

    group: str
    cells: tuple[tuple[int, int, int | None], ...]


@dataclass(frozen=True)
class GroupCountsTable:
    """The counts of the groups of one attribute."""

    attribute: str
    splits: tuple[str, ...]
    rows: tuple[GroupRow, ...]


def requirements_page(measured: CheckRecord, record: RunRecord[Settings]) -> str:
    """Return the page of a check."""
    data = data_settings(record).data
    return section_page(
        f"evenhand check: {data}",
        f"The requirements for measuring fairness on {data}, and whether they are met.",
        sections_of("check", measured),
        record,
    )


@section("check", "requirements", "Requirements", place=10)
def requirements(check: CheckRecord) -> dict[str, Any]:
    """Return the rows of the table, and the headline."""
    rows = [_row(finding) for finding in check.findings]
    return {"rows": rows, "headline": headline(check), "css_class": CSS_CLASSES[check.status]}


@section("check", "counts", "Groups and splits", place=20)
def counts_section(check: CheckRecord) -> list[GroupCountsTable]:
    """Return the counts of each attribute's groups."""
    return list(_counts(check.counts))


@section("check", "duplicates", "Duplicate samples", place=30)
def duplicates_section(check: CheckRecord) -> dict[str, Any] | None:
    """Return the pairs of equal samples, None if there are none."""
    return {"pairs": check.duplicates, "all": check.pairs} if check.duplicates else None


def requirement_verdicts(check: CheckRecord) -> list[Verdict]:
    """Return a verdict for each requirement; a warning or a failure is a claim."""
    return [
        Verdict(
            f"requirement {finding.requirement}",
            finding.about,
            finding.status in ("warn", "fail"),
            f"{TITLES[finding.requirement]}: {finding.status}, {finding.measured}",
            finding.p_adjusted,
        )
        for finding in check.findings
    ]


def headline(check: CheckRecord) -> str:
    """Return the sentence that sums up the outcomes."""
    findings = check.findings
    by_status = {
        status: [finding for finding in findings if finding.status == status]
        for status in CSS_CLASSES
    }
    met = f"{len(by_status['pass'])} of {count_text(len(findings), 'requirement')} are met"
    parts = [
        f"{len(by_status[status])} {verb}: {_titles(by_status[status])}"
        for status, verb in (("fail", "not met"), ("warn", "with a warning"), ("note", "noted"))
        if by_status[status]
    ]
    return "; ".join([met, *parts]) + "."


def _row(finding: Finding) -> FindingRow:
    about = "" if finding.about == "*" else display_name(finding.about)
    return FindingRow(
        TITLES[finding.requirement],
        about,
        finding.measured,
        finding.threshold,
        finding.status,
        CSS_CLASSES[finding.status],
    )


def _titles(findings: Sequence[Finding]) -> str:
    """Return the titles of requirements, each once, as a phrase."""
    titles = [TITLES[finding.requirement] for finding in findings]
    return join_words([title[:1].lower() + title[1:] for title in dict.fromkeys(titles)])


def _counts(counts: Sequence[GroupCount]) -> list[GroupCountsTable]:
    """Return a table of counts for each attribute."""
    tables = []
    for attribute in dict.fromkeys(count.attribute for count in counts):
        attribute_counts = [count for count in counts if count.attribute == attribute]
        splits = tuple(dict.fromkeys(count.split for count in attribute_counts))
        cell = {
            (count.group, count.split): (count.patients, count.samples, count.positives)
            for count in attribute_counts
        }
        groups = tuple(
            GroupRow(
                display_name(group), tuple(cell.get((group, split), (0, 0, 0)) for split in splits)
            )
            for group in dict.fromkeys(count.group for count in attribute_counts)
        )
        tables.append(GroupCountsTable(display_name(attribute), splits, groups))
    return tables
