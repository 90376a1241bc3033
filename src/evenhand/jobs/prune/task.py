"""The task of a pruning, with its batches: everything that stays the same in all steps."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import nn

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.prepare import DataOverrides, current_data, merge_values, reopen
from evenhand.cohort.splits import Splits
from evenhand.cohort.store.batches import BatchSource
from evenhand.errors import EvenhandError
from evenhand.experiments.records import data_fingerprint, data_settings
from evenhand.experiments.runs import Run, finished_run
from evenhand.files import fingerprint
from evenhand.jobs.adjust.adjustment import read_adjustment
from evenhand.jobs.prune.judge import Judge, halve
from evenhand.jobs.prune.roles import GroupRoles, find_roles, refuse_single
from evenhand.jobs.prune.settings import PruneSettings
from evenhand.metrics import (
    Target,
    attribute_groups,
    excluded_groups,
    find_metric,
    find_target,
)
from evenhand.networks.model import Model, load_model
from evenhand.pruning.channels import refuse_unprunable
from evenhand.pruning.curvature import GroupBatch, check_squares, find_estimator
from evenhand.pruning.curvature.loss import CrossEntropy
from evenhand.pruning.loop import WeightMask, load_mask, prunable_parameters
from evenhand.tables.attributes import group_of
from evenhand.tables.predictions import Predictions
from evenhand.training.device import make_accelerator
from evenhand.training.predict import to_unit_range
from evenhand.training.settings import LoopSettings
from evenhand.training.steps import make_loss

Positions = NDArray[np.intp]
"""Row numbers in a cohort."""


def group_positions(cohort: Cohort, attribute: str, groups: Sequence[str]) -> dict[str, Positions]:
    """Return the row numbers of the samples of each group of an attribute."""
    labels = group_of(cohort.table, attribute, cohort.levels)
    return {group: np.flatnonzero((labels == group).to_numpy()) for group in groups}


def group_batches(
    source: BatchSource,
    positions: Mapping[str, Positions],
    batches: int,
    size: int,
    rng: np.random.Generator,
) -> Iterator[GroupBatch]:
    """Yield batches with ``size`` random samples of each group.

    When all samples of a group have been used, they are drawn again in a new order.
    """
    drawn = {group: _draw(rows, batches * size, rng) for group, rows in positions.items()}
    slices = {group: slice(k * size, (k + 1) * size) for k, group in enumerate(positions)}
    for number in range(batches):
        part = slice(number * size, (number + 1) * size)
        batch = source.take(np.concatenate([rows[part] for rows in drawn.values()]))
        yield GroupBatch(to_unit_range(batch.inputs), batch.labels, slices)


def _draw(positions: Positions, count: int, rng: np.random.Generator) -> Positions:
    """Return the first ``count`` of several random permutations of positions in a row."""
    rounds = -(-count // len(positions))
    return np.concatenate([rng.permutation(positions) for _ in range(rounds)])[:count]


def generators(
    seed: int, step: int, device: torch.device
) -> tuple[np.random.Generator, torch.Generator]:
    """Return the random generators of a step: of its batches, and of labels that it draws."""
    batch_seed, label_seed = np.random.SeedSequence([seed, step]).spawn(2)
    labels = torch.Generator(device).manual_seed(int(label_seed.generate_state(1)[0]))
    return np.random.default_rng(batch_seed), labels


HALVES = 2**32 - 1
"""The number that, with the seed, seeds the halves of validation patients; no step has it."""


@dataclass(frozen=True, eq=False)
class PruneTask:
    """A model to prune, with its data, its judge and the roles of the groups.

    Attributes
    ----------
    settings
        The settings of the pruning.
    trained, name
        The run of the model, and the model's name in it.
    training, loss
        The settings and the loss of the model's training.
    model
        The untouched model, on the accelerator's device.
    mask
        The mask of an earlier pruning; empty if there was none.
    splits
        The splits of the model's run.
    accelerator
        The device of the model.
    judge
        Measures models on validation rows.
    untouched, before
        The untouched model's predictions of validation rows, and the judge's numbers of them.
    rank_values
        Each group's value of ``rank_by`` on the validation patients that choose.
    roles
        The unprivileged group, and β of the privileged groups.
    source, positions
        The training samples, and the rows of each group that has a role.
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
    rank_values: Mapping[str, float]
    roles: GroupRoles
    source: BatchSource
    positions: Mapping[str, Positions]

    @property
    def complete_settings(self) -> PruneSettings:
        """The settings, completed by the data settings of the model's run."""
        earlier, settings = data_settings(self.trained.record), self.settings
        data, bins = current_data(earlier.data, settings.data), settings.bins or earlier.bins
        update = {"data": data, "bins": bins} | merge_values(earlier, settings)
        return settings.model_copy(update=update)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the data and the model."""
        weights = fingerprint((), [self.trained.folder(self.name) / "model.safetensors"])
        text = f"{self.splits.train.source.fingerprint}\n{weights}"
        return hashlib.sha256(text.encode()).hexdigest()

    def with_choice(self, beta: float, share: float, estimator: str) -> PruneTask:
        """Return the same task with another β, share and estimator."""
        update = {"beta": beta, "share": share, "estimator": estimator}
        settings = self.settings.model_copy(update=update)
        values = {group: self.rank_values[group] for group in self.positions}
        sizes = {group: len(rows) for group, rows in self.positions.items()}
        return replace(self, settings=settings, roles=find_roles(settings, values, sizes))


def make_prune_task(settings: PruneSettings) -> PruneTask:
    """Open the run, its data and its model, and check that target and budget are defined.

    Raises
    ------
    EvenhandError
        If the run, its data or the settings cannot be used. Nothing is written.
    """
    target = _find_target(settings)
    trained = finished_run(settings.run)
    name = trained.model_with_weights(settings.model)
    model = _load_prunable(settings, trained, name)
    splits = _open_splits(settings, trained, model)
    accelerator = make_accelerator(LoopSettings(device=settings.device))
    groups, judge = _make_judge(settings, splits, target)
    model = model.to(accelerator.device)
    untouched = judge.predict(model, accelerator)
    before, rank_values = judge.values(untouched), judge.rank_values(untouched, groups)
    _refuse_undefined(judge, untouched, before)
    positions = group_positions(splits.train, judge.attribute, groups)
    sizes = {group: len(rows) for group, rows in positions.items()}
    roles = find_roles(settings, rank_values, sizes)
    training = training_of(trained)
    loss = make_loss(training, splits.train.labels, len(splits.train.classes))
    task = PruneTask(
        settings,
        trained,
        name,
        training,
        loss.to(accelerator.device),
        model,
        _load_mask(trained.folder(name), accelerator.device),
        splits,
        accelerator,
        judge,
        untouched,
        before,
        rank_values,
        roles,
        BatchSource(splits.train, accelerator.device),
        {group: rows for group, rows in positions.items() if group in roles.groups},
    )
    _try_estimator(task)
    return task


def _load_prunable(settings: PruneSettings, trained: Run, name: str) -> Model:
    """Load the model; refuse one that pruning cannot handle."""
    adjustment = read_adjustment(trained.folder(name))
    if adjustment is not None and not adjustment.in_weights:
        raise EvenhandError(
            f"the scores of {name} in {settings.run} are adjusted after the network "
            f"({adjustment.text}). Prune the run that trained it, then adjust the pruned model."
        )
    model = load_model(trained.folder(name))
    prunable_parameters(model, settings.structure, settings.prunable)
    if settings.structure == "channel":
        refuse_unprunable(model)
    return model


def _open_splits(settings: PruneSettings, trained: Run, model: Model) -> Splits:
    """Open the data of the model's run, changed by the settings of the pruning."""
    overrides = DataOverrides(
        settings.data,
        settings.attribute,
        settings.bins,
        settings.cache,
        settings.skip_unreadable,
        settings,
    )
    record = trained.record
    splits = reopen(
        trained.root, data_settings(record), model.spec.images, overrides, data_fingerprint(record)
    )
    if splits.train.classes != model.spec.classes:
        raise EvenhandError(
            f"the data have the classes {', '.join(splits.train.classes)}; the model has "
            f"{', '.join(model.spec.classes)}. Give the data of the model's run with --data."
        )
    return splits


