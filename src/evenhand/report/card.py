"""The model card: what a model is, what it was made from, and how it does by group."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import yaml

from evenhand.report.estimates import EVERYONE, Estimate, estimates, find
from evenhand.report.terms import model_name, shown, split_across, term
from evenhand.report.words import level


def model_card(facts: Mapping[str, Any], rows: pd.DataFrame, name: str, split: str = "test") -> str:
    """Return the card of one model of a run as Markdown with front matter.

    Parameters
    ----------
    facts
        What ``run.json`` holds.
    rows
        The run's metric rows.
    name
        The model's name in the run.
    split
        The split that the card reports.
    """
    told = find(estimates(rows), model=name, split=split, against=None)
    settings, source = facts["settings"], facts.get("source", {})
    unit = source.get("unit", "patient")
    sections = {
        "What it is": _about(facts, settings),
        "Data": [
            f"- source: {_plain(source.get('reader', 'unknown'))} {_plain(source.get('path', ''))}",
            f"- label: {_plain(source.get('label') or 'as in the predictions')}",
            f"- split reported: {split}; independent units: {_plain(unit)}s",
            *(f"- left out: {_plain(what)}" for what in source.get("left_out", ())),
        ],
        "How each group fares": _table([row for row in told if not _is_across(row)], unit),
        "Differences between groups": _table([row for row in told if _is_across(row)], unit),
        "What must be known": [
            *(f"- {_plain(note)}" for note in facts.get("notes", ())),
            "- Whole patients are resampled; intervals hold for the threshold as it is.",
            "- It is made for research; it is no medical device.",
        ],
        "Versions": [f"- {_plain(k)} {_plain(v)}" for k, v in facts["versions"].items()],
    }
    parts = [f"---\n{_front(facts, told, name)}---", f"# {_plain(model_name(name))}"]
    parts += [f"## {title}\n\n" + "\n".join(lines) for title, lines in sections.items() if lines]
    return "\n\n".join(parts) + "\n"


def _front(facts: Mapping[str, Any], told: Sequence[Estimate], name: str) -> str:
    """Return the front matter: the usual fields of a model card, overall results among them."""
    overall = [row for row in told if row.attribute == EVERYONE and row.value is not None]
    data = str(facts.get("source", {}).get("reader", "unknown"))
    result = {
        "task": {"type": "classification"},
        "dataset": {"name": data, "type": data},
        "metrics": [
            {"type": row.metric, "name": term(row.metric).label, "value": row.value}
            for row in overall
        ],
    }
    front = {
        "library_name": "evenhand",
        "tags": ["medical", "fairness", str(facts["job"])],
        "datasets": [data],
        "metrics": [row.metric for row in overall],
        "model-index": [{"name": name, "results": [result]}],
    }
    text: str = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    return text


def _about(facts: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    made = {
        name: settings[name] for name in ("backbone", "strategy", "weights") if name in settings
    }
    lines = [f"- {name}: {_plain(value)}" for name, value in made.items()]
    origin = "made by" if made else "its predictions were brought from elsewhere; measured by"
    return [*lines, f"- {origin} evenhand {facts['job']}, seed {facts['seed']}"]


def _table(rows: Sequence[Estimate], unit: str) -> list[str]:
    if not rows:
        return []
    of = level(rows[0])
    head = f"| group | metric | value | {of} interval | samples | {_plain(unit)}s |"
    return [head, "|---|---|---|---|---|---|", *map(_line, rows)]


def _line(row: Estimate) -> str:
    scale = term(row.metric).scale
    value = f"undefined: {_plain(row.undefined)}" if row.value is None else scale.text(row.value)
    cells = (
        _group(row),
        _plain(term(row.metric).label),
        value,
        scale.interval(row.low, row.high),
        f"{row.n:,}",
        f"{row.patients:,}",
    )
    return f"| {' | '.join(cells)} |"


def _group(row: Estimate) -> str:
    if row.attribute == EVERYONE:
        return "everyone"
    if row.group == EVERYONE:
        return f"all of {_plain(shown(row.attribute))}"
    return f"{_plain(shown(row.attribute))}: {_plain(shown(row.group))}"


def _is_across(row: Estimate) -> bool:
    return row.attribute != EVERYONE and (
        row.group == EVERYONE or split_across(row.metric)[1] is not None
    )


def _plain(text: object) -> str:
    """Return text that neither Markdown nor HTML reads anything into."""
    one_line = html.escape(" ".join(str(text).split()), quote=False)
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", one_line)
