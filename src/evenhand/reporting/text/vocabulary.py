"""What the report calls each metric, how it prints it, and what it says about it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from evenhand.metrics import FAIRNESS, find_metric, is_metric
from evenhand.reporting.text.numbers import PERCENT, PLAIN, POINTS, Scale

Better = Literal["higher", "lower", "neither"]
CountedCases = Literal["samples", "positives", "negatives", "both"]


@dataclass(frozen=True)
class Term:
    """A metric in words.

    Attributes
    ----------
    label
        Its name as a reader knows it.
    says
        What one value means; ``{positive}`` stands for the positive class.
    counts
        Which cases it is computed from.
    scale
        How its values are printed.
    limits
        The values that it can take.
    better
        Which direction is better; ``neither`` where nearer to an ideal is, or nothing.
    """

    label: str
    says: str = ""
    counts: CountedCases = "samples"
    scale: Scale = PLAIN
    limits: tuple[float, float] = (-math.inf, math.inf)
    better: Better = "neither"

    @property
    def share(self) -> bool:
        """Whether it is a share of cases, whose differences are points."""
        return self.scale in (PERCENT, POINTS)


def _share(label: str, says: str, counts: CountedCases = "samples") -> Term:
    return Term(label, says, counts, PERCENT, (0.0, 1.0))


def _score(label: str, says: str, counts: CountedCases = "both") -> Term:
    return Term(label, says, counts, PLAIN, (0.0, 1.0))


TERMS = {
    "auc": _score(
        "AUC", "How often a random {positive} case scores above a random other case; 0.5 is chance."
    ),
    "auprc": _score("AUPRC", "Area under the precision–recall curve; chance is the prevalence."),
    "sensitivity": _share("Sensitivity", "Of all {positive} cases, the share found.", "positives"),
    "specificity": _share(
        "Specificity",
        "Of all cases that are not {positive}, the share rightly cleared.",
        "negatives",
    ),
    "ppv": _share("PPV", "Of all cases flagged, the share that is {positive}."),
    "npv": _share("NPV", "Of all cases cleared, the share that is not {positive}."),
    "false_positive_rate": _share(
        "False-positive rate", "Of all cases that are not {positive}, the share flagged.",
        "negatives",
    ),
    "false_negative_rate": _share(
        "False-negative rate", "Of all {positive} cases, the share missed.", "positives"
    ),
    "false_discovery_rate": _share(
        "False-discovery rate", "Of all cases flagged, the share that is not {positive}."
    ),
    "false_omission_rate": _share(
        "False-omission rate", "Of all cases cleared, the share that is {positive}."
    ),
    "selection_rate": _share("Share flagged", "Of all cases, the share flagged."),
    "prevalence": _share("Prevalence", "Of all cases, the share that is {positive}."),
    "accuracy": _share("Accuracy", "Of all cases, the share judged rightly."),
    "error_rate": _share("Error rate", "Of all cases, the share judged wrongly."),
    "balanced_accuracy": _share(
        "Balanced accuracy", "The mean of sensitivity and specificity.", "both"
    ),
    "f1": _score("F1", "The harmonic mean of sensitivity and PPV."),
    "log_loss": Term("Log-loss", "The price of confident mistakes; 0 is perfect."),
    "brier": _score("Brier score", "Mean squared error of the probabilities.", "samples"),
    "ece": _score("ECE", "How far the probabilities are from what then happens.", "samples"),
    "calibration_slope": Term(
        "Calibration slope", "1 is ideal; below it the scores are too extreme."
    ),
    "calibration_intercept": Term(
        "Calibration intercept", "0 is ideal; above it the scores are too low."
    ),
}  # fmt: skip
"""Words for the metrics that people read most; the others go by their registered title."""

ACROSS = {
    "worst": "{} of the worst group",
    "best": "{} of the best group",
    "gap": "{} gap",
    "min_ratio": "{}, smallest over largest",
    "difference": "{} difference",
    "ratio": "{} ratio",
    "ratio_deviation": "{}, |1 − ratio|",
    "log_ratio_deviation": "{}, |log ratio|",
    "detectable": "{} difference that would be found",
}
"""What a number across the groups is called, by its aggregate."""


def term(base: str, aggregate: str | None = None) -> Term:
    """Return the words for a metric, or for what is taken of it across groups.

    A metric that nobody knows goes by its own name.
    """
    metric = _of_group(base)
    if aggregate is None:
        return metric
    label = ACROSS.get(aggregate, "{} " + aggregate.replace("_", " ")).format(metric.label)
    if aggregate in ("worst", "best"):
        return replace(metric, label=label)
    if aggregate in ("gap", "difference"):
        better: Better = "lower" if aggregate == "gap" else metric.better
        scale = POINTS if metric.share else metric.scale
        limits = (0.0, 1.0) if aggregate == "gap" else (-1.0, 1.0)
        bound = limits if math.isfinite(metric.limits[1]) else metric.limits
        return replace(metric, label=label, better=better, scale=scale, limits=bound)
    return Term(label)


def _of_group(metric: str) -> Term:
    registered = find_metric(metric) if is_metric(metric) else FAIRNESS.get(metric)
    label = metric.replace("_", " ")
    if registered is None:
        return TERMS.get(metric, Term(label))
    says = registered.title.replace("{", "(").replace("}", ")")  # it is no template
    measured = TERMS.get(metric, Term(first_upper(label), says))
    direction = registered.direction
    better: Better = direction if direction in ("higher", "lower") else "neither"
    return replace(measured, better=better)


MODELS = {
    "fairtune": "FairTune",
    "full": "full fine-tuning",
    "head": "head only",
    "scratch": "training from scratch",
    "before": "the unpruned model",
    "pruned": "the pruned model",
    "finetuned": "the pruned and fine-tuned model",
    "unadjusted": "the unadjusted model",
    "thresholds": "the model with thresholds by group",
    "recalibrate": "the recalibrated model",
    "multicalibrate": "the multicalibrated model",
    "dfr": "the model with a new last layer",
}


def first_upper(text: str) -> str:
    """Return a text with a capital letter first; the others stay as they are."""
    return text[:1].upper() + text[1:]


def in_sentence(metric: str) -> str:
    """Return what a metric is called within a sentence.

    Examples
    --------
    >>> in_sentence("sensitivity"), in_sentence("auc")
    ('sensitivity', 'AUC')
    """
    return lower_first(term(metric).label)


def lower_first(label: str) -> str:
    """Return a label as it stands within a sentence; abbreviations stay as they are."""
    return label if label[:2].isupper() else label[:1].lower() + label[1:]


def model_names(files: Iterable[Path] = ()) -> dict[str, str]:
    """Return what the report calls the models of a run that have a name of ours.

    A model that bears the name of the file that it was read from keeps it, whatever the file is
    called.

    Examples
    --------
    >>> model_names()["before"], "before" in model_names([Path("before.csv")])
    ('the unpruned model', False)
    """
    stems = {path.stem for path in files}
    return {name: words for name, words in MODELS.items() if name not in stems}


def opening(model: str) -> str:
    """Return what a model is called as the first word of a sentence; a user's name stays as it is.

    Examples
    --------
    >>> opening("full fine-tuning"), opening("resnet_a")
    ('Full fine-tuning', 'resnet_a')
    """
    return first_upper(model) if model in MODELS.values() else model


def group_kind(attribute: str) -> str:
    """Return what a group of an attribute is called.

    Examples
    --------
    >>> group_kind("sex*age"), group_kind("group")
    ('sex × age group', 'group')
    """
    return "group" if attribute == "group" else f"{shown(attribute)} group"


def shown(name: str) -> str:
    """Return a group or attribute as people read it: the parts of an intersection with a cross.

    Examples
    --------
    >>> shown("female*60+"), shown("sex|site=A")
    ('female × 60+', 'sex where site is A')
    """
    attribute, _, control = name.partition("|")
    by, within, level = control.partition("=")
    return (f"{attribute} where {by} is {level}" if within else name).replace("*", " × ")
