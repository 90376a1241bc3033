"""From settings to a trained and scored model, for every job that trains."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenhand.cohort.prepare import prepare_splits
from evenhand.cohort.splits import Splits, share_of_patients
from evenhand.cohort.store.batches import BatchSource
from evenhand.cohort.store.samples import default_cache
from evenhand.errors import EvenhandError, pick
from evenhand.experiments.mitigation import FIRST_EPOCHS, Mitigation, find_mitigation
from evenhand.experiments.runs import Run
from evenhand.experiments.settings import TrainingSettings
from evenhand.launcher import is_main
from evenhand.masks.lora import merge_lora
from evenhand.masks.masks import Mask, Schedule, find_units, set_trainable
from evenhand.masks.units import parts
from evenhand.metrics.groups import Groups, attribute_groups, excluded_groups
from evenhand.metrics.target_names import find_target
from evenhand.metrics.targets import Target
from evenhand.networks.augment import find_augmentation
from evenhand.networks.inputs import Images, SeriesInputs
from evenhand.networks.model import Model, build_model, save_model
from evenhand.tables.attributes import group_of
from evenhand.tables.predictions import write_predictions
from evenhand.training.device import make_accelerator, warn_of_memory
from evenhand.training.feed import Feed
from evenhand.training.frozen_prefix import MEGABYTE, ActivationCache, ActivationFiles
from evenhand.training.inputs import model_inputs
from evenhand.training.loop import Epoch, fit
from evenhand.training.predict import class_probabilities, predict_cohorts
from evenhand.training.settings import FitSettings, LoopSettings
from evenhand.training.tracking import NO_TRACKERS, Trackers, epoch_numbers


@dataclass(frozen=True, eq=False)
class Task:
    """The data, model inputs, targets and mitigation of a job, prepared once for all its fits."""

    settings: TrainingSettings
    splits: Splits
    targets: tuple[Target, ...]
    groups: dict[str, Groups]  # of the validation rows
    excluded: dict[str, set[str]]
    inputs: Images | SeriesInputs
    mitigation: Mitigation
    activations: ActivationCache | None = None  # of frozen layers, shared by all fits
    _built: dict[int, Model] = field(default_factory=dict, init=False)  # seed → the last model

    def values(self, scores: NDArray[np.float64]) -> tuple[float, ...]:
        """Return each target's value, or its pessimistic end, for validation scores ``(n, C)``."""
        val = self.splits.val
        arguments = (val.labels, scores, self.groups, self.excluded)
        patients = val.table["patient_id"].to_numpy()
        if self.settings.pessimistic:
            return tuple(
                target.pessimistic_value(*arguments, patients=patients) for target in self.targets
            )
        return tuple(target.value(*arguments, patients=patients) for target in self.targets)

    def by_group(self, scores: NDArray[np.float64]) -> dict[str, float]:
        """Return the targets' metrics in each group, for validation scores ``(n, C)``."""
        arguments = (self.splits.val.labels, scores, self.groups, self.excluded)
        return {
            name: value
            for target in self.targets
            for name, value in target.by_group(*arguments).items()
        }

    def by_target(self, values: tuple[float, ...]) -> dict[str, float]:
        """Return target's name → value."""
        names = [target.name for target in self.targets]
        return dict(zip(names, values, strict=True))

    def model(self, seed: int | None = None) -> Model:
        """Return a copy of the untrained model for a seed; by default, that of the settings."""
        settings, classes = self.settings, self.splits.train.classes
        seed = settings.seed if seed is None else seed
        if seed not in self._built:  # reading or drawing weights is slower than copying them
            self._built.clear()
            self._built[seed] = build_model(
                settings.backbone, settings.weights, self.inputs, classes, seed, settings.head
            )
        return deepcopy(self._built[seed])

    def fit_settings(self, lr: float, seed: int | None = None) -> FitSettings:
        """Return the settings of one fit; by default, with the seed of the task's settings."""
        loop = self.settings.model_dump(include=set(LoopSettings.model_fields))
        return FitSettings(**loop | {"lr": lr} | ({} if seed is None else {"seed": seed}))

    @property
    def fingerprint(self) -> str:
        """A hash of the data's fingerprint and of the samples in each split."""
        ids = [
            f"{name}:{key}" for name, part in self.splits.items() for key in part.table["sample_id"]
        ]
        text = "\n".join([self.splits.train.source.fingerprint, *ids])
        return hashlib.sha256(text.encode()).hexdigest()


