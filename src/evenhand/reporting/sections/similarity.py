"""Similarity of two models by group: heat maps and what they come to, from ``similarity.json``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evenhand.experiments.records import RunRecord
from evenhand.reporting.page import section_page
from evenhand.reporting.section import section, sections_of
from evenhand.reporting.similarity_record import (
    AttributeSummary,
    GroupSummary,
    SimilarityRecord,
    mean,
)
from evenhand.reporting.text.numbers import count_text, plain, signed
from evenhand.reporting.text.vocabulary import shown
from evenhand.reporting.verdicts import Verdict
from evenhand.representation.jackknife import MeanSize
from evenhand.representation.results import (
    GroupSimilarity,
    LayerMatrix,
    SizeRatio,
)
from evenhand.settings import Settings

STRONGEST = 0.6  # a difference of this size has the full colour


@dataclass(frozen=True)
class HeatCell:
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
    rows: tuple[tuple[HeatCell, ...], ...]


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


@dataclass(frozen=True)
class Conclusion:
    """What is said of an attribute: a sentence, what it rests on, the outcome in a word."""

    headline: str
    details: tuple[str, ...] = ()
    outcome: str = "cannot tell"


def similarity_page(measured: SimilarityRecord, record: RunRecord[Settings]) -> str:
    """Return the page of a comparison of two models' layers."""
    first, second = measured.models
    lede = (
        f"How alike {first} and {second} represent each group, layer by layer: "
        f"{count_text(measured.patients, measured.unit)} of the {measured.split} split, "
        "one sample each."
    )
    title = f"evenhand similarity: {first} and {second}"
    return section_page(title, lede, sections_of("similarity", measured), record)


@section("similarity", "similarity", "Does each group look alike to both models?", place=10)
def similarity_section(measured: SimilarityRecord) -> dict[str, Any]:
    """Return the answers with their heat maps, and the ratios."""
    return {
        "everybody": _map("Everybody", "", measured.everybody, measured),
        "attributes": [_attribute(name, measured) for name in measured.attributes],
        "ratios": [_ratio(ratio) for ratio in measured.ratios],
        "kernel": {"linear": "linear", "rbf": "RBF"}[measured.kernel],
        "models": measured.models,
        "level": f"{100 * measured.level:.0f} %",
    }


def similarity_verdicts(measured: SimilarityRecord) -> tuple[Verdict, ...]:
    """Return the verdict of a comparison of layers for each attribute.

    A claim rests on p-values that are corrected over all groups and attributes.
    """
    first, second = measured.models
    verdicts = []
    for name, attribute in measured.attributes.items():
        conclusion = _conclusion(name, measured)
        p = [group.p_adjusted for group in attribute.groups if group.p_adjusted is not None]
        about, claim = f"layers of {first} and {second}", conclusion.outcome == "a gap"
        verdicts.append(Verdict(about, name, claim, conclusion.headline, min(p, default=None)))
    return tuple(verdicts)


def _attribute(name: str, measured: SimilarityRecord) -> AttributeView:
    attribute = measured.attributes[name]
    maps = [
        _map(shown(group.group), _note(group, measured.unit), group.matrix, measured)
        for group in attribute.groups
        if group.matrix is not None
    ]
    if contrast := attribute.contrast:
        title = f"{shown(contrast.best)} less {shown(contrast.worst)}"
        note = "the group that the models serve best less the one they serve worst"
        maps.append(_difference(title, note, contrast.difference, measured))
    conclusion = _conclusion(name, measured)
    return AttributeView(
        shown(name),
        conclusion.headline,
        conclusion.details,
        conclusion.outcome,
        tuple(maps),
        tuple(
            f"{shown(group.group)}: {group.undefined}."
            for group in attribute.groups
            if group.undefined is not None and group.patients
        ),
        _by_seed(name, measured),
    )


def _by_seed(name: str, measured: SimilarityRecord) -> SeedsView | None:
    """Return each group's mean over layers for each seed; None where there are not several."""
    if len(measured.seeds) < 2:
        return None
    summaries = [seed.attributes[name] for seed in measured.seeds]
    rows = [
        (shown(group.group), tuple(_mean_and_p(summary.groups[place]) for summary in summaries))
        for place, group in enumerate(summaries[0].groups)
    ]
    sizes = [summary.size for summary in summaries if summary.size is not None]
    if summaries[0].size:
        rows.append(("Best and worst served apart", tuple(map(_plain_interval, sizes))))
    return SeedsView(tuple(f"seed {summary.seed}" for summary in measured.seeds), tuple(rows))


