"""The way from a training cohort to an encoder, without its labels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.store.batches import BatchSource
from evenhand.errors import EvenhandError
from evenhand.jobs.pretrain.settings import ContrastSettings
from evenhand.networks.model import Model
from evenhand.pretraining.learners import Encoder, Learner
from evenhand.pretraining.registry import SSL_OBJECTIVES
from evenhand.progress import bar
from evenhand.training.device import make_accelerator, seeded
from evenhand.training.loop import Best, DivergedError
from evenhand.training.predict import unit
from evenhand.training.settings import LoopSettings
from evenhand.training.steps import warmup_cosine

FEWEST = 16  # samples; fewer have too few others to be told from
WARMUP = 0.1  # share of the steps
HELD_OUT, FEWEST_HELD_OUT = 0.1, 8  # share of the training patients, and the least of them


@dataclass(frozen=True, eq=False)
class Curve:
    """The mean loss of each epoch, and that on held-out patients after it."""

    loss: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)  # empty without early stopping

    @property
    def judged(self) -> list[float]:
        """The losses that epochs are judged by."""
        return self.held_out or self.loss

    @property
    def best(self) -> int:
        """The epoch, from 1, whose weights are kept."""
        return int(np.argmin(self.held_out)) + 1 if self.held_out else len(self.loss)

    def table(self) -> pd.DataFrame:
        """Return a row per epoch."""
        columns = {"epoch": range(1, len(self.loss) + 1), "loss": self.loss}
        return pd.DataFrame(columns | ({"held_out": self.held_out} if self.held_out else {}))


def train_encoder(
    model: Model, train: Cohort, settings: ContrastSettings, seed: int
) -> tuple[Model, Curve]:
    """Train a model's backbone in place on two views of each sample; labels are not read.

    The learning rate rises over a tenth of the steps and falls to 0 over the rest, by half a
    cosine; there are at most epochs × batches of them. With patience (`patience_of`), a tenth of
    the training patients is held out: training stops after so many epochs without a lower loss on
    them, whose views are the same each time, and the weights of the epoch with the lowest are
    kept.

    Returns
    -------
    tuple
        The model, on the CPU and in evaluation mode, and the loss of each epoch.

    Raises
    ------
    EvenhandError
        There are too few samples, or the loss is no longer finite.
    """
    order_seed, view_seed, torch_seed, held_seed = np.random.SeedSequence(seed).generate_state(4)
    order, held_rng = np.random.default_rng(order_seed), np.random.default_rng(held_seed)
    patience = patience_of(settings)
    held = held_out(train, held_rng) if patience else np.zeros(len(train), np.bool_)
    fitted = _fitted(train, held)
    accelerator = make_accelerator(
        LoopSettings(device=settings.device, precision=settings.precision)
    )
    source, judges = (
        BatchSource(cohort, accelerator.device) for cohort in (fitted, train.select(held))
    )
    rng = torch.Generator(accelerator.device).manual_seed(int(view_seed))
    curve, best = Curve(), Best(patience)
    with seeded(int(torch_seed), accelerator.device):
        model = model.to(accelerator.device)
        model.backbone.requires_grad_(True)
        learner = make_learner(model, settings, len(source)).to(accelerator.device)
        learning = _Learning(model, learner, accelerator)
        step = _stepper(learning, settings, _steps(source, settings))
        with bar("pre-training", settings.epochs) as advance:
            for epoch in range(settings.epochs):
                learner.train()
                batches = np.array_split(order.permutation(len(source)), _steps(source, settings))
                values = [step(source.take(positions).inputs, rng) for positions in batches]
                curve.loss.append(_finite(torch.stack(values).mean(), epoch, settings))
                text = f"epoch {epoch + 1}: loss {curve.loss[-1]:.3f}"
                if patience:
                    curve.held_out.append(_judged(learning, judges, settings, int(held_seed)))
                    text += f", held out {curve.held_out[-1]:.3f}"
                advance(text=text)
                if curve.held_out and best.stop(-curve.held_out[-1], learner):
                    break
        best.restore(learner)
    return model.cpu().eval(), curve


def make_learner(model: Model, settings: ContrastSettings, samples: int) -> Learner:
    """Return what trains the backbone of a model by the objective of the settings.

    Raises
    ------
    EvenhandError
        There is no such objective, or it is not for such samples or such a network.
    """
    objective = SSL_OBJECTIVES.find(settings.ssl)
    if settings.teacher_momentum is not None:
        objective = objective.with_momentum(settings.teacher_momentum)
    return objective.make(Encoder.of_model(model, samples))


def patience_of(settings: ContrastSettings) -> int:
    """Return the epochs of patience; 0 where the loss of the objective does not tell when to stop.

    The target of such a loss moves: it may fall because the teacher stands nearly still.
    """
    return settings.patience if SSL_OBJECTIVES.find(settings.ssl).stops_early else 0


def held_out(train: Cohort, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return which samples are of the patients that tell when to stop, drawn without labels."""
    patients = np.unique(train.table["patient_id"].to_numpy(str))
    count = min(len(patients), max(FEWEST_HELD_OUT, round(HELD_OUT * len(patients))))
    return np.isin(
        train.table["patient_id"].to_numpy(str), rng.choice(patients, count, replace=False)
    )


def _fitted(train: Cohort, held: NDArray[np.bool_]) -> Cohort:
    rest = len(train) - int(held.sum())
    if rest < FEWEST:
        raise EvenhandError(
            f"{len(train)} training samples, {int(held.sum())} of them held out to tell when to "
            f"stop, are too few to pre-train on; {FEWEST} others is the least."
        )
    return train.select(~held)


def _finite(loss: Tensor, epoch: int, settings: ContrastSettings) -> float:
    value = float(loss)
    if not math.isfinite(value):
        raise DivergedError(
            f"the loss is {value} in epoch {epoch + 1}; give a lower --lr than {settings.lr:g}."
        )
    return value


def _steps(source: BatchSource, settings: ContrastSettings) -> int:
    return math.ceil(len(source) / settings.batch_size)


@dataclass(frozen=True, eq=False)
class _Learning:
    """A learner on a model's backbone, and how it is judged by a batch."""

    model: Model
    learner: Learner
    accelerator: Accelerator

    def loss(self, inputs: Tensor, rng: torch.Generator) -> Tensor:
        batch = self.learner.draw(self.model.scaled(unit(inputs)), rng)
        with self.accelerator.autocast():
            loss: Tensor = self.learner(*batch)
            return loss


Step = Callable[[Tensor, torch.Generator], Tensor]


def _stepper(learning: _Learning, settings: ContrastSettings, steps: int) -> Step:
    """Return the function that does one step on a batch, and tells its loss."""
    optimizer = AdamW(
        [weights for weights in learning.learner.parameters() if weights.requires_grad],
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    count = settings.epochs * steps
    rate = LambdaLR(optimizer, warmup_cosine(WARMUP, count))

    def step(inputs: Tensor, rng: torch.Generator) -> Tensor:
        loss = learning.loss(inputs, rng)
        learning.accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        rate.step()
        learning.learner.after_step(rate.last_epoch / count)
        return loss.detach()

    return step


@torch.no_grad()
def _judged(
    learning: _Learning, source: BatchSource, settings: ContrastSettings, seed: int
) -> float:
    """Return the mean loss on held-out patients, of the same batches and views each time."""
    learning.learner.eval()
    rng = torch.Generator(learning.accelerator.device).manual_seed(seed)
    batches = np.array_split(np.arange(len(source)), _steps(source, settings))
    losses = [learning.loss(source.take(positions).inputs, rng) for positions in batches]
    return float(torch.stack(losses).mean())
