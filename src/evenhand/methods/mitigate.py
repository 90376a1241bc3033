"""Adjust the output of a trained model by any method, from arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from evenhand.errors import EvenhandError, check_name, check_seed
from evenhand.methods.arrays import Floats, group_names
from evenhand.methods.post_hoc import AttributeNeed, PostHoc, PostHocFit
from evenhand.methods.registry import post_hoc_from_text
from evenhand.tables.arrays import as_array, group_columns, refuse_other_order
from evenhand.tables.attributes import UNKNOWN
from evenhand.tables.spelling import check_names, count_values, refuse_group_spellings

GroupsLike = ArrayLike | pd.Series | pd.DataFrame | Mapping[str, ArrayLike]


@dataclass(frozen=True, eq=False)
class Adjusted:
    """Scores and decisions of a trained model, adjusted by a method.

    Attributes
    ----------
    method
        The name of the method.
    fit
        The fitted method (`Thresholds`, `Recalibrated`, `Multicalibrated`, `LastLayer`,
        `AttributeFree`, or the result of a method of your own).
    kind
        The registered method, with the kinds of its inputs.
    attributes
        Names of the attributes that the method was fitted on; groups of new rows need the same
        names. An array without a name is called ``"group"``, and fits any single attribute.
    levels
        The groups of each attribute in the rows of the fit; groups of new rows must agree with
        their spelling.
    """

    method: str
    fit: PostHocFit
    kind: PostHoc = field(repr=False)
    attributes: tuple[str, ...]
    levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def attribute(self) -> AttributeNeed:
        """Whether the groups are needed for new rows: ``yes``, ``inferred`` or ``no``."""
        return self.fit.attribute

    def scores(
        self,
        features_or_scores: ArrayLike,
        groups: GroupsLike | None = None,
        *,
        features: ArrayLike | None = None,
    ) -> Floats:
        """Return the adjusted probabilities of new rows.

        Parameters
        ----------
        features_or_scores
            Features ``(n, D)`` or scores ``(n,)``, of the kind that the method was fitted on.
        groups
            As for `mitigate`; needed if `attribute` is ``yes``.
        features
            ``(n, D)``, from which groups are inferred; needed if `attribute` is ``inferred``.

        Returns
        -------
        numpy.ndarray
            ``(n,)`` of class 1; ``(n, C)`` for more than two classes.

        Raises
        ------
        EvenhandError
            If groups or features are missing, or their lengths differ.
        """
        return self.fit.apply(
            features_or_scores, self._fit_argument(features_or_scores, groups, features)
        )

    def decisions(
        self,
        features_or_scores: ArrayLike,
        groups: GroupsLike | None = None,
        *,
        features: ArrayLike | None = None,
        threshold: float = 0.5,
    ) -> NDArray[np.bool_] | NDArray[np.intp]:
        """Return whether each row is of class 1; with more than two classes, the class of each row.

        Arguments are those of `scores`. For two classes, a method without thresholds of its own
        decides class 1 at scores of ``threshold`` or more.
        """
        if not (isinstance(threshold, Real) and 0 <= threshold <= 1):
            raise EvenhandError(f"threshold={threshold!r}: give a number from 0 to 1.")
        by = self._fit_argument(features_or_scores, groups, features)
        if (decide := getattr(self.fit, "decide", None)) is not None:
            decisions: NDArray[np.bool_] = decide(features_or_scores, by)
            return decisions
        new = self.fit.apply(features_or_scores, by)
        return new >= threshold if new.ndim == 1 else new.argmax(axis=1)

    def _fit_argument(
        self, inputs: ArrayLike, groups: GroupsLike | None, features: ArrayLike | None
    ) -> Any:
        """Return the second argument of the fit's `apply`: groups, features, or None."""
        count = len(np.atleast_1d(as_array(inputs)))
        if self.attribute == "no":
            return None
        if self.attribute == "inferred":
            if features is None:
                raise EvenhandError(
                    f"{self.method} infers the group of each row; give features=, as in its fit."
                )
            return _check_length(as_array(features), count, "features")
        if groups is None:
            raise EvenhandError(
                f"{self.method} needs the group of each row to score it; give groups=, or choose a "
                "method that needs no attribute to score."
            )
        refuse_other_order({"scores": inputs, **group_columns(groups)})
        table = _check_length(_group_table(groups), count, "groups")
        unnamed = "group" in (*table, *self.attributes)
        if unnamed and table.shape[1] == len(self.attributes) == 1:
            table.columns = pd.Index(self.attributes)
        if absent := [name for name in self.attributes if name not in table]:
            raise EvenhandError(
                f"{self.method} was fitted on {', '.join(self.attributes)}, and groups= has no "
                f"{', '.join(absent)}; it has: {', '.join(table)}."
            )
        for name, levels in self.levels.items():
            counts = dict.fromkeys(levels, 0) | count_values(table[name])
            refuse_group_spellings(f"groups of {name!r}", counts)
        return _groups_for(table[list(self.attributes)], self.kind)


