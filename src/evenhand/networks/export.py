"""Export a model to a file for other programs, and compare the file's logits with the model's."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from evenhand.errors import EvenhandError
from evenhand.networks.checkpoints import load_tensors, write_tensors
from evenhand.networks.model import Model, ModelSpec, random_model

METADATA = "evenhand"
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
        import onnxruntime
        import onnxscript  # noqa: F401  (torch's exporter needs it)
    except ImportError:
        raise EvenhandError(
            "--format onnx needs onnx, onnxscript and onnxruntime: pip install 'evenhand[export]'."
        ) from None
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's warnings about its own parts
        try:
            torch.onnx.export(
                model.cpu().eval(),
                (_sample(model, 2),),
                path,
                input_names=["inputs"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                external_data=False,
                verbose=False,
                dynamo=True,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().partition("\n")[0]
            raise EvenhandError(
                f"torch {torch.__version__} cannot write {model.spec.backbone} as ONNX ({reason}). "
                "Export it as --format safetensors."
            ) from error
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def answer(inputs: Tensor) -> Tensor:
        (logits,) = session.run(["logits"], {"inputs": inputs.numpy()})
        return torch.from_numpy(np.asarray(logits))

    return answer


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
        inputs = _sample(model, batch)
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


def _sample(model: Model, batch: int) -> Tensor:
    """Return random inputs ``(batch, …)``, the same in each call."""
    rng = torch.Generator().manual_seed(0)
    return torch.rand(batch, *model.spec.inputs.shape, generator=rng)
