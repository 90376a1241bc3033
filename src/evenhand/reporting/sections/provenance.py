"""Where the numbers come from: the facts of a run as tables, and what was undefined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evenhand.metrics import EVERYBODY
from evenhand.reporting.estimates import Estimate
from evenhand.reporting.text.numbers import duration, listed
from evenhand.reporting.text.vocabulary import shown


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


ABOUT = ("job", "chosen", "seed", "fingerprint", "schema")


def fact_tables(facts: Mapping[str, Any]) -> tuple[Facts, ...]:
    """Return the facts of ``run.json`` as tables; what is not a known table is about the run."""
    tables = {"settings": "Settings", "versions": "Versions", "seconds": "Time"}
    about = [name for name in ABOUT if facts.get(name) is not None]
    known = {*ABOUT, *tables, "status"}  # which is still "running" as the page is written
    about += [name for name in facts if name not in known]
    parts = [Facts("Run", tuple(pair for name in about for pair in _flat(name, facts[name])))]
    for name, title in tables.items():
        values = facts.get(name) or {}
        show = _seconds if name == "seconds" else _flat
        parts.append(Facts(title, tuple(pair for k, v in values.items() for pair in show(k, v))))
    return tuple(part for part in parts if part.rows)


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


def _seconds(name: str, value: Any) -> list[tuple[str, str]]:
    return [(name, duration(float(value)))]


def _flat(name: str, value: Any) -> list[tuple[str, str]]:
    """Return a value as name and text, a mapping as one pair per entry with a dotted name."""
    if isinstance(value, Mapping):
        return [pair for k, v in value.items() for pair in _flat(f"{name}.{k}", v)]
    if isinstance(value, list | tuple):
        return [(name, ", ".join(map(str, value)) or "none")]
    return [(name, "none" if value is None else str(value))]
