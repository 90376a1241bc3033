"""A model whose scores and decisions depend on the group of a sample, as one network."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from evenhand.errors import EvenhandError
from evenhand.networks.export import METADATA, TOLERANCE
from evenhand.networks.model import Model

EDGE = 1e-6
"""Scores are clipped so far from 0 and 1 before their log-odds are taken."""
NEAR = 1e-5
"""A score that lies so near to its threshold may be decided otherwise by rounding."""
CHECKED = 16


@dataclass(frozen=True)
class GroupRule:
    """What is done to the scores of each group.

    Attributes
    ----------
    groups
        The groups, in the order of their numbers; the last stands for all others.
    slope, intercept
        New log-odds are ``slope · old + intercept``; None where scores stay.
    threshold
        Class 1 is decided at this new score and above.
    inferred
        Weights ``(K, D)`` and biases ``(K,)`` of the layer that infers the group; None where it is
        an input.
    attribute
        The attributes that the groups are of.
    """

    groups: tuple[str, ...]
    slope: tuple[float, ...] | None
    intercept: tuple[float, ...] | None
    threshold: tuple[float, ...]
    inferred: tuple[Sequence[Sequence[float]], Sequence[float]] | None
    attribute: str


class AdjustedModel(nn.Module):
    """A model, and what is done to its scores in each group.

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
        score = _rounded(logits.double().softmax(dim=1)[:, 1])
        if self.rule.slope is not None:
            inside = score.clamp(EDGE, 1 - EDGE)
            odds = torch.log(inside) - torch.log(1 - inside)
            moved = self.lines[0][group] * odds + self.lines[1][group]
            score = _rounded(1 / (1 + torch.exp(-moved)))
        return logits, score, score >= self.threshold[group]


def _rounded(score: Tensor) -> Tensor:
    return score.float().double()


def write_adjusted_onnx(adjusted: AdjustedModel, path: Path) -> float:
    """Write an adjusted model as one ONNX graph; return how far its logits are off.

    The graph takes ``inputs`` and, where `AdjustedModel.takes_group`, ``group`` ``(batch,)`` int64;
    it gives ``logits``, ``score`` and ``decision``. Its metadata name the groups in the order of
    their numbers.

    Raises
    ------
    EvenhandError
        If the libraries for ONNX are not installed, or the graph's decisions differ from the
        model's.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  (torch's exporter needs it)
    except ImportError:
        raise EvenhandError(
            "--format onnx needs onnx, onnxscript and onnxruntime: pip install 'evenhand[export]'."
        ) from None
    adjusted = adjusted.cpu().eval()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    batch = torch.export.Dim("batch")
    arguments = _sample(adjusted, 2)
    names = ["inputs", "group"][: len(arguments)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about its own parts
        torch.onnx.export(
            adjusted,
            arguments,
            path,
            input_names=names,
            output_names=["logits", "score", "decision"],
            dynamic_shapes=({0: batch},) * len(arguments),
            external_data=False,
            verbose=False,
            dynamo=True,
        )
    graph = onnx.load(path)
    about = {"groups": list(adjusted.rule.groups), "attribute": adjusted.rule.attribute}
    onnx.helper.set_model_props(graph, {METADATA: json.dumps(about, ensure_ascii=False)})
    onnx.save(graph, path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return max(_off(adjusted, session, count) for count in (1, CHECKED))


def _off(adjusted: AdjustedModel, session: object, count: int) -> float:
    """Return how far a graph's logits are from the model's; refuse another decision."""
    arguments = _sample(adjusted, count)
    names = ["inputs", "group"][: len(arguments)]
    inputs = {name: array.numpy() for name, array in zip(names, arguments, strict=True)}
    logits, score, decision = session.run(None, inputs)  # type: ignore[attr-defined]
    with torch.no_grad():
        expected = adjusted(*arguments)
    off = float(np.abs(logits - expected[0].numpy()).max())
    limit = TOLERANCE * max(1.0, float(expected[0].abs().max()))
    decided = expected[2].numpy()
    cuts = adjusted.threshold.numpy()
    sure = np.abs(score[:, None] - cuts[None]).min(axis=1) > NEAR
    if off > limit or (decision != decided)[sure].any():
        raise EvenhandError(
            f"the exported model's logits differ by up to {off:.2g} from the model's own (allowed: "
            f"{limit:.2g}), or it decides otherwise; nothing was written. Please report this with "
            "the name of the backbone."
        )
    return off


def _sample(adjusted: AdjustedModel, count: int) -> tuple[Tensor, ...]:
    """Return drawn inputs, always the same, and each sample's group where that is an input."""
    rng = torch.Generator().manual_seed(0)
    inputs = torch.rand(count, *adjusted.model.spec.inputs.shape, generator=rng)
    if not adjusted.takes_group:
        return (inputs,)
    return inputs, torch.arange(count) % len(adjusted.rule.groups)
