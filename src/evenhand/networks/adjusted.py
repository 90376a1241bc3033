"""A model with group-wise adjustments of scores and decisions, as one network."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evenhand.errors import EvenhandError
from evenhand.networks.export import (
    METADATA,
    TOLERANCE,
    random_inputs,
    read_onnx,
    write_onnx,
)
from evenhand.networks.model import Model

EDGE = 1e-6  # scores are clipped to [EDGE, 1 − EDGE] before their log-odds are computed
NEAR = 1e-5  # decisions of scores this close to a threshold may differ because of rounding
TEST_BATCHES = (1, 16)  # numbers of samples


@dataclass(frozen=True)
class GroupRule:
    """The adjustment of scores and decisions in each of K groups.

    Attributes
    ----------
    groups
        The names of the groups; the index is a group's number. The last one is for all others.
    slope, intercept
        By group: new log-odds are ``slope · old + intercept``; None if scores do not change.
    threshold
        By group: class 1 is decided at this new score and above.
    inferred
        Weights ``(K, D)`` and biases ``(K,)`` of the layer that infers the group; None if the
        group is an input.
    attribute
        The attribute or intersection of the groups.
    """

    groups: tuple[str, ...]
    slope: tuple[float, ...] | None
    intercept: tuple[float, ...] | None
    threshold: tuple[float, ...]
    inferred: tuple[Sequence[Sequence[float]], Sequence[float]] | None
    attribute: str


class AdjustedModel(nn.Module):
    """A model whose scores and decisions are adjusted by group.

    ``forward`` takes inputs and, unless the group is inferred or there is only one, the number of
    each sample's group ``(B,)``. It returns logits ``(B, 2)``, scores ``(B,)`` and decisions
    ``(B,)``. Scores are computed in double precision and rounded to single, as in predictions.
    """

    threshold: Tensor
    lines: Tensor
    group_weight: Tensor
    group_bias: Tensor

    def __init__(self, model: Model, rule: GroupRule) -> None:
        super().__init__()
        self.model, self.rule = model, rule
        self.register_buffer("threshold", torch.tensor(rule.threshold, dtype=torch.float64))
        if rule.slope is not None and rule.intercept is not None:
            lines = torch.tensor([rule.slope, rule.intercept], dtype=torch.float64)
            self.register_buffer("lines", lines)
        if rule.inferred is not None:
            weight, bias = (torch.tensor(part, dtype=torch.float32) for part in rule.inferred)
            self.register_buffer("group_weight", weight)
            self.register_buffer("group_bias", bias)

    @property
    def takes_group(self) -> bool:
        """Whether the group of a sample is an input."""
        return self.rule.inferred is None and len(self.rule.groups) > 1

    def forward(self, inputs: Tensor, group: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, scores and decisions of a batch."""
        features = self.model.features(inputs)
        head = self.model.head
        *before, last = [head] if isinstance(head, nn.Linear) else list(head.children())
        for layer in before:
            features = layer(features)
        logits = last(features)
        if self.rule.inferred is not None:
            group = (features @ self.group_weight.T + self.group_bias).argmax(dim=1)
        elif group is None:
            group = torch.zeros_like(logits[:, 0], dtype=torch.int64)
        score = _round_to_single(logits.double().softmax(dim=1)[:, 1])
        if self.rule.slope is not None:
            inside = score.clamp(EDGE, 1 - EDGE)
            odds = torch.log(inside) - torch.log(1 - inside)
            new_odds = self.lines[0][group] * odds + self.lines[1][group]
            score = _round_to_single(1 / (1 + torch.exp(-new_odds)))
        return logits, score, score >= self.threshold[group]


def _round_to_single(score: Tensor) -> Tensor:
    return score.float().double()


def write_adjusted_onnx(adjusted: AdjustedModel, path: Path) -> float:
    """Write an adjusted model as one ONNX graph; return the largest error of its logits.

    The graph takes ``inputs`` and, if `AdjustedModel.takes_group`, ``group`` ``(batch,)`` int64. It
    returns ``logits``, ``score`` and ``decision``. Its metadata list the groups in the order of
    their numbers.

    Raises
    ------
    EvenhandError
        If the libraries for ONNX are not installed, or the graph's decisions differ from the
        model's.
    """
    write_onnx(adjusted, _arguments(adjusted, 2), path, ["logits", "score", "decision"])
    import onnx

    graph = onnx.load(path)
    metadata = {"groups": list(adjusted.rule.groups), "attribute": adjusted.rule.attribute}
    onnx.helper.set_model_props(graph, {METADATA: json.dumps(metadata, ensure_ascii=False)})
    onnx.save(graph, path)
    run = read_onnx(path)
    return max(_largest_error(adjusted, run, count) for count in TEST_BATCHES)


def _largest_error(
    adjusted: AdjustedModel, run: Callable[..., list[NDArray[Any]]], count: int
) -> float:
    """Return the largest error of a graph's logits; refuse a graph with other decisions."""
    arguments = _arguments(adjusted, count)
    logits, score, decision = run(*arguments)
    with torch.no_grad():
        expected = adjusted(*arguments)
    error = float(np.abs(logits - expected[0].numpy()).max())
    limit = TOLERANCE * max(1.0, float(expected[0].abs().max()))
    thresholds = adjusted.threshold.numpy()
    is_clear = np.abs(score[:, None] - thresholds[None]).min(axis=1) > NEAR
    if error > limit or (decision != expected[2].numpy())[is_clear].any():
        raise EvenhandError(
            f"the exported model's logits differ by up to {error:.2g} from the model's own "
            f"(allowed: {limit:.2g}), or its decisions differ; nothing was written. Please report "
            "this with the name of the backbone."
        )
    return error


def _arguments(adjusted: AdjustedModel, count: int) -> tuple[Tensor, ...]:
    """Return random inputs, the same in each call, and the samples' groups if they are an input."""
    inputs = random_inputs(adjusted.model, count)
    if not adjusted.takes_group:
        return (inputs,)
    return inputs, torch.arange(count) % len(adjusted.rule.groups)
