"""The page on the similarity of two models by group, with heat maps (``similarity.json``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evenhand.errors import count_text
from evenhand.experiments.records import RunRecord
from evenhand.reporting.page import section_page
from evenhand.reporting.section import section, sections_of
from evenhand.reporting.similarity_record import (
    AttributeSummary,
    GroupSummary,
    SimilarityRecord,
    mean,
)
from evenhand.reporting.text.vocabulary import display_name, plain, signed
from evenhand.reporting.verdicts import Verdict
from evenhand.representation.jackknife import IntervalEstimate
from evenhand.representation.results import (
    GroupSimilarity,
    LayerMatrix,
    SizeRatio,
)
from evenhand.settings import Settings

STRONGEST = 0.6
"""The size of a difference from which on a cell has the full colour."""


@dataclass(frozen=True)
class HeatCell:
    """A cell of a heat map.

    Attributes
    ----------
    text, detail
        The value, and its layers and interval as text.
    strength, color
        The strength of the colour in percent, and the colour (``similar`` or ``apart``).
    """

    text: str
    strength: float
    color: str
    detail: str


@dataclass(frozen=True)
class HeatMap:
    """A heat map: the layers of the first model down, those of the second model across."""

    title: str
    note: str
    down: tuple[str, ...]
    across: tuple[str, ...]
    rows: tuple[tuple[HeatCell, ...], ...]


@dataclass(frozen=True)
class SeedsView:
    """A table with a column for each seed; a row has a group and its cells."""

    seeds: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class AttributeView:
    """The answer, the heat maps and the table of one attribute."""

    attribute: str
    headline: str
    details: tuple[str, ...]
    outcome: str
    maps: tuple[HeatMap, ...]
    absent: tuple[str, ...]
    seeds: SeedsView | None


@dataclass(frozen=True)
class Conclusion:
    """The answer for an attribute: a sentence, details, and the outcome."""

    headline: str
    details: tuple[str, ...] = ()
    outcome: str = "cannot tell"


def similarity_page(measured: SimilarityRecord, record: RunRecord[Settings]) -> str:
    """Return the page of a comparison of the layers of two models."""
    first, second = measured.models
    introduction = (
        f"The similarity of {first} and {second} in each group, layer by layer: "
        f"{count_text(measured.patients, measured.unit)} of the {measured.split} split, "
        "one sample each."
    )
    introduction = " ".join((introduction, *record.notes))
    title = f"evenhand similarity: {first} and {second}"
    return section_page(title, introduction, sections_of("similarity", measured), record)


@section("similarity", "similarity", "Do both models represent each group alike?", place=10)
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
    """Return a verdict for each attribute; p-values are corrected over attributes and groups."""
    first, second = measured.models
    verdicts = []
    for name, attribute in measured.attributes.items():
        conclusion = _conclusion(name, measured)
        p = [group.p_adjusted for group in attribute.groups if group.p_adjusted is not None]
        about, claim = f"layers of {first} and {second}", conclusion.outcome == "a gap"
        verdicts.append(Verdict(about, name, claim, conclusion.headline, min(p, default=None)))
    return tuple(verdicts)


def _attribute(name: str, measured: SimilarityRecord) -> AttributeView:
    """Lay out an attribute."""
    attribute = measured.attributes[name]
    maps = [
        _map(display_name(group.group), _note(group, measured.unit), group.matrix, measured)
        for group in attribute.groups
        if group.matrix is not None
    ]
    if contrast := attribute.contrast:
        title = f"{display_name(contrast.best)} less {display_name(contrast.worst)}"
        note = "the group that the models serve best less the group that they serve worst"
        maps.append(_difference(title, note, contrast.difference, measured))
    conclusion = _conclusion(name, measured)
    return AttributeView(
        display_name(name),
        conclusion.headline,
        conclusion.details,
        conclusion.outcome,
        tuple(maps),
        tuple(
            f"{display_name(group.group)}: {group.undefined}."
            for group in attribute.groups
            if group.undefined is not None and group.patients
        ),
        _by_seed(name, measured),
    )


def _by_seed(name: str, measured: SimilarityRecord) -> SeedsView | None:
    """Return the mean over layers of each group for each seed; None without several seeds."""
    if len(measured.seeds) < 2:
        return None
    summaries = [seed.attributes[name] for seed in measured.seeds]
    rows = [
        (
            display_name(group.group),
            tuple(_mean_and_p(summary.groups[index]) for summary in summaries),
        )
        for index, group in enumerate(summaries[0].groups)
    ]
    sizes = [summary.size for summary in summaries if summary.size is not None]
    if summaries[0].size:
        rows.append(("Size of best less worst group", tuple(map(_plain_interval, sizes))))
    return SeedsView(tuple(f"seed {summary.seed}" for summary in measured.seeds), tuple(rows))


def _mean_and_p(group: GroupSummary) -> str:
    p = group.p_adjusted
    return plain(group.mean) + ("" if p is None else f", p = {plain(p)}")


def _plain_interval(size: IntervalEstimate) -> str:
    return f"{plain(size.value)} ({plain(size.low)} to {plain(size.high)})"


def _conclusion(name: str, measured: SimilarityRecord) -> Conclusion:
    """Return the answer for an attribute.

    If there are several seeds, a claim needs that in all of them the same group differs from the
    other groups, and that the difference between the best and the worst group has the same sign.
    """
    attribute = measured.attributes[name]
    contrast = attribute.contrast
    if contrast is None:
        return Conclusion(f"Nothing can be said by {display_name(name)}: {attribute.undefined}.")
    best, worst = display_name(contrast.best), display_name(contrast.worst)
    details = (
        f"CKA of {best} and of {worst} differ by {_plain_interval(contrast.size)} on average over "
        f"layers, in batches of {attribute.batch}.",
        *(
            f"{display_name(group.group)} against the other groups: p = {plain(group.p_adjusted)}, "
            "corrected for all groups; with equal labels."
            for group in attribute.groups
            if group.p_adjusted is not None
        ),
    )
    summaries = [seed.attributes[name] for seed in measured.seeds]
    tested = summaries or [AttributeSummary.of(attribute)]
    differing = [_differing(summary) for summary in tested]
    if not any(differing):
        text = (
            f"No group by {display_name(name)} is shown to be represented differently from the "
            "others."
        )
        return Conclusion(text, details)
    difference = mean(contrast.difference.value)
    same_sign = all((summary.difference or 0.0) * difference > 0 for summary in summaries)
    if not (same_sign and set.intersection(*differing)):
        text = (
            f"A group by {display_name(name)} is represented differently from the others in "
            f"{sum(map(bool, differing))} of {len(differing)} seeds; not all seeds agree."
        )
        return Conclusion(text, details)
    word = "more" if difference > 0 else "less"
    text = f"The two models agree {word} on {best} than on {worst}, by {display_name(name)}."
    return Conclusion(text, details, "a gap")


def _differing(summary: AttributeSummary) -> set[str]:
    """Return the groups that are shown to differ from the other groups."""
    return {
        group.group
        for group in summary.groups
        if group.p_adjusted is not None and group.p_adjusted < 0.05
    }


def _note(group: GroupSimilarity, patient: str) -> str:
    auc = f", AUC {plain(group.auc)}" if group.auc is not None else ""
    return f"{count_text(group.patients, patient)}{auc}"


def _ratio(ratio: SizeRatio) -> str:
    """Return the sentence on a ratio of differences between two attributes."""
    first, second = display_name(ratio.attribute), display_name(ratio.over)
    if ratio.size is None:
        return f"{first} over {second}: no ratio, as {ratio.undefined}."
    value, low, high = (plain(number, 2) for number in vars(ratio.size).values())
    return f"{first} over {second}: {value} ({low} to {high})."


def _map(title: str, note: str, numbers: LayerMatrix, measured: SimilarityRecord) -> HeatMap:
    """Lay out a heat map of similarities."""

    def cell(value: float, interval: str) -> HeatCell:
        return HeatCell(plain(value, 2), 100 * min(max(value, 0), 1), "similar", interval)

    return _heat_map(title, note, numbers, measured, cell)


def _difference(title: str, note: str, numbers: LayerMatrix, measured: SimilarityRecord) -> HeatMap:
    """Lay out a heat map of differences of similarities."""

    def cell(value: float, interval: str) -> HeatCell:
        color = "similar" if value > 0 else "apart"
        strength = 100 * min(abs(value) / STRONGEST, 1)
        return HeatCell(signed(plain(value, 2)), strength, color, interval)

    return _heat_map(title, note, numbers, measured, cell)


def _heat_map(
    title: str,
    note: str,
    numbers: LayerMatrix,
    measured: SimilarityRecord,
    cell: Callable[[float, str], HeatCell],
) -> HeatMap:
    """Lay out a heat map; ``cell`` makes a cell from a value and the text of its interval."""
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
