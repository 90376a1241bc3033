"""A fitted method: its record in ``adjustment.json``, and its effect on predictions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import expit

from evenhand.errors import EvenhandError
from evenhand.evaluation.rows import DecisionThreshold
from evenhand.experiments.runs import Run
from evenhand.files import read_json_record, write_json
from evenhand.methods.afterwards.multicalibrate import Multicalibrated, SegmentTest
from evenhand.methods.afterwards.recalibrate import Recalibrated
from evenhand.methods.afterwards.thresholds import Thresholds
from evenhand.methods.attribute_free import AttributeFree
from evenhand.methods.post_hoc import AttributeNeed
from evenhand.tables.attributes import attribute_parts
from evenhand.tables.predictions import Predictions

SCHEMA = 1
FILE = "adjustment.json"

JUDGED: Mapping[str, tuple[str, ...]] = {
    "thresholds": ("sensitivity", "specificity"),
    "recalibrate": ("log_loss",),
    "multicalibrate": ("log_loss",),
    "dfr": ("auc", "sensitivity", "specificity"),
}
"""The metrics that compare an adjusted model with the unadjusted one, by method.

The metrics that the method improves come before those that it may worsen.
"""

StoredFit = Thresholds | Recalibrated | Multicalibrated | AttributeFree


class Adjustment(BaseModel):
    """A method that was fitted to a model of a run.

    Attributes
    ----------
    method, text
        The method's name, and its text on the command line.
    by
        The attributes whose groups the method uses; an intersection counts as one attribute.
    attribute
        Whether these attributes must be known when rows are scored.
    split, rows, patients
        The rows that the method was fitted to: their split, their number, their patients.
    fit
        The fit; None if the model's weights contain it (``dfr``) or the method is the user's own.
    checks
        Calibration of each segment of the test rows, before and after; only ``multicalibrate``.
    sentences
        Sentences of the report about the fit.
    promises
        Sentences about what the fit guarantees for new patients, or why it guarantees nothing.
    """

    model_config = ConfigDict(frozen=True)

    schema_version: int = Field(SCHEMA, alias="schema")
    method: str
    text: str
    by: tuple[str, ...]
    attribute: AttributeNeed
    split: str
    rows: int
    patients: int
    fit: StoredFit | None = None
    checks: tuple[tuple[SegmentTest, ...], tuple[SegmentTest, ...]] | None = None
    sentences: tuple[str, ...] = ()
    promises: tuple[str, ...] = ()

    @property
    def judged(self) -> tuple[str, ...]:
        """The metrics that the adjusted model is compared by."""
        return JUDGED.get(self.method, ())

    @property
    def in_weights(self) -> bool:
        """Whether the model's weights contain the whole adjustment except the threshold."""
        merged = isinstance(self.fit, AttributeFree) and self.fit.rule == "merged"
        return self.method == "dfr" or merged

    @property
    def inferred(self) -> str:
        """The name of the attribute that holds the inferred groups."""
        return f"{self.by[0].replace('*', ' and ')} inferred"

    def cut(self) -> DecisionThreshold | None:
        """Return the decision thresholds; None if the method does not choose them."""
        fit = self.fit
        if isinstance(fit, Thresholds):
            cuts = {level: chosen.threshold for level, chosen in fit.groups.items()}
            return DecisionThreshold(
                fit.pooled, self._rule_text(fit), self.by[0], cuts, origin="validation"
            )
        if isinstance(fit, AttributeFree):
            text = self._rule_text(fit)
            if fit.rule == "merged":
                return DecisionThreshold(
                    0.5, f"0.5 after {text}, merged into one", origin="validation"
                )
            cuts = {level: float(expit(cut)) for level, cut in fit.cuts.items()}
            return DecisionThreshold(
                min(cuts.values()), text, self.inferred, cuts, origin="validation"
            )
        return None

    def _rule_text(self, fit: Thresholds | AttributeFree) -> str:
        aim = f"{fit.aim.replace('-', ' ')} {fit.value:g}"
        group = "each group" if isinstance(fit, Thresholds) else "each inferred group"
        return f"{aim} in {group} of {self.by[0]}, on the validation rows"


def apply_adjustment(
    adjustment: Adjustment, predictions: Predictions, features: NDArray[np.float32] | None
) -> Predictions:
    """Return the predictions of the adjusted model.

    Parameters
    ----------
    adjustment
        The fitted method. If the weights contain it, the scores stay unchanged.
    predictions
        Predictions of the model before the adjustment.
    features
        ``(n, D)`` inputs of the model's last layer; None unless groups are inferred.

    Raises
    ------
    EvenhandError
        If an attribute is missing, or the method is the user's own, whose fit is not stored.
    """
    fit = adjustment.fit
    if adjustment.in_weights or isinstance(fit, Thresholds):
        return predictions
    if fit is None:
        raise EvenhandError(
            f"{adjustment.text} is a method of your own, and its fit is not stored. Apply it in "
            "Python: evenhand.mitigate."
        )
    if isinstance(fit, AttributeFree):
        return _with_inferred_groups(adjustment, fit, predictions, features)
    if isinstance(fit, Recalibrated):
        groups = predictions.group(adjustment.by[0]).astype(str).to_numpy()
        return with_scores(predictions, fit.apply(predictions.scores, groups))
    table = attribute_table(predictions, adjustment.by)
    return with_scores(predictions, fit.apply(predictions.scores, table))


def _with_inferred_groups(
    adjustment: Adjustment,
    fit: AttributeFree,
    predictions: Predictions,
    features: NDArray[np.float32] | None,
) -> Predictions:
    assert features is not None
    name = adjustment.inferred
    table = predictions.table.assign(**{f"attr_{name}": fit.head.group(features).astype(object)})
    levels = {**predictions.levels, name: fit.head.levels}
    return Predictions(table.astype({f"attr_{name}": "str"}), predictions.classes, levels)


def with_scores(predictions: Predictions, scores: NDArray[np.float64]) -> Predictions:
    """Return predictions with new scores ``(n,)`` or ``(n, C)``, rounded to float32."""
    return predictions.with_scores(np.asarray(scores, np.float32).astype(np.float64))


def attribute_table(predictions: Predictions, attributes: tuple[str, ...]) -> pd.DataFrame:
    """Return a table of levels, with a column for each attribute and part of an intersection."""
    parts = dict.fromkeys(part for name in attributes for part in attribute_parts(name))
    return pd.DataFrame({name: predictions.group(name).astype(str).to_numpy() for name in parts})


def write_adjustment(folder: Path, adjustment: Adjustment) -> None:
    """Write an adjustment into the folder of the adjusted model."""
    write_json(folder / FILE, adjustment.model_dump(mode="json", by_alias=True))


def read_adjustment(folder: Path) -> Adjustment | None:
    """Return the adjustment of the model in a folder; None if it has none.

    Raises
    ------
    EvenhandError
        If the file is damaged or was written by a later version.
    """
    path = folder / FILE
    return read_json_record(Adjustment, path, SCHEMA) if path.exists() else None


def judged_metrics(adjustments: Mapping[str, Adjustment]) -> dict[str, tuple[str, ...]]:
    """Return the metrics that each adjusted model is compared by."""
    return {name: adjustment.judged for name, adjustment in adjustments.items()}


def adjustments_of(run: Run) -> dict[str, Adjustment]:
    """Return the adjustments in a run, by model."""
    adjustments = {name: read_adjustment(run.folder(name)) for name in run.models}
    return {name: adjustment for name, adjustment in adjustments.items() if adjustment is not None}
