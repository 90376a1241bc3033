"""The numbers of an assessment as the rows of ``metrics.json``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from evenhand.assess.evaluation import Evaluation, Value
from evenhand.assess.settings import SUPERVISED
from evenhand.measure.table import COLUMNS

METHOD = "percentile bootstrap of patients, mean over seeds"


def records_of(found: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Return one row per number; a cell's model name is its strategy, and its share below 1."""
    return [row for evaluation in found for row in _rows(evaluation)]


def _rows(found: Evaluation) -> Iterator[dict[str, Any]]:
    suffix = "" if found.share == 1 else f"-{100 * found.share:g}pct"
    for cell, judged in found.judged.items():
        model = {"model": cell + suffix}
        yield _row(model, "*", "*", "auc", Value.of(judged.auc))
        for (attribute, level), auc in judged.by_group.items():
            yield _row(model, attribute, level, "auc", Value.of(auc))
            yield _row(model, attribute, level, "auc_less_overall", Value.of(auc - judged.auc))
        for attribute in judged.deviation:
            deviation, aaod = judged.deviation[attribute], judged.aaod[attribute]
            yield _row(model, attribute, "*", "deviation_from_parity", Value.of(deviation))
            yield _row(model, attribute, "*", "average_absolute_odds_difference", Value.of(aaod))
        if cell == SUPERVISED:
            continue
        pair = model | {"against": SUPERVISED + suffix}
        yield _row(pair, "*", "*", "auc", found.difference(cell))
        for (attribute, level), value in found.by_group(cell).items():
            yield _row(pair, attribute, level, "auc", value)
        for attribute in judged.deviation:
            fairer, less = found.fairer(cell, attribute), found.reduction(cell, attribute)
            yield _row(pair, attribute, "*", "deviation_from_parity", fairer)
            yield _row(pair, attribute, "*", "relative_reduction_of_deviation", less)


def _row(
    models: dict[str, str], attribute: str, group: str, metric: str, value: Value
) -> dict[str, Any]:
    reason = "a ratio has no value: a group lacks a class or a decision"
    about = {"split": "test", "attribute": attribute, "group": group, "metric": metric}
    numbers = {"value": value.value, "low": value.low, "high": value.high}
    more = {"level": None if value.low is None else 0.95, "method": METHOD}
    undefined = {"undefined": None if value.value is not None else reason}
    return dict.fromkeys(COLUMNS) | models | about | numbers | more | undefined
