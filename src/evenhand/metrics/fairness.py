"""Fairness metrics: numbers across groups. Each is one decorated function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np

from evenhand.metrics.aggregates import distance, least_ratio, spread
from evenhand.metrics.registry import Floats
from evenhand.registry import Registry, caution_in, name_in_errors

F = TypeVar("F", bound=Callable[..., Any])

Over = Literal["groups", "classes", "reference", "overall"]
"""The array of each underlying metric that a fairness metric takes, over K resamples:

- ``"groups"``: ``(G, K)``, one row for each group;
- ``"classes"``: ``(G, C, K)``, each group, and each class against the rest;
- ``"reference"``: ``(2, K)``, a group, then the reference; each group has its own value;
- ``"overall"``: ``(G + 1, K)``, each group, then the samples of all groups together.
"""


@dataclass(frozen=True, eq=False)
class Fairness:
    """A number across groups that is computed from one or more metrics.

    Attributes
    ----------
    name, title
        Its name in metric rows, and a one-line description.
    direction, ideal
        Which direction is better, and the value at parity.
    metrics
        Names of the metrics that it is computed from.
    over
        Which values of these metrics it takes.
    is_spread
        Whether it is the largest difference between two groups, in any of the metrics.
    source
        Where the definition comes from.
    value
        Function of one array for each metric, as in ``over``; it returns values ``(K,)``.
    caution
        When it misleads, or "".
    """

    name: str
    title: str
    direction: Literal["higher", "lower", "ideal"]
    ideal: float
    metrics: tuple[str, ...]
    over: Over
    is_spread: bool
    source: str
    value: Callable[..., Floats]
    caution: str = ""


FAIRNESS: Registry[Fairness] = Registry("fairness metric")
"""The fairness metrics by name."""


def register_fairness(
    direction: Literal["higher", "lower", "ideal"],
    *metrics: str,
    ideal: float,
    source: str,
    over: Over = "groups",
    is_spread: bool = False,
) -> Callable[[F], F]:
    """Register the decorated function as a fairness metric, under the function's name.

    The first line of its docstring is the title. A paragraph of it that begins with "Misleads" is
    the caution.

    Parameters
    ----------
    direction, ideal, source, over, is_spread
        As in `Fairness`.
    *metrics
        Names of the metrics that it is computed from.

    Raises
    ------
    EvenhandError
        If the name is taken.
    """

    def register(function: F) -> F:
        name, title = function.__name__, (function.__doc__ or "").partition("\n")[0]
        fairness = Fairness(
            name, title, direction, ideal, metrics, over, is_spread, source,
            name_in_errors(function, "fairness metric"), caution_in(function.__doc__),
        )  # fmt: skip
        FAIRNESS.add(name, fairness, module=function.__module__, title=title)
        return function

    return register


fairness = register_fairness  # its name in earlier versions


def _fairprune(*metrics: str) -> Callable[[F], F]:
    """Register a fairness metric over classes that FairPrune reports; 0 is parity."""
    return fairness("lower", *metrics, ideal=0.0, over="classes", source=FAIRPRUNE)


def _sum_over_classes(values: Floats) -> Floats:
    """Return the sum ``(K,)`` of the values ``(C, K)`` of each class."""
    total: Floats = values.sum(axis=0)
    return total


def _mean_over_classes(values: Floats) -> Floats:
    """Return the mean ``(K,)`` of the values ``(C, K)`` of each class."""
    mean: Floats = values.mean(axis=0)
    return mean


HARDT = "Hardt et al., NeurIPS 2016"
SSL = "Yfantidou et al., KDD 2024"
FAIRPRUNE = "Wu et al., MICCAI 2022"
FAIRPRUNE_FAMILY = "Du et al., CVPR 2020; as used beside FairPrune"


@fairness("lower", "selection_rate", ideal=0.0, is_spread=True, source="Dwork et al., ITCS 2012")
def demographic_parity_difference(selection: Floats) -> Floats:
    """Largest difference of the share flagged.

    Misleads where prevalence differs: a perfect model then flags unequal shares of the groups.
    """
    return spread(selection)


@fairness("higher", "selection_rate", ideal=1.0, source="Feldman et al., KDD 2015")
def demographic_parity_ratio(selection: Floats) -> Floats:
    """Smallest over largest share flagged.

    Misleads where prevalence differs: a perfect model then flags unequal shares of the groups.
    Where few are flagged, chance moves it far.
    """
    return least_ratio(selection)


@fairness("ideal", "selection_rate", ideal=1.0, over="reference", source="Feldman et al., KDD 2015")
def disparate_impact(selection: Floats) -> Floats:
    """Share flagged over that of the reference; alarm outside .8 to 1.25.

    Misleads where prevalence differs: a perfect model then flags unequal shares of the groups.
    Where few are flagged, chance moves it beyond .8 and 1.25.
    """
    impact: Floats = selection[0] / selection[1]
    return impact


@fairness("lower", "sensitivity", ideal=0.0, is_spread=True, source=HARDT)
def equal_opportunity_difference(tpr: Floats) -> Floats:
    """Largest difference of sensitivity.

    Misleads where groups are small or many: chance alone makes the largest difference of several
    groups large. False alarms do not count.
    """
    return spread(tpr)


@fairness("lower", "sensitivity", "false_positive_rate", ideal=0.0, is_spread=True, source=HARDT)
def equalized_odds_difference(tpr: Floats, fpr: Floats) -> Floats:
    """Larger of the largest differences of sensitivity and of false positive rate.

    Misleads where groups are small or many: chance alone makes the largest difference of several
    groups large. It can fall because the group served better is served worse.
    """
    return np.maximum(spread(tpr), spread(fpr))


@fairness("lower", "sensitivity", "false_positive_rate", ideal=0.0, source=HARDT)
def equalized_odds_mean(tpr: Floats, fpr: Floats) -> Floats:
    """Mean of the largest differences of sensitivity and of false positive rate.

    Misleads where only one kind of error differs: half of the difference is left. Chance makes it
    large where groups are small or many.
    """
    return (spread(tpr) + spread(fpr)) / 2


@fairness("lower", "sensitivity", "false_positive_rate", ideal=0.0, over="reference", source=SSL)
def average_absolute_odds_difference(tpr: Floats, fpr: Floats) -> Floats:
    """Mean distance of sensitivity and false positive rate from the reference's (AAOD).

    Misleads where only one kind of error differs: half of the difference is left. Chance keeps it
    above 0.
    """
    return (distance(tpr[0] - tpr[1]) + distance(fpr[0] - fpr[1])) / 2


@_fairprune("specificity")
def eopp0_sum(tnr: Floats) -> Floats:
    """Largest difference of specificity, summed over the classes.

    Misleads between data sets: a sum grows with the number of classes. Chance makes it large where
    groups are small or many.
    """
    return _sum_over_classes(spread(tnr))


@_fairprune("specificity")
def eopp0_mean(tnr: Floats) -> Floats:
    """Largest difference of specificity, averaged over the classes.

    Misleads where classes are rare: a class of few samples counts as much as any other, and chance
    makes its difference large.
    """
    return _mean_over_classes(spread(tnr))


@_fairprune("sensitivity")
def eopp1_sum(tpr: Floats) -> Floats:
    """Largest difference of sensitivity, summed over the classes.

    Misleads between data sets: a sum grows with the number of classes. Chance makes it large where
    groups are small or many.
    """
    return _sum_over_classes(spread(tpr))


@_fairprune("sensitivity")
def eopp1_mean(tpr: Floats) -> Floats:
    """Largest difference of sensitivity, averaged over the classes.

    Misleads where classes are rare: a class of few samples counts as much as any other, and chance
    makes its difference large.
    """
    return _mean_over_classes(spread(tpr))


@_fairprune("sensitivity", "false_positive_rate")
def eodd_fairprune_sum(tpr: Floats, fpr: Floats) -> Floats:
    """Largest difference of TPR + FPR, summed over classes; not equalized odds: errors cancel.

    If a group's sensitivity is higher, and its false positive rate is lower by the same amount,
    then |ΔTPR + ΔFPR| is 0, although both error rates differ.

    Misleads where both errors differ: a higher sensitivity and a lower false positive rate cancel.
    A sum also grows with the number of classes.
    """
    return _sum_over_classes(spread(tpr + fpr))


@_fairprune("sensitivity", "false_positive_rate")
def eodd_fairprune_mean(tpr: Floats, fpr: Floats) -> Floats:
    """Largest difference of TPR + FPR, averaged over classes; not equalized odds: errors cancel.

    Misleads where both errors differ: a higher sensitivity and a lower false positive rate cancel.
    """
    return _mean_over_classes(spread(tpr + fpr))


@fairness("higher", "accuracy", ideal=1.0, source=FAIRPRUNE_FAMILY)
def pqd(accuracy: Floats) -> Floats:
    """Predictive quality disparity: smallest over largest accuracy.

    Misleads where cases are rare: a model that flags nobody has a high accuracy in every group.
    """
    return least_ratio(accuracy)


@fairness("higher", "selection_rate", ideal=1.0, over="classes", source=FAIRPRUNE_FAMILY)
def dpm(selection: Floats) -> Floats:
    """Demographic parity, many classes: smallest over largest share decided, mean over classes.

    Misleads where prevalence differs: a perfect model then decides for a class unequally often in
    the groups.
    """
    return _mean_over_classes(least_ratio(selection))


@fairness("higher", "sensitivity", ideal=1.0, over="classes", source=FAIRPRUNE_FAMILY)
def eom(tpr: Floats) -> Floats:
    """Equal opportunity, many classes: smallest over largest sensitivity, mean over classes.

    Misleads where a class is missed in every group: equally low sensitivities count as fair.
    """
    return _mean_over_classes(least_ratio(tpr))


@fairness("lower", "accuracy", ideal=0.0, source=FAIRPRUNE_FAMILY)
def nar(accuracy: Floats) -> Floats:
    """Normalised accuracy range: largest difference of accuracy over its mean over groups.

    Misleads where cases are rare: a model that flags nobody has a high accuracy in every group.
    """
    normalised: Floats = spread(accuracy) / accuracy.mean(axis=0)
    return normalised


@fairness("higher", "auc", ideal=1.0, over="overall", source="Luo et al., IEEE TMI 2024")
def equity_scaled_auc(auc: Floats) -> Floats:
    """AUC of all over 1 + the sum of the groups' distances from it (ES-AUC).

    Misleads where groups are levelled down: a lower AUC in every group can raise it, if the groups
    come closer. Chance lowers it where groups are small or many.
    """
    scaled: Floats = auc[-1] / (1 + distance(auc[:-1] - auc[-1]).sum(axis=0))
    return scaled
