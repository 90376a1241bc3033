"""The names of metrics, models, attributes and groups in the report."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from evenhand.metrics import FAIRNESS, Fairness, Metric, find_metric, is_metric
from evenhand.reporting.text.numbers import PERCENT, PLAIN, POINTS, Scale

Better = Literal["higher", "lower", "neither"]
CountedCases = Literal["samples", "positives", "negatives", "both"]


@dataclass(frozen=True)
class Term:
    """The words for a metric.

    Attributes
    ----------
    label
        The name.
    meaning
        The meaning of a value, as a sentence; ``{positive}`` stands for the positive class.
    counts
        The cases that it is computed from.
    scale
        The format of its values.
    limits
        The least and the largest possible value.
    better
        Which direction is better; ``neither`` if values near an ideal are better, or no value is.
    """

    label: str
    meaning: str = ""
    counts: CountedCases = "samples"
    scale: Scale = PLAIN
    limits: tuple[float, float] = (-math.inf, math.inf)
    better: Better = "neither"

    @property
    def share(self) -> bool:
        """Whether it is a share of cases; differences of shares are in points."""
        return self.scale in (PERCENT, POINTS)


def _share(label: str, meaning: str, counts: CountedCases = "samples") -> Term:
    return Term(label, meaning, counts, PERCENT, (0.0, 1.0))


def _score(label: str, meaning: str, counts: CountedCases = "both") -> Term:
    return Term(label, meaning, counts, PLAIN, (0.0, 1.0))


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
    "log_loss": Term(
        "Log-loss", "Mean −log of the true class's probability; confident errors cost most."
    ),
    "brier": _score("Brier score", "Mean squared error of the probabilities.", "samples"),
    "ece": _score("ECE", "Mean distance of probabilities from observed frequencies.", "samples"),
    "calibration_slope": Term(
        "Calibration slope", "1 is ideal; below it the scores are too extreme."
    ),
    "calibration_intercept": Term(
        "Calibration intercept", "0 is ideal; above it the scores are too low."
    ),
}  # fmt: skip
"""The words for the most frequent metrics; the words for other metrics are name and title."""

NUMBERED = {
    "sensitivity_at_specificity": "Sensitivity at specificity {:g}",
    "specificity_at_sensitivity": "Specificity at sensitivity {:g}",
    "sensitivity_at_shared_fpr": "Sensitivity at a common false-positive rate of {:g}",
    "net_benefit_at": "Net benefit at threshold {:g}",
}
"""The labels of metrics that take a number in brackets, as in ``net_benefit_at[0.4]``."""

ACROSS = {
    "worst": "{} of the worst group",
    "best": "{} of the best group",
    "gap": "{} gap",
    "min_ratio": "{}, smallest over largest",
    "difference": "{} difference",
    "ratio": "{} ratio",
    "ratio_deviation": "{}, |1 − ratio|",
    "log_ratio_deviation": "{}, |log ratio|",
    "detectable": "{}, detectable difference",
}
"""The labels of numbers across groups, by aggregate."""


def term(base: str, aggregate: str | None = None) -> Term:
    """Return the words for a metric, or for an aggregate of it across groups.

    The label of a metric that is not registered is its name.
    """
    metric = _metric_term(base)
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


def _metric_term(name: str) -> Term:
    """Return the words for a metric or fairness metric."""
    registered = find_metric(name) if is_metric(name) else FAIRNESS.get(name)
    if registered is None:
        return TERMS.get(name, Term(name.replace("_", " ")))
    meaning = registered.title.replace("{", "(").replace("}", ")")  # a title is not a template
    measured = TERMS.get(name, Term(_label(registered), meaning))
    direction = registered.direction
    better: Better = direction if direction in ("higher", "lower") else "neither"
    return replace(measured, better=better)


def _label(metric: Metric | Fairness) -> str:
    """Return the label of a registered metric, with its number in words."""
    base = metric.name.partition("[")[0]
    words = first_upper(base.replace("_", " "))
    if not isinstance(metric.value, partial):
        return words
    return NUMBERED.get(base, words + " {:g}").format(metric.value.keywords["at"])


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
    """Return a text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def in_sentence(metric: str) -> str:
    """Return the label of a metric within a sentence.

    Examples
    --------
    >>> in_sentence("sensitivity"), in_sentence("auc")
    ('sensitivity', 'AUC')
    """
    return lower_first(term(metric).label)


def lower_first(label: str) -> str:
    """Return a label with its first letter in lower case; abbreviations and names keep theirs.

    Examples
    --------
    >>> lower_first("Share flagged"), lower_first("PPV"), lower_first("Brier score")
    ('share flagged', 'PPV', 'Brier score')
    """
    keeps = label[:2].isupper() or label.startswith("Brier")
    return label if keeps else label[:1].lower() + label[1:]


def model_names(files: Iterable[Path] = ()) -> dict[str, str]:
    """Return the shown names of models with a built-in name.

    Models that are named after one of the files keep the name of the file.

    Examples
    --------
    >>> model_names()["before"], "before" in model_names([Path("before.csv")])
    ('the unpruned model', False)
    """
    stems = {path.stem for path in files}
    return {name: words for name, words in MODELS.items() if name not in stems}


def model_at_sentence_start(model: str) -> str:
    """Return the name of a model at the start of a sentence; names of users are unchanged.

    Examples
    --------
    >>> model_at_sentence_start("full fine-tuning"), model_at_sentence_start("resnet_a")
    ('Full fine-tuning', 'resnet_a')
    """
    return first_upper(model) if model in MODELS.values() else model


def group_kind(attribute: str) -> str:
    """Return the word for a group of an attribute.

    Examples
    --------
    >>> group_kind("sex*age"), group_kind("group")
    ('sex × age group', 'group')
    """
    return "group" if attribute == "group" else f"{display_name(attribute)} group"


def display_name(name: str) -> str:
    """Return the shown name of a group or attribute, with a cross between parts of intersections.

    Examples
    --------
    >>> display_name("female*60+"), display_name("sex|site=A")
    ('female × 60+', 'sex where site is A')
    """
    attribute, _, control = name.partition("|")
    by, within, level = control.partition("=")
    return (f"{attribute} where {by} is {level}" if within else name).replace("*", " × ")
