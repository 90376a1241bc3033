"""Train an encoder on a training cohort, without its labels."""

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
from evenhand.jobs.pretrain.curve import STATE, LossCurve, PretrainingState
from evenhand.jobs.pretrain.settings import ContrastSettings
from evenhand.networks.model import Model
from evenhand.pretraining.collapse import effective_rank, embedding_spread
from evenhand.pretraining.learners import Encoder, Learner
from evenhand.pretraining.registry import SSL_OBJECTIVES
from evenhand.progress import bar
from evenhand.training.device import make_accelerator, place_model, release_model, seeded
from evenhand.training.loop import DivergedError, EarlyStopping
from evenhand.training.predict import to_unit_range
from evenhand.training.settings import LoopSettings
from evenhand.training.steps import warmup_cosine
from evenhand.training.tracking import NO_TRACKERS, Trackers, epoch_numbers, open_trackers

FEWEST = 16  # training samples, at least: a contrastive loss needs other samples
WARMUP = 0.1  # share of the steps
SAVE_INTERVAL = 30.0  # seconds
MEASURED_SAMPLES = 256  # samples whose embeddings are measured after each epoch
HELD_OUT, FEWEST_HELD_OUT = 0.1, 8  # share of the training patients, and their least number


def train_encoder(
    model: Model,
    train: Cohort,
    settings: ContrastSettings,
    seed: int,
    folder: Path | None = None,
    tracker: Trackers = NO_TRACKERS,
) -> tuple[Model, LossCurve]:
    """Train a model's backbone in place on views of each sample; labels are not read.

    There are at most epochs × batches steps. The learning rate rises during the first tenth of
    them, and then falls to 0 along half a cosine. With patience (`patience_of`), a tenth of the
    training patients is held out: training stops after so many epochs without a lower loss on
    their views, which are the same in each epoch, and the weights of the best epoch are restored.

    Parameters
    ----------
    model
        The model; its backbone is trained.
    train
        Stored training samples.
    settings
        The objective and the training.
    seed
        The seed of all random numbers.
    folder
        The folder of the state, which is saved about every half minute. If it holds a state,
        training continues from it, to the same weights as without a break. None saves no state.
    tracker
        Receives the numbers of each epoch.

    Returns
    -------
    tuple
        The model, on the CPU and in evaluation mode, and its loss curve.

    Raises
    ------
    EvenhandError
        If there are too few samples, the loss is not finite, or the state cannot be read.
    """
    order_seed, view_seed, torch_seed, held_seed = np.random.SeedSequence(seed).generate_state(4)
    order, held_rng = np.random.default_rng(order_seed), np.random.default_rng(held_seed)
    patience = patience_of(settings)
    held = draw_held_out(train, held_rng) if patience else np.zeros(len(train), np.bool_)
    accelerator = make_accelerator(
        LoopSettings(device=settings.device, precision=settings.precision)
    )
    source, held_source = (
        BatchSource(cohort, accelerator.device)
        for cohort in (_without_held_out(train, held), train.select(held))
    )
    rng = torch.Generator(accelerator.device).manual_seed(int(view_seed))
    with seeded(int(torch_seed), accelerator.device):
        model = place_model(model, accelerator.device)
        model.backbone.requires_grad_(True)
        learner = make_learner(model, settings, len(source)).to(accelerator.device)
        steps = settings.epochs * _steps(source, settings)
        optimizer, scheduler = _optimizer(learner, settings, steps)
        state = PretrainingState(
            learner, optimizer, scheduler, order, rng, EarlyStopping(patience), LossCurve()
        )
        learning = _Learning(model, state, accelerator, settings, steps)
        learning.run(source, held_source, int(held_seed), folder, tracker)
        state.best.restore(learner)
    return release_model(model), state.curve


def train_tracked_encoder(
    model: Model,
    train: Cohort,
    settings: ContrastSettings,
    seed: int,
    *,
    root: Path,
    name: str,
    folder: Path | None = None,
) -> tuple[Model, LossCurve]:
    """Train an encoder as `train_encoder` does, and log its epochs in the settings' trackers.

    ``root`` is the run directory, and ``name`` the encoder's name in it.
    """
    loop = LoopSettings(device=settings.device, precision=settings.precision, track=settings.track)
    about = {"lr": settings.lr, "seed": seed, "ssl": settings.ssl}
    resumed = folder is not None and (folder / STATE).exists()
    with open_trackers(loop, root, name, about, resumed=resumed) as tracker:
        return train_encoder(model, train, settings, seed, folder, tracker)


def remove_state(folder: Path) -> None:
    """Remove the state of a pre-training that has ended."""
    (folder / STATE).unlink(missing_ok=True)


def make_learner(model: Model, settings: ContrastSettings, samples: int) -> Learner:
    """Return the learner that trains a model's backbone by the objective of the settings.

    Raises
    ------
    EvenhandError
        If the objective is unknown, or not for such samples or such a network.
    """
    objective = SSL_OBJECTIVES.find(settings.ssl)
    if settings.teacher_momentum is not None:
        objective = objective.with_momentum(settings.teacher_momentum)
    return objective.make(Encoder.of_model(model, samples))


