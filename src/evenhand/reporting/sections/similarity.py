"""Similarity of two models by group: heat maps and what they come to, from ``similarity.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from evenhand.experiments.records import RunRecord
from evenhand.reporting.page import section_page
from evenhand.reporting.section import section, sections_of
from evenhand.reporting.text.numbers import counted, plain, signed
from evenhand.reporting.text.vocabulary import shown
from evenhand.reporting.verdicts import Verdict
from evenhand.settings import Settings

Matrix = Sequence[Sequence[float | None]]
STRONGEST = 0.6  # a difference of this size has the full colour


@dataclass(frozen=True)
class Cell:
    """One square of a heat map: its text, how strong its colour is in per cent, and its look."""

    text: str
    strength: float
    look: str
    says: str


@dataclass(frozen=True)
class HeatMap:
    """Layers of the first model down, of the second across."""

    title: str
    note: str
    down: tuple[str, ...]
    across: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class SeedsView:
    """What each seed's models come to, one column a seed."""

    seeds: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]  # a group and its cells


@dataclass(frozen=True)
class AttributeView:
    """What is shown of one attribute."""

    attribute: str
    headline: str
    details: tuple[str, ...]
    outcome: str
    maps: tuple[HeatMap, ...]
    absent: tuple[str, ...]
    seeds: SeedsView | None


def similarity_page(measured: Mapping[str, Any], record: RunRecord[Settings]) -> str:
    """Return the page of a comparison of two models' layers."""
    first, second = measured["models"]
    lede = (
        f"How alike {first} and {second} represent each group, layer by layer: "
        f"{counted(measured['patients'], measured['unit'])} of the {measured['split']} split, "
        "one sample each."
    )
    title = f"evenhand similarity: {first} and {second}"
    return section_page(title, lede, sections_of("similarity", measured), record)


