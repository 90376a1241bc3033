"""The loop of the guide trains with every method."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evenhand.methods.registry import methods, training_method

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "mitigation.md"
ROWS = 120


class Network(nn.Module):
    """Two layers, which return outputs and what the last layer takes."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(3, 4), nn.Linear(4, outputs)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        features = torch.relu(self.body(inputs))
        return self.head(features), features


@pytest.mark.parametrize("name", methods("training"))
def test_the_guides_loop_trains_with_every_method(name: str) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    settings = "wrong=wrong" if name == "jtt" else ""
    code = block.replace('"group-dro", rate=0.05', f'"{name}", {settings}')
    assert training_method("group-dro", rate=0.05).rate == 0.05  # the call that is replaced
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    labels = torch.from_numpy(rng.integers(2, size=ROWS))
    inputs = torch.randn(ROWS, 3) + 2 * labels[:, None]
    optimizers: dict[str, torch.optim.Optimizer] = {}

    def build(outputs: int) -> Network:
        network = Network(outputs)
        optimizers["optimiser"] = torch.optim.Adam(network.parameters(), 0.02)
        return network

    def descend(loss: Tensor) -> None:
        optimizers["optimiser"].zero_grad()
        loss.backward()
        optimizers["optimiser"].step()

    space = {
        "torch": torch,
        "inputs": inputs,
        "labels": labels,
        "groups": rng.choice(["f", "m"], ROWS),
        "patients": np.arange(ROWS).astype(str),
        "wrong": np.arange(ROWS) % 5 == 0,
        "classes": 2,
        "epochs": 8,
        "build": build,
        "descend": descend,
        "batches_of": lambda rows: [rows[i : i + 20] for i in range(0, len(rows), 20)],
        "validation_loss": lambda _: 0.5,
    }
    exec(code, space)
    assert type(space["method"]) is methods()[name].load()
    assert space["logits"].shape == (ROWS, 2)
    assert (space["logits"].argmax(1) == labels).double().mean() > 0.8
    assert (space["weights"] is not None) == (name == "swad")
