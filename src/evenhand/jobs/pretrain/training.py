"""The way from a training cohort to an encoder, without its labels."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.store.batches import BatchSource
from evenhand.errors import EvenhandError
from evenhand.jobs.pretrain.curve import LossCurve
from evenhand.jobs.pretrain.settings import ContrastSettings
from evenhand.jobs.pretrain.state import STATE, PretrainingState
from evenhand.networks.model import Model
from evenhand.pretraining.collapse import effective_rank, embedding_spread
from evenhand.pretraining.learners import Encoder, Learner
from evenhand.pretraining.registry import SSL_OBJECTIVES
from evenhand.progress import bar
from evenhand.training.device import make_accelerator, place_model, release_model, seeded
from evenhand.training.loop import Best, DivergedError
from evenhand.training.predict import unit
from evenhand.training.settings import LoopSettings
from evenhand.training.steps import warmup_cosine
from evenhand.training.tracking import UNTRACKED, Tracked, epoch_numbers

FEWEST = 16  # samples; fewer have too few others to be told from
WARMUP = 0.1  # share of the steps
SAVED_EVERY = 30.0  # seconds
LOOKED_AT = 256  # samples whose embeddings are measured after each epoch
HELD_OUT, FEWEST_HELD_OUT = 0.1, 8  # share of the training patients, and the least of them


def train_encoder(
    model: Model,
    train: Cohort,
    settings: ContrastSettings,
    seed: int,
    folder: Path | None = None,
    tracker: Tracked = UNTRACKED,
) -> tuple[Model, LossCurve]:
    """Train a model's backbone in place on views of each sample; labels are not read.

    The learning rate rises over a tenth of the steps and falls to 0 over the rest, by half a
    cosine; there are at most epochs × batches of them. With patience (`patience_of`), a tenth of
    the training patients is held out: training stops after so many epochs without a lower loss on
    them, whose views are the same each time, and the weights of the epoch with the lowest are
    kept.

    Parameters
    ----------
    model
        Its backbone is trained.
    train
        Stored training samples.
    settings
        The objective and the training.
    seed
        Of everything that is drawn.
    folder
        Where the state is saved after an epoch, every half minute; a state that is there is gone
        on from, to the same weights as without a break. None to save none.
    tracker
        Follows the epochs.

    Returns
    -------
    tuple
        The model, on the CPU and in evaluation mode, and what is known of each epoch.

    Raises
    ------
    EvenhandError
        There are too few samples, the loss is no longer finite, or the state cannot be read.
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
    with seeded(int(torch_seed), accelerator.device):
        model = place_model(model, accelerator.device)
        model.backbone.requires_grad_(True)
        learner = make_learner(model, settings, len(source)).to(accelerator.device)
        steps = settings.epochs * _steps(source, settings)
        optimizer, rate = _optimizer(learner, settings, steps)
        state = PretrainingState(learner, optimizer, rate, order, rng, Best(patience), LossCurve())
        learning = _Learning(model, state, accelerator, settings, steps)
        learning.run(source, judges, int(held_seed), folder, tracker)
        state.best.restore(learner)
    return release_model(model), state.curve


def forget_state(folder: Path) -> None:
    """Remove the state of a pre-training whose encoder is kept."""
    (folder / STATE).unlink(missing_ok=True)


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


def _optimizer(learner: Learner, settings: ContrastSettings, steps: int) -> tuple[AdamW, LambdaLR]:
    """Return the optimizer and its learning rate, for so many steps."""
    optimizer = AdamW(
        [weights for weights in learner.parameters() if weights.requires_grad],
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    return optimizer, LambdaLR(optimizer, warmup_cosine(WARMUP, steps))


@dataclass(frozen=True, eq=False)
class _Learning:
    """The epochs of a pre-training."""

    model: Model
    state: PretrainingState
    accelerator: Accelerator
    settings: ContrastSettings
    steps: int  # of all epochs

    def run(
        self,
        source: BatchSource,
        judges: BatchSource,
        seed: int,
        folder: Path | None,
        tracker: Tracked,
    ) -> None:
        """Train to the end, from the state in the folder where there is one."""
        file = folder / STATE if folder else None
        if file and file.exists():
            self.state.load(file)
        curve, best, saved = self.state.curve, self.state.best, time.monotonic()
        with bar("pre-training", self.settings.epochs) as advance:
            advance(len(curve.loss))
            if not curve.untrained:
                curve.untrained[:] = self._look(source)
            while len(curve.loss) < self.settings.epochs and not _is_over(best):
                began = time.perf_counter()
                self._epoch(source)
                if best.patience:
                    curve.held_out.append(self._judge(judges, seed))
                    best.stop(-curve.held_out[-1], self.state.learner)
                for values, value in zip(
                    (curve.spread, curve.rank), self._look(source), strict=True
                ):
                    values.append(value)
                advance(text=curve.text)
                judged = {"held_out_loss": curve.held_out[-1]} if curve.held_out else {}
                seconds = time.perf_counter() - began
                tracker.log(len(curve.loss), epoch_numbers(curve.loss[-1], judged, seconds))
                if file and time.monotonic() - saved >= SAVED_EVERY:
                    self.state.save(file)
                    saved = time.monotonic()

    def _epoch(self, source: BatchSource) -> None:
        self.state.learner.train()
        order = self.state.order.permutation(len(source))
        batches = np.array_split(order, _steps(source, self.settings))
        values = [self._step(source.take(positions).inputs) for positions in batches]
        curve = self.state.curve
        curve.loss.append(_finite(torch.stack(values).mean(), len(curve.loss), self.settings))

    def _step(self, inputs: Tensor) -> Tensor:
        """Do a step on a batch, and return its loss."""
        state = self.state
        loss = self.loss(inputs, state.views)
        self.accelerator.backward(loss)
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.rate.step()
        state.learner.after_step(state.rate.last_epoch / self.steps)
        return loss.detach()

    def loss(self, inputs: Tensor, rng: torch.Generator) -> Tensor:
        """Return the loss of a batch, with views drawn."""
        batch = self.state.learner.draw(self.model.scaled(unit(inputs)), rng)
        with self.accelerator.autocast():
            loss: Tensor = self.state.learner(*batch)
            return loss

    @torch.no_grad()
    def _judge(self, source: BatchSource, seed: int) -> float:
        """Return the mean loss on held-out patients, of the same batches and views each time."""
        self.state.learner.eval()
        rng = torch.Generator(self.accelerator.device).manual_seed(seed)
        batches = np.array_split(np.arange(len(source)), _steps(source, self.settings))
        losses = [self.loss(source.take(positions).inputs, rng) for positions in batches]
        return float(torch.stack(losses).mean())

    @torch.no_grad()
    def _look(self, source: BatchSource) -> tuple[float, float]:
        """Return spread and rank of the embeddings of some samples, the same ones each time."""
        learner = self.state.learner.eval()
        count = min(LOOKED_AT, len(source))
        places = np.linspace(0, len(source) - 1, count).round().astype(np.intp)
        samples = self.model.scaled(unit(source.take(places).inputs))
        with self.accelerator.autocast():
            embeddings = learner.embed(learner.read(samples))
        return embedding_spread(embeddings), effective_rank(embeddings)


def _is_over(best: Best) -> bool:
    return bool(best.patience) and best.since >= best.patience