def prepare_task(settings: TrainingSettings, label_share: float = 1.0) -> Task:
    """Prepare the data and check that the targets are defined on the validation split.

    Parameters
    ----------
    settings
        The settings of the job.
    label_share
        The share of the training patients to train on, in (0, 1].

    Raises
    ------
    EvenhandError
        If the data are refused; if a target is unknown, needs attributes and has none, or is
        undefined for some group (the message has the counts); or if the augmentation is for samples
        of another kind.
    """
    training_targets(settings)  # checked first, because preparing the data takes long
    splits = prepare_splits(settings, settings.images, np.random.default_rng(settings.seed))
    return task_from_splits(settings, splits, label_share)


def task_from_splits(settings: TrainingSettings, splits: Splits, label_share: float = 1.0) -> Task:
    """Return the task for splits that are already prepared; otherwise as `prepare_task`."""
    targets = training_targets(settings)
    inputs = model_inputs(splits.train)  # their scale needs no labels
    splits = with_label_share(splits, label_share, settings.seed)
    groups = {
        name: attribute_groups(name, group_of(splits.val.table, name, splits.val.levels))
        for name in settings.attribute
    }
    excluded = excluded_groups(settings.exclude_group, groups)
    find_augmentation(settings.augment, inputs)
    mitigation = find_mitigation(settings, splits.train)
    cache = _activation_cache(settings)
    task = Task(settings, splits, targets, groups, excluded, inputs, mitigation, cache)
    _check_defined(task)
    _check_memory(task)
    device = make_accelerator(settings).device
    warn_of_memory(task.model, inputs, settings.batch_size, device)
    return task


def training_targets(settings: TrainingSettings) -> tuple[Target, ...]:
    """Return the targets of a training, each once.

    Raises
    ------
    EvenhandError
        If a target is unknown, has a bound, needs attributes and there are none, is about another
        attribute, or must be judged by an interval and has none.
    """
    names = dict.fromkeys(settings.target)
    targets = tuple(find_target(name, pessimistic=settings.pessimistic) for name in names)
    for target in targets:
        if target.bound is not None:
            raise EvenhandError(
                f"--target {target.name}={target.bound:g}: only pruning stops at a bound; a "
                f"training has no bound. Give --target {target.name}."
            )
        if not target.is_overall and not settings.attribute:
            raise EvenhandError(f"--target {target.name} compares groups; give an --attribute.")
        if target.attribute is not None:
            pick("--attribute", target.attribute, dict.fromkeys(settings.attribute))
        metric = next((metric for metric in target.metrics if metric.no_interval), None)
        if settings.pessimistic and metric is not None:
            raise EvenhandError(
                f"--pessimistic: {metric.name} has no interval ({metric.no_interval}); leave "
                "--pessimistic out, or name another --target."
            )
    return targets


def require_attribute(settings: TrainingSettings) -> None:
    """Refuse settings without an attribute.

    Raises
    ------
    EvenhandError
        If the settings name no attribute.
    """
    if not settings.attribute:
        raise EvenhandError(
            "no attribute is given, and fairness compares groups. Name one with --attribute."
        )


def with_label_share(splits: Splits, share: float, seed: int) -> Splits:
    """Return the splits with only a share of the training patients, in (0, 1]."""
    if share == 1:
        return splits
    return replace(
        splits, train=share_of_patients(splits.train, share, np.random.default_rng(seed))
    )


