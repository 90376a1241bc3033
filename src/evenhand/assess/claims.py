"""What is claimed of self-supervision: all that the page looks at, corrected together.

With one seed of each cell a claim is about these two models, with several about the two recipes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from evenhand.assess.evaluation import Change, Evaluation
from evenhand.assess.settings import SUPERVISED
from evenhand.measure.permutation import holm

LEVEL = 0.05
AUC, DEVIATION = "auc", "deviation_from_parity"


@dataclass(frozen=True)
class Claim:
    """One number of the chosen cell less that of supervised, and whether it is shown to differ.

    Attributes
    ----------
    attribute, group, metric
        As in ``metrics.json``.
    change
        The number.
    p_adjusted
        Its p-value, adjusted by Holm for all numbers of the page; None where it has none.
    """

    attribute: str
    group: str
    metric: str
    change: Change
    p_adjusted: float | None = None

    @property
    def sign(self) -> int:
        """1 where the change is shown to be for the better, -1 for the worse, else 0."""
        if self.p_adjusted is None or self.p_adjusted >= LEVEL or not self.change.value:
            return 0
        higher = 1 if self.change.value > 0 else -1
        return higher if self.metric == AUC else -higher


@dataclass(frozen=True)
class Claims:
    """Every number that the page judges.

    Attributes
    ----------
    everybody
        The change in everybody's AUC.
    deviation
        In deviation from parity, by attribute.
    groups
        In AUC, group by group, by attribute.
    worst
        See `Evaluation`.
    """

    everybody: Claim
    deviation: dict[str, Claim]
    groups: dict[str, tuple[Claim, ...]]
    worst: dict[str, str]

    @property
    def family(self) -> tuple[Claim, ...]:
        """All of them."""
        groups = (claim for claims in self.groups.values() for claim in claims)
        return (self.everybody, *self.deviation.values(), *groups)

    def levelled_down(self, attribute: str) -> tuple[Claim, ...]:
        """Return the groups that are shown to be served worse, where that is levelling down.

        That is, where the group that supervised serves worst on validation is not shown to be
        served better; where no group is known to be that one, no group is.
        """
        groups = self.groups[attribute]
        gains = {claim.group for claim in groups if claim.sign > 0}
        losses = tuple(claim for claim in groups if claim.sign < 0)
        worst = self.worst.get(attribute)
        return () if (worst in gains if worst else gains) else losses


def claims_of(found: Evaluation, cell: str | None = None) -> Claims:
    """Hold a cell (the chosen one) against supervised: everybody, each group, each attribute."""
    cell = cell or found.chosen
    claims = [Claim("*", "*", AUC, found.difference(cell))]
    attributes = tuple(found.judged[SUPERVISED].deviation)
    claims += [Claim(name, "*", DEVIATION, found.fairer(cell, name)) for name in attributes]
    claims += [Claim(*key, AUC, change) for key, change in found.by_group(cell).items()]
    everybody, *others = _adjusted(claims)
    return Claims(
        everybody,
        {claim.attribute: claim for claim in others if claim.metric == DEVIATION},
        {
            name: tuple(c for c in others if c.attribute == name and c.metric == AUC)
            for name in attributes
        },
        dict(found.worst),
    )


def _adjusted(claims: Sequence[Claim]) -> list[Claim]:
    known = [claim.change.difference for claim in claims]
    adjusted = holm([np.nan if one is None else one.p for one in known])
    return [
        replace(claim, p_adjusted=None if np.isnan(p) else float(p))
        for claim, p in zip(claims, adjusted, strict=True)
    ]
