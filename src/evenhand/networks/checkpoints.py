"""Save and load models: the weights as safetensors, the description as JSON."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from evenhand.errors import EvenhandError
from evenhand.files import DamagedError, read_json_record, replacing, write_json
from evenhand.networks.model import Model, ModelSpec, random_model

SCHEMA = 1


class EmbeddingsRecord(BaseModel, frozen=True):
    """The spread and the effective rank of the embeddings of a pre-trained encoder."""

    spread: float
    rank: float
    untrained_rank: float


class ModelRecord(BaseModel):
    """The content of ``model.json``; entries of single jobs stay in it unchecked."""

    model_config = ConfigDict(frozen=True, extra="allow")

    schema_version: int = Field(alias="schema")
    spec: ModelSpec
    units: list[dict[str, Any]] = []
    val: dict[str, float | None] = {}
    epoch: int | None = None
    loss: float | None = None
    losses: list[float] = []
    embeddings: EmbeddingsRecord | None = None  # of a pre-trained encoder
    warning: str | None = None  # about the training, for the user


def save_model(folder: Path, model: Model, **facts: Any) -> None:
    """Write ``model.safetensors`` and ``model.json``; ``facts`` (mask, lr …) go into the latter."""
    save_tensors(folder / "model.safetensors", model.state_dict())
    spec = model.spec.model_dump()
    write_json(folder / "model.json", {"schema": SCHEMA, "spec": spec, **facts})


def load_model(folder: Path) -> Model:
    """Return the model that is saved in a folder, in evaluation mode on the CPU.

    Raises
    ------
    EvenhandError
        If the folder holds no model, a damaged one, or one that a later version wrote.
    """
    weights = folder / "model.safetensors"
    if not (folder / "model.json").is_file() and not weights.is_file():
        raise EvenhandError(
            f"{folder} holds no model: it has no model.json. Give models/NAME of a run."
        )
    record = read_model_record(folder)
    try:
        model = random_model(record.spec, seed=0)
    except EvenhandError as error:
        raise EvenhandError(f"{folder}/model.json: {error}") from error
    state = load_tensors(weights)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        problem = " ".join(str(error).split())
        raise DamagedError(weights, f"it does not fit {folder}/model.json ({problem})") from None
    return model.eval()


def read_model_record(folder: Path) -> ModelRecord:
    """Return the content of the ``model.json`` in a folder.

    Raises
    ------
    EvenhandError
        If the file is absent or damaged, or a later version wrote it.
    """
    path = folder / "model.json"
    return read_json_record(ModelRecord, path, SCHEMA)


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors by name to ``path`` as safetensors, whole or not at all.

    Raises
    ------
    WriteError
        If the disk is full, or the folder cannot be written.
    """
    with replacing(path) as part:
        write_tensors(part, tensors)


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write tensors by name as safetensors.

    Raises
    ------
    OSError
        If the system cannot write the file.
    """
    contiguous = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(contiguous, path, metadata)
    except SafetensorError as error:  # its text has the system's error number
        raise _system_error(error) from error


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors by name in a safetensors file that Evenhand wrote.

    Raises
    ------
    DamagedError
        If the file is absent, or is not a safetensors file.
    """
    if not path.is_file():
        raise DamagedError(path, "there is no such file")
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise DamagedError(path, f"it cannot be read as safetensors ({error})") from error


def _system_error(error: SafetensorError) -> OSError:
    number = re.search(r"os error (\d+)", str(error))
    if number is None:
        return OSError(str(error))
    code = int(number[1])
    return OSError(code, os.strerror(code))
