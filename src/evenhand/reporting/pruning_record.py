"""The typed content of ``pruning.json``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from evenhand.reporting.sections.luck import Luck

GroupNumbers = dict[str, float]


class _Part(BaseModel, frozen=True, extra="allow"):
    """A part of the record; entries that this version does not know are kept."""


class LayerRecord(_Part):
    """One pruned layer of the untouched model.

    Attributes
    ----------
    name, size, pruned
        The parameter's name, how many numbers it has, and how many of them were pruned.
    saliency, predicted, measured
        By group: the predicted change of the error if all of the layer were zeroed; the predicted
        and the measured change of the mean loss when the share of least saliency is zeroed.
    """

    name: str
    size: int
    pruned: int
    saliency: GroupNumbers
    predicted: GroupNumbers
    measured: GroupNumbers


class PremiseRecord(_Part):
    """Every layer, and by group the rank correlation of predicted and measured changes."""

    layers: tuple[LayerRecord, ...]
    correlation: dict[str, float | None]
    samples: int
    share: float


class CostRecord(_Part):
    """Size and speed of one model; sizes in bytes."""

    parameters: int
    zeros: int
    size: int
    compressed: int
    milliseconds: float
    device: str


class PruningRecord(_Part):
    """Who was pruned for, by what, how it went and what the models cost.

    Attributes
    ----------
    attribute, unprivileged, betas, roles
        The attribute, the unprivileged group, β of each other group, and why, as a sentence.
    criterion, lower_is_better, target
        What steps are judged by, its direction, and where pruning was to stop.
    budget, budget_metric, budget_lower_is_worse
        How many points (.01) of a metric of everybody might be lost, and its direction.
    estimator, structure, share
        The estimator of second derivatives, what was removed, and the share of each step in
        percent; None in runs that did not keep it.
    chosen, verdict
        The step that won, and how the pruning ended, in sentences.
    luck
        How lucky the choice may be; None where no step was chosen, or where it is undefined.
    premise, cost
        What was predicted and measured of each layer; the size and speed of each model.
    """

    attribute: str
    unprivileged: str
    betas: dict[str, float]
    roles: str
    criterion: str
    lower_is_better: bool
    target: float | None
    budget: float | None
    budget_metric: str
    budget_lower_is_worse: bool
    estimator: str
    structure: Literal["weight", "channel"]
    share: float | None = None
    chosen: int
    verdict: str
    luck: Luck | None = None
    premise: PremiseRecord
    cost: dict[str, CostRecord]
