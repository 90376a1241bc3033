"""Export a model, also an adjusted one, to a file for other programs, and compare its logits."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from evenhand.errors import EvenhandError, import_extra
from evenhand.networks.model import Model, ModelSpec, load_tensors, random_model, write_tensors

METADATA = "evenhand"
ARGUMENTS = ("inputs", "group")  # the names of a graph's inputs
TOLERANCE = 1e-4  # of the logits, relative to the largest

Answer = Callable[[Tensor], Tensor]
"""Function of inputs; it runs an exported file on them and returns the logits ``(B, C)``."""

Export = Callable[[Model, Path], Answer]
"""Function of a model and a path; it writes the file and returns the function that runs it."""


def to_safetensors(model: Model, path: Path) -> Answer:
    """Write the weights; the file's metadata hold the `ModelSpec`."""
    write_tensors(path, model.state_dict(), {METADATA: model.spec.model_dump_json()})
    return from_safetensors(path)


def from_safetensors(path: Path) -> Model:
    """Return the model in a file that :func:`to_safetensors` wrote, in evaluation mode."""
    with safe_open(path, "pt") as file:
        spec = ModelSpec.model_validate(json.loads(file.metadata()[METADATA]))
    model = random_model(spec, seed=0)
    model.load_state_dict(load_tensors(path))
    return model.eval()


def to_onnx(model: Model, path: Path) -> Answer:
    """Write an ONNX graph from ``inputs`` ``(batch, …)``, as the model takes them, to ``logits``.

    Raises
    ------
    EvenhandError
        If the libraries for ONNX are not installed, or torch cannot export this network.
    """
    try:
        write_onnx(model, (random_inputs(model, 2),), path, ["logits"])
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise EvenhandError(
            f"torch {torch.__version__} cannot write {model.spec.backbone} as ONNX ({reason}). "
            "Export it as --format safetensors."
        ) from error
    run = read_onnx(path)
    return lambda inputs: torch.from_numpy(np.asarray(run(inputs)[0]))


def write_onnx(
    module: nn.Module, arguments: tuple[Tensor, ...], path: Path, outputs: list[str]
) -> None:
    """Write a network as an ONNX graph from a batch of `ARGUMENTS` to outputs with these names.

    The network is moved to the CPU, and stays in evaluation mode.

    Raises
    ------
    EvenhandError
        If the libraries for ONNX are not installed.
    """
    for library in ("onnx", "onnxruntime", "onnxscript"):  # torch's exporter needs the last
        import_extra(library, "export", "--format onnx")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    export = partial(
        torch.onnx.export,
        module.cpu().eval(),
        arguments,
        path,
        input_names=list(ARGUMENTS[: len(arguments)]),
        output_names=outputs,
        dynamic_shapes=({0: torch.export.Dim("batch")},) * len(arguments),
        external_data=False,
        verbose=False,
        dynamo=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's warnings about its own parts
        try:
            export()
        except torch.onnx.OnnxExporterError:
            # The exporter expects another memory layout of attention's outputs than it gets (torch
            # 2.13, transformers' Swin). Attention as separate operations has only one layout.
            with sdpa_kernel(SDPBackend.MATH):
                export()


def read_onnx(path: Path) -> Callable[..., list[NDArray[Any]]]:
    """Return the function that runs the graph of :func:`write_onnx` on tensors."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(*arguments: Tensor) -> list[NDArray[Any]]:
        names = ARGUMENTS[: len(arguments)]
        inputs = {name: array.numpy() for name, array in zip(names, arguments, strict=True)}
        outputs: list[NDArray[Any]] = session.run(None, inputs)
        return outputs

    return run


FORMATS: Mapping[str, Export] = {"onnx": to_onnx, "safetensors": to_safetensors}


def check_answers(model: Model, answer: Answer) -> float:
    """Return the largest difference between a file's logits and the model's, on random inputs.

    Raises
    ------
    EvenhandError
        If the logits differ by more than rounding.
    """
    model = model.cpu().eval()
    worst = 0.0
    for batch in (1, 5):  # the file has to take batches of any size
        inputs = random_inputs(model, batch)
        with torch.no_grad():
            expected, exported = model(inputs), answer(inputs)
        worst = max(worst, float((expected - exported).abs().max()))
        limit = TOLERANCE * max(1.0, float(expected.abs().max()))
        if not worst <= limit:
            raise EvenhandError(
                f"the exported model's logits differ by up to {worst:.2g} from the model's own "
                f"(allowed: {limit:.2g}); nothing was written. Export as safetensors, and please "
                "report this with the name of the backbone."
            )
    return worst


def random_inputs(model: Model, batch: int) -> Tensor:
    """Return random inputs ``(batch, …)``, the same in each call."""
    rng = torch.Generator().manual_seed(0)
    return torch.rand(batch, *model.spec.inputs.shape, generator=rng)


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
