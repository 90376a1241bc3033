"""What the report calls each metric, how it prints it, and what it says about it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from evenhand.report.numbers import percent, plain

Better = Literal["higher", "lower", "nearer"]
Counts = Literal["samples", "positives", "negatives", "both"]


@dataclass(frozen=True)
class Term:
    """A metric in words.

    Attributes
    ----------
    label
        Its name as a reader knows it.
    says
        What one value means; ``{positive}`` stands for the positive class.
    better
        Which direction is better; ``nearer`` is nearer to the ideal.
    share
        Whether it is a share of cases, shown as a percentage.
    counts
        Which cases it is computed from.
    bounded
        Whether it lies between 0 and 1 though it is no share.
    """

    label: str
    says: str = ""
    better: Better = "higher"
    share: bool = False
    counts: Counts = "samples"
    bounded: bool = False

    @property
    def limits(self) -> tuple[float, float]:
        """The values that it can take."""
        return (0.0, 1.0) if self.share or self.bounded else (-math.inf, math.inf)

    @property
    def show(self) -> Callable[[float], str]:
        """The function that prints a value."""
        return percent if self.share else plain


TERMS = {
    "auc": Term(
        "AUC",
        "How often a random {positive} case scores above a random other case; 0.5 is chance.",
        counts="both",
        bounded=True,
    ),
    "auprc": Term("AUPRC", "Area under the precision–recall curve.", counts="both", bounded=True),
    "sensitivity": Term(
        "Sensitivity", "Of all {positive} cases, the share found.", share=True, counts="positives"
    ),
    "specificity": Term(
        "Specificity",
        "Of all cases that are not {positive}, the share rightly cleared.",
        share=True,
        counts="negatives",
    ),
    "ppv": Term("PPV", "Of all cases flagged, the share that is {positive}.", share=True),
    "npv": Term("NPV", "Of all cases cleared, the share that is not {positive}.", share=True),
    "fpr": Term(
        "False-positive rate",
        "Of all cases that are not {positive}, the share flagged.",
        "lower",
        share=True,
        counts="negatives",
    ),
    "fnr": Term(
        "False-negative rate",
        "Of all {positive} cases, the share missed.",
        "lower",
        share=True,
        counts="positives",
    ),
    "fdr": Term(
        "False-discovery rate", "Of all cases flagged, the share that is not {positive}.", "lower",
        share=True,
    ),
    "for": Term(
        "False-omission rate", "Of all cases cleared, the share that is {positive}.", "lower",
        share=True,
    ),
    "selection_rate": Term("Share flagged", "Of all cases, the share flagged.", "nearer", True),
    "prevalence": Term("Prevalence", "Of all cases, the share that is {positive}.", "nearer", True),
    "accuracy": Term("Accuracy", "Of all cases, the share judged rightly.", share=True),
    "balanced_accuracy": Term(
        "Balanced accuracy", "The mean of sensitivity and specificity.", share=True, counts="both"
    ),
    "f1": Term("F1", "The harmonic mean of sensitivity and PPV.", bounded=True),
    "log_loss": Term("Log-loss", "The price of confident mistakes; 0 is perfect.", "lower"),
    "brier": Term("Brier score", "Mean squared error of the probabilities.", "lower"),
    "ece": Term("ECE", "How far the probabilities are from what then happens.", "lower"),
    "calibration_slope": Term(
        "Calibration slope", "1 is ideal; below it the scores are too extreme.", "nearer"
    ),
    "calibration_intercept": Term(
        "Calibration intercept", "0 is ideal; above it the scores are too low.", "nearer"
    ),
}  # fmt: skip

ACROSS = {
    "worst": "{} of the worst group",
    "best": "{} of the best group",
    "gap": "{} gap",
}
"""What a number across the groups is called, by the end of its name."""


def term(metric: str) -> Term:
    """Return the words for a metric; one that is not in the list goes by its own name."""
    if metric in TERMS:
        return TERMS[metric]
    base, kind = split_across(metric)
    if kind is None:
        return Term(metric.replace("_", " "))
    known = term(base)
    better: Better = "lower" if kind == "gap" else known.better
    return replace(known, label=ACROSS[kind].format(known.label), better=better)


def split_across(metric: str) -> tuple[str, str | None]:
    """Split the name of a metric across groups into its base and what it takes of it.

    Examples
    --------
    >>> split_across("auc_worst"), split_across("auc")
    (('auc', 'worst'), ('auc', None))
    """
    base, _, kind = metric.rpartition("_")
    return (base, kind) if kind in ACROSS and base else (metric, None)


MODELS = {
    "fairtune": "FairTune",
    "full": "full fine-tuning",
    "head": "head only",
    "scratch": "training from scratch",
    "before": "before pruning",
    "pruned": "after pruning",
}


def model_name(model: str) -> str:
    """Return what the report calls a model of the run."""
    return MODELS.get(model, model)


def shown(name: str) -> str:
    """Return a group or attribute as people read it: the parts of an intersection with a cross.

    Examples
    --------
    >>> shown("female*60+")
    'female × 60+'
    """
    return name.replace("*", " × ")
