"""Measure predictions: from predictions and thresholds to the rows of ``metrics.json``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Annotated, Literal, ParamSpec

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from evenhand.errors import EvenhandError, count_text
from evenhand.metrics import (
    Groups,
    Measured,
    Plan,
    Policy,
    Progress,
    RowNames,
    Scored,
    as_scored,
    as_table,
    attribute_groups,
    judge,
    measure_part,
    occurring,
    policy,
    thresholds_by_group,
    within,
)
from evenhand.tables.predictions import Predictions

P = ParamSpec("P")

Origin = Literal["classes", "validation", "default", "fixed", "run"]
"""The origin of a threshold.

- ``classes``: there is none; with more than two classes, the highest score decides.
- ``validation``: it was chosen on validation rows.
- ``default``: it is .5, because there are too few validation rows.
- ``fixed``: the user gave it.
- ``run``: it comes from the run that trained the model."""


@dataclass(frozen=True, eq=False)
class DecisionThreshold:
    """A decision threshold, and how it was chosen.

    Attributes
    ----------
    threshold
        Rows with this score or more are decided as class 1.
    how
        How the threshold was chosen, as a phrase for the report.
    attribute
        The attribute whose groups have a threshold each; None with a single threshold.
    by_level
        Level → threshold, with ``attribute``. Other levels have ``threshold``.
    origin
        The origin of the threshold; see `Origin`.
    """

    threshold: float
    how: str
    attribute: str | None = None
    # run.json has this entry under the name "own"
    by_level: Annotated[Mapping[str, float], Field(alias="own")] = field(default_factory=dict)
    origin: Origin = "fixed"

    def thresholds(self, predictions: Predictions) -> NDArray[np.float64]:
        """Return the threshold of each row, ``(n,)``."""
        thresholds = np.full(len(predictions), self.threshold)
        if self.attribute is not None:
            group = predictions.group(self.attribute)
            for level, threshold in self.by_level.items():
                thresholds[(group == level).to_numpy()] = threshold
        return thresholds


def choose_cut(
    predictions: Predictions, rule: Policy | None = None, *, by: str | None = None
) -> DecisionThreshold:
    """Choose the decision threshold on the validation rows.

    Parameters
    ----------
    rule
        The policy; by default, Youden's index. If it has too few validation rows
        (`evenhand.metrics.thresholds.ENOUGH`), the threshold is .5, and ``how`` gives the reason.
    by
        The attribute whose groups have a threshold each; None chooses a single threshold.

    Raises
    ------
    EvenhandError
        If the rule needs validation rows and there are none, or there are more than two classes.
    """
    if len(predictions.classes) > 2:
        if rule or by:
            raise EvenhandError(
                f"thresholds are for two classes; there are {len(predictions.classes)}, and the "
                "class with the highest score is decided. Leave the threshold out."
            )
        return DecisionThreshold(0.5, "the class with the highest score", origin="classes")
    rows = predictions.of_split("val")
    if not len(rows) and rule is None and by is None:
        return DecisionThreshold(0.5, "0.5, as there are no validation rows", origin="default")
    rule = rule or policy("youden")
    if by is not None and not rule.needs_rows:
        raise EvenhandError(
            f"a threshold {rule.phrase} is the same for every group of {by}; choose one on "
            "validation rows, such as youden, or leave the groups out."
        )
    if not len(rows) and rule.needs_rows:
        raise EvenhandError(
            f"the threshold policy {rule.name!r} needs rows of the split 'val', and there are "
            "none; give such rows, or a fixed threshold such as 0.5."
        )
    if not rule.needs_rows:
        return DecisionThreshold(rule.threshold_on(rows.labels, rows.scores), rule.phrase)
    return _fit_cut(rule, rows) if by is None else _fit_cut_by_group(rule, rows, by)


def _fit_cut(rule: Policy, rows: Predictions) -> DecisionThreshold:
    threshold, lacks = rule.threshold_on(rows.labels, rows.scores), rule.why_too_few(rows.labels)
    if lacks:
        how = f"0.5 and not {rule.phrase}, as the validation rows hold {lacks}"
        return DecisionThreshold(threshold, how, origin="default")
    return DecisionThreshold(
        threshold, f"{rule.phrase}, on the validation rows", origin="validation"
    )


def _fit_cut_by_group(rule: Policy, rows: Predictions, by: str) -> DecisionThreshold:
    (groups,) = groups_in(rows, [by]).values()
    overall, by_level = thresholds_by_group(rule, rows.labels, rows.scores, groups)
    shared = _fit_cut(rule, rows)
    too_small = {
        level: rule.why_too_few(rows.labels[groups.rows(level)])
        for level in groups.levels
        if level not in by_level
    }
    if not by_level:
        return replace(shared, how=f"{shared.how}; no group of {by} is large enough for its own")
    how = f"{rule.phrase}, on the validation rows, for each group of {by}"
    if too_small:
        listed = "; ".join(f"{level}: {lacks}" for level, lacks in too_small.items())
        how += f"; groups too small for their own ({listed}) have that of all rows ({shared.how})"
    return DecisionThreshold(overall, how, by, by_level, origin="validation")


def scored_rows(predictions: Predictions, cut: DecisionThreshold) -> Scored:
    """Return the arrays of predictions that `evenhand.metrics.measure` takes."""
    return as_scored(
        predictions.labels,
        predictions.scores,
        patients=predictions.patients[0],
        threshold=cut.threshold if cut.attribute is None else cut.thresholds(predictions),
        classes=predictions.classes,
    )


def groups_in(predictions: Predictions, attributes: Sequence[str]) -> dict[str, Groups]:
    """Return the groups of each attribute; ``unknown`` is among them only if it occurs.

    The groups of an intersection (``"sex*age"``) are the combinations that occur in these rows.
    A conditioned attribute (``"sex|site"``) becomes one attribute for each level of the other
    (``"sex|site=A"``).
    """
    groups: dict[str, Groups] = {}
    for attribute in attributes:
        divided, bar, control = attribute.partition("|")
        if bar:
            conditioned = within(
                divided, _groups_of(predictions, divided), control, _groups_of(predictions, control)
            )
            groups |= {name: occurring(divided, column) for name, column in conditioned.items()}
        else:
            groups[attribute] = _groups_of(predictions, attribute)
    return groups


def measure_model(
    predictions: Predictions,
    attributes: Sequence[str],
    *,
    model: str,
    seed: int,
    plan: Plan | None = None,
    split: str = "test",
    cut: DecisionThreshold | None = None,
    progress: Progress | None = None,
) -> Measured:
    """Measure one model on one split.

    Parameters
    ----------
    attributes
        Names of attributes, or of intersections such as ``"sex*age"``.
    model
        The model's name in the rows.
    seed
        The seed of the resamples; the same seed draws the same patients for every model.
    plan
        The metrics, aggregates and intervals to compute.
    split
        The split to measure: train, val or test.
    cut
        The decision threshold; by default, the one of `choose_cut`.
    progress
        See `evenhand.metrics.measure`.

    Returns
    -------
    Measured
        The rows without p-values: `evenhand.metrics.judge` tests all parts of a page together.

    Raises
    ------
    EvenhandError
        If the split has no rows, or an attribute does not exist.
    """
    rows = split_rows(predictions, split)
    return measure_part(
        scored_rows(rows, cut or choose_cut(predictions)),
        groups_in(rows, attributes),
        plan,
        rng=np.random.default_rng(seed),
        progress=progress,
        names=RowNames(model, split=split),
        patients=_hash_patients(rows),
    )


def measure_pair(
    pair: tuple[Predictions, Predictions],
    attributes: Sequence[str],
    *,
    names: tuple[str, str],
    seed: int,
    plan: Plan | None = None,
    split: str = "test",
    cuts: tuple[DecisionThreshold, DecisionThreshold] | None = None,
    progress: Progress | None = None,
) -> Measured:
    """Measure the first model minus the second, on the samples that both have scored.

    Parameters
    ----------
    pair
        The predictions of the two models.
    names
        The names of the two models in the rows (``model``, ``against``).
    cuts
        The decision threshold of each model; by default, those of `choose_cut`.
    attributes, seed, plan, split, progress
        See `measure_model`; the groups are those of the first model's predictions.

    Raises
    ------
    EvenhandError
        If no sample of the split is in both, or a sample has two labels or two patients.
    """
    first, second = shared_rows(split_rows(pair[0], split), split_rows(pair[1], split))
    first_cut, second_cut = cuts or (choose_cut(pair[0]), choose_cut(pair[1]))
    return measure_part(
        scored_rows(first, first_cut),
        groups_in(first, attributes),
        plan,
        rng=np.random.default_rng(seed),
        against=scored_rows(second, second_cut),
        progress=progress,
        names=RowNames(*names, split),
        patients=_hash_patients(first),
    )


def _judged(part: Callable[P, Measured]) -> Callable[P, pd.DataFrame]:
    """Return a function that measures one part and tests it alone, as a separate page."""

    def rows(*args: P.args, **kwargs: P.kwargs) -> pd.DataFrame:
        return as_table(judge([part(*args, **kwargs)]))

    return rows


metric_rows = _judged(measure_model)
"""`measure_model` with tests of this part alone: a data frame like ``metrics.json``."""

paired_rows = _judged(measure_pair)
"""`measure_pair` with tests of this part alone: a data frame like ``metrics.json``."""


def _hash_patients(predictions: Predictions) -> str:
    """Return a hash of the patients; with one seed, equal hashes mean the same resamples."""
    return sha256("\n".join(predictions.patients[1].tolist()).encode()).hexdigest()


def shared_rows(first: Predictions, second: Predictions) -> tuple[Predictions, Predictions]:
    """Return the rows of the samples that two models share, in the order of the first model.

    Raises
    ------
    EvenhandError
        If no sample is shared, the classes differ, or a shared sample has two labels, patients or
        groups.
    """
    if first.classes != second.classes:
        raise EvenhandError(
            f"the models have different classes: {', '.join(first.classes)}; and "
            f"{', '.join(second.classes)}. Compare models of the same task."
        )
    by_sample = second.table.set_index("sample_id")
    in_both = first.table["sample_id"].isin(by_sample.index)
    first_rows = first.table[in_both].reset_index(drop=True)
    if first_rows.empty:
        raise EvenhandError("the two models have no sample in common; compare on the same data.")
    second_rows = by_sample.loc[first_rows["sample_id"]].reset_index()
    attributes = [f"attr_{name}" for name in first.levels if name in second.levels]
    for column in ("label", "patient_id", *attributes):
        differs = first_rows["sample_id"][(first_rows[column] != second_rows[column]).to_numpy()]
        if len(differs):
            raise EvenhandError(
                f"{count_text(len(differs), 'sample')} with another {column} in the other model's "
                f"predictions (for example {differs.iloc[0]!r}); compare models on the same data."
            )
    return (
        Predictions(first_rows, first.classes, first.levels),
        Predictions(second_rows, second.classes, second.levels),
    )


def split_rows(predictions: Predictions, split: str) -> Predictions:
    """Return the rows of a split.

    Raises
    ------
    EvenhandError
        If the split has no rows; the message names the splits that exist.
    """
    rows = predictions.of_split(split)
    if not len(rows):
        splits = ", ".join(predictions.splits) or "test (there is no split column)"
        raise EvenhandError(
            f"there are no rows of the split {split!r}. Give --split one of: {splits}."
        )
    return rows


def _groups_of(predictions: Predictions, attribute: str) -> Groups:
    return attribute_groups(attribute, predictions.group(attribute)).without_empty_unknown()
