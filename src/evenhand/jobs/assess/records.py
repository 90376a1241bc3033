"""The rows of ``metrics.json`` of an assessment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from evenhand.experiments.runs import Run
from evenhand.jobs.assess.claims import RecipeClaim, RecipeClaims, uncorrected_claims
from evenhand.jobs.assess.evaluation import Evaluation
from evenhand.jobs.assess.grid import with_share
from evenhand.jobs.assess.settings import SUPERVISED
from evenhand.jobs.assess.values import Value
from evenhand.metrics import CONTRASTS, FAIRNESS
from evenhand.metrics.rows import Key, MetricRow
from evenhand.metrics.table import RowNames

METHOD = "percentile bootstrap of patients, mean over seeds"
PAIRED = {
    True: "t, patients (bootstrap) and seeds, Satterthwaite",
    False: "t, patients (bootstrap), these two models",
}
"""The ``interval_method`` of differences: with several seeds, and with one."""

RELATIVE = ("deviation_from_parity", "relative_reduction_of_deviation")
"""Numbers that only an assessment has and that compare with the reference group."""

REASON = "a group lacks a class or a decision"
"""The reason of undefined numbers."""

Number = tuple[Key, Value]
"""A number: its key, and its value with the interval."""


def write_metric_rows(
    run: Run, evaluations: Sequence[Evaluation], all_claims: Sequence[RecipeClaims]
) -> None:
    """Write ``metrics.json``: a row for each number of each cell and of each pair of cells."""
    rows = [row for evaluation in evaluations for row in _rows(evaluation, all_claims)]
    run.write_metrics(rows)


def _rows(evaluation: Evaluation, all_claims: Sequence[RecipeClaims]) -> Iterator[MetricRow]:
    judged = {
        (claims.cell, claims.against): claims.family
        for claims in all_claims
        if claims.evaluation is evaluation
    }
    others = [(cell, SUPERVISED) for cell in evaluation.judged if cell != SUPERVISED]
    for cell in evaluation.judged:
        names = RowNames(with_share(cell, evaluation.share), split="test")
        yield from (
            _row(evaluation, names, METHOD, number) for number in _numbers(evaluation, cell)
        )
    for pair in dict.fromkeys((*others, *judged)):
        yield from _differences(evaluation, pair, judged.get(pair))


def _numbers(evaluation: Evaluation, cell: str) -> Iterator[Number]:
    """Yield the numbers of a cell."""
    judged = evaluation.judged[cell]
    yield Key("*", "*", "auc"), Value.of(judged.auc)
    for (attribute, level), auc in judged.by_group.items():
        yield Key(attribute, level, "auc"), Value.of(auc)
        yield Key(attribute, level, "auc", "less_overall"), Value.of(auc - judged.auc)
    for attribute, aaod in judged.aaod.items():
        yield Key(attribute, "*", "deviation_from_parity"), evaluation.deviation(cell, attribute)
        yield Key(attribute, "*", "average_absolute_odds_difference"), Value.of_size(aaod)
    for key, values in judged.numbers.items():
        if key[:2] in evaluation.sizes:
            yield key, Value.of_size(values) if key.aggregate == "gap" else Value.of(values)


def _differences(
    evaluation: Evaluation, pair: tuple[str, str], judged: Sequence[RecipeClaim] | None
) -> Iterator[MetricRow]:
    """Yield the differences of a pair of cells; p is corrected if the page judges the pair."""
    method = PAIRED[evaluation.seeds > 1]
    model, other = (with_share(cell, evaluation.share) for cell in pair)
    names = RowNames(model, other, "test")
    for claim in judged or uncorrected_claims(evaluation, *pair):
        difference = claim.change.difference
        yield replace(
            _row(evaluation, names, method, (claim.key, claim.change.shown)),
            p=difference.p if difference else None,
            p_adjusted=claim.p_adjusted,
        )
    cell, against = pair
    for attribute in evaluation.attributes:
        key = Key(attribute, "*", "relative_reduction_of_deviation")
        reduction = evaluation.reduction(cell, attribute, against)
        yield _row(evaluation, names, method, (key, reduction))


def _row(evaluation: Evaluation, names: RowNames, method: str, number: Number) -> MetricRow:
    key, value = number
    size = evaluation.sizes[key.attribute, key.group]
    return MetricRow(
        model=names.model,
        against=names.against,
        split=names.split,
        attribute=key.attribute,
        group=key.group,
        base=key.base,
        aggregate=key.aggregate,
        reference=evaluation.references.get(key.attribute) if _is_relative(key) else None,
        value=value.value,
        low=value.low,
        high=value.high,
        level=None if value.low is None else 0.95,
        interval_method=None if value.low is None else method,
        n=size.n,
        patients=size.patients,
        positives=size.positives,
        undefined=REASON if value.value is None else None,
    )


def _is_relative(key: Key) -> bool:
    """Return whether a number compares with the reference group."""
    metric = FAIRNESS.get(key.base)
    has_reference = metric is not None and metric.over == "reference"
    return has_reference or key.base in RELATIVE or key.aggregate in CONTRASTS
