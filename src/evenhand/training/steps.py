"""The steps of a fit: loss, gradients, AdamW, and the learning rate of the next step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from evenhand.cohort.store.batches import BatchProvider
from evenhand.masks.masks import Schedule, set_trainable
from evenhand.masks.units import parts
from evenhand.methods.base import TrainingMethod
from evenhand.networks.model import Model
from evenhand.progress import Advance
from evenhand.training.settings import FitSettings


@dataclass(frozen=True, eq=False)
class Steps:
    """What the steps of one fit have in common."""

    accelerator: Accelerator
    trainee: nn.Module  # the model as the accelerator runs it
    optimizer: AdamW
    rate: LambdaLR
    method: TrainingMethod
    levels: Tensor  # (n,) of the training rows, as numbers; -1 for unknown
    head_input: HeadInput

    def take(
        self,
        source: BatchProvider,
        batches: Iterable[NDArray[np.intp]],
        rest: nn.Module | None,
        advance: Advance,
    ) -> float:
        """Take a step on each batch, and return the mean loss of the samples in them.

        Running statistics are those of the main process afterwards, in all of them.

        Parameters
        ----------
        source
            Samples, or activations that the rest of the backbone takes.
        batches
            This process's positions in it.
        rest
            The rest of the backbone behind a cut; None for all of it.
        advance
            Told of each step.
        """
        device = self.accelerator.device
        total, count = torch.zeros((), device=device), torch.zeros((), device=device)
        for positions in batches:
            batch = source.take(positions)
            levels = self.levels[torch.from_numpy(positions)].to(device)
            with self.accelerator.autocast():
                outputs = self.trainee(batch.inputs, rest)
                value = self.method.loss(outputs, self.head_input.features, batch.labels, levels)
            self.accelerator.backward(value)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.rate.step()
            self.method.after_step(self.accelerator.unwrap_model(self.trainee))
            total += value.detach() * len(positions)
            count += len(positions)
            advance()
        for buffer in self.trainee.buffers():
            broadcast(buffer)  # processes see other samples, and the main one's model is saved
        return float(self.accelerator.reduce(total)) / float(self.accelerator.reduce(count))


class HeadInput:
    """The features ``(B, D)`` that a model's head took last, for methods that read them.

    Examples
    --------
    >>> seen = HeadInput(nn.Linear(2, 1), wanted=True)
    >>> _ = seen.head(torch.ones(1, 2))
    >>> seen.features
    tensor([[1., 1.]])
    """

    def __init__(self, head: nn.Module, *, wanted: bool) -> None:
        self.head = head
        self.features: Tensor | None = None
        self._hook = head.register_forward_pre_hook(self._keep) if wanted else None

    def _keep(self, head: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.features = inputs[0]

    def remove(self) -> None:
        """Stop recording the input of the head."""
        if self._hook is not None:
            self._hook.remove()


def make_steps(
    model: Model,
    schedule: Schedule,
    settings: FitSettings,
    accelerator: Accelerator,
    count: int,
    method: TrainingMethod,
    levels: Tensor,
) -> Steps:
    """Return the steps, ``count`` in all, of a model that is on the accelerator's device.

    Parameters
    ----------
    model, schedule, settings, accelerator
        What is trained, what of it, how and where.
    count
        Steps at most, over which the learning rate rises and falls.
    method
        Gives the loss.
    levels
        ``(n,)`` level of each training row as a number; -1 for unknown.
    """
    # No precision here scales losses, so the optimizer needs nothing from the accelerator.
    optimizer = _optimizer(model, schedule, settings)
    rate = LambdaLR(optimizer, warmup_cosine(settings.warmup, count))
    trainee = accelerator.prepare(model)
    head_input = HeadInput(model.head, wanted=method.needs_features)
    return Steps(accelerator, trainee, optimizer, rate, method, levels, head_input)


def _optimizer(model: Model, schedule: Schedule, settings: FitSettings) -> AdamW:
    """Return AdamW over everything that some epoch lets change; vectors have no weight decay.

    The head learns at the full rate, and each depth below it at its share of that.
    """
    set_trainable(model, schedule.reach(settings.epochs))
    decay = schedule.decay if settings.layer_decay is None else settings.layer_decay
    units = parts(model.backbone)
    below = {id(p): units[-1].depth + 1 - unit.depth for unit in units for p in unit.parameters}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            rate = settings.lr * decay ** below.get(id(parameter), 0)
            groups.setdefault((rate, parameter.ndim > 1), []).append(parameter)
    return AdamW(
        [
            {"params": tuned, "lr": rate, "weight_decay": settings.weight_decay * matrices}
            for (rate, matrices), tuned in groups.items()
        ],
        fused=True,
    )


def warmup_cosine(warmup: float, steps: int) -> Callable[[int], float]:
    """Return the factor of the learning rate at each step: linear up, then half a cosine to 0.

    Parameters
    ----------
    warmup
        Share of the steps on which it rises.
    steps
        How many there are at most.
    """
    warm = round(warmup * steps)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / (warm + 1)
        return (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2

    return factor
