"""Claims about differences between cells, corrected together over the page.

With one seed of each cell, a claim is about two models; with several seeds, about two recipes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from evenhand.experiments.runs import Run
from evenhand.jobs.assess.evaluation import Change, Evaluation, Value
from evenhand.jobs.assess.grid import with_share
from evenhand.jobs.assess.settings import SUPERVISED
from evenhand.metrics import CONTRASTS, FAIRNESS
from evenhand.metrics.claims import CLAIM
from evenhand.metrics.permutation import holm
from evenhand.metrics.recipes import is_better
from evenhand.metrics.rows import Key, MetricRow
from evenhand.metrics.table import RowNames

AUC, DEVIATION = "auc", "deviation_from_parity"

STAGES = 2
"""The number of stages with claims about models (4 and 5); each has half of the page's 5 %."""


def correct_for_stages(p: float) -> float:
    """Correct a stage's p-value for the number of stages of the page with claims.

    Examples
    --------
    >>> correct_for_stages(0.02), correct_for_stages(0.7)
    (0.04, 1.0)
    """
    return min(1.0, STAGES * p)


@dataclass(frozen=True)
class RecipeClaim:
    """The difference of one number between two cells, with its corrected p-value.

    Attributes
    ----------
    key
        The attribute, group and metric, as in ``metrics.json``.
    change
        The difference.
    p_adjusted
        The p-value, corrected by Holm over all numbers of stage 5 and then for the two stages with
        claims; None if there is none.
    """

    key: Key
    change: Change
    p_adjusted: float | None = None

    @property
    def attribute(self) -> str:
        """The attribute of the number."""
        return self.key.attribute

    @property
    def group(self) -> str:
        """The group of the number, or ``"*"``."""
        return self.key.group

    @property
    def sign(self) -> int:
        """1 if the change is shown to be for the better, -1 if for the worse, else 0."""
        if self.p_adjusted is None or self.p_adjusted > CLAIM or not self.change.value:
            return 0
        if self.key.base == DEVIATION:
            return -1 if self.change.value > 0 else 1
        return 1 if is_better(self.key, self.change.value) else -1


@dataclass(frozen=True, eq=False)
class RecipeClaims:
    """All claims about a pair of cells.

    Attributes
    ----------
    evaluation
        The evaluation of the cells.
    cell, against
        The two cells; differences are the first minus the second.
    everybody
        The claim about everybody's AUC.
    deviation
        The claim about deviation from parity, by attribute.
    groups
        The claims about the AUC of each group, by attribute.
    picked
        The claims about metrics that the decision guide or the user picked, by attribute.
    """

    evaluation: Evaluation
    cell: str
    against: str
    everybody: RecipeClaim
    deviation: dict[str, RecipeClaim]
    groups: dict[str, tuple[RecipeClaim, ...]]
    picked: dict[str, tuple[RecipeClaim, ...]]

    @property
    def family(self) -> tuple[RecipeClaim, ...]:
        """All claims about the pair."""
        several = (*self.groups.values(), *self.picked.values())
        return (self.everybody, *self.deviation.values(), *chain.from_iterable(several))

    @property
    def worst(self) -> Mapping[str, str]:
        """The level that the cell ``against`` serves worst on validation, by attribute."""
        return self.evaluation.worst.get(self.against, {})

    def levelled_down(self, attribute: str) -> tuple[RecipeClaim, ...]:
        """Return the claims about groups that lose AUC; none if this is not levelling down.

        Losses are levelling down unless the group that ``against`` serves worst on validation is
        shown to gain. If that group is unknown, a gain of any group suffices.
        """
        groups = self.groups[attribute]
        gains = {claim.group for claim in groups if claim.sign > 0}
        losses = tuple(claim for claim in groups if claim.sign < 0)
        worst = self.worst.get(attribute)
        return () if (worst in gains if worst else gains) else losses


def make_claims(evaluations: Sequence[Evaluation]) -> tuple[RecipeClaims, ...]:
    """Return the claims about every pair of cells that the page judges, corrected together.

    The chosen cell of the first evaluation against supervised comes first.
    """
    pairs = [(evaluation, *pair) for evaluation in evaluations for pair in evaluation.pairs]
    uncorrected = [list(uncorrected_claims(*pair)) for pair in pairs]
    corrected = iter(_correct([claim for claims in uncorrected for claim in claims]))
    return tuple(
        _by_attribute(pair, [next(corrected) for _ in claims])
        for pair, claims in zip(pairs, uncorrected, strict=True)
    )


def uncorrected_claims(evaluation: Evaluation, cell: str, against: str) -> Iterator[RecipeClaim]:
    """Yield the claims about a pair of cells, without corrected p-values."""
    yield RecipeClaim(Key("*", "*", AUC), evaluation.auc_difference(cell, against))
    for name in evaluation.attributes:
        difference = evaluation.deviation_difference(cell, name, against)
        yield RecipeClaim(Key(name, "*", DEVIATION), difference)
    for key, change in evaluation.group_differences(cell, against).items():
        yield RecipeClaim(Key(*key, AUC), change)
    for picked in evaluation.picked_keys:
        yield RecipeClaim(picked, evaluation.picked_difference(cell, picked, against))


def _by_attribute(pair: tuple[Evaluation, str, str], claims: Sequence[RecipeClaim]) -> RecipeClaims:
    everybody, *others = claims
    deviation = {claim.attribute: claim for claim in others if claim.key.base == DEVIATION}
    groups: dict[str, tuple[RecipeClaim, ...]] = dict.fromkeys(deviation, ())
    picked: dict[str, tuple[RecipeClaim, ...]] = dict.fromkeys(deviation, ())
    for claim in others:
        if claim.key.base != DEVIATION:
            claims_of_kind = groups if claim.key.base == AUC else picked
            claims_of_kind[claim.attribute] += (claim,)
    return RecipeClaims(*pair, everybody, deviation, groups, picked)


def _correct(claims: Sequence[RecipeClaim]) -> list[RecipeClaim]:
    differences = [claim.change.difference for claim in claims]
    adjusted = holm([np.nan if change is None else change.p for change in differences])
    return [
        replace(claim, p_adjusted=None if np.isnan(p) else correct_for_stages(float(p)))
        for claim, p in zip(claims, adjusted, strict=True)
    ]


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
    """Yield the differences of two cells; p is corrected if the page has a verdict on them."""
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
