"""Reduce the training patients, of everybody or of one group, for learning curves."""

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
"""The shares of the patients that a learning curve trains on, in addition to all of them."""

EVERYBODY = "everybody"


@dataclass(frozen=True)
class Thinning:
    """A group whose training patients are reduced; all other patients stay.

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
            The value of ``--curve``.
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
                f"--curve {text}: give the patients to reduce: {EVERYBODY}, or a group as "
                "ATTRIBUTE=LEVEL."
            )
        for part in attribute_parts(attribute):
            pick("attribute", part, levels)
        groups = map("*".join, product(*(levels[part] for part in attribute_parts(attribute))))
        pick(f"group of {attribute}", level, dict.fromkeys(groups))
        return cls(attribute, level)

    @classmethod
    def of_texts(cls, texts: Sequence[str], levels: Mapping[str, Sequence[str]]) -> list[Thinning]:
        """Read several texts of ``--curve``, and drop repeated ones; see `of_text`."""
        return [cls.of_text(text, levels) for text in dict.fromkeys(texts)]

    @property
    def name(self) -> str:
        """The name on the command line and the page."""
        return EVERYBODY if self.attribute is None else f"{self.attribute}={self.level}"

    @property
    def auc(self) -> Key | None:
        """The key of the group's AUC; None for everybody."""
        if self.attribute is None or self.level is None:
            return None
        return Key(self.attribute, self.level, "auc")

    def rows(self, cohort: Cohort) -> NDArray[np.bool_]:
        """Return ``(n,)`` whether each sample belongs to the patients that are reduced."""
        if self.attribute is None:
            return np.ones(len(cohort), dtype=np.bool_)
        groups = group_of(cohort.table, self.attribute, cohort.levels)
        patients = cohort.table["patient_id"]
        in_group: NDArray[np.bool_] = patients.isin(patients[groups == self.level]).to_numpy(
            np.bool_
        )
        return in_group

    def thin(
        self, cohort: Cohort, share: float, attributes: Sequence[str], rng: np.random.Generator
    ) -> Cohort:
        """Return a cohort with a share of the group's patients, and all patients of other groups.

        With one seed, smaller shares are parts of larger ones. The share is the same for each label
        in each group of the attributes, and at least one patient of each stays.
        """
        if share == 1:
            return cohort
        reduced = self.rows(cohort)
        part = share_of_patients(cohort.select(reduced), share, rng, attributes)
        kept = cohort.table["sample_id"].isin(part.table["sample_id"]).to_numpy(np.bool_)
        return cohort.select(~reduced | kept)

    def patients(self, cohort: Cohort) -> int:
        """Return the number of patients of the group, before it is reduced."""
        return int(cohort.table.loc[self.rows(cohort), "patient_id"].nunique())
