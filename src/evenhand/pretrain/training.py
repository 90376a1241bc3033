"""The way from a training cohort to an encoder, without its labels."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from torch.random import fork_rng

from evenhand.cohort.batches import BatchSource
from evenhand.cohort.cohort import Cohort
from evenhand.errors import EvenhandError
from evenhand.models.model import Model
from evenhand.pretrain.methods import find_method
from evenhand.pretrain.settings import ContrastSettings
from evenhand.pretrain.views import view_of
from evenhand.progress import bar
from evenhand.train.device import make_accelerator
from evenhand.train.loop import DivergedError
from evenhand.train.predict import unit
from evenhand.train.settings import LoopSettings

FEWEST = 16  # samples; fewer have too few others to be told from
WARMUP = 0.1  # share of the steps


def train_encoder(
    model: Model, train: Cohort, settings: ContrastSettings, seed: int
) -> tuple[Model, list[float]]:
    """Train a model's backbone in place on two views of each sample; labels are not read.

    The learning rate rises over a tenth of the steps and falls to 0 over the rest, by half a
    cosine; there are epochs × batches of them.

    Returns
    -------
    tuple
        The model, on the CPU and in evaluation mode, and the mean loss of each epoch.

    Raises
    ------
    EvenhandError
        There are too few samples, or the loss is no longer finite.
    """
    if len(train) < FEWEST:
        raise EvenhandError(
            f"{len(train)} training samples are too few to pre-train on; {FEWEST} is the least."
        )
    order_seed, view_seed, torch_seed = np.random.SeedSequence(seed).generate_state(3)
    accelerator = make_accelerator(
        LoopSettings(device=settings.device, precision=settings.precision)
    )
    source = BatchSource(train, accelerator.device)
    rng = torch.Generator(accelerator.device).manual_seed(int(view_seed))
    order = np.random.default_rng(order_seed)
    losses: list[float] = []
    with fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(int(torch_seed))
        step = _stepper(model.to(accelerator.device), settings, len(source), accelerator)
        with bar("pre-training", settings.epochs) as advance:
            for epoch in range(settings.epochs):
                batches = np.array_split(order.permutation(len(source)), _steps(source, settings))
                values = [step(source.take(positions).inputs, rng) for positions in batches]
                losses.append(float(torch.stack(values).mean()))
                if not math.isfinite(losses[-1]):
                    raise DivergedError(
                        f"the loss is {losses[-1]} in epoch {epoch + 1}; give a lower --lr than "
                        f"{settings.lr:g}."
                    )
                advance(text=f"epoch {epoch + 1}: loss {losses[-1]:.3f}")
    return model.cpu().eval(), losses


Step = Callable[[Tensor, torch.Generator], Tensor]


def _steps(source: BatchSource, settings: ContrastSettings) -> int:
    return math.ceil(len(source) / settings.batch_size)


def _stepper(
    model: Model, settings: ContrastSettings, count: int, accelerator: Accelerator
) -> Step:
    """Return the function that does one step on a batch, and tells its loss."""
    method, view = find_method(settings.method), view_of(model.spec.inputs)
    head = method.head(int(model.backbone.head_hidden_size))  # type: ignore[arg-type]
    network = nn.Sequential(model.backbone, head.to(accelerator.device)).train()
    network.requires_grad_(True)
    optimizer = AdamW(
        network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True
    )
    steps = settings.epochs * math.ceil(count / settings.batch_size)
    rate = OneCycleLR(optimizer, settings.lr, steps, pct_start=WARMUP, cycle_momentum=False)

    def step(inputs: Tensor, rng: torch.Generator) -> Tensor:
        samples = model.scaled(unit(inputs))
        views = torch.cat([view(samples, rng), view(samples, rng)])
        with accelerator.autocast():
            first, second = network(model.readable(views)).chunk(2)
            loss = method.loss(first, second)
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        rate.step()
        return loss.detach()

    return step
