"""The words of the report: formats of numbers, names of metrics, models, attributes and groups."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from evenhand.metrics import FAIRNESS, Fairness, Metric, find_metric, is_metric

MINUS = "\N{MINUS SIGN}"
NBSP = "\N{NO-BREAK SPACE}"
SMALLEST_P = 0.001
"""p-values below this are shown as "< 0.001"."""


def plain(value: float, digits: int = 3) -> str:
    """Return a number with a fixed number of decimals, and a minus sign instead of a hyphen.

    Examples
    --------
    >>> plain(0.84217)
    '0.842'
    """
    text = f"{value:.{digits}f}"
    if float(text) == 0:  # no "-0.000"
        text = text.removeprefix("-")
    return text.replace("-", MINUS)


def plain_or_undefined(value: float | None, digits: int = 3) -> str:
    """Return a number as `plain` does, and None as "undefined"."""
    return "undefined" if value is None else plain(value, digits)


def p_value_text(p: float) -> str:
    """Return a p-value as ``= 0.031``, or as ``< 0.001`` if it is smaller than that.

    Examples
    --------
    >>> p_value_text(0.0312), p_value_text(0.0002)
    ('= 0.031', '< 0.001')
    """
    return f"= {plain(p)}" if p >= SMALLEST_P else f"< {SMALLEST_P}"


@dataclass(frozen=True)
class Scale:
    """A format of values.

    Attributes
    ----------
    factor, digits, unit
        The value is multiplied by the factor, rounded to so many decimals, and gets the unit.
    signed
        Whether positive values have a plus sign.
    """

    factor: float = 1.0
    digits: int = 3
    unit: str = ""
    signed: bool = False

    def number(self, value: float) -> str:
        """Return a value without its unit."""
        text = plain(self.factor * value, self.digits)
        return signed(text) if self.signed else text

    def text(self, value: float) -> str:
        r"""Return a value with its unit.

        Examples
        --------
        >>> POINTS.text(0.14), Scale(signed=True).text(0.14)
        ('14.0\xa0points', '+0.140')
        """
        return self.number(value) + self.unit

    def interval(self, low: float | None, high: float | None) -> str:
        """Return an interval with its unit, empty if an end is None.

        Examples
        --------
        >>> Scale().interval(0.6, 0.75)
        '0.600 to 0.750'
        """
        if low is None or high is None:
            return ""
        return f"{self.number(low)} to {self.number(high)}{self.unit}"


PLAIN = Scale()
SIGNED = Scale(signed=True)
PERCENT = Scale(100.0, 1, f"{NBSP}%")
POINTS = Scale(100.0, 1, f"{NBSP}points")
"""Differences of percentages."""


def signed(text: str) -> str:
    """Return the text of a number with a plus sign if the number is positive.

    Examples
    --------
    >>> signed("0.040"), signed("0.000")
    ('+0.040', '0.000')
    """
    is_zero = not any(digit in text for digit in "123456789")
    return text if is_zero or text.startswith(MINUS) else f"+{text}"


def out_of_hundred(share: float) -> str:
    """Return a share (0–1) as a count out of a hundred, rounded half up.

    Examples
    --------
    >>> out_of_hundred(0.605)
    '61'
    """
    return plain(hundredths(share), 0)


def hundredths(share: float) -> int:
    """Return a share (0–1) as a whole number of hundredths, rounded half up.

    Examples
    --------
    >>> hundredths(0.605), hundredths(-0.02)
    (61, -2)
    """
    return math.floor(100 * share + 0.5 + 1e-9)  # 100 * 0.605 is 60.49999… in floating point


def join_words(items: list[str] | tuple[str, ...], last: str = "and") -> str:
    """Return items as a phrase.

    Examples
    --------
    >>> join_words(["sex", "age", "site"])
    'sex, age and site'
    """
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"


def duration(seconds: float) -> str:
    """Return a duration in seconds as text.

    Examples
    --------
    >>> duration(4.21), duration(75), duration(7300)
    ('4.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, remainder = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {remainder} s"
    return f"{minutes // 60} h {minutes % 60} min"


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
