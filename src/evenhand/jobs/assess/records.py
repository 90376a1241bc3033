"""The numbers of an assessment as the rows of ``metrics.json``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from evenhand.experiments.runs import Run
from evenhand.files import write_json
from evenhand.jobs.assess.claims import claims_of
from evenhand.jobs.assess.evaluation import Evaluation, Value
from evenhand.jobs.assess.settings import SUPERVISED
from evenhand.metrics.table import COLUMNS

METHOD = "percentile bootstrap of patients, mean over seeds"
PAIRED = {
    True: "t, patients (bootstrap) and seeds, Satterthwaite",
    False: "t, patients (bootstrap), these two models",
}
"""The ``method`` of differences: with several seeds, and with one."""

REASON = "a ratio has no value: a group lacks a class or a decision"

Number = tuple[str, str, str, Value]
"""Attribute, group, metric, and the value with its interval."""


def write_metrics(run: Run, found: Sequence[Evaluation]) -> None:
    """Write one row per number; a cell's model name is its strategy, and its share below 1."""
    rows = [row for evaluation in found for row in _rows(evaluation)]
    write_json(run.root / "metrics.json", {"schema": 1, "rows": rows})


def _rows(found: Evaluation) -> Iterator[dict[str, Any]]:
    suffix = "" if found.share == 1 else f"-{100 * found.share:g}pct"
    for cell in found.judged:
        model = {"model": cell + suffix, "method": METHOD}
        yield from (_row(found, model, number) for number in _numbers(found, cell))
        if cell != SUPERVISED:
            pair = {"model": cell + suffix, "against": SUPERVISED + suffix}
            pair["method"] = PAIRED[found.seeds > 1]
            yield from _differences(found, cell, pair)


def _numbers(found: Evaluation, cell: str) -> Iterator[Number]:
    """Yield what is said of a cell by itself."""
    judged = found.judged[cell]
    yield "*", "*", "auc", Value.of(judged.auc)
    for (attribute, level), auc in judged.by_group.items():
        yield attribute, level, "auc", Value.of(auc)
        yield attribute, level, "auc_less_overall", Value.of(auc - judged.auc)
    for attribute, aaod in judged.aaod.items():
        yield attribute, "*", "deviation_from_parity", found.deviation(cell, attribute)
        yield attribute, "*", "average_absolute_odds_difference", Value.of_size(aaod)


def _differences(found: Evaluation, cell: str, pair: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the differences of a cell from supervised; only the chosen cell's p are adjusted."""
    for claim in claims_of(found, cell).family:
        known = claim.change.difference
        adjusted = claim.p_adjusted if cell == found.chosen else None
        number = (claim.attribute, claim.group, claim.metric, claim.change.shown)
        p = {"p": known.p if known else None, "p_adjusted": adjusted}
        yield _row(found, pair, number) | p
    for attribute in found.judged[cell].deviation:
        less = found.reduction(cell, attribute)
        number = (attribute, "*", "relative_reduction_of_deviation", less)
        yield _row(found, pair, number)


def _row(found: Evaluation, about: dict[str, str], number: Number) -> dict[str, Any]:
    attribute, group, metric, value = number
    names = {"split": "test", "attribute": attribute, "group": group, "metric": metric}
    more = {"level": None if value.low is None else 0.95}
    undefined = {"undefined": None if value.value is not None else REASON}
    counts = asdict(found.sizes[attribute, group])
    return dict.fromkeys(COLUMNS) | about | names | asdict(value) | more | counts | undefined
