"""From settings to everything that stays the same while a model is pruned."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from evenhand.cohort.reopen import DataOverrides, data_now, reopen, values_now
from evenhand.cohort.splits import Splits
from evenhand.cohort.store.batches import BatchSource
from evenhand.errors import EvenhandError
from evenhand.experiments.records import data_settings
from evenhand.experiments.runs import Run, finished_run
from evenhand.files import fingerprint
from evenhand.jobs.adjust.adjustment import read_adjustment
from evenhand.jobs.prune.batches import Positions, generators, group_batches, group_positions
from evenhand.jobs.prune.halves import halve
from evenhand.jobs.prune.judge import Judge
from evenhand.jobs.prune.roles import GroupRoles, find_roles, refuse_single
from evenhand.jobs.prune.settings import PruneSettings
from evenhand.metrics import (
    Excluded,
    Target,
    attribute_groups,
    excluded_groups,
    find_metric,
    find_target,
)
from evenhand.networks.checkpoints import load_model
from evenhand.networks.model import Model
from evenhand.pruning.channels import refuse_solid
from evenhand.pruning.curvature import check_squares, find_estimator
from evenhand.pruning.curvature.softmax import CrossEntropy
from evenhand.pruning.eligible import prunable_parameters
from evenhand.pruning.masks import WeightMask, load_mask
from evenhand.tables.attributes import group_of
from evenhand.tables.predictions import Predictions
from evenhand.training.device import make_accelerator
from evenhand.training.losses import make_loss
from evenhand.training.settings import LoopSettings

HALVES = 2**32 - 1
"""With the seed, seeds the draw of the halves of validation patients; no step uses this number."""


@dataclass(frozen=True, eq=False)
class PruneTask:
    """A model that is to be pruned, for whom, and how it is judged.

    Attributes
    ----------
    settings
        What was asked for.
    trained, name
        The run that holds the model, and its name there.
    training, loss
        How the model was trained, and the loss that trained it.
    model
        The untouched model, on the accelerator's device.
    mask
        What an earlier pruning has left of its weights; empty where there was none.
    splits
        The run's own splits.
    accelerator
        Where the model runs.
    judge
        Measures models on validation.
    untouched, before
        The untouched model's predictions on the validation rows, and the judge's numbers of them.
    ranks
        Each group's value of ``rank_by``, on all validation patients.
    roles
        Who is unprivileged, and β of the others.
    source, positions
        The training samples, and which are whose.
    """

    settings: PruneSettings
    trained: Run
    name: str
    training: LoopSettings
    loss: nn.CrossEntropyLoss
    model: Model
    mask: WeightMask
    splits: Splits
    accelerator: Accelerator
    judge: Judge
    untouched: Predictions
    before: Mapping[str, float]
    ranks: Mapping[str, float]
    roles: GroupRoles
    source: BatchSource
    positions: Mapping[str, Positions]

    @property
    def complete_settings(self) -> PruneSettings:
        """The settings, with what the model's run says where they say nothing of the data."""
        earlier, ours = data_settings(self.trained.record), self.settings
        data, bins = data_now(earlier.data, ours.data), ours.bins or earlier.bins
        return ours.model_copy(update={"data": data, "bins": bins} | values_now(earlier, ours))

    @property
    def fingerprint(self) -> str:
        """Changes when the data or the model do."""
        weights = fingerprint((), [self.trained.folder(self.name) / "model.safetensors"])
        text = f"{self.splits.train.source.fingerprint}\n{weights}"
        return hashlib.sha256(text.encode()).hexdigest()

    def with_choice(self, beta: float, share: float, estimator: str) -> PruneTask:
        """Return the same task with another β, share and estimator."""
        update = {"beta": beta, "share": share, "estimator": estimator}
        settings = self.settings.model_copy(update=update)
        judge = replace(self.judge, settings=settings)
        values = {group: self.ranks[group] for group in self.positions}
        sizes = {group: len(own) for group, own in self.positions.items()}
        return replace(
            self, settings=settings, judge=judge, roles=find_roles(settings, values, sizes)
        )