def mitigate(
    features_or_scores: ArrayLike,
    y_true: ArrayLike,
    groups: GroupsLike,
    method: str,
    *,
    patients: ArrayLike | None = None,
    features: ArrayLike | None = None,
    seed: int = 0,
    **settings: Any,
) -> Adjusted:
    """Adjust the output of a trained model by a method, without new training.

    Parameters
    ----------
    features_or_scores
        Scores ``(n,)``: probabilities of class 1 (``thresholds``, ``recalibrate``,
        ``multicalibrate``); or the last layer's inputs ``(n, D)`` (``dfr``). The rows must not have
        been used to train or to choose the model.
    y_true
        ``(n,)`` labels, 0 and 1; ``dfr`` also takes more classes.
    groups
        ``(n,)``, the group of each row; or a mapping or data frame of several attributes, whose
        combinations are the groups (for ``multicalibrate``, the segments). A missing value is an
        unknown group.
    method
        ``thresholds``, ``recalibrate``, ``multicalibrate``, ``dfr``, or one of your own;
        ``NAME:SETTING=VALUE,…`` is the same as keywords.
    patients
        ``(n,)``; by default each row is a patient of its own.
    features
        ``(n, D)``, from which ``thresholds`` with ``at_test="inferred"`` or ``"merged"`` infer
        groups.
    seed
        Seed of the random draws.
    **settings
        The method's settings (``evenhand methods`` lists them).

    Returns
    -------
    Adjusted
        The fitted method; its ``scores`` and ``decisions`` take new rows.

    Raises
    ------
    EvenhandError
        If the method or a setting is unknown, lengths differ, a score is not a probability (a
        logit, NaN), a group lacks a class, or too many groups are unknown.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> label = rng.integers(2, size=400)
    >>> sex = rng.choice(["f", "m"], 400)
    >>> score = 1 / (1 + np.exp(-rng.normal(2 * label - 1.5 * (sex == "f"), 1)))
    >>> adjusted = mitigate(score, label, sex, "thresholds", value=0.8)
    >>> flagged = adjusted.decisions(score, sex)
    >>> [round(float(flagged[(label == 1) & (sex == level)].mean()), 2) for level in ("f", "m")]
    [0.81, 0.81]
    >>> adjusted.attribute
    'yes'
    """
    check_name("method", method)
    name, kind, checked = post_hoc_from_text(method, **settings)
    check_seed(seed)
    arrays = {"scores": features_or_scores, "y_true": y_true, "patients": patients}
    refuse_other_order({**arrays, **group_columns(groups)})
    inputs, labels = as_array(features_or_scores), np.atleast_1d(as_array(y_true))
    _refuse_several_classes(name, kind, labels)
    if inputs.ndim != (2 if kind.takes == "features" else 1):
        kind_text = "features (n, D)" if kind.takes == "features" else "scores (n,) of class 1"
        advice = " Give scores[:, 1]." if inputs.ndim == 2 and inputs.shape[1] == 2 else ""
        raise EvenhandError(
            f"{name} takes {kind_text}; the array has the shape {inputs.shape}.{advice}"
        )
    computed = kind.computed({"patients": patients, "features": features, "seed": seed})
    table = _check_length(_group_table(groups), len(labels), "groups")
    fit: PostHocFit = kind.fit(inputs, labels, _groups_for(table, kind), **computed, **checked)
    levels = {str(column): tuple(names.unique()) for column, names in table.items()}
    return Adjusted(name, fit, kind, tuple(table), levels)


def _refuse_several_classes(name: str, kind: PostHoc, labels: NDArray[Any]) -> None:
    """Refuse more than two classes if a method takes scores of class 1."""
    classes = len(np.unique(labels)) if labels.dtype.kind in "iuf" else 2
    if kind.takes == "scores" and classes > 2:
        raise EvenhandError(f"{name} is for two classes; there are {classes}. dfr takes several.")


def _groups_for(table: pd.DataFrame, kind: PostHoc) -> Any:
    """Return groups as a method takes them: one name for each row, or a table of attributes."""
    if kind.groups == "table":
        return table
    if table.shape[1] == 1:
        return table.iloc[:, 0].to_numpy(dtype=object)
    joined = table.agg("*".join, axis=1)
    is_known = (table != UNKNOWN).all(axis=1)
    return joined.where(is_known, UNKNOWN).to_numpy(dtype=object)


def _group_table(groups: GroupsLike) -> pd.DataFrame:
    """Return the names of groups, a column for each attribute."""
    if isinstance(groups, pd.DataFrame | Mapping):
        check_names(groups, "columns of groups")
        columns = {
            str(name): group_names(values, f"groups of {str(name)!r}")
            for name, values in groups.items()
        }
    else:
        name = str(groups.name) if isinstance(groups, pd.Series) and groups.name else "group"
        check_names([name], "the name of groups")
        columns = {name: group_names(groups, f"groups of {name!r}")}
    shapes = {name: values.shape for name, values in columns.items()}
    if (
        not columns
        or len(set(shapes.values())) > 1
        or any(len(shape) != 1 for shape in shapes.values())
    ):
        raise EvenhandError(
            f"the groups are no columns, or differ in length: {shapes}. Give one name for each "
            "row, or a mapping or data frame with such a column for each attribute."
        )
    return pd.DataFrame(columns, dtype=object)


def _check_length(values: Any, count: int, name: str) -> Any:
    if len(values) != count:
        raise EvenhandError(f"{len(values)} {name} for {count} rows; give one for each row.")
    return values