@section("similarity", "similarity", "Does each group look alike to both models?", place=10)
def similarity(measured: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answers with their heat maps, and the ratios."""
    return {
        "everybody": _map("Everybody", "", measured["everybody"], measured),
        "attributes": [
            _attribute(name, record, measured) for name, record in measured["attributes"].items()
        ],
        "ratios": [_ratio(ratio) for ratio in measured["ratios"]],
        "kernel": {"linear": "linear", "rbf": "RBF"}[measured["kernel"]],
        "models": measured["models"],
        "level": f"{100 * measured['level']:.0f} %",
    }


def similarity_verdicts(measured: Mapping[str, Any]) -> tuple[Verdict, ...]:
    """Return the verdict of a comparison of layers for each attribute.

    A claim rests on p-values that are corrected over all groups and attributes.
    """
    first, second = measured["models"]
    verdicts = []
    for name, record in measured["attributes"].items():
        text, _, outcome = _told(name, record, measured.get("seeds", []))
        p = [row["p_adjusted"] for row in record["groups"] if row.get("p_adjusted") is not None]
        about = f"layers of {first} and {second}"
        verdicts.append(Verdict(about, name, outcome == "a gap", text, min(p, default=None)))
    return tuple(verdicts)


def _attribute(name: str, record: Mapping[str, Any], measured: Mapping[str, Any]) -> AttributeView:
    groups = record["groups"]
    maps = [
        _map(shown(row["group"]), _note(row, measured["unit"]), row, measured)
        for row in groups
        if "value" in row
    ]
    headline, details, outcome = _told(name, record, measured.get("seeds", []))
    if "difference" in record:
        title = f"{shown(record['best'])} less {shown(record['worst'])}"
        note = "the group that the models serve best less the one they serve worst"
        maps.append(_difference(title, note, record["difference"], measured))
    return AttributeView(
        shown(name),
        headline,
        details,
        outcome,
        tuple(maps),
        tuple(
            f"{shown(row['group'])}: {row['undefined']}."
            for row in groups
            if "undefined" in row and row["patients"]
        ),
        _by_seed(name, measured),
    )


def _by_seed(name: str, measured: Mapping[str, Any]) -> SeedsView | None:
    """Return each group's mean over layers for each seed; None where there are not several."""
    seeds = measured.get("seeds", [])
    if len(seeds) < 2:
        return None
    records = [of_seed["attributes"][name] for of_seed in seeds]
    groups = [row["group"] for row in records[0]["groups"]]
    rows = [
        (shown(group), tuple(_mean_and_p(record["groups"][place]) for record in records))
        for place, group in enumerate(groups)
    ]
    if records[0]["size"]:
        apart = "Best and worst served apart"
        rows.append((apart, tuple(_plain_interval(record["size"]) for record in records)))
    return SeedsView(tuple(f"seed {of_seed['seed']}" for of_seed in seeds), tuple(rows))


def _mean_and_p(group: Mapping[str, Any]) -> str:
    p = group["p_adjusted"]
    return plain(group["mean"]) + ("" if p is None else f", p = {plain(p)}")


def _plain_interval(numbers: Mapping[str, float]) -> str:
    return f"{plain(numbers['value'])} ({plain(numbers['low'])} to {plain(numbers['high'])})"


def _told(
    name: str, record: Mapping[str, Any], seeds: Sequence[Mapping[str, Any]]
) -> tuple[str, tuple[str, ...], str]:
    """Return the sentence on an attribute, what it rests on, and the outcome in a word.

    Of several seeds all have to agree that one and the same group is seen otherwise, and on which
    side of the worst served group the best served one lies.
    """
    if "difference" not in record:
        text = f"Nothing can be said by {shown(name)}: {record['undefined']}."
        return text, (), "cannot tell"
    best, worst, size = shown(record["best"]), shown(record["worst"]), record["size"]
    details = [
        f"CKA of {best} and of {worst} differ by {_plain_interval(size)} on average over layers, "
        f"in batches of {record['batch']}."
    ]
    differing = [row for row in record["groups"] if row.get("p_adjusted") is not None]
    details += [
        f"{shown(row['group'])} against the rest: p = {plain(row['p_adjusted'])}, "
        "corrected for all groups; labels held equal."
        for row in differing
    ]
    tested = [of_seed["attributes"][name] for of_seed in seeds] or [record]
    seen = [
        {row["group"] for row in record_of_seed["groups"] if _differs(row)}
        for record_of_seed in tested
    ]
    more = _mean(record["difference"]["value"])
    agreed = all(of_seed["attributes"][name]["difference"] * more > 0 for of_seed in seeds)
    if not any(seen):
        text = f"By {shown(name)}, no group is seen otherwise than the rest as far as can be told."
        return text, tuple(details), "cannot tell"
    if not (agreed and set.intersection(*seen)):
        text = (
            f"By {shown(name)}, some group is seen otherwise than the rest with "
            f"{sum(map(bool, seen))} of {len(tested)} seeds, and not all seeds agree on it."
        )
        return text, tuple(details), "cannot tell"
    word = "more" if more > 0 else "less"
    text = f"The two models agree {word} on {best} than on {worst}, by {shown(name)}."
    return text, tuple(details), "a gap"


def _differs(group: Mapping[str, Any]) -> bool:
    p = group.get("p_adjusted")
    return p is not None and p < 0.05


def _note(row: Mapping[str, Any], patient: str) -> str:
    auc = f", AUC {plain(row['auc'])}" if row["auc"] is not None else ""
    return f"{counted(row['patients'], patient)}{auc}"


def _ratio(ratio: Mapping[str, Any]) -> str:
    first, second = shown(ratio["attribute"]), shown(ratio["over"])
    if "undefined" in ratio:
        return f"{first} over {second}: no ratio, as {ratio['undefined']}."
    return (
        f"{first} over {second}: {plain(ratio['value'], 2)} "
        f"({plain(ratio['low'], 2)} to {plain(ratio['high'], 2)})."
    )


def _map(
    title: str, note: str, numbers: Mapping[str, Matrix], measured: Mapping[str, Any]
) -> HeatMap:
    def cell(value: float | None, interval: str) -> Cell:
        if value is None:
            return Cell("–", 0, "", "a layer does not vary")
        return Cell(plain(value, 2), 100 * min(max(value, 0), 1), "similar", interval)

    return _heat_map(title, note, numbers, measured, cell)


def _difference(
    title: str, note: str, numbers: Mapping[str, Matrix], measured: Mapping[str, Any]
) -> HeatMap:
    def cell(value: float | None, interval: str) -> Cell:
        if value is None:
            return Cell("–", 0, "", "a layer does not vary")
        look = "similar" if value > 0 else "apart"
        strength = 100 * min(abs(value) / STRONGEST, 1)
        return Cell(signed(plain(value, 2)), strength, look, interval)

    return _heat_map(title, note, numbers, measured, cell)


def _heat_map(
    title: str, note: str, numbers: Mapping[str, Matrix], measured: Mapping[str, Any], cell: Any
) -> HeatMap:
    down, across = (tuple(side) for side in measured["layers"])
    rows = tuple(
        tuple(
            cell(value, f"{row_name} and {other}: {_interval(low, high)}")
            for other, value, low, high in zip(across, *line, strict=True)
        )
        for row_name, *line in zip(
            down, numbers["value"], numbers["low"], numbers["high"], strict=True
        )
    )
    return HeatMap(title, note, down, across, rows)


def _interval(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "no interval"
    return f"{plain(low, 2)} to {plain(high, 2)}"


def _mean(matrix: Matrix) -> float:
    return fmean(value for row in matrix for value in row if value is not None)
