"""Fit methods to a model's validation rows, and apply them to all of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from evenhand.errors import EvenhandError
from evenhand.evaluation.rows import DecisionThreshold
from evenhand.experiments.runs import Run
from evenhand.jobs.adjust.adjustment import (
    Adjustment,
    StoredFit,
    apply_adjustment,
    attribute_table,
    with_scores,
)
from evenhand.jobs.adjust.page import fit_sentences, promise_sentences
from evenhand.jobs.adjust.settings import AdjustSettings
from evenhand.methods.afterwards.dfr import LastLayer, cross_fit
from evenhand.methods.afterwards.multicalibrate import (
    Multicalibrated,
    SegmentTest,
    check_segments,
    segments_of,
)
from evenhand.methods.arrays import MOST_UNKNOWN
from evenhand.methods.attribute_free import AttributeFree
from evenhand.methods.group_head import GroupHead, fit_group_head
from evenhand.methods.post_hoc import PostHoc, PostHocFit
from evenhand.methods.registry import post_hoc_from_text
from evenhand.tables.attributes import UNKNOWN
from evenhand.tables.predictions import Predictions

if TYPE_CHECKING:  # imports torch
    from evenhand.jobs.adjust.features import Network
    from evenhand.networks.model import Model


@dataclass(frozen=True, eq=False)
class UnadjustedModel:
    """The model before the adjustment.

    Attributes
    ----------
    settings
        The job's settings.
    predictions
        The model's predictions of every row.
    attributes
        The attributes that the report compares.
    run
        The run that holds the model's weights; None if only predictions are given.
    name
        The model's name.
    """

    settings: AdjustSettings
    predictions: Predictions
    attributes: tuple[str, ...]
    run: Run | None
    name: str

    @property
    def by(self) -> str:
        """The attribute whose groups the methods use."""
        return self.settings.method_attribute or self.attributes[0]

    @cached_property
    def network(self) -> Network:
        """The model with its features; requires ``run``."""
        from evenhand.jobs.adjust.features import read_network

        assert self.run is not None
        return read_network(self.run, self.name, self.predictions, self.settings)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the data, if a method read them again."""
        return self.network.notes if "network" in vars(self) else ()

    @cached_property
    def groups(self) -> NDArray[np.str_]:
        """``(n,)`` the group of each row."""
        return self.predictions.group(self.by).astype(str).to_numpy().astype(np.str_)

    def split(self, name: str) -> NDArray[np.bool_]:
        """Return the rows of a split, as a mask ``(n,)``."""
        rows: NDArray[np.bool_] = (self.predictions.table["split"] == name).to_numpy(np.bool_)
        return rows


@dataclass(frozen=True, eq=False)
class FittedMethod:
    """A model after its adjustment by one method.

    Attributes
    ----------
    predictions
        The adjusted predictions of every row.
    adjustment
        The fitted method.
    cut
        The decision thresholds; None if the method does not choose them.
    model
        The network; None if only predictions are given.
    """

    predictions: Predictions
    adjustment: Adjustment
    cut: DecisionThreshold | None
    model: Model | None


def check_methods(before: UnadjustedModel) -> None:
    """Check that every method can be fitted.

    Raises
    ------
    EvenhandError
        If there are no validation or test rows; or a method is for two classes and there are more,
        needs features and there is no model, or needs an attribute that too many test rows lack.
    """
    _check_splits(before)
    for text in before.settings.method:
        _, method, settings = post_hoc_from_text(text)
        _check_method(before, text, method, settings)


def fit_methods(before: UnadjustedModel) -> dict[str, FittedMethod]:
    """Fit every method to the validation rows.

    Raises
    ------
    EvenhandError
        If a method cannot be fitted to the rows, for example because a group lacks a class.
    """
    return {
        name: _fit(before, text, *post_hoc_from_text(text))
        for name, text in before.settings.names.items()
    }


