"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.splits import Splits
from evenhand.errors import EvenhandError
from evenhand.masks.masks import Schedule, set_trainable, train_mode
from evenhand.methods.base import EpochSampler, TrainingMethod, level_codes
from evenhand.networks.model import Model
from evenhand.progress import bar
from evenhand.training.device import make_accelerator, place_model, release_model, seeded
from evenhand.training.feed import Feed
from evenhand.training.frozen_prefix import ActivationCache
from evenhand.training.heads import join_heads, load_average, split_head
from evenhand.training.predict import class_probabilities
from evenhand.training.settings import FitSettings
from evenhand.training.steps import class_weight, make_steps


class DivergedError(EvenhandError):
    """The loss or the scores of a training are not finite."""


@dataclass(frozen=True, eq=False)
class Epoch:
    """The results of an epoch."""

    number: int  # from 0
    loss: float  # mean training loss per sample of the epoch
    scores: NDArray[np.float64]  # (n, C) probabilities of all validation rows, in their order
    logged: dict[str, float] = field(default_factory=dict)  # numbers that the method logs


OnEpoch = Callable[[Epoch], float]
"""Function of an epoch; it returns the epoch's validation score, higher is better."""


def fit(
    model: Model,
    splits: Splits,
    schedule: Schedule,
    settings: FitSettings,
    *,
    on_epoch: OnEpoch,
    cache: ActivationCache | None = None,
    method: TrainingMethod | None = None,
    groups: ArrayLike | None = None,
) -> Model:
    """Train a model in place and return it, on the CPU and in evaluation mode.

    Parameters
    ----------
    model
        The model. Units outside an epoch's mask are frozen in that epoch.
    splits
        Training and validation cohorts with a sample store behind them. The test split is not
        read.
    schedule
        Which units may change in which epoch.
    settings
        Settings of the fit. With ``patience``, the model gets the weights of the best epoch;
        otherwise those of the last.
    on_epoch
        Function that is called after each epoch with the scores of the whole validation split. An
        exception that it raises (Optuna's ``TrialPruned``) ends the fit.
    cache
        Cache for activations of frozen layers; None to compute them in every step.
    method
        A new instance of a mitigation method; by default empirical risk minimisation.
    groups
        ``(n,)``: the level of each training row, for the method's attribute.

    Raises
    ------
    DivergedError
        If the loss or the scores are not finite.
    EvenhandError
        If one batch of activations does not fit into the cache's memory.
    """
    accelerator = make_accelerator(settings)
    order_rng, dropout_seed = _spawn(settings.seed, accelerator.process_index)
    method = method or TrainingMethod()
    sampler, levels = _set_up_method(method, splits.train, groups, settings, order_rng)
    split_head(model, method, len(splits.train.classes))
    model = place_model(model, accelerator.device)
    if settings.compile:
        model.compile()
    starts = _starts(len(sampler), settings.batch_size, accelerator.num_processes)
    max_steps = settings.epochs * len(starts)
    steps = make_steps(model, schedule, settings, accelerator, max_steps, method, levels)
    feed = Feed(model, splits, settings, accelerator, cache)
    best = EarlyStopping(settings.patience)
    mask = None
    with seeded(dropout_seed, accelerator.device), bar("training", max_steps) as advance:
        for epoch in range(settings.epochs):
            if schedule(epoch) != mask:
                mask = schedule(epoch)
                set_trainable(model, mask)
            truncation = feed.truncate(schedule.reach(epoch + 1))  # below all layers tuned so far
            train, upper = feed.train(epoch, truncation)
            train_mode(model)
            rows = np.fromiter(sampler, dtype=np.intp)
            batches = _batches(rows, settings.batch_size, accelerator)
            with _explain_single_samples(model, len(rows), settings.batch_size):
                loss = steps.take(train, batches, upper, advance)
            del train  # so that its activations can be evicted
            _check_finite("training loss", loss, epoch, settings)
            val, upper = feed.val(truncation)
            val_scores = class_probabilities(model, val, accelerator, upper)
            del val  # so that its activations can be evicted
            _check_finite("mean score", float(val_scores.mean()), epoch, settings)
            method.after_validation(_log_loss(val_scores, splits.val.labels))
            score = on_epoch(Epoch(epoch, loss, val_scores, dict(method.after_epoch())))
            advance(0, text=f"epoch {epoch + 1}: loss {loss:.3f}, validation {score:.3f}")
            if best.stop(score, model):
                break
    best.restore(model)
    steps.head_input.remove()
    accelerator.unwrap_model(steps.trainee, keep_fp32_wrapper=False)  # removes autocast
    model._compiled_call_impl = None  # undoes model.compile()
    if (average := method.final_weights()) is not None:
        train_mode(model)
        load_average(model, average, feed.train(0, None)[0], settings.batch_size)
    join_heads(model)
    return release_model(model)


