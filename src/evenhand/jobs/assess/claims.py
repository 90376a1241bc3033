"""Claims about differences between cells, corrected together over the page.

With one seed of each cell, a claim is about two models; with several seeds, about two recipes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from evenhand.jobs.assess.evaluation import Evaluation
from evenhand.jobs.assess.values import Change
from evenhand.metrics.claims import CLAIM
from evenhand.metrics.permutation import holm
from evenhand.metrics.recipes import is_better
from evenhand.metrics.rows import Key

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