def _activation_cache(settings: TrainingSettings) -> ActivationCache | None:
    """Return a cache of activations: in GPU memory, or in the folder of the sample stores."""
    memory = settings.prefix_memory * MEGABYTE
    if not memory:
        return None
    if make_accelerator(settings).device.type == "cuda":
        return ActivationCache(memory)
    folder = (settings.cache or default_cache()) / "activations"
    return ActivationFiles(memory, folder, settings.prefix_disk * MEGABYTE)


def _check_memory(task: Task) -> None:
    """Refuse a cache of activations that cannot hold one batch of the largest ones, at depth 1."""
    if task.activations is not None:
        accelerator, fit_settings = make_accelerator(task.settings), task.fit_settings(lr=1.0)
        model = task.model().to(accelerator.device)
        lowest = frozenset(unit.name for unit in parts(model.backbone) if unit.depth == 1)
        set_trainable(model, lowest)
        Feed(model, task.splits, fit_settings, accelerator, task.activations).truncate(lowest)


def _check_defined(task: Task) -> None:
    """Refuse targets that are undefined on the validation split for every model."""
    val = task.splits.val
    for target in task.targets:
        problems = target.problems(
            val.labels, task.groups, task.excluded, n_classes=len(val.classes)
        )
        if problems:
            listed = "\n".join(f"  {problem}" for problem in problems)
            raise EvenhandError(
                f"--target {target.name} is undefined on the validation split:\n{listed}"
            )
    if not task.settings.pessimistic:
        return
    # Random scores: with constant scores, some metrics are undefined that models' scores define.
    chance = np.random.default_rng(0).dirichlet(np.ones(len(val.classes)), len(val))
    for target, value in zip(task.targets, task.values(chance), strict=True):
        if np.isnan(value):
            raise EvenhandError(
                f"--pessimistic: {target.name} has no interval on the validation split, because "
                "in most resamples of its patients some group lacks a class. Leave --pessimistic "
                "out, exclude the smallest group with --exclude-group, or give the validation "
                "split more patients."
            )


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained model on the CPU, with its mask and its targets on validation rows."""

    model: Model
    mask: Mask  # the units that were trainable up to the epoch whose weights the model has
    values: tuple[float, ...]  # of the targets, with these weights
    method: str = "erm"  # with its settings, as the command line takes them
    logged: tuple[dict[str, float], ...] = ()  # numbers that the method logs after each epoch
    warning: str | None = None  # the method's warning about this training


def train_model(
    task: Task,
    model: Model,
    schedule: Schedule,
    settings: FitSettings,
    report: Callable[[int, tuple[float, ...]], None] = lambda epochs, values: None,
    mitigation: Mitigation | None = None,
    tracker: Trackers = NO_TRACKERS,
) -> Trained:
    """Train a model, and return it with its targets on validation rows.

    Parameters
    ----------
    report
        Called after each epoch with the number of epochs done and the values of the targets.
    mitigation
        The mitigation method; by default, the task's.
    tracker
        Logs the loss, the targets, their metrics by group, and the seconds of each epoch.
    """
    mitigation = mitigation or task.mitigation
    sign = 1.0 if task.targets[0].maximise else -1.0
    values_by_epoch: list[tuple[float, ...]] = []
    logged: list[dict[str, float]] = []
    times = [time.perf_counter()]

    def on_epoch(epoch: Epoch) -> float:
        values_by_epoch.append(task.values(epoch.scores))
        logged.append(epoch.logged)
        if tracker:
            times.append(time.perf_counter())
            judged = task.by_target(values_by_epoch[-1]) | task.by_group(epoch.scores)
            tracker.log(epoch.number + 1, epoch_numbers(epoch.loss, judged, times[-1] - times[-2]))
        report(epoch.number + 1, values_by_epoch[-1])
        return sign * values_by_epoch[-1][0]

    wrong = _wrong_rows(task, model, schedule, settings) if mitigation.trains_twice else None
    method = mitigation.method(wrong)
    model = fit(
        model,
        task.splits,
        schedule,
        settings,
        on_epoch=on_epoch,
        cache=task.activations,
        method=method,
        groups=mitigation.groups,
    )
    best = len(values_by_epoch) - 1
    if settings.patience:
        best = max(range(len(values_by_epoch)), key=lambda epoch: sign * values_by_epoch[epoch][0])
    values, mask = values_by_epoch[best], schedule.reach(best + 1)
    if method.final_weights() is not None:  # a mean over epochs, not yet scored
        values, mask = _values_of(task, model), schedule.reach(len(values_by_epoch))
    return Trained(model, mask, values, mitigation.text, tuple(logged), method.warning())


def _values_of(task: Task, model: Model) -> tuple[float, ...]:
    """Return the targets of a model on the validation rows."""
    accelerator = make_accelerator(task.settings)
    source = BatchSource(task.splits.val, accelerator.device)
    values = task.values(class_probabilities(model.to(accelerator.device), source, accelerator))
    model.cpu()
    return values


def _wrong_rows(
    task: Task, model: Model, schedule: Schedule, settings: FitSettings
) -> NDArray[np.bool_]:
    """Train a copy for a few epochs (`FIRST_EPOCHS`); return ``(n,)`` which rows it gets wrong."""
    short = max(1, round(FIRST_EPOCHS * settings.epochs))
    trained = fit(
        deepcopy(model),
        task.splits,
        schedule,
        settings.model_copy(update={"epochs": short, "patience": 0}),
        on_epoch=lambda epoch: -epoch.loss,
        cache=task.activations,
    )
    accelerator = make_accelerator(settings)
    source = BatchSource(task.splits.train, accelerator.device)
    scores = class_probabilities(trained.to(accelerator.device), source, accelerator)
    wrong: NDArray[np.bool_] = scores.argmax(axis=1) != task.splits.train.labels
    return wrong


def save_and_score(task: Task, run: Run, name: str, trained: Trained, **facts: Any) -> None:
    """Save a trained model in a run, and write its predictions for all splits, also for test."""
    model = save_trained(task, run.folder(name), trained, **facts)
    accelerator = make_accelerator(task.settings)
    read_split = None
    if task.activations is not None:
        fit_settings = task.fit_settings(lr=1.0)
        feed = Feed(
            model.to(accelerator.device), task.splits, fit_settings, accelerator, task.activations
        )
        read_split = partial(feed.split, truncation=feed.truncate(trained.mask))
    predictions = predict_cohorts(model, task.splits.items(), accelerator, read_split)
    if is_main():
        write_predictions(run.predictions_file(name), predictions)


def save_trained(task: Task, folder: Path, trained: Trained, **facts: Any) -> Model:
    """Save a trained model with its mask and its targets on validation rows.

    Returns
    -------
    Model
        The saved model, with LoRA updates merged into the weights.
    """
    mask, val = trained.mask, task.by_target(trained.values)
    shares = unit_shares(trained.model, mask)
    model = merge_lora(trained.model)
    if is_main():
        method = {"method": trained.method, "logged": trained.logged}
        save_model(folder, model, mask=sorted(mask), units=shares, val=val, **method, **facts)
    return model


def unit_shares(model: Model, mask: Mask) -> list[dict[str, Any]]:
    """Return a row for the tuned and one for the frozen parameters of each part of the backbone."""
    chosen = {id(p) for unit in find_units(model.backbone, mask) for p in unit.parameters}
    rows = []
    for part in parts(model.backbone):
        tuned = sum(p.numel() for p in part.parameters if id(p) in chosen)
        fields = {"name": part.name, "depth": part.depth, "kind": part.kind}
        if tuned:
            rows.append({**fields, "parameters": tuned, "tuned": True})
        if tuned < part.size:
            rows.append({**fields, "parameters": part.size - tuned, "tuned": False})
    return rows
