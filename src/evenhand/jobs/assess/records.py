"""The numbers of an assessment as the rows of ``metrics.json``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from evenhand.experiments.runs import Run
from evenhand.jobs.assess.claims import RecipeClaim, RecipeClaims, changes
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
"""Numbers of an assessment alone that are from the reference group."""

REASON = "a group lacks a class or a decision"

Number = tuple[Key, Value]
"""What is measured, and its value with its interval."""


def write_assessment(
    run: Run, evaluations: Sequence[Evaluation], every: Sequence[RecipeClaims]
) -> None:
    """Write one row per number; a cell's model name is its own, and its share below 1."""
    rows = [row for evaluation in evaluations for row in _rows(evaluation, every)]
    run.write_metrics(rows)


def _rows(evaluation: Evaluation, every: Sequence[RecipeClaims]) -> Iterator[MetricRow]:
    judged = {
        (claims.cell, claims.against): claims.family
        for claims in every
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
    """Yield what is said of a cell by itself."""
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
    """Yield the differences of a pair of cells; p is corrected where the page judges them."""
    method = PAIRED[evaluation.seeds > 1]
    model, other = (with_share(cell, evaluation.share) for cell in pair)
    names = RowNames(model, other, "test")
    for claim in judged or changes(evaluation, *pair):
        difference = claim.change.difference
        yield replace(
            _row(evaluation, names, method, (claim.key, claim.change.shown)),
            p=difference.p if difference else None,
            p_adjusted=claim.p_adjusted,
        )
    cell, against = pair
    for attribute in evaluation.judged[cell].deviation:
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
    """Whether a number depends on the reference group."""
    named = FAIRNESS.get(key.base)
    of_reference = named is not None and named.over == "reference"
    return of_reference or key.base in RELATIVE or key.aggregate in CONTRASTS