def _set_up_method(
    method: TrainingMethod,
    train: Cohort,
    groups: ArrayLike | None,
    settings: FitSettings,
    rng: np.random.Generator,
) -> tuple[EpochSampler, Tensor]:
    """Give a method the training rows; return its sampler, and the codes of the rows' levels."""
    if groups is None:
        if method.needs_attribute:
            raise EvenhandError(
                f"{type(method).__name__} needs groups: give groups=, one level per training row."
            )
        groups = np.full(len(train), "everybody")
    patients = train.table["patient_id"].to_numpy()
    classes = len(train.classes)
    sampler = method.sampler(train.labels, groups, patients, classes=classes, seed=rng)
    method.class_weight = class_weight(settings, train.labels, classes)
    method.label_smoothing = settings.label_smoothing
    codes = level_codes(sampler.rows.groups, sampler.rows.levels)
    return sampler, torch.from_numpy(codes)


def _log_loss(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the mean log loss of probabilities ``(n, C)``."""
    true_class = scores[np.arange(len(labels)), labels]
    return float(-np.log(true_class.clip(1e-12)).mean())


@contextmanager
def _explain_single_samples(model: nn.Module, count: int, batch_size: int) -> Iterator[None]:
    """Explain the error of a batch normalisation that gets a single sample."""
    try:
        yield
    except ValueError as error:
        norms = (m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
        if min(count, batch_size) > 1 or not any(norm.training for norm in norms):
            raise
        raise EvenhandError(
            f"--batch-size {batch_size} with {count} training samples: the network normalises over "
            "the batch, and cannot train on one sample at a time. Give a batch of two or more, or "
            "a network without batch normalisation."
        ) from error


def _check_finite(name: str, value: float, epoch: int, settings: FitSettings) -> None:
    if not math.isfinite(value):
        raise DivergedError(
            f"the {name} is {value} in epoch {epoch + 1}; give a lower --lr than {settings.lr:g}, "
            "or more --warmup."
        )


class EarlyStopping:
    """Early stopping: the weights of the best epoch, and the number of epochs since then."""

    def __init__(self, patience: int) -> None:
        self.patience = patience  # epochs; with 0 training never stops early
        self.score = -math.inf
        self.epochs_without_better = 0
        self.state: dict[str, Tensor] | None = None

    def stop(self, score: float, model: nn.Module) -> bool:
        """Record an epoch's score; return True after ``patience`` epochs without a better score."""
        if not self.patience:
            return False
        if score > self.score:
            self.score, self.epochs_without_better = score, 0
            self.state = deepcopy(model.state_dict())
        else:
            self.epochs_without_better += 1
        return self.epochs_without_better >= self.patience

    def restore(self, model: nn.Module) -> None:
        """Give the model the weights of the best epoch; without patience, change nothing."""
        if self.state is not None:
            model.load_state_dict(self.state)


def _spawn(seed: int, process: int) -> tuple[np.random.Generator, int]:
    """Return a generator for the order of samples, and a seed of dropout for one process.

    All processes get the same order, and different dropout.
    """
    order, *dropout = np.random.SeedSequence(seed).spawn(process + 2)
    return np.random.default_rng(order), int(dropout[process].generate_state(1)[0])


def _starts(count: int, size: int, processes: int) -> range:
    """Return the first positions of the batches of an epoch.

    A last batch with fewer than two samples for each process, too few for batch normalisation, is
    joined to the batch before it.
    """
    starts = range(0, count, size)
    return starts[:-1] if len(starts) > 1 and 0 < count % size < 2 * processes else starts


def _batches(
    order: NDArray[np.intp], size: int, accelerator: Accelerator
) -> Iterator[NDArray[np.intp]]:
    """Yield this process's share of each batch of one epoch, as positions in the split."""
    processes = accelerator.num_processes
    for batch in np.split(order, _starts(len(order), size, processes)[1:]):
        if len(batch) >= processes:  # each process must get a sample
            yield batch[accelerator.process_index :: processes]
