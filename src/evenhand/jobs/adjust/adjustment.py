"""What a method has fitted to a model, as ``adjustment.json`` keeps it, and what it changes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import expit

from evenhand.errors import EvenhandError
from evenhand.evaluation.rows import Cut
from evenhand.experiments.runs import Run
from evenhand.files import checked, read_object, write_json
from evenhand.methods.afterwards.multicalibrate import Multicalibrated, SegmentTest
from evenhand.methods.afterwards.recalibrate import Recalibrated
from evenhand.methods.afterwards.thresholds import Thresholds
from evenhand.methods.attribute_free import AttributeFree
from evenhand.methods.post_hoc import Need
from evenhand.tables.attributes import parts_of
from evenhand.tables.predictions import Predictions

SCHEMA = 1
FILE = "adjustment.json"

JUDGED: Mapping[str, tuple[str, ...]] = {
    "thresholds": ("sensitivity", "specificity"),
    "recalibrate": ("log_loss",),
    "multicalibrate": ("log_loss",),
    "dfr": ("auc", "sensitivity", "specificity"),
}
"""What a model adjusted by a method is compared by: first what it is for, then what it may cost."""

Stored = Thresholds | Recalibrated | Multicalibrated | AttributeFree


class Adjustment(BaseModel):
    """A method, fitted to a model of a run.

    Attributes
    ----------
    method, text
        The method's name, and how it was asked for.
    by
        The attributes whose groups it works with; an intersection is one.
    attribute
        Whether these must be known when rows are scored.
    split, rows, patients
        What it was fitted on.
    fit
        What it has fitted; None where it is in the model's weights (``dfr``), or the method is
        one of your own.
    checks
        Calibration of each segment of the test rows, before and after; only ``multicalibrate``.
    sentences
        What a reader must know of it.
    """

    model_config = ConfigDict(frozen=True)

    schema_version: int = Field(SCHEMA, alias="schema")
    method: str
    text: str
    by: tuple[str, ...]
    attribute: Need
    split: str
    rows: int
    patients: int
    fit: Stored | None = None
    checks: tuple[tuple[SegmentTest, ...], tuple[SegmentTest, ...]] | None = None
    sentences: tuple[str, ...] = ()

    @property
    def judged(self) -> tuple[str, ...]:
        """The metrics that the adjusted model is compared by."""
        return JUDGED.get(self.method, ())

    @property
    def in_weights(self) -> bool:
        """Whether the model's weights hold all of it but the threshold."""
        merged = isinstance(self.fit, AttributeFree) and self.fit.rule == "merged"
        return self.method == "dfr" or merged

    @property
    def inferred(self) -> str:
        """The column of inferred groups, as an attribute."""
        return f"{self.by[0].replace('*', ' and ')} inferred"

    def cut(self) -> Cut | None:
        """Return where the adjusted scores are cut; None where the method has no say in it."""
        fit = self.fit
        if isinstance(fit, Thresholds):
            own = {level: chosen.threshold for level, chosen in fit.groups.items()}
            return Cut(fit.pooled, self._how(fit), self.by[0], own, origin="validation")
        if isinstance(fit, AttributeFree):
            if fit.rule == "merged":
                return Cut(0.5, f"0.5 after {self._how(fit)}, merged into one", origin="validation")
            own = {level: float(expit(cut)) for level, cut in fit.cuts.items()}
            return Cut(min(own.values()), self._how(fit), self.inferred, own, origin="validation")
        return None

    def _how(self, fit: Thresholds | AttributeFree) -> str:
        aim = f"{fit.aim.replace('-', ' ')} {fit.value:g}"
        of = "each group" if isinstance(fit, Thresholds) else "each inferred group"
        return f"{aim} in {of} of {self.by[0]}, on the validation rows"


def apply(
    adjustment: Adjustment, predictions: Predictions, features: NDArray[np.float32] | None
) -> Predictions:
    """Return predictions as the adjusted model makes them.

    Parameters
    ----------
    adjustment
        What was fitted; one that is in the weights changes nothing here.
    predictions
        Scores of the model before it.
    features
        ``(n, D)`` what the model's last layer takes, for groups that are inferred; else None.

    Raises
    ------
    EvenhandError
        An attribute is missing, or the method is one of your own, which is not kept.
    """
    fit = adjustment.fit
    if adjustment.in_weights or isinstance(fit, Thresholds):
        return predictions
    if fit is None:
        raise EvenhandError(
            f"{adjustment.text} is a method of your own; what it fitted is not kept. Apply it in "
            "Python: evenhand.mitigate."
        )
    if isinstance(fit, AttributeFree):
        return _inferred(adjustment, fit, predictions, features)
    if isinstance(fit, Recalibrated):
        groups = predictions.group(adjustment.by[0]).astype(str).to_numpy()
        return with_scores(predictions, fit.apply(predictions.scores, groups))
    table = attribute_table(predictions, adjustment.by)
    return with_scores(predictions, fit.apply(predictions.scores, table))


def _inferred(
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
    """Return predictions of two classes with other scores, in the precision of float32."""
    rounded = np.asarray(scores, np.float32).astype(np.float64)
    return Predictions(
        predictions.table.assign(score=rounded), predictions.classes, predictions.levels
    )


def attribute_table(predictions: Predictions, attributes: tuple[str, ...]) -> pd.DataFrame:
    """Return the levels of attributes, a column for each; an intersection's parts come apart."""
    parts = dict.fromkeys(part for name in attributes for part in parts_of(name))
    return pd.DataFrame({name: predictions.group(name).astype(str).to_numpy() for name in parts})


def write_adjustment(folder: Path, adjustment: Adjustment) -> None:
    """Write what a method has fitted into the folder of the adjusted model."""
    write_json(folder / FILE, adjustment.model_dump(mode="json", by_alias=True))


def read_adjustment(folder: Path) -> Adjustment | None:
    """Return what a method has fitted to the model in a folder; None where none has.

    Raises
    ------
    EvenhandError
        The file is damaged, or of a later version.
    """
    path = folder / FILE
    return checked(Adjustment, read_object(path, SCHEMA), path) if path.exists() else None


def judged_metrics(adjustments: Mapping[str, Adjustment]) -> dict[str, tuple[str, ...]]:
    """Return the metrics that each adjusted model is compared by."""
    return {name: of.judged for name, of in adjustments.items()}


def adjustments_of(run: Run) -> dict[str, Adjustment]:
    """Return the adjustments in a run, by model."""
    every = {name: read_adjustment(run.folder(name)) for name in run.models}
    return {name: found for name, found in every.items() if found is not None}
