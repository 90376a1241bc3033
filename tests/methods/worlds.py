"""Gaussian worlds whose right answer is known in closed form.

``x1 ~ N(2y − 1, 1)`` is the disease and ``x2 ~ N(2a − 1, .3)`` shows the attribute; P(y=1 | a) is
.5 −/+ tilt/2. The Bayes logit is ``2 x1`` and the prior of the group; without tilt the weight of
``x2`` is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from evenhand.methods.base import TrainingMethod

LEVELS = np.array(["a", "b"])


@dataclass(frozen=True, eq=False)
class World:
    features: Tensor  # (n, 2)
    labels: Tensor
    levels: Tensor  # 0 or 1
    truth: Tensor  # labels before noise

    @property
    def groups(self) -> np.ndarray:
        return LEVELS[self.levels.numpy()]


def world(n: int, tilt: float, seed: int, *, minority: float = 0.5, flip: float = 0.0) -> World:
    rng = np.random.default_rng(seed)
    level = (rng.random(n) < minority).astype(int)
    truth = (rng.random(n) < 0.5 + tilt * (level - 0.5)).astype(int)
    x = np.column_stack([rng.normal(2 * truth - 1, 1), rng.normal(2 * level - 1, 0.3)])
    label = np.where((level == 1) & (rng.random(n) < flip), 1 - truth, truth)
    return World(
        torch.tensor(x, dtype=torch.float32),
        torch.tensor(label),
        torch.tensor(level),
        torch.tensor(truth),
    )


class Linear(nn.Module):
    """Two scaled features, which are what a head takes, and a linear head on them."""

    def __init__(self, outputs: int = 2) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((2,), 0.5))
        self.head = nn.Linear(2, outputs)
        nn.init.zeros_(self.head.bias)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[-0.5, -0.5], [0.5, 0.5]]).repeat(outputs // 2, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = x * self.scale
        return self.head(features), features


class Summed(Linear):
    """A head that stands still: it adds up the features."""

    def __init__(self, outputs: int = 2) -> None:
        super().__init__(outputs)
        self.head.weight.requires_grad_(False)


def train(
    method: TrainingMethod,
    data: World,
    *,
    network: type[Linear] = Linear,
    epochs: int = 60,
    batch: int = 1000,
    lr: float = 0.05,
    seed: int = 0,
) -> Linear:
    """Fit the linear model by a method, as a user's own loop would."""
    order = method.sampler(data.labels, data.groups, seed=seed)
    model = network(method.head_outputs(2))
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=lr)
    for _ in range(epochs):
        for rows in torch.tensor(list(order)).split(batch):
            logits, features = model(data.features[rows])
            loss = method.loss(logits, features, data.labels[rows], data.levels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            method.after_step(model)
        method.after_epoch()
    return model


def weights_of(method: TrainingMethod, model: Linear) -> tuple[float, float]:
    """Return the weights of disease and attribute in the log-odds."""
    with torch.no_grad():
        basis = torch.cat([torch.zeros(1, 2), torch.eye(2)])
        logits = method.scored(model(basis)[0])
        odds = logits[:, 1] - logits[:, 0]
    return float(odds[1] - odds[0]), float(odds[2] - odds[0])


def gaps(method: TrainingMethod, model: Linear, test: World) -> tuple[float, float]:
    """Return the differences in true and false positive rates, b less a, on a world."""
    with torch.no_grad():
        flagged = method.scored(model(test.features)[0]).argmax(dim=1).float()

    def rate(label: int, level: int) -> float:
        return float(flagged[(test.truth == label) & (test.levels == level)].mean())

    return rate(1, 1) - rate(1, 0), rate(0, 1) - rate(0, 0)
