"""The steps of a fit: loss, gradients, AdamW, learning rate."""

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
from evenhand.training.settings import FitSettings, LoopSettings


def class_weight(settings: LoopSettings, labels: NDArray[np.int64], classes: int) -> Tensor | None:
    """Return the weight of each class ``(C,)``; None if all are equal.

    Balanced weights are n / (C n_c); their mean over the training rows is 1. A class without a
    training row gets weight 0.

    Parameters
    ----------
    settings
        Settings with the kind of class weights.
    labels
        Training labels ``(n,)``, 0 … C − 1.
    classes
        Number of classes C.
    """
    if settings.class_weights != "balanced":
        return None
    counts = np.bincount(labels, minlength=classes)
    weights = len(labels) / (classes * np.maximum(counts, 1))
    return torch.tensor(np.where(counts > 0, weights, 0.0), dtype=torch.float32)


def make_loss(
    settings: LoopSettings, labels: NDArray[np.int64], classes: int
) -> nn.CrossEntropyLoss:
    """Return cross-entropy of logits ``(B, C)`` and labels ``(B,)``.

    Class weights and label smoothing are those of the settings. Parameters as in `class_weight`.
    """
    return nn.CrossEntropyLoss(
        weight=class_weight(settings, labels, classes), label_smoothing=settings.label_smoothing
    )


@dataclass(frozen=True, eq=False)
class Steps:
    """Takes the training steps of a fit with its model, optimizer and method."""

    accelerator: Accelerator
    trainee: nn.Module  # the model as the accelerator runs it
    optimizer: AdamW
    scheduler: LambdaLR
    method: TrainingMethod
    levels: Tensor  # (n,) level of each training row as a number; -1 for unknown
    head_input: HeadInput

    def take(
        self,
        source: BatchProvider,
        batches: Iterable[NDArray[np.intp]],
        upper: nn.Module | None,
        advance: Advance,
    ) -> float:
        """Take a step on each batch, and return the mean loss per sample.

        Afterwards, all processes have the running statistics of the main process.

        Parameters
        ----------
        source
            Samples, or activations of the frozen prefix.
        batches
            Batches of this process, as positions in the source.
        upper
            The backbone above the frozen prefix; None if the source gives samples.
        advance
            Function that is called after each step.
        """
        device = self.accelerator.device
        total, count = torch.zeros((), device=device), torch.zeros((), device=device)
        for positions in batches:
            batch = source.take(positions)
            levels = self.levels[torch.from_numpy(positions)].to(device)
            with self.accelerator.autocast():
                outputs = self.trainee(batch.inputs, upper)
                loss = self.method.loss(outputs, self.head_input.features, batch.labels, levels)
            self.accelerator.backward(loss)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.scheduler.step()
            self.method.after_step(self.accelerator.unwrap_model(self.trainee))
            total += loss.detach() * len(positions)
            count += len(positions)
            advance()
        for buffer in self.trainee.buffers():
            broadcast(
                buffer
            )  # each process sees different samples; the main process saves its model
        return float(self.accelerator.reduce(total)) / float(self.accelerator.reduce(count))


class HeadInput:
    """The features ``(B, D)`` that a model's head got in its last forward pass.

    Examples
    --------
    >>> head_input = HeadInput(nn.Linear(2, 1), record=True)
    >>> _ = head_input.head(torch.ones(1, 2))
    >>> head_input.features
    tensor([[1., 1.]])
    """

    def __init__(self, head: nn.Module, *, record: bool) -> None:
        self.head = head
        self.features: Tensor | None = None
        self._hook = head.register_forward_pre_hook(self._record) if record else None

    def _record(self, head: nn.Module, inputs: tuple[Tensor, ...]) -> None:
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
    max_steps: int,
    method: TrainingMethod,
    levels: Tensor,
) -> Steps:
    """Return the steps of a fit.

    Parameters
    ----------
    model
        The model, on the accelerator's device.
    schedule
        Mask of each epoch.
    settings
        Settings of the fit.
    accelerator
        Device and precision.
    max_steps
        Largest number of steps; the learning rate rises and falls over them.
    method
        The mitigation method, which computes the loss.
    levels
        ``(n,)`` level of each training row as a number; -1 for unknown.
    """
    # Only fp16 needs loss scaling by a wrapped optimizer; the fit uses fp32 or bf16.
    optimizer = _optimizer(model, schedule, settings)
    scheduler = LambdaLR(optimizer, warmup_cosine(settings.warmup, max_steps))
    trainee = accelerator.prepare(model)
    head_input = HeadInput(model.head, record=method.needs_features)
    return Steps(accelerator, trainee, optimizer, scheduler, method, levels, head_input)


def _optimizer(model: Model, schedule: Schedule, settings: FitSettings) -> AdamW:
    """Return AdamW over all parameters that some epoch tunes; vectors have no weight decay.

    The head has the full learning rate; each depth below it multiplies the rate by the decay.
    """
    set_trainable(model, schedule.reach(settings.epochs))
    decay = schedule.decay if settings.layer_decay is None else settings.layer_decay
    units = parts(model.backbone)
    depth_below_head = {
        id(p): units[-1].depth + 1 - unit.depth for unit in units for p in unit.parameters
    }
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            rate = settings.lr * decay ** depth_below_head.get(id(parameter), 0)
            groups.setdefault((rate, parameter.ndim > 1), []).append(parameter)
    return AdamW(
        [
            {"params": group, "lr": rate, "weight_decay": settings.weight_decay * is_matrix}
            for (rate, is_matrix), group in groups.items()
        ],
        fused=True,
    )


def warmup_cosine(warmup: float, steps: int) -> Callable[[int], float]:
    """Return the function from a step to the factor on the learning rate.

    The factor rises linearly, then falls to 0 by half a cosine.

    Parameters
    ----------
    warmup
        Share of the steps in which the factor rises.
    steps
        Largest number of steps.
    """
    warmup_steps = round(warmup * steps)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        return (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps))) / 2

    return factor
