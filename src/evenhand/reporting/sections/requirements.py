"""The page of a data set's requirements, from what ``check.json`` holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evenhand.experiments.records import RunRecord, data_settings
from evenhand.reporting.check_record import CheckRecord, Finding, GroupCount
from evenhand.reporting.page import section_page
from evenhand.reporting.section import section, sections_of
from evenhand.reporting.text.numbers import count_text, listed
from evenhand.reporting.text.vocabulary import shown
from evenhand.reporting.verdicts import Verdict
from evenhand.settings import Settings

TITLES = {
    "attributes": "Protected attributes",
    "unknown": "Patients of unknown level",
    "patients": "Patients in the smallest group",
    "cases": "Cases in the smallest group",
    "base_rate": "Difference in base rate",
    "detectable": "Smallest gap that can be found",
    "request": "Patients to ask for",
    "learning": "What more training patients buy",
    "modalities": "Modalities",
    "unreadable": "Samples that cannot be read",
    "leakage": "Patients in two splits",
    "duplicates": "The same sample twice",
    "licence": "Licence",
    "access": "Where to get the data",
    "label": "Label",
    "note": "Note of the reader",
}
LOOKS = {"pass": "better", "note": "", "warn": "unsure", "fail": "worse"}


@dataclass(frozen=True)
class FindingRow:
    """One finding as it is shown."""

    title: str
    about: str
    measured: str
    threshold: str
    status: str
    look: str


@dataclass(frozen=True)
class GroupRow:
    """The counts of one group, split by split: patients, samples and positives in each."""

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
        f"What {data} must have before fairness can be told from it, measured.",
        sections_of("check", measured),
        record,
    )


@section("check", "requirements", "Requirements", place=10)
def requirements(check: CheckRecord) -> dict[str, Any]:
    """Return every finding, and what they come to together."""
    rows = [_row(finding) for finding in check.findings]
    return {"rows": rows, "headline": headline(check), "look": LOOKS[check.status]}


@section("check", "counts", "Groups and splits", place=20)
def counts_section(check: CheckRecord) -> list[GroupCountsTable]:
    """Return the counts of each attribute's groups."""
    return list(_counts(check.counts))


@section("check", "duplicates", "The same sample twice", place=30)
def duplicates_section(check: CheckRecord) -> dict[str, Any] | None:
    """Return the samples that occur twice, None where there are none."""
    return {"pairs": check.duplicates, "all": check.pairs} if check.duplicates else None


def requirement_verdicts(check: CheckRecord) -> list[Verdict]:
    """Return a verdict for each finding; a finding that warns or fails counts as a claim."""
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
    """Say in a sentence what the findings come to."""
    findings = check.findings
    by_status = {
        status: [finding for finding in findings if finding.status == status] for status in LOOKS
    }
    met = f"{len(by_status['pass'])} of {count_text(len(findings), 'requirement')} are met"
    parts = [
        f"{len(by_status[status])} {verb}: {_titles(by_status[status])}"
        for status, verb in (("fail", "not met"), ("warn", "worth a look"), ("note", "noted"))
        if by_status[status]
    ]
    return "; ".join([met, *parts]) + "."


def _row(finding: Finding) -> FindingRow:
    about = "" if finding.about == "*" else shown(finding.about)
    return FindingRow(
        TITLES[finding.requirement],
        about,
        finding.measured,
        finding.threshold,
        finding.status,
        LOOKS[finding.status],
    )


def _titles(findings: Sequence[Finding]) -> str:
    """Return the titles of the findings' requirements, each once, as a list in words."""
    titles = [TITLES[finding.requirement] for finding in findings]
    return listed([title[:1].lower() + title[1:] for title in dict.fromkeys(titles)])


def _counts(counts: Sequence[GroupCount]) -> list[GroupCountsTable]:
    views = []
    for attribute in dict.fromkeys(count.attribute for count in counts):
        own = [count for count in counts if count.attribute == attribute]
        splits = tuple(dict.fromkeys(count.split for count in own))
        cell = {
            (count.group, count.split): (count.patients, count.samples, count.positives)
            for count in own
        }
        groups = tuple(
            GroupRow(shown(group), tuple(cell.get((group, split), (0, 0, 0)) for split in splits))
            for group in dict.fromkeys(count.group for count in own)
        )
        views.append(GroupCountsTable(shown(attribute), splits, groups))
    return views