def _check_splits(before: UnadjustedModel) -> None:
    splits = before.predictions.splits
    for split, use in (("val", "methods are fitted on"), ("test", "numbers are reported for")):
        if split not in splits:
            present = ", ".join(splits) or "all are test rows, as there is no column split"
            raise EvenhandError(
                f"{before.settings.input} has no rows of the split {split!r}, which {use} "
                f"(splits: {present}). Add a column split with val and test; --map split=COLUMN "
                "names yours."
            )


def _check_method(
    before: UnadjustedModel, text: str, method: PostHoc, settings: Mapping[str, Any]
) -> None:
    features = method.takes == "features" or needs_features(settings)
    if features and before.run is None:
        raise EvenhandError(
            f"--method {text} needs the features of a model, but {before.settings.input} does not "
            "hold the model that made these scores. Give the run that trained the model, or a "
            "method that takes scores alone (thresholds, recalibrate, multicalibrate)."
        )
    if method.takes == "scores" and len(before.predictions.classes) > 2:
        raise EvenhandError(
            f"--method {text} is for two classes; there are {len(before.predictions.classes)}: "
            f"{', '.join(before.predictions.classes)}. Use dfr, which takes several."
        )
    if not features:
        _check_attribute(before, text)


def _check_attribute(before: UnadjustedModel, text: str) -> None:
    """Refuse a method that needs the attribute of test rows if too many rows lack it."""
    test = before.split("test")
    unknown = float((before.groups[test] == UNKNOWN).mean())
    if unknown > MOST_UNKNOWN:
        raise EvenhandError(
            f"--method {text} needs {before.by} of the test rows, but it is unknown for "
            f"{unknown:.0%} of them (allowed: {MOST_UNKNOWN:.0%}). Leave these rows out, or choose "
            "a method that needs no attribute when it scores: dfr, or thresholds with "
            "at_test=inferred."
        )


def needs_features(settings: Mapping[str, Any]) -> bool:
    """Return whether a method with these settings infers groups from features."""
    return bool(settings.get("at_test", "known") != "known")


def _fit(
    before: UnadjustedModel, text: str, method: str, kind: PostHoc, settings: Mapping[str, Any]
) -> FittedMethod:
    val = before.split("val")
    by = before.attributes if kind.groups == "table" else (before.by,)
    common = {
        "method": method, "text": text, "by": by, "split": "val", "rows": int(val.sum()),
        "patients": int(before.predictions.table.loc[val, "patient_id"].nunique()),
    }  # fmt: skip
    if kind.takes == "features":
        layer, predictions, model = _refit_last_layer(before, settings)
        adjustment = Adjustment(**common, attribute="no", sentences=fit_sentences(layer, before.by))
        return FittedMethod(predictions, adjustment, None, model)
    fit = _fit_scores(before, kind, settings)
    stored_fit = fit if isinstance(fit, get_args(StoredFit)) else None
    adjustment = Adjustment(
        **common, attribute=fit.attribute, fit=stored_fit, sentences=fit_sentences(fit, before.by),
        promises=promise_sentences(fit, before.by, settings),
    )  # fmt: skip
    if isinstance(fit, AttributeFree) and fit.rule == "merged":
        predictions, model = _merge_thresholds(before, fit)
        return FittedMethod(predictions, adjustment, adjustment.cut(), model)
    features = before.network.features if needs_features(settings) else None
    if stored_fit is None:
        groups = _method_groups(before, kind, np.ones(len(before.predictions), np.bool_))
        predictions = with_scores(before.predictions, fit.apply(before.predictions.scores, groups))
    else:
        predictions = apply_adjustment(adjustment, before.predictions, features)
    if isinstance(fit, Multicalibrated):
        checks = _segment_checks(before, fit, predictions)
        adjustment = adjustment.model_copy(update={"checks": checks})
    return FittedMethod(predictions, adjustment, adjustment.cut(), _load_network(before))