def make_task(settings: PruneSettings) -> PruneTask:
    """Open the run, its data and its model, and check that everything asked for is defined.

    Raises
    ------
    EvenhandError
        The input is wrong in some way; nothing is written.
    """
    target = _checked_target(settings)
    trained = finished_run(settings.run)
    name = trained.model_with_weights(settings.model)
    _refuse_adjusted(settings, trained, name)
    model = load_model(trained.folder(name))
    prunable_parameters(model, settings.structure, settings.prunable)
    if settings.structure == "channel":
        refuse_solid(model)
    splits = _splits(settings, trained, model)
    accelerator = make_accelerator(LoopSettings(device=settings.device))
    attribute = settings.attribute[0]
    groups, excluded = _groups(settings, splits)
    refuse_single(settings, groups)
    halves = halve(splits.val, attribute, groups, np.random.default_rng([settings.seed, HALVES]))
    judge = Judge(splits.val, attribute, target, settings, excluded, halves)
    model = model.to(accelerator.device)
    untouched = judge.predict(model, accelerator)
    before, ranks = judge.values(untouched), judge.ranks(untouched, groups)
    _refuse_undefined(judge, untouched, before)
    positions = group_positions(splits.train, attribute, groups)
    sizes = {group: len(own) for group, own in positions.items()}
    roles = find_roles(settings, ranks, sizes)
    training = training_of(trained)
    loss = make_loss(training, splits.train.labels, len(splits.train.classes))
    task = PruneTask(
        settings,
        trained,
        name,
        training,
        loss.to(accelerator.device),
        model,
        _mask(trained.folder(name), accelerator.device),
        splits,
        accelerator,
        judge,
        untouched,
        before,
        ranks,
        roles,
        BatchSource(splits.train, accelerator.device),
        {group: own for group, own in positions.items() if group in roles.groups},
    )
    _refuse_layers(task)
    return task


def _refuse_adjusted(settings: PruneSettings, trained: Run, name: str) -> None:
    """Refuse a model whose scores are adjusted after the network."""
    adjustment = read_adjustment(trained.folder(name))
    if adjustment is not None and not adjustment.in_weights:
        raise EvenhandError(
            f"the scores of {name} in {settings.run} are adjusted after the network "
            f"({adjustment.text}). Prune the run that trained it, then adjust the pruned model."
        )


def _splits(settings: PruneSettings, trained: Run, model: Model) -> Splits:
    """Open the data of the model's run, with what the settings change about them."""
    overrides = DataOverrides(
        settings.data,
        settings.attribute,
        settings.bins,
        settings.cache,
        settings.skip_unreadable,
        settings,
    )
    read_as = data_settings(trained.record)
    splits = reopen(trained.root, read_as, model.spec.images, overrides)
    if splits.train.classes != model.spec.classes:
        raise EvenhandError(
            f"the data have the classes {', '.join(splits.train.classes)}; the model has "
            f"{', '.join(model.spec.classes)}. Were the data changed?"
        )
    return splits


def _mask(folder: Path, device: torch.device) -> WeightMask:
    path = folder / "mask.safetensors"
    mask = load_mask(path) if path.exists() else {}
    return {name: kept.to(device) for name, kept in mask.items()}


def training_of(run: Run) -> LoopSettings:
    """Return how a run's model was trained: by the first of the runs that it comes from."""
    *_, origin = run.record.lineage()
    settings = origin.settings_as(LoopSettings)
    return LoopSettings(**{name: getattr(settings, name) for name in LoopSettings.model_fields})


def _refuse_layers(task: PruneTask) -> None:
    """Try the estimator on a few samples, so that it refuses early what it cannot handle."""
    settings = task.settings
    names = prunable_parameters(task.model, settings.structure, settings.prunable)
    order, drawn = generators(settings.seed, 0, task.accelerator.device)
    batches = list(group_batches(task.source, task.positions, 1, 2, order))
    if not find_estimator(settings.estimator).any_layer:
        places = [rows.start for rows in batches[0].rows.values()][:2]
        check_squares(task.model, batches[0].inputs[places], names)
    run = find_estimator(settings.estimator)(1, drawn, CrossEntropy(task.loss))
    run(task.model, batches, names)


def _checked_target(settings: PruneSettings) -> Target:
    """Check the names in the settings; return what steps are judged by."""
    find_estimator(settings.estimator)
    find_metric(settings.rank_by)
    budget = find_metric(settings.budget_metric)
    if budget.direction not in ("higher", "lower"):
        raise EvenhandError(
            f"--budget-metric {budget.name} only describes; name one with a direction, such as auc."
        )
    target = find_target(settings.target)
    if target.attribute not in (None, settings.attribute[0]):
        raise EvenhandError(
            f"--target {target.name}: pruning evens out the groups of the first --attribute, "
            f"{settings.attribute[0]}; name that one, or leave :{target.attribute} out."
        )
    return target


def _groups(settings: PruneSettings, splits: Splits) -> tuple[tuple[str, ...], Excluded]:
    """Return the groups that take part, and those that do not."""
    attribute = settings.attribute[0]
    column = group_of(splits.val.table, attribute, splits.val.levels)
    levels = attribute_groups(attribute, column)
    excluded = excluded_groups(settings.exclude_group, {attribute: levels})
    return levels.compared(excluded.get(attribute, ())), excluded


def _refuse_undefined(judge: Judge, untouched: Predictions, before: Mapping[str, float]) -> None:
    flags = {
        judge.target.row: "--target",
        judge.settings.budget_metric: "--budget-metric",
    }
    for name, flag in flags.items():
        if np.isnan(before.get(name, math.nan)):
            why = judge.why_undefined(untouched, name)
            raise EvenhandError(
                f"{flag} {name} is undefined for this model on validation: {why}. Name another "
                f'number, or leave a group out with --exclude-group "{judge.attribute}=GROUP".'
            )
