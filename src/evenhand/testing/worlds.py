"""Synthetic Gaussian data ("worlds") whose Bayes classifier is known in closed form.

``x1 ~ N(2y − 1, 1)`` depends on the disease y, and ``x2 ~ N(2a − 1, .3)`` on the attribute a.
P(y=1 | a) is .5 − tilt/2 for a = 0 and .5 + tilt/2 for a = 1. The Bayes logit is ``2 x1`` plus the
prior log-odds of the group; without tilt the weight of ``x2`` is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evenhand.methods.base import TrainingMethod

LEVELS = np.array(["a", "b"])
CLEAR = 1.5
"""Half the distance between the means of the third feature in the two classes of group a."""


@dataclass(frozen=True, eq=False)
class World:
    """Rows of a world.

    Attributes
    ----------
    features
        ``(n, 2)``; ``(n, 3)`` if group b is harder (see `world`).
    labels, truth
        ``(n,)``, the labels with their errors, and the true labels.
    levels
        ``(n,)``, 0 for group a and 1 for group b.
    """

    features: Tensor
    labels: Tensor
    levels: Tensor
    truth: Tensor

    @property
    def groups(self) -> NDArray[np.str_]:
        """The name of each row's group."""
        names: NDArray[np.str_] = LEVELS[self.levels.numpy()]
        return names


def world(
    n: int,
    tilt: float,
    seed: int,
    *,
    minority: float = 0.5,
    flip: float = 0.0,
    harder: bool = False,
) -> World:
    """Draw rows of a world.

    Parameters
    ----------
    n
        Number of rows.
    tilt
        P(y=1 | b) − P(y=1 | a).
    seed
        Seed of the draws.
    minority
        Share of group b.
    flip
        Share of wrong labels in group b.
    harder
        Whether group a has a third feature that shows the disease, so that group b is harder.
    """
    rng = np.random.default_rng(seed)
    level = (rng.random(n) < minority).astype(int)
    truth = (rng.random(n) < 0.5 + tilt * (level - 0.5)).astype(int)
    x = np.column_stack([rng.normal(2 * truth - 1, 1), rng.normal(2 * level - 1, 0.3)])
    if harder:
        x3 = rng.normal(CLEAR * (2 * truth - 1), 1) * (level == 0)
        x = np.column_stack([x, x3])
    label = np.where((level == 1) & (rng.random(n) < flip), 1 - truth, truth)
    return World(
        torch.tensor(x, dtype=torch.float32),
        torch.tensor(label),
        torch.tensor(level),
        torch.tensor(truth),
    )


class Linear(nn.Module):
    """A network that scales its inputs to features, with a linear head on them."""

    def __init__(self, outputs: int = 2, features: int = 2) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((features,), 0.5))
        self.head = nn.Linear(features, outputs)
        nn.init.zeros_(self.head.bias)
        with torch.no_grad():
            ends = torch.tensor([-0.5, 0.5]).repeat(outputs // 2)
            self.head.weight.copy_(ends[:, None].expand_as(self.head.weight))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outputs of the head, and its input features."""
        features = x * self.scale
        return self.head(features), features


class Summed(Linear):
    """A network with a frozen head, which sums the features."""

    def __init__(self, outputs: int = 2, features: int = 2) -> None:
        super().__init__(outputs, features)
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
    """Fit a linear model by a method, as in a user's own training loop."""
    order = method.sampler(data.labels, data.groups, seed=seed)
    model = network(method.head_outputs(2), data.features.shape[1])
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=lr)
    for _ in range(epochs):
        for rows in torch.split(torch.tensor(list(order)), batch):
            logits, features = model(data.features[rows])
            loss = method.loss(logits, features, data.labels[rows], data.levels[rows])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            method.after_step(model)
        method.after_epoch()
    return model


def weights_of(method: TrainingMethod, model: Linear) -> tuple[float, float]:
    """Return the weights of ``x1`` (disease) and ``x2`` (attribute) in the log-odds."""
    with torch.no_grad():
        basis = torch.cat([torch.zeros(1, 2), torch.eye(2)])
        logits = method.scored(model(basis)[0])
        odds = logits[:, 1] - logits[:, 0]
    return float(odds[1] - odds[0]), float(odds[2] - odds[0])


def gaps(method: TrainingMethod, model: Linear, test: World) -> tuple[float, float]:
    """Return the differences in true and false positive rates, group b minus group a."""
    with torch.no_grad():
        flagged = method.scored(model(test.features)[0]).argmax(dim=1).float()

    def rate(label: int, level: int) -> float:
        return float(flagged[(test.truth == label) & (test.levels == level)].mean())

    return rate(1, 1) - rate(1, 0), rate(0, 1) - rate(0, 0)


def scores(method: TrainingMethod, model: Linear, data: World) -> NDArray[np.float64]:
    """Return the probabilities of class 1, ``(n,)``."""
    with torch.no_grad():
        logits = method.scored(model(data.features)[0])
    probabilities: NDArray[np.float64] = logits.double().softmax(dim=1)[:, 1].numpy()
    return probabilities


def with_permuted_groups(data: World, seed: int) -> World:
    """Return the same rows with randomly permuted groups, which carry no information."""
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(data.levels)))
    return World(data.features, data.labels, data.levels[order], data.truth)
