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
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from evenhand.cohort.batches import Source
from evenhand.cohort.cohort import Cohort
from evenhand.models.masks import Schedule, tune_only
from evenhand.models.model import Model
from evenhand.models.units import parts
from evenhand.progress import Advance
from evenhand.train.losses import make_loss
from evenhand.train.settings import FitSettings


@dataclass(frozen=True, eq=False)
class Steps:
    """What the steps of one fit have in common."""

    accelerator: Accelerator
    trainee: nn.Module  # the model as the accelerator runs it
    optimizer: AdamW
    rate: LambdaLR
    loss: nn.Module

    def take(
        self,
        source: Source,
        batches: Iterable[NDArray[np.intp]],
        rest: nn.Module | None,
        advance: Advance,
    ) -> float:
        """Take a step on each batch, and return the mean loss of the source's samples.

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
        total = torch.zeros((), device=self.accelerator.device)
        for positions in batches:
            batch = source.take(positions)
            with self.accelerator.autocast():
                value = self.loss(self.trainee(batch.inputs, rest), batch.labels)
            self.accelerator.backward(value)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.rate.step()
            total += value.detach() * len(positions)
            advance()
        for buffer in self.trainee.buffers():
            broadcast(buffer)  # processes see other samples, and the main one's model is saved
        return float(self.accelerator.reduce(total)) / len(source)


def make_steps(
    model: Model,
    train: Cohort,
    schedule: Schedule,
    settings: FitSettings,
    accelerator: Accelerator,
    count: int,
) -> Steps:
    """Return the steps, ``count`` in all, of a model that is on the accelerator's device."""
    # No precision here scales losses, so the optimizer needs nothing from the accelerator.
    optimizer = _optimizer(model, schedule, settings)
    rate = LambdaLR(optimizer, warmup_cosine(settings.warmup, count))
    trainee = accelerator.prepare(model)
    loss = make_loss(settings, train.labels, len(train.classes)).to(accelerator.device)
    return Steps(accelerator, trainee, optimizer, rate, loss)


def _optimizer(model: Model, schedule: Schedule, settings: FitSettings) -> AdamW:
    """Return AdamW over everything that some epoch lets change; vectors have no weight decay.

    The head learns at the full rate, and each depth below it at its share of that.
    """
    tune_only(model, schedule.reach(settings.epochs))
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
