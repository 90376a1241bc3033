"""Measure the cost of a step of each training method relative to plain training (ERM).

A step is forward, loss, backward and the optimiser's step, with the method's work after it:
ResNet-18, 64 × 64 pixels, 32 samples, everything trainable, one thread. In each round, every method
makes steps, and ERM makes as many immediately after; their CPU times are compared. A method whose
step fits an adversary has no goal.

    python benchmarks/method_steps.py --rounds 8
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from evenhand.methods.base import TrainingMethod, level_codes
from evenhand.methods.registry import find_method, methods, training_method

BATCH, ROWS, STEPS, GOAL = 32, 3200, 2, 1.15
ADVERSARIES = ("cdann",)
LEVELS = ("a", "b")


class Network(nn.Module):
    """ResNet-18 that also returns the inputs of its head."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        import timm  # after evenhand, which lets it load beside any torchvision

        self.backbone = timm.create_model("resnet18", num_classes=0)
        self.head = nn.Linear(512, outputs)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs and features."""
        features = self.backbone(images)
        return self.head(features), features


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--methods", nargs="+", default=sorted({*methods("training")} - {"erm"}))
    options = parser.parse_args()
    torch.set_num_threads(1)
    plain = stepper("erm")
    own = {name: stepper(name) for name in options.methods}
    for step in (plain, *own.values()):
        step()
    ratios: dict[str, list[float]] = {name: [] for name in own}
    for _ in range(options.rounds):
        for name, step in own.items():
            mine = seconds(step)
            ratios[name].append(mine / seconds(plain))
    for name, values in ratios.items():
        show(name, values)


def stepper(name: str) -> Callable[[], None]:
    """Return a function that makes a step of a method on the same batch of both groups."""
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(2, size=ROWS), np.array(LEVELS)[rng.integers(2, size=ROWS)]
    twice = find_method(name, "training").load().trains_twice
    extra = {"wrong": rng.random(ROWS) < 0.2} if twice else {}
    method: TrainingMethod = training_method(name, **extra)
    order = torch.tensor(list(method.sampler(labels, groups, classes=2))[:BATCH])
    torch.manual_seed(0)
    network = Network(method.head_outputs(2)).train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4)
    images = torch.randn(BATCH, 3, 64, 64)
    own_labels = torch.from_numpy(labels)[order]
    levels = torch.from_numpy(level_codes(groups, LEVELS))[order]

    def step() -> None:
        outputs, features = network(images)
        loss = method.loss(outputs, features, own_labels, levels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(network)

    return step


def seconds(step: Callable[[], None]) -> float:
    """Return the CPU seconds of some steps."""
    start = time.process_time()
    for _ in range(STEPS):
        step()
    return time.process_time() - start


def show(name: str, ratios: list[float]) -> None:
    """Print the median ratio as one JSON object."""
    goal = None if name in ADVERSARIES else GOAL
    spread = [round(float(end), 3) for end in np.quantile(ratios, (0.25, 0.75))]
    detail = {"pairs": len(ratios), "quartiles": spread, "batch": BATCH, "pixels": 64}
    ratio = round(statistics.median(ratios), 3)
    line = {"name": f"step_{name}_over_erm", "ratio": ratio, "better": "lower", "goal": goal}
    print(json.dumps({**line, "detail": detail}), flush=True)


if __name__ == "__main__":
    main()
