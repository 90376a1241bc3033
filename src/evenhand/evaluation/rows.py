"""From predictions to the rows of ``metrics.json``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Literal, ParamSpec

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.errors import EvenhandError
from evenhand.metrics import (
    UNKNOWN,
    Groups,
    Measured,
    Plan,
    Policy,
    Progress,
    RowNames,
    Scored,
    as_table,
    attribute_groups,
    by_group,
    judge,
    measure_part,
    occurring,
    policy,
    scored,
    within,
)
from evenhand.tables.predictions import Predictions
from evenhand.wording import counted

P = ParamSpec("P")

Origin = Literal["classes", "validation", "default", "fixed", "run"]
"""Where a threshold comes from: there is none, as more than two classes are decided by the highest
score; it was chosen on the validation rows; it is .5 for lack of such rows; it was given; or it
came with the model from the run that trained it."""


@dataclass(frozen=True, eq=False)
class Cut:
    """Where scores are cut into decisions, and how that was found.

    Attributes
    ----------
    threshold
        Class 1 is decided at this score and above.
    how
        How the threshold was found, in words for the report.
    attribute, own
        With a threshold per group: the attribute, and the thresholds by level. Levels that are
        not among them take ``threshold``.
    origin
        Where the threshold comes from.
    """

    threshold: float
    how: str
    attribute: str | None = None
    own: Mapping[str, float] = field(default_factory=dict)
    origin: Origin = "fixed"

    def at(self, predictions: Predictions) -> NDArray[np.float64]:
        """Return the threshold of each row, ``(n,)``."""
        thresholds = np.full(len(predictions), self.threshold)
        if self.attribute is not None:
            group = predictions.group(self.attribute)
            for level, threshold in self.own.items():
                thresholds[(group == level).to_numpy()] = threshold
        return thresholds


def cut_of(predictions: Predictions, rule: Policy | None = None, *, by: str | None = None) -> Cut:
    """Choose the threshold on the validation rows.

    Parameters
    ----------
    rule
        The policy; by default Youden's index. Where there are too few validation rows for it
        (`evenhand.metrics.thresholds.ENOUGH`), the threshold is .5, and ``how`` says why.
    by
        An attribute whose groups get a threshold each.

    Raises
    ------
    EvenhandError
        The policy needs validation rows and there are none, or there are more than two classes.
    """
    if len(predictions.classes) > 2:
        if rule or by:
            raise EvenhandError(
                f"thresholds are for two classes; there are {len(predictions.classes)}, and the "
                "class with the highest score is decided."
            )
        return Cut(0.5, "the class with the highest score", origin="classes")
    rows = predictions.of_split("val")
    if not len(rows) and rule is None and by is None:
        return Cut(0.5, "0.5, as there are no validation rows", origin="default")
    rule = rule or policy("youden")
    if by is not None and not rule.needs_rows:
        raise EvenhandError(
            f"a threshold {rule.says} is the same for every group of {by}; choose one on "
            "validation rows, such as youden, or leave the groups out."
        )
    if not len(rows) and rule.needs_rows:
        raise EvenhandError(
            f"the threshold policy {rule.name!r} needs rows of the split 'val', and there are "
            "none; give such rows, or a fixed threshold such as 0.5."
        )
    if not rule.needs_rows:
        return Cut(rule.on(rows.labels, rows.scores), rule.says)
    return _fitted(rule, rows) if by is None else _fitted_by_group(rule, rows, by)


def _fitted(rule: Policy, rows: Predictions) -> Cut:
    threshold, lacks = rule.on(rows.labels, rows.scores), rule.lacks(rows.labels)
    if lacks:
        how = f"0.5 and not {rule.says}, as the validation rows hold {lacks}"
        return Cut(threshold, how, origin="default")
    return Cut(threshold, f"{rule.says}, on the validation rows", origin="validation")


def _fitted_by_group(rule: Policy, rows: Predictions, by: str) -> Cut:
    (groups,) = groups_in(rows, [by]).values()
    of_all, own = by_group(rule, rows.labels, rows.scores, groups)
    shared = _fitted(rule, rows)
    others = {
        level: rule.lacks(rows.labels[groups.rows(level)])
        for level in groups.levels
        if level not in own
    }
    if not own:
        return replace(shared, how=f"{shared.how}; no group of {by} is large enough for its own")
    how = f"{rule.says}, on the validation rows, for each group of {by}"
    if others:
        few = "; ".join(f"{level}: {lacks}" for level, lacks in others.items())
        how += f"; too small for their own ({few}), the others take that of all rows ({shared.how})"
    return Cut(of_all, how, by, own, origin="validation")


def scored_rows(predictions: Predictions, cut: Cut) -> Scored:
    """Return predictions as the arrays that `evenhand.metrics.measure` takes."""
    return scored(
        predictions.labels,
        predictions.scores,
        patients=predictions.patients[0],
        threshold=cut.threshold if cut.attribute is None else cut.at(predictions),
        classes=predictions.classes,
    )


def groups_in(predictions: Predictions, attributes: Sequence[str]) -> dict[str, Groups]:
    """Return the groups of attributes; ``unknown`` only where it occurs.

    An attribute may be an intersection (``"sex*age"``), whose groups are the combinations that
    occur in these rows, or conditioned on another
    (``"sex|site"``), which gives one attribute for each level of that one (``"sex|site=A"``).
    """
    groups: dict[str, Groups] = {}
    for attribute in attributes:
        divided, bar, control = attribute.partition("|")
        if bar:
            own = within(
                divided, _coded(predictions, divided), control, _coded(predictions, control)
            )
            groups |= {name: occurring(divided, each) for name, each in own.items()}
        else:
            groups[attribute] = _coded(predictions, attribute)
    return groups


def model_part(
    predictions: Predictions,
    attributes: Sequence[str],
    *,
    model: str,
    seed: int,
    plan: Plan | None = None,
    split: str = "test",
    cut: Cut | None = None,
    progress: Progress | None = None,
) -> Measured:
    """Measure one model on one split; decisions are cut at a threshold from validation rows.

    Parameters
    ----------
    attributes
        Names of attributes, or of intersections such as ``"sex*age"``.
    model
        What the rows call the model.
    seed
        The same seed draws the same patients for every model.
    plan
        What is measured.
    split
        Whose rows: train, val or test.
    cut
        Where scores are cut (see `cut_of`, whose default it is).
    progress
        As for `evenhand.metrics.measure`.

    Returns
    -------
    Measured
        The rows without p-values yet: `evenhand.metrics.judge` tests the parts of a page together.

    Raises
    ------
    EvenhandError
        There are no rows of that split, or an attribute is not known.
    """
    rows = rows_of(predictions, split)
    return measure_part(
        scored_rows(rows, cut or cut_of(predictions)),
        groups_in(rows, attributes),
        plan,
        rng=np.random.default_rng(seed),
        progress=progress,
        names=RowNames(model, split=split),
        patients=_patients(rows),
    )


def pair_part(
    pair: tuple[Predictions, Predictions],
    attributes: Sequence[str],
    *,
    names: tuple[str, str],
    seed: int,
    plan: Plan | None = None,
    split: str = "test",
    cuts: tuple[Cut, Cut] | None = None,
    progress: Progress | None = None,
) -> Measured:
    """Measure the first model less the second, on the samples that both have scored.

    Parameters
    ----------
    pair
        Predictions of the two models.
    names
        What the rows call the two models (``model``, ``against``).
    cuts
        Where each model's scores are cut, as for `model_part`.
    attributes, seed, plan, split, progress
        As for `model_part`; levels are the first model's.

    Raises
    ------
    EvenhandError
        No sample of the split is in both, or a sample has two labels or two patients.
    """
    first, second = matched(rows_of(pair[0], split), rows_of(pair[1], split))
    first_cut, other = cuts or (cut_of(pair[0]), cut_of(pair[1]))
    return measure_part(
        scored_rows(first, first_cut),
        groups_in(first, attributes),
        plan,
        rng=np.random.default_rng(seed),
        against=scored_rows(second, other),
        progress=progress,
        names=RowNames(*names, split),
        patients=_patients(first),
    )


def _judged(part: Callable[P, Measured]) -> Callable[P, pd.DataFrame]:
    """Return the function that measures a part and tests its claims by themselves."""

    def rows(*args: P.args, **kwargs: P.kwargs) -> pd.DataFrame:
        return as_table(judge([part(*args, **kwargs)]))

    return rows


metric_rows = _judged(model_part)
"""`model_part` by itself: a data frame with the columns of ``metrics.json``."""

paired_rows = _judged(pair_part)
"""`pair_part` by itself: a data frame with the columns of ``metrics.json``."""


def _patients(predictions: Predictions) -> str:
    """Return a hash of the patients; with one seed, equal hashes mean the same resamples."""
    return sha256("\n".join(predictions.patients[1].tolist()).encode()).hexdigest()


def matched(first: Predictions, second: Predictions) -> tuple[Predictions, Predictions]:
    """Return the rows that two models share, by sample, in the first one's order.

    Raises
    ------
    EvenhandError
        None is shared, the classes differ, or a shared sample has two labels, patients or groups.
    """
    if first.classes != second.classes:
        raise EvenhandError(
            f"the models tell other classes apart: {', '.join(first.classes)}; and "
            f"{', '.join(second.classes)}."
        )
    other = second.table.set_index("sample_id")
    kept = first.table[first.table["sample_id"].isin(other.index)].reset_index(drop=True)
    if kept.empty:
        raise EvenhandError("the two models have no sample in common; compare on the same data.")
    second_rows = other.loc[kept["sample_id"]].reset_index()
    attributes = [f"attr_{name}" for name in first.levels if name in second.levels]
    for column in ("label", "patient_id", *attributes):
        differs = kept["sample_id"][(kept[column] != second_rows[column]).to_numpy()]
        if len(differs):
            raise EvenhandError(
                f"{counted(len(differs), 'sample')} with another {column} in the other model's "
                f"predictions ({differs.iloc[0]!r} for one); they come from other data."
            )
    return (
        Predictions(kept, first.classes, first.levels),
        Predictions(second_rows, second.classes, second.levels),
    )


def rows_of(predictions: Predictions, split: str) -> Predictions:
    """Return the rows of a split.

    Raises
    ------
    EvenhandError
        There are none; the text names the splits that there are.
    """
    rows = predictions.of_split(split)
    if not len(rows):
        there = ", ".join(predictions.splits) or "no split column, so that all are test rows"
        raise EvenhandError(
            f"there are no rows of the split {split!r}; there are: {there}. --split names another."
        )
    return rows


def _coded(predictions: Predictions, attribute: str) -> Groups:
    group = predictions.group(attribute)
    if not (group == UNKNOWN).any():  # remove_categories would sort the others
        group = group.cat.set_categories(
            [level for level in group.cat.categories if level != UNKNOWN]
        )
    return attribute_groups(attribute, group)