def _mean_and_p(group: GroupSummary) -> str:
    p = group.p_adjusted
    return plain(group.mean) + ("" if p is None else f", p = {plain(p)}")


def _plain_interval(size: MeanSize) -> str:
    return f"{plain(size.value)} ({plain(size.low)} to {plain(size.high)})"


def _conclusion(name: str, measured: SimilarityRecord) -> Conclusion:
    """Return what is said of an attribute.

    Of several seeds all have to agree that one and the same group differs from the rest, and on
    which side of the worst served group the best served one lies.
    """
    attribute = measured.attributes[name]
    contrast = attribute.contrast
    if contrast is None:
        return Conclusion(f"Nothing can be said by {shown(name)}: {attribute.undefined}.")
    best, worst = shown(contrast.best), shown(contrast.worst)
    details = (
        f"CKA of {best} and of {worst} differ by {_plain_interval(contrast.size)} on average over "
        f"layers, in batches of {attribute.batch}.",
        *(
            f"{shown(group.group)} against the rest: p = {plain(group.p_adjusted)}, "
            "corrected for all groups; labels held equal."
            for group in attribute.groups
            if group.p_adjusted is not None
        ),
    )
    summaries = [seed.attributes[name] for seed in measured.seeds]
    tested = summaries or [AttributeSummary.of(attribute)]
    differing = [_differing(summary) for summary in tested]
    if not any(differing):
        text = f"By {shown(name)}, no group is shown to be represented differently from the rest."
        return Conclusion(text, details)
    more = mean(contrast.difference.value)
    same_side = all((summary.difference or 0.0) * more > 0 for summary in summaries)
    if not (same_side and set.intersection(*differing)):
        text = (
            f"By {shown(name)}, a group is represented differently from the rest with "
            f"{sum(map(bool, differing))} of {len(differing)} seeds, and not all seeds agree on it."
        )
        return Conclusion(text, details)
    word = "more" if more > 0 else "less"
    text = f"The two models agree {word} on {best} than on {worst}, by {shown(name)}."
    return Conclusion(text, details, "a gap")


def _differing(summary: AttributeSummary) -> set[str]:
    """Return the groups that differ from the rest."""
    return {
        group.group
        for group in summary.groups
        if group.p_adjusted is not None and group.p_adjusted < 0.05
    }


def _note(group: GroupSimilarity, patient: str) -> str:
    auc = f", AUC {plain(group.auc)}" if group.auc is not None else ""
    return f"{count_text(group.patients, patient)}{auc}"


def _ratio(ratio: SizeRatio) -> str:
    first, second = shown(ratio.attribute), shown(ratio.over)
    if ratio.size is None:
        return f"{first} over {second}: no ratio, as {ratio.undefined}."
    value, low, high = (plain(number, 2) for number in vars(ratio.size).values())
    return f"{first} over {second}: {value} ({low} to {high})."


def _map(title: str, note: str, numbers: LayerMatrix, measured: SimilarityRecord) -> HeatMap:
    def cell(value: float, interval: str) -> HeatCell:
        return HeatCell(plain(value, 2), 100 * min(max(value, 0), 1), "similar", interval)

    return _heat_map(title, note, numbers, measured, cell)


def _difference(title: str, note: str, numbers: LayerMatrix, measured: SimilarityRecord) -> HeatMap:
    def cell(value: float, interval: str) -> HeatCell:
        look = "similar" if value > 0 else "apart"
        strength = 100 * min(abs(value) / STRONGEST, 1)
        return HeatCell(signed(plain(value, 2)), strength, look, interval)

    return _heat_map(title, note, numbers, measured, cell)


def _heat_map(
    title: str,
    note: str,
    numbers: LayerMatrix,
    measured: SimilarityRecord,
    cell: Callable[[float, str], HeatCell],
) -> HeatMap:
    down, across = measured.layers
    rows = tuple(
        tuple(
            _undefined_cell()
            if value is None
            else cell(value, f"{row_name} and {column_name}: {_interval(low, high)}")
            for column_name, value, low, high in zip(across, *line, strict=True)
        )
        for row_name, *line in zip(down, numbers.value, numbers.low, numbers.high, strict=True)
    )
    return HeatMap(title, note, down, across, rows)


def _undefined_cell() -> HeatCell:
    return HeatCell("–", 0, "", "a layer does not vary")


def _interval(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "no interval"
    return f"{plain(low, 2)} to {plain(high, 2)}"
