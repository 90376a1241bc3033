"""Export a model to a file for other programs, and compare the file's logits with the model's."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Mapping
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
from evenhand.networks.checkpoints import load_tensors, write_tensors
from evenhand.networks.model import Model, ModelSpec, random_model

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
            # 2.13, transformers' Swin); attention that is written out has one layout alone.
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
