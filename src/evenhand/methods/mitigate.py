"""One door to the methods for trained models, on arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from evenhand.errors import EvenhandError
from evenhand.methods.post_hoc import Fit, Need, PostHoc
from evenhand.methods.registry import post_hoc_from_text

Floats = NDArray[np.float64]
GroupsLike = ArrayLike | pd.Series | pd.DataFrame | Mapping[str, ArrayLike]


@dataclass(frozen=True, eq=False)
class Adjusted:
    """Scores and decisions of a trained model, adjusted by a method.

    Attributes
    ----------
    method
        The method, as it was named.
    fit
        What the method has fitted (`Thresholds`, `Recalibrated`, `Multicalibrated`, `LastLayer`,
        `AttributeFree`, or what a method of your own returns).
    kind
        What the method takes.
    """

    method: str
    fit: Fit
    kind: PostHoc

    @property
    def attribute(self) -> Need:
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
            What the method was fitted on: features ``(n, D)`` or scores ``(n,)``.
        groups
            As for `mitigate`; needed where `attribute` is ``yes``.
        features
            ``(n, D)`` that groups are inferred from, where `attribute` is ``inferred``.

        Returns
        -------
        numpy.ndarray
            ``(n,)`` of class 1; ``(n, C)`` for more than two classes.

        Raises
        ------
        EvenhandError
            Groups or features are missing, or their number is another.
        """
        return self.fit.apply(features_or_scores, self._by(features_or_scores, groups, features))

    def decisions(
        self,
        features_or_scores: ArrayLike,
        groups: GroupsLike | None = None,
        *,
        features: ArrayLike | None = None,
        threshold: float = 0.5,
    ) -> NDArray[np.bool_] | NDArray[np.intp]:
        """Return the decision of each row: whether it is of class 1, or its class of several.

        Arguments are those of `scores`. A method without thresholds of its own cuts the scores
        of two classes at ``threshold``.
        """
        by = self._by(features_or_scores, groups, features)
        if (decide := getattr(self.fit, "decide", None)) is not None:
            decided: NDArray[np.bool_] = decide(features_or_scores, by)
            return decided
        new = self.fit.apply(features_or_scores, by)
        return new >= threshold if new.ndim == 1 else new.argmax(axis=1)

    def _by(self, inputs: ArrayLike, groups: GroupsLike | None, features: ArrayLike | None) -> Any:
        """Return what the fit takes beside the inputs: groups, features, or nothing."""
        count = len(np.asarray(inputs))
        if self.attribute == "no":
            return None
        if self.attribute == "inferred":
            if features is None:
                raise EvenhandError(
                    f"{self.method} infers the group of each row; give features=, as it was fitted."
                )
            return _of_rows(np.asarray(features), count, "features")
        if groups is None:
            raise EvenhandError(
                f"{self.method} needs the group of each row when it scores; give groups=, or "
                "choose a method that needs no attribute then."
            )
        return _given(groups, self.kind, count)


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
    """Adjust the output of a trained model by a method, without training again.

    Parameters
    ----------
    features_or_scores
        Scores ``(n,)``: probabilities of class 1 (``thresholds``, ``recalibrate``,
        ``multicalibrate``); or what the last layer takes, ``(n, D)`` (``dfr``). Of rows that
        trained nothing and chose nothing.
    y_true
        ``(n,)`` labels, 0 and 1; ``dfr`` also takes more classes.
    groups
        ``(n,)`` the group of each row; or a mapping or data frame of several attributes, whose
        combinations are the groups (for ``multicalibrate``, the segments). A missing value is an
        unknown group.
    method
        ``thresholds``, ``recalibrate``, ``multicalibrate``, ``dfr``, or one of your own;
        ``NAME:SETTING=VALUE,…`` is the same as keywords.
    patients
        ``(n,)``; by default each row is a patient of its own.
    features
        ``(n, D)`` that ``thresholds`` with ``at_test="inferred"`` or ``"merged"`` infer groups
        from.
    seed
        Of what is drawn.
    **settings
        The method's settings (``evenhand methods`` lists them).

    Returns
    -------
    Adjusted
        With ``scores`` and ``decisions`` for new rows.

    Raises
    ------
    EvenhandError
        The method or a setting is not known, lengths differ, a score is no probability (a logit,
        NaN), a group lacks a class, or too many groups are unknown.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> label = rng.integers(2, size=400)
    >>> sex = rng.choice(["f", "m"], 400)
    >>> score = 1 / (1 + np.exp(-rng.normal(2 * label - 1.5 * (sex == "f"), 1)))
    >>> adjusted = mitigate(score, label, sex, "thresholds", value=0.8)
    >>> found = adjusted.decisions(score, sex)
    >>> [round(float(found[(label == 1) & (sex == level)].mean()), 2) for level in ("f", "m")]
    [0.8, 0.8]
    >>> adjusted.attribute
    'yes'
    """
    name, kind, listed = post_hoc_from_text(method)
    kind.check_settings(name, settings)
    if twice := sorted(listed.keys() & settings.keys()):
        raise EvenhandError(f"{', '.join(twice)} of {name} is given twice.")
    inputs = np.asarray(features_or_scores)
    count = len(np.asarray(y_true))
    if inputs.ndim != (2 if kind.takes == "features" else 1):
        what = "features (n, D)" if kind.takes == "features" else "scores (n,) of class 1"
        raise EvenhandError(f"{name} takes {what}; the array has the shape {inputs.shape}.")
    computed = kind.computed({"patients": patients, "features": features, "seed": seed})
    by = _given(groups, kind, count)
    fit: Fit = kind.fit(inputs, y_true, by, **computed, **listed, **settings)
    return Adjusted(name, fit, kind)


def _given(groups: GroupsLike, kind: PostHoc, count: int) -> Any:
    """Return groups as a method takes them: one name for each row, or a table of attributes."""
    table = _table(groups)
    _of_rows(table, count, "groups")
    if kind.groups == "table":
        return table
    if table.shape[1] == 1:
        return table.iloc[:, 0].to_numpy(dtype=object)
    joined = table.astype(str).agg("*".join, axis=1)
    return joined.where(table.notna().all(axis=1), None).to_numpy(dtype=object)


def _table(groups: GroupsLike) -> pd.DataFrame:
    if isinstance(groups, pd.DataFrame):
        return groups.reset_index(drop=True)
    if isinstance(groups, Mapping):
        columns = {str(name): np.asarray(values, dtype=object) for name, values in groups.items()}
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise EvenhandError(f"the groups' arrays differ in length: {lengths}.")
        return pd.DataFrame(columns)
    values = np.asarray(groups, dtype=object)
    if values.ndim != 1:
        raise EvenhandError(
            f"groups of shape {values.shape}; give one group for each row, or a mapping of "
            "attributes."
        )
    name = str(groups.name) if isinstance(groups, pd.Series) and groups.name else "group"
    return pd.DataFrame({name: values})


def _of_rows(values: Any, count: int, what: str) -> Any:
    if len(values) != count:
        raise EvenhandError(f"{len(values)} {what} for {count} rows; give one for each row.")
    return values
