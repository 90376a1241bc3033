"""Claims about the best cells against others, corrected together over the page.

With one seed of each cell a claim is about these two models, with several about the two recipes.
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
"""Stages of a page that claim differences of models (4 and 5); they share its 5 % equally."""


def on_page(p: float) -> float:
    """Return a p-value that is corrected in its stage, corrected for the stages of the page.

    Examples
    --------
    >>> on_page(0.02), on_page(0.7)
    (0.04, 1.0)
    """
    return min(1.0, STAGES * p)


@dataclass(frozen=True)
class RecipeClaim:
    """One number of a cell less that of another, and whether it is shown to differ.

    Attributes
    ----------
    key
        What it is about, as in ``metrics.json``.
    change
        The number.
    p_adjusted
        Its p-value, corrected by Holm for all numbers of stage 5 and then for the two stages that
        claim something; None where it has none.
    """

    key: Key
    change: Change
    p_adjusted: float | None = None

    @property
    def attribute(self) -> str:
        """The attribute that it is about."""
        return self.key.attribute

    @property
    def group(self) -> str:
        """The group that it is about, or ``"*"``."""
        return self.key.group

    @property
    def sign(self) -> int:
        """1 where the change is shown to be for the better, -1 for the worse, else 0."""
        if self.p_adjusted is None or self.p_adjusted > CLAIM or not self.change.value:
            return 0
        if self.key.base == DEVIATION:
            return -1 if self.change.value > 0 else 1
        return 1 if is_better(self.key, self.change.value) else -1


@dataclass(frozen=True, eq=False)
class RecipeClaims:
    """Every number that the page judges of a pair of cells.

    Attributes
    ----------
    evaluation
        Whose cells they are.
    cell, against
        The two cells.
    everybody
        The change in everybody's AUC.
    deviation
        The change in deviation from parity, by attribute.
    groups
        The change in AUC of each group, by attribute.
    picked
        The changes in what the guide or the user picked, by attribute.
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
        """The level that the other cell serves worst on validation, by attribute."""
        return self.evaluation.worst.get(self.against, {})

    def levelled_down(self, attribute: str) -> tuple[RecipeClaim, ...]:
        """Return the groups that are shown to lose AUC; none where this is not levelling down.

        It is levelling down unless the group that the other cell serves worst on validation is
        shown to gain. Where that group is not known, any group that is shown to gain prevents it.
        """
        groups = self.groups[attribute]
        gains = {claim.group for claim in groups if claim.sign > 0}
        losses = tuple(claim for claim in groups if claim.sign < 0)
        worst = self.worst.get(attribute)
        return () if (worst in gains if worst else gains) else losses


def claims_of(evaluations: Sequence[Evaluation]) -> tuple[RecipeClaims, ...]:
    """Compare every pair of cells that the page judges; all claims are corrected together.

    The chosen cell against supervised, of the first evaluation, comes first.
    """
    pairs = [(evaluation, *pair) for evaluation in evaluations for pair in evaluation.pairs]
    raw = [list(changes(*pair)) for pair in pairs]
    corrected = iter(_corrected([claim for claims in raw for claim in claims]))
    return tuple(
        _sorted(pair, [next(corrected) for _ in claims])
        for pair, claims in zip(pairs, raw, strict=True)
    )


def changes(evaluation: Evaluation, cell: str, against: str) -> Iterator[RecipeClaim]:
    """Yield what is judged of a pair of cells, not corrected yet."""
    yield RecipeClaim(Key("*", "*", AUC), evaluation.difference(cell, against))
    for name in evaluation.judged[against].deviation:
        yield RecipeClaim(Key(name, "*", DEVIATION), evaluation.fairer(cell, name, against))
    for key, change in evaluation.by_group(cell, against).items():
        yield RecipeClaim(Key(*key, AUC), change)
    for picked in evaluation.picked:
        yield RecipeClaim(picked, evaluation.change_of(cell, picked, against))


def _sorted(pair: tuple[Evaluation, str, str], claims: Sequence[RecipeClaim]) -> RecipeClaims:
    everybody, *others = claims
    deviation = {claim.attribute: claim for claim in others if claim.key.base == DEVIATION}

    def claims_of_metric(name: str, *, auc: bool) -> tuple[RecipeClaim, ...]:
        own = (c for c in others if c.attribute == name and c.key.base != DEVIATION)
        return tuple(claim for claim in own if (claim.key.base == AUC) == auc)

    groups = {name: claims_of_metric(name, auc=True) for name in deviation}
    picked = {name: claims_of_metric(name, auc=False) for name in deviation}
    return RecipeClaims(*pair, everybody, deviation, groups, picked)


def _corrected(claims: Sequence[RecipeClaim]) -> list[RecipeClaim]:
    differences = [claim.change.difference for claim in claims]
    adjusted = holm([np.nan if change is None else change.p for change in differences])
    return [
        replace(claim, p_adjusted=None if np.isnan(p) else on_page(float(p)))
        for claim, p in zip(claims, adjusted, strict=True)
    ]