def _fit_scores(before: UnadjustedModel, kind: PostHoc, settings: Mapping[str, Any]) -> PostHocFit:
    """Fit a method that takes scores to the validation rows."""
    val = before.split("val")
    computed: dict[str, Any] = {
        "patients": before.predictions.table.loc[val, "patient_id"].to_numpy(),
        "seed": before.settings.seed,
    }
    if needs_features(settings):
        computed |= {
            "features": before.network.features[val],
            "head": _group_head(before, linear=settings["at_test"] == "merged"),
        }
    fit: PostHocFit = kind.fit(
        before.predictions.scores[val],
        before.predictions.labels[val],
        _method_groups(before, kind, val),
        **kind.computed(computed),
        **settings,
    )
    return fit


def _method_groups(before: UnadjustedModel, kind: PostHoc, rows: NDArray[np.bool_]) -> Any:
    """Return the groups of rows in the form that a method takes: an array, or a table of levels."""
    if kind.groups == "one":
        return before.groups[rows]
    table = attribute_table(before.predictions, before.attributes)
    return table[rows].reset_index(drop=True)


def _group_head(before: UnadjustedModel, *, linear: bool) -> GroupHead | None:
    """Fit a layer that infers groups to the training rows; return None if there are none."""
    train = before.split("train")
    if not train.any():
        return None
    return fit_group_head(
        before.network.features[train], before.groups[train], linear=linear,
        seed=before.settings.seed,
    )  # fmt: skip


def _refit_last_layer(
    before: UnadjustedModel, settings: Mapping[str, Any]
) -> tuple[LastLayer, Predictions, Model]:
    """Fit a new last layer; score validation rows by layers that were fitted to other patients."""
    from evenhand.jobs.adjust.features import last_layer_arrays, set_last_layer

    val, network, predictions = before.split("val"), before.network, before.predictions
    layer, scores_of_val = cross_fit(
        network.features[val],
        predictions.labels[val],
        before.groups[val],
        patients=predictions.table.loc[val, "patient_id"].to_numpy(),
        seed=before.settings.seed,
        **settings,
    )
    model = deepcopy(network.model)
    set_last_layer(model, layer)
    scores = last_layer_arrays(model).scores(network.features)
    scores[val] = scores_of_val
    return layer, with_scores(predictions, scores), model


def _merge_thresholds(before: UnadjustedModel, fit: AttributeFree) -> tuple[Predictions, Model]:
    """Move the thresholds into the last layer, so that 0.5 becomes the threshold of all groups."""
    from evenhand.jobs.adjust.features import last_layer_arrays, set_last_layer

    model = deepcopy(before.network.model)
    layer, head = last_layer_arrays(model), fit.head
    cuts = np.array([fit.cuts[level] for level in head.levels])
    weight, bias = layer.weight.copy(), layer.bias.copy()
    weight[1] -= cuts @ np.array(head.weight)
    bias[1] -= cuts @ np.array(head.bias)
    set_last_layer(model, replace(layer, weight=weight, bias=bias))
    scores = last_layer_arrays(model).scores(before.network.features)
    return with_scores(before.predictions, scores), model


def _load_network(before: UnadjustedModel) -> Model | None:
    """Return the unadjusted network; None if only predictions are given."""
    if before.run is None:
        return None
    from evenhand.networks.model import load_model

    return load_model(before.run.folder(before.name))


def _segment_checks(
    before: UnadjustedModel, fit: Multicalibrated, after: Predictions
) -> tuple[Sequence[SegmentTest], Sequence[SegmentTest]]:
    """Test the calibration of each segment on the test rows, before and after."""
    test = before.split("test")
    table = attribute_table(before.predictions, before.attributes)[test].reset_index(drop=True)
    segments = segments_of(table, depth=fit.depth)
    patients = before.predictions.table.loc[test, "patient_id"].to_numpy()
    first, second = (
        check_segments(
            predictions.scores[test], predictions.labels[test], segments,
            patients=patients, seed=before.settings.seed,
        )
        for predictions in (before.predictions, after)
    )  # fmt: skip
    return first, second
