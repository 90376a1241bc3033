"""Where the numbers come from: the facts of a run as tables, and what was undefined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evenhand.experiments.records import RunRecord
from evenhand.metrics import EVERYBODY
from evenhand.reporting.estimates import Estimate
from evenhand.reporting.text.numbers import duration, listed
from evenhand.reporting.text.vocabulary import shown
from evenhand.settings import Settings


@dataclass(frozen=True)
class Facts:
    """One table of names and values."""

    title: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Gone:
    """Numbers that are undefined for one reason in one group."""

    model: str
    split: str
    attribute: str
    group: str
    metrics: str
    reason: str
    n: int
    patients: int
    positives: int | None


APART = {
    *("job", "chosen", "seed", "fingerprint", "schema_version"),  # come first
    *("settings", "versions", "seconds", "parent"),  # have tables of their own
    *("status", "answer"),  # "running" as the page is written; the page begins with the answer
}


def fact_tables(record: RunRecord[Settings]) -> tuple[Facts, ...]:
    """Return the record of a run as tables; what has no table of its own is about the run."""
    first = {
        "job": record.job,
        "chosen": record.chosen,
        "seed": record.seed,
        "fingerprint": record.fingerprint,
        "schema": record.schema_version,
    }
    rest = record.model_dump(mode="json", exclude_unset=True, exclude=APART)
    parents = [one.parent for one in record.lineage() if one.parent is not None]
    if parents:
        rest |= {"pruned": f"{parents[0].model} of {parents[0].run}"}
    tables = [
        ("Run", _pairs({name: value for name, value in first.items() if value is not None} | rest)),
        ("Settings", _pairs(record.settings.kept())),
        *((f"Settings of {one.run}", _pairs(one.record.settings.kept())) for one in parents),
        ("Versions", _pairs(record.versions)),
        ("Time", tuple((name, duration(value)) for name, value in record.seconds.items())),
    ]
    return tuple(Facts(title, rows) for title, rows in tables if rows)


def undefined(rows: Sequence[Estimate]) -> tuple[Gone, ...]:
    """Gather what is undefined: one entry for each group and reason, with the metrics it struck."""
    struck: dict[tuple[str, str, str, str, str], list[Estimate]] = {}
    for row in rows:
        if row.value is None and not row.against:
            reason = row.undefined or "no value was given"
            key = (row.model, row.split, row.attribute, row.group, reason)
            struck.setdefault(key, []).append(row)
    return tuple(_gone(found) for found in struck.values())


def _gone(found: Sequence[Estimate]) -> Gone:
    row = found[0]
    metrics = list(dict.fromkeys(one.base_term.label for one in found))
    return Gone(
        model=row.model,
        split=row.split,
        attribute="any" if row.attribute == EVERYBODY else shown(row.attribute),
        group=_group(row),
        metrics=listed(metrics),
        reason=row.undefined or "no value was given",
        n=row.n,
        patients=row.patients,
        positives=row.positives,
    )


def _group(row: Estimate) -> str:
    if row.group != EVERYBODY:
        return shown(row.group)
    return "everyone" if row.attribute == EVERYBODY else "across groups"


def _pairs(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(pair for name, value in values.items() for pair in _flat(name, value))


def _flat(name: str, value: Any) -> list[tuple[str, str]]:
    """Return a value as name and text, a mapping as one pair per entry with a dotted name."""
    if isinstance(value, Mapping):
        return [pair for k, v in value.items() for pair in _flat(f"{name}.{k}", v)]
    if isinstance(value, list | tuple):
        return [(name, ", ".join(map(str, value)) or "none")]
    return [(name, "none" if value is None else str(value))]