def patience_of(settings: ContrastSettings) -> int:
    """Return the epochs of patience; 0 for objectives with a teacher.

    Their loss does not show when to stop: it may fall only because the teacher hardly changes.
    """
    return settings.patience if SSL_OBJECTIVES.find(settings.ssl).stops_early else 0


def draw_held_out(train: Cohort, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw the held-out patients, and return the mask ``(n,)`` of their samples."""
    patients = np.unique(train.table["patient_id"].to_numpy(str))
    count = min(len(patients), max(FEWEST_HELD_OUT, round(HELD_OUT * len(patients))))
    return np.isin(
        train.table["patient_id"].to_numpy(str), rng.choice(patients, count, replace=False)
    )


def _without_held_out(train: Cohort, held: NDArray[np.bool_]) -> Cohort:
    if len(train) - int(held.sum()) < FEWEST:
        raise EvenhandError(
            f"{len(train)} training samples, {int(held.sum())} of them held out for early "
            f"stopping, are too few to pre-train on; at least {FEWEST} must remain. Give more "
            "data, or --patience 0 to hold none out."
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
    """Return the optimizer and its learning rate over a number of steps."""
    optimizer = AdamW(
        [weights for weights in learner.parameters() if weights.requires_grad],
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    return optimizer, LambdaLR(optimizer, warmup_cosine(WARMUP, steps))


@dataclass(frozen=True, eq=False)
class _Learning:
    """Runs the epochs of a pre-training."""

    model: Model
    state: PretrainingState
    accelerator: Accelerator
    settings: ContrastSettings
    steps: int  # in all epochs together

    def run(
        self,
        source: BatchSource,
        held_source: BatchSource,
        seed: int,
        folder: Path | None,
        tracker: Trackers,
    ) -> None:
        """Train to the end, from the state in the folder if there is one."""
        file = folder / STATE if folder else None
        if file and file.exists():
            self.state.load(file)
        curve, best, saved = self.state.curve, self.state.best, time.monotonic()
        with bar("pre-training", self.settings.epochs) as advance:
            advance(len(curve.loss))
            if not curve.untrained:
                curve.untrained[:] = self._measure_embeddings(source)
            while len(curve.loss) < self.settings.epochs and not _is_over(best):
                began = time.perf_counter()
                self._epoch(source)
                if best.patience:
                    curve.held_out.append(self._held_out_loss(held_source, seed))
                    best.stop(-curve.held_out[-1], self.state.learner)
                epoch_spread, epoch_rank = self._measure_embeddings(source)
                curve.spread.append(epoch_spread)
                curve.rank.append(epoch_rank)
                advance(text=curve.text)
                extra = {"held_out_loss": curve.held_out[-1]} if curve.held_out else {}
                seconds = time.perf_counter() - began
                tracker.log(len(curve.loss), epoch_numbers(curve.loss[-1], extra, seconds))
                if file and time.monotonic() - saved >= SAVE_INTERVAL:
                    self.state.save(file)
                    saved = time.monotonic()

    def _epoch(self, source: BatchSource) -> None:
        self.state.learner.train()
        order = self.state.order_rng.permutation(len(source))
        batches = np.array_split(order, _steps(source, self.settings))
        values = [self._step(source.take(positions).inputs) for positions in batches]
        curve = self.state.curve
        curve.loss.append(_finite(torch.stack(values).mean(), len(curve.loss), self.settings))

    def _step(self, inputs: Tensor) -> Tensor:
        """Take a training step on a batch, and return its loss."""
        state = self.state
        loss = self.loss(inputs, state.views_rng)
        self.accelerator.backward(loss)
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.scheduler.step()
        state.learner.after_step(state.scheduler.last_epoch / self.steps)
        return loss.detach()

    def loss(self, inputs: Tensor, rng: torch.Generator) -> Tensor:
        """Draw views of a batch, and return their loss."""
        batch = self.state.learner.draw(self.model.scale(to_unit_range(inputs)), rng)
        with self.accelerator.autocast():
            loss: Tensor = self.state.learner(*batch)
            return loss

    @torch.no_grad()
    def _held_out_loss(self, source: BatchSource, seed: int) -> float:
        """Return the mean loss on held-out patients; batches and views are always the same."""
        self.state.learner.eval()
        rng = torch.Generator(self.accelerator.device).manual_seed(seed)
        batches = np.array_split(np.arange(len(source)), _steps(source, self.settings))
        losses = [self.loss(source.take(positions).inputs, rng) for positions in batches]
        return float(torch.stack(losses).mean())

    @torch.no_grad()
    def _measure_embeddings(self, source: BatchSource) -> tuple[float, float]:
        """Return spread and effective rank of the embeddings of a fixed set of samples."""
        learner = self.state.learner.eval()
        count = min(MEASURED_SAMPLES, len(source))
        positions = np.linspace(0, len(source) - 1, count).round().astype(np.intp)
        samples = self.model.scale(to_unit_range(source.take(positions).inputs))
        with self.accelerator.autocast():
            embeddings = learner.embed(learner.read(samples))
        return embedding_spread(embeddings), effective_rank(embeddings)


def _is_over(best: EarlyStopping) -> bool:
    return bool(best.patience) and best.epochs_without_better >= best.patience
