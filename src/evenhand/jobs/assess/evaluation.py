"""Stage 5: what the test patients say of the cells of one share of labels.

Models that differ in their seed only are judged as one: the mean over seeds, in the data and in
each resample of patients. The interval of a cell's own number is over patients, for these seeds;
that of a difference between cells is over patients and seeds (`evenhand.metrics.seeds`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from evenhand.jobs.assess.settings import LABELLED, SUPERVISED
from evenhand.jobs.assess.values import Change, RowCounts, Value
from evenhand.metrics.parity import ParityNumbers, mean_of, relative_reduction
from evenhand.metrics.registry import Floats
from evenhand.metrics.rows import EVERYBODY, Key
from evenhand.metrics.seeds import recipe_difference, recipe_value

CHANCE = 0.5


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All cells of one share of labels, and which of them validation chose.

    Attributes
    ----------
    share
        Of the training patients, whose labels were used.
    chosen
        The cell with the best validation target of those that begin with an encoder, mean over
        seeds.
    models
        The models of each cell, one for each seed.
    worst
        Of each cell, the level of each attribute with its lowest AUC on validation; attributes
        without any such AUC are left out.
    parameters
        What each cell may change, backbone only.
    sizes
        The test rows behind the numbers of an attribute's level; ``"*"`` is all that are compared.
    best
        The best cell on validation of each start, where there are several.
    elsewhere
        The cells whose encoders were made elsewhere.
    picked
        The numbers that the guide or the user picks to judge (`Judged.numbers`).
    references
        The level of each attribute that ratios and differences are from.
    validated
        The first target of each cell on validation patients, mean over seeds; the negative of one
        that is to be small.
    """

    share: float
    chosen: str
    models: Mapping[str, tuple[ParityNumbers, ...]]
    worst: Mapping[str, Mapping[str, str]]
    parameters: Mapping[str, int]
    sizes: Mapping[tuple[str, str], RowCounts]
    best: Mapping[str, str] = field(default_factory=dict)
    elsewhere: frozenset[str] = frozenset()
    picked: tuple[Key, ...] = ()
    references: Mapping[str, str] = field(default_factory=dict)
    validated: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def judged(self) -> dict[str, ParityNumbers]:
        """Each cell, mean over seeds."""
        return {name: mean_of(list(models)) for name, models in self.models.items()}

    @property
    def seeds(self) -> int:
        """How many models each cell has."""
        return len(self.models[SUPERVISED])

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The pairs of cells that are judged, the chosen cell against supervised first.

        The best of each start is held against the cells that have labels alone, and the chosen one
        against the best of the other starts.
        """
        best = tuple(dict.fromkeys((self.chosen, *self.best.values())))
        labelled = [name for name in LABELLED if name in self.models]
        pairs = [(cell, other) for cell in best for other in labelled]
        return (*pairs, *((self.chosen, other) for other in best[1:]))

    def called(self, cell: str) -> str:
        """Return what sentences call a cell."""
        if cell in LABELLED:
            return cell
        return cell if self.best or cell in self.elsewhere else f"self-supervision ({cell})"

    @property
    def arms(self) -> dict[str, str]:
        """What is compared, by its name: the cell that stands for it."""
        arms = {name: name for name in LABELLED if name in self.models}
        if self.best:
            return {**self.best, **arms}
        name = "pre-trained" if self.chosen in self.elsewhere else "self-supervision"
        return {name: self.chosen, **arms}

    def by_seed(self, cell: str) -> tuple[float, ...]:
        """Return the AUC of each of a cell's models."""
        return tuple(float(model.auc[0]) for model in self.models[cell])

    def difference(self, cell: str, against: str = SUPERVISED) -> Change:
        """Return a cell's AUC less that of another."""
        return self._change(
            (cell, against), lambda judged: judged.auc, self._patients([("*", "*")])
        )

    def by_group(self, cell: str, against: str = SUPERVISED) -> dict[tuple[str, str], Change]:
        """Return a cell's AUC less that of another, in each group."""
        keys = self.models[against][0].by_group
        return {key: self._of_group((cell, against), key) for key in keys}

    def fairer(self, cell: str, attribute: str, against: str = SUPERVISED) -> Change:
        """Return a cell's deviation from parity less that of another; below 0 is fairer."""
        fewest = self._fewest(attribute)
        return self._change((cell, against), lambda judged: judged.deviation[attribute], fewest)

    def auc_over_seeds(self, cell: str) -> Value:
        """Return a cell's AUC with an interval over patients and seeds."""
        return self._over_seeds(cell, lambda judged: judged.auc, self._patients([("*", "*")]))

    def deviation_over_seeds(self, cell: str, attribute: str) -> Value:
        """Return a cell's deviation from parity with an interval over patients and seeds."""
        fewest = self._fewest(attribute)
        value = self._over_seeds(cell, lambda judged: judged.deviation[attribute], fewest)
        if value.low is None:
            return value
        return replace(
            value, low=max(value.low, 0.0) if self.judged[cell].apart[attribute] else 0.0
        )

    def _over_seeds(
        self, cell: str, number: Callable[[ParityNumbers], Floats], patients: int
    ) -> Value:
        values = self.stacked(cell, number)
        mean = float(values[:, 0].mean())
        around = recipe_value(values, patients)
        ends = (None, None) if around is None else (around.low, around.high)
        return Value(mean if np.isfinite(mean) else None, *ends)

    def odds(self, cell: str, attribute: str, against: str = SUPERVISED) -> Change:
        """Return a cell's average absolute odds difference less that of another."""
        fewest = self._fewest(attribute)
        return self._change((cell, against), lambda judged: judged.aaod[attribute], fewest)

    def change_of(self, cell: str, key: Key, against: str = SUPERVISED) -> Change:
        """Return a picked number of a cell less that of another."""
        whole = key.group == EVERYBODY
        fewest = self._fewest(key.attribute) if whole else self._patients([key[:2]])
        return self._change((cell, against), lambda judged: judged.numbers[key], fewest)

    def deviation(self, cell: str, attribute: str) -> Value:
        """Return a cell's deviation from parity; it may be 0 where no ratio is told from 1."""
        judged = self.judged[cell]
        deviation = Value.of_size(judged.deviation[attribute])
        sure = judged.apart[attribute] or deviation.low is None
        return deviation if sure else replace(deviation, low=0.0)

    def reduction(self, cell: str, attribute: str, against: str = SUPERVISED) -> Value:
        """Return by how much of another's deviation from parity a cell's is less.

        It has no interval where that of the other's deviation, which it is a share of, holds 0.
        Elsewhere that is the delta method's, over patients and seeds.
        """
        pair = (cell, against)
        other, base = (self.judged[name].deviation[attribute][:1] for name in pair)
        less = float(relative_reduction(base, other)[0])
        if not np.isfinite(less):
            return Value(None, None, None)
        if not self.deviation(against, attribute).low:
            return Value(less, None, None)
        changed, start = (
            self.stacked(name, lambda model: model.deviation[attribute]) for name in pair
        )
        around = recipe_difference(start * (1 - less), changed, self._fewest(attribute))
        if around is None:
            return Value(less, None, None)
        low, high = (less + end / float(base[0]) for end in (around.low, around.high))
        return Value(less, low, high)

    def claims(self, cell: str, against: str = SUPERVISED) -> bool:
        """Whether fairness can be spoken of: both AUCs' intervals lie above .5."""
        values = (Value.of(self.judged[name].auc) for name in (cell, against))
        return all(value.low is not None and value.low > CHANCE for value in values)

    def stacked(self, cell: str, number: Callable[[ParityNumbers], Floats]) -> Floats:
        """Return a number of each of a cell's models, ``(seeds, 1 + B)``."""
        return np.stack([number(model) for model in self.models[cell]])

    def _of_group(self, pair: tuple[str, str], key: tuple[str, str]) -> Change:
        return self._change(pair, lambda judged: judged.by_group[key], self._patients([key]))

    def _change(
        self, pair: tuple[str, str], number: Callable[[ParityNumbers], Floats], patients: int
    ) -> Change:
        changed, other = (self.stacked(name, number) for name in pair)
        value = float(changed[:, 0].mean() - other[:, 0].mean())
        difference = recipe_difference(changed, other, patients)
        return Change(value if np.isfinite(value) else None, difference)

    def _fewest(self, attribute: str) -> int:
        keys = [key for key in self.sizes if key[0] == attribute and key[1] != "*"]
        return self._patients(keys)

    def _patients(self, keys: Iterable[tuple[str, str]]) -> int:
        """Return the smallest number of patients of the rarer class over some groups."""
        return min(self.sizes[key].rarer for key in keys)