def _load_mask(folder: Path, device: torch.device) -> WeightMask:
    path = folder / "mask.safetensors"
    mask = load_mask(path) if path.exists() else {}
    return {name: kept.to(device) for name, kept in mask.items()}


def training_of(run: Run) -> LoopSettings:
    """Return the training settings of a run's model, from the first run of its lineage."""
    *_, origin = run.record.lineage()
    settings = origin.settings_as(LoopSettings)
    return LoopSettings(**{name: getattr(settings, name) for name in LoopSettings.model_fields})


def _try_estimator(task: PruneTask) -> None:
    """Run the estimator on a few samples, which refuses layers that it cannot handle."""
    settings = task.settings
    names = prunable_parameters(task.model, settings.structure, settings.prunable)
    batch_rng, label_rng = generators(settings.seed, 0, task.accelerator.device)
    batches = list(group_batches(task.source, task.positions, 1, 2, batch_rng))
    estimator = find_estimator(settings.estimator)
    if not estimator.any_layer:
        positions = [rows.start for rows in batches[0].rows.values()][:2]
        check_squares(task.model, batches[0].inputs[positions], names)
    curvature = estimator(1, label_rng, CrossEntropy(task.loss))
    curvature(task.model, batches, names)


def _find_target(settings: PruneSettings) -> Target:
    """Return the target of the pruning; refuse unknown metrics and estimators."""
    find_estimator(settings.estimator)
    find_metric(settings.rank_by)
    budget = find_metric(settings.budget_metric)
    if budget.direction not in ("higher", "lower"):
        raise EvenhandError(
            f"--budget-metric {budget.name} only describes: neither high nor low values are "
            "better. Give another metric, such as auc."
        )
    target = find_target(settings.target)
    if target.attribute not in (None, settings.attribute[0]):
        raise EvenhandError(
            f"--target {target.name}: pruning is for the groups of the first --attribute, "
            f"{settings.attribute[0]}. Name that attribute, or leave :{target.attribute} out."
        )
    return target


