"""Fewer training patients, of everybody or of one group: the points of a learning curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.splits import share_of_patients
from evenhand.errors import EvenhandError, pick
from evenhand.metrics.rows import Key
from evenhand.tables.attributes import attribute_parts, group_of

SHARES = (0.25, 0.5, 0.75)
"""Shares of the patients that a learning curve trains on, beside all of them."""

EVERYBODY = "everybody"


@dataclass(frozen=True)
class Thinning:
    """Whose training patients become fewer; all others stay.

    Attributes
    ----------
    attribute, level
        The group; None for everybody.
    """

    attribute: str | None = None
    level: str | None = None

    @classmethod
    def of_text(cls, text: str, levels: Mapping[str, Sequence[str]]) -> Thinning:
        """Read ``everybody`` or ``ATTRIBUTE=LEVEL``.

        Parameters
        ----------
        text
            As the command line takes it.
        levels
            The levels of each attribute.

        Raises
        ------
        EvenhandError
            If there is no such attribute or level.

        Examples
        --------
        >>> Thinning.of_text("age=60+", {"age": ("under 60", "60+")}).name
        'age=60+'
        """
        if text == EVERYBODY:
            return cls()
        attribute, _, level = text.partition("=")
        if not level:
            raise EvenhandError(
                f"--curve {text}: name whose training patients become fewer: {EVERYBODY}, or a "
                "group as ATTRIBUTE=LEVEL."
            )
        for part in attribute_parts(attribute):
            pick("attribute", part, levels)
        groups = map("*".join, product(*(levels[part] for part in attribute_parts(attribute))))
        pick(f"group of {attribute}", level, dict.fromkeys(groups))
        return cls(attribute, level)

    @property
    def name(self) -> str:
        """How the command line and the page call it."""
        return EVERYBODY if self.attribute is None else f"{self.attribute}={self.level}"

    @property
    def auc(self) -> Key | None:
        """The AUC of the group; None for everybody."""
        if self.attribute is None or self.level is None:
            return None
        return Key(self.attribute, self.level, "auc")

    def rows(self, cohort: Cohort) -> NDArray[np.bool_]:
        """Return which samples ``(n,)`` are of the patients that become fewer."""
        if self.attribute is None:
            return np.ones(len(cohort), dtype=np.bool_)
        groups = group_of(cohort.table, self.attribute, cohort.levels)
        patients = cohort.table["patient_id"]
        mine: NDArray[np.bool_] = patients.isin(patients[groups == self.level]).to_numpy(np.bool_)
        return mine

    def thinned(
        self, cohort: Cohort, share: float, attributes: Sequence[str], rng: np.random.Generator
    ) -> Cohort:
        """Return a cohort with a share of those patients, and all others.

        Shares of one seed are nested. Of each label in each group of the attributes, the share is
        the same, and one patient stays at least.
        """
        if share == 1:
            return cohort
        mine = self.rows(cohort)
        kept = share_of_patients(cohort.select(mine), share, rng, attributes).table["sample_id"]
        return cohort.select(~mine | cohort.table["sample_id"].isin(kept).to_numpy(np.bool_))

    def patients(self, cohort: Cohort) -> int:
        """Return how many patients there are of those that become fewer."""
        return int(cohort.table.loc[self.rows(cohort), "patient_id"].nunique())
