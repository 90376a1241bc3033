"""A model on disk: its weights as safetensors, its build and what was tuned as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from evenhand.errors import EvenhandError
from evenhand.files import read_json, replacing, write_json
from evenhand.models.model import Model, ModelSpec, random_model

SCHEMA = 1


def save_model(folder: Path, model: Model, **facts: Any) -> None:
    """Write ``model.safetensors`` and ``model.json``; the facts (strategy, mask …) go into it."""
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    with replacing(folder / "model.safetensors") as part:
        save_file(state, part)
    spec = model.spec.model_dump()
    write_json(folder / "model.json", {"schema": SCHEMA, "spec": spec, **facts})


def load_model(folder: Path) -> Model:
    """Return the model that was saved in a folder, in evaluation mode on the CPU.

    Raises
    ------
    EvenhandError
        The folder holds no model, or one that a later version wrote.
    """
    if not (folder / "model.json").is_file():
        raise EvenhandError(f"{folder} holds no model: it has no model.json.")
    facts = read_json(folder / "model.json")
    if facts["schema"] > SCHEMA:
        raise EvenhandError(
            f"{folder}/model.json has schema {facts['schema']}; this version of Evenhand reads up "
            f"to {SCHEMA}. Install a newer one."
        )
    model = random_model(ModelSpec.model_validate(facts["spec"]), seed=0)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval()
