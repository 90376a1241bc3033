"""The course of a pre-training: losses and embeddings after each epoch, and its saved state."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from torch import Generator, Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from evenhand.files import DamagedError, replacing
from evenhand.networks.model import ModelRecord, write_tensors
from evenhand.pretraining.collapse import Embeddings
from evenhand.pretraining.learners import Learner
from evenhand.training.loop import EarlyStopping


def embeddings_of(record: ModelRecord) -> Embeddings | None:
    """Return the embeddings in the record of an encoder; None if it has none."""
    return Embeddings(**dict(record.embeddings)) if record.embeddings else None


@dataclass(frozen=True, eq=False)
class LossCurve:
    """Losses and properties of the embeddings, a value for each epoch.

    Attributes
    ----------
    loss
        The mean training loss.
    held_out
        The mean loss on held-out patients after the epoch; empty without early stopping.
    spread, rank
        The spread and the effective rank of the embeddings after the epoch.
    untrained
        The spread and the effective rank before training.
    """

    loss: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    spread: list[float] = field(default_factory=list)
    rank: list[float] = field(default_factory=list)
    untrained: list[float] = field(default_factory=list)

    @property
    def best(self) -> int:
        """The epoch, counted from 1, whose weights the encoder has."""
        return int(np.argmin(self.held_out)) + 1 if self.held_out else len(self.loss)

    @property
    def judged_losses(self) -> list[float]:
        """The losses that choose the best epoch: on held-out patients, else the training losses."""
        return self.held_out or self.loss

    @property
    def best_loss(self) -> float:
        """The loss of the best epoch."""
        return self.judged_losses[self.best - 1]

    @property
    def best_embeddings(self) -> Embeddings:
        """The properties of the embeddings after the best epoch."""
        return self._embeddings(self.best - 1)

    @property
    def text(self) -> str:
        """The last epoch, as one line of text."""
        held_out = f", held out {self.held_out[-1]:.3f}" if self.held_out else ""
        embeddings = self._embeddings(-1)
        rises = self.spread[-1] > [0.0, *self.spread][-2]  # a low spread that rises is no collapse
        collapsed = " (collapsed)" if embeddings.collapsed and not rises else ""
        loss = f"loss {self.loss[-1]:.3f}{held_out}"
        return f"epoch {len(self.loss)}: {loss}, {embeddings}{collapsed}"

    @property
    def best_record(self) -> dict[str, Any]:
        """The best epoch and its embeddings, as in ``model.json``."""
        return {"epoch": self.best, "embeddings": asdict(self.best_embeddings)}

    def _embeddings(self, index: int) -> Embeddings:
        return Embeddings(self.spread[index], self.rank[index], self.untrained[1])

    def table(self) -> pd.DataFrame:
        """Return a row per epoch."""
        columns = {"epoch": [*range(1, len(self.loss) + 1)], "loss": self.loss}
        columns |= {"held_out": self.held_out} if self.held_out else {}
        return pd.DataFrame(columns | {"spread": self.spread, "effective_rank": self.rank})


STATE = "pretraining.safetensors"
"""The file of the state in the run directory."""


@dataclass(eq=False)
class PretrainingState:
    """Everything that changes during a pre-training.

    Attributes
    ----------
    learner
        The trained networks, with teacher and queue where the objective has them.
    optimizer, scheduler
        The optimizer, and the schedule of its learning rate.
    order_rng, views_rng
        The random generators of the order of samples and of the views.
    best
        The best epoch so far.
    curve
        The losses and embeddings of all epochs so far.
    """

    learner: Learner
    optimizer: AdamW
    scheduler: LambdaLR
    order_rng: np.random.Generator
    views_rng: Generator
    best: EarlyStopping
    curve: LossCurve

    def save(self, path: Path) -> None:
        """Write the state to a file, whole or not at all."""
        numbers = {  # everything but tensors, as JSON
            "order": self.order_rng.bit_generator.state,
            "curve": asdict(self.curve),
            "best": [self.best.score, self.best.epochs_without_better],
            "steps": self.scheduler.last_epoch,
            "lr": [group["lr"] for group in self.optimizer.param_groups],
        }
        with replacing(path) as part:
            write_tensors(part, dict(self._tensors()), {"facts": json.dumps(numbers)})

    def load(self, path: Path) -> None:
        """Load a state that a pre-training with the same settings saved.

        Raises
        ------
        DamagedError
            If the file is not such a state.
        """
        try:
            with safe_open(path, "pt") as file:
                facts = json.loads(file.metadata()["facts"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            self._set(tensors, facts)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            text = f"it is not a state of this pre-training ({error})"
            raise DamagedError(path, text) from error

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        yield from _with_prefix("learner", self.learner.state_dict())
        yield from _with_prefix("best", self.best.state or {})
        for number, values in self.optimizer.state_dict()["state"].items():
            yield from _with_prefix(f"optimizer.{number}", values)
        yield "random.views", self.views_rng.get_state()
        yield "random.torch", torch.get_rng_state()
        if self.views_rng.device.type == "cuda":
            yield "random.cuda", torch.cuda.get_rng_state(self.views_rng.device)

    def _set(self, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
        self.learner.load_state_dict(_without_prefix("learner", tensors))
        state = self.optimizer.state_dict()
        numbers = range(len(state["param_groups"][0]["params"]))
        moments_of = {n: _without_prefix(f"optimizer.{n}", tensors) for n in numbers}
        state["state"] = {number: values for number, values in moments_of.items() if values}
        for group, lr in zip(state["param_groups"], facts["lr"], strict=True):
            group["lr"] = lr
        self.optimizer.load_state_dict(state)
        for weights, moments in self.optimizer.state.items():
            moments.update({name: _in_layout(value, weights) for name, value in moments.items()})
        self.scheduler.last_epoch = facts["steps"]
        self.order_rng.bit_generator.state = facts["order"]
        self.best.score, self.best.epochs_without_better = facts["best"]
        self.best.state = _without_prefix("best", tensors) or None
        for name, values in facts["curve"].items():
            getattr(self.curve, name)[:] = values
        self.views_rng.set_state(tensors["random.views"])
        torch.set_rng_state(tensors["random.torch"])
        if self.views_rng.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"], self.views_rng.device)


def _in_layout(values: Tensor, weights: Tensor) -> Tensor:
    """Return an optimizer's values in the memory layout of their weights.

    A file stores tensors with channels first, while weights may be in channels-last layout; the
    fused optimizer needs the same layout for both.
    """
    if values.shape != weights.shape:
        return values
    return torch.empty_like(weights, requires_grad=False).copy_(values)


def _with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        yield f"{prefix}.{name}", tensor.detach().clone()  # safetensors refuses shared memory


def _without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {n.removeprefix(start): tensor for n, tensor in tensors.items() if n.startswith(start)}
