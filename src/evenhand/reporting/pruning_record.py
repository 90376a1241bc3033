"""The typed content of ``pruning.json``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from evenhand.reporting.sections.luck import Luck

GroupNumbers = dict[str, float]


class _Part(BaseModel, frozen=True, extra="allow"):
    """A part of the record; entries that this version does not know are kept."""


class LayerRecord(_Part):
    """A layer of the unpruned model.

    Attributes
    ----------
    name, size, pruned
        The name of the parameter, its number of elements, and the number of pruned elements.
    saliency, predicted, measured
        By group: the predicted change of the error if the whole layer is set to zero; the
        predicted and the measured change of the mean loss if the share of its elements with the
        least saliency is set to zero.
    """

    name: str
    size: int
    pruned: int
    saliency: GroupNumbers
    predicted: GroupNumbers
    measured: GroupNumbers


class PremiseRecord(_Part):
    """Predicted and measured changes of the loss, layer by layer.

    Attributes
    ----------
    layers
        The layers.
    correlation
        By group: the rank correlation of predicted and measured changes, None where undefined.
    samples
        The number of training samples of each group.
    share
        The share of each layer that was set to zero.
    """

    layers: tuple[LayerRecord, ...]
    correlation: dict[str, float | None]
    samples: int
    share: float


class CostRecord(_Part):
    """Size and speed of a model; sizes in bytes, time in milliseconds for one sample."""

    parameters: int
    zeros: int
    size: int
    compressed: int
    milliseconds: float
    device: str


class PruningRecord(_Part):
    """The settings and results of a pruning.

    Attributes
    ----------
    attribute, unprivileged, betas, roles
        The attribute, the unprivileged group, β of each other group, and a sentence on how the
        groups were chosen.
    criterion, lower_is_better, target
        The criterion of the steps, its direction, and the value at which pruning should stop.
    budget, budget_metric, budget_lower_is_worse
        The allowed loss in points (.01) of a metric of everybody, the metric, and its direction.
    estimator, structure, share
        The estimator of second derivatives, the removed structure, and the percentage of the
        remaining parameters that each step removes (None for runs without it).
    chosen, verdict
        The chosen step, and the outcome in sentences.
    luck
        The luck of the choice; None where no step was chosen, or where it is undefined.
    premise, cost
        The test of the premise on each layer; the size and speed of each model.
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