def _make_judge(
    settings: PruneSettings, splits: Splits, target: Target
) -> tuple[tuple[str, ...], Judge]:
    """Return the groups that take part, and the judge of models on validation rows."""
    val, attribute = splits.val, settings.attribute[0]
    levels = attribute_groups(attribute, group_of(val.table, attribute, val.levels))
    excluded = excluded_groups(settings.exclude_group, {attribute: levels})
    groups = levels.compared(excluded.get(attribute, ()))
    refuse_single(settings, groups)
    halves = halve(val, attribute, groups, np.random.default_rng([settings.seed, HALVES]))
    judge = Judge(
        val,
        attribute,
        target,
        settings.rank_by,
        settings.budget,
        settings.budget_metric,
        excluded,
        halves,
    )
    return groups, judge


def _refuse_undefined(judge: Judge, untouched: Predictions, before: Mapping[str, float]) -> None:
    flags = {judge.target.row_metric: "--target", judge.budget_metric: "--budget-metric"}
    for name, flag in flags.items():
        if np.isnan(before.get(name, math.nan)):
            reason = judge.undefined_reason(untouched, name)
            raise EvenhandError(
                f"{flag} {name} is undefined for this model on validation: {reason}. Name another "
                f'number, or leave a group out with --exclude-group "{judge.attribute}=GROUP".'
            )
