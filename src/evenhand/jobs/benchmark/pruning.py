"""FairPrune as an entry of a benchmark: prune the networks of erm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError
from torch import nn

from evenhand.cohort.store.batches import BatchSource
from evenhand.errors import EvenhandError
from evenhand.experiments.task import Task
from evenhand.jobs.prune.task import Positions, group_batches, group_positions
from evenhand.metrics.estimate import points_by_level
from evenhand.metrics.registry import find_metric
from evenhand.metrics.scored import as_scored
from evenhand.metrics.target_names import find_target
from evenhand.networks.model import Model
from evenhand.pruning.curvature import find_estimator
from evenhand.pruning.loop import prunable_parameters
from evenhand.pruning.prune import Pruned, prune_module
from evenhand.training.device import make_accelerator
from evenhand.training.predict import class_probabilities

POINT = 0.01
"""One point of a metric, the unit of the budget."""


class FairPrune(BaseModel, frozen=True, extra="forbid"):
    """The settings of a pruning, with the names and defaults of `evenhand prune`."""

    beta: float = Field(0.33, ge=0)
    share: float = Field(10, gt=0, le=100)
    limit: float = Field(60, gt=0, lt=100)
    budget: float = Field(1.0, ge=0)
    estimator: str = "ggn-mc"
    batches: int = Field(20, gt=0)
    batch_size: int = Field(16, gt=0)
    target: str | None = None

    @classmethod
    def of(cls, text: str) -> FairPrune:
        """Read ``SETTING=VALUE,…``.

        Raises
        ------
        EvenhandError
            If a setting, the estimator or the target is unknown, or a value is not allowed.

        Examples
        --------
        >>> FairPrune.of("beta=0.5,limit=40").limit
        40.0
        """
        pairs = [item.partition("=") for item in text.split(",")]
        names = [name for name, _, _ in pairs]
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise EvenhandError(f"--pruning {text}: {repeated} is given twice. Give it once.")
        try:
            settings = cls.model_validate({name: value for name, _, value in pairs})
        except ValidationError as error:
            problem = error.errors()[0]
            raise EvenhandError(
                f"--pruning {text}: {'.'.join(map(str, problem['loc']))}: "
                f"{problem['msg'].lower()}. Write SETTING=VALUE,… with "
                f"{', '.join(cls.model_fields)}."
            ) from None
        find_estimator(settings.estimator)
        if settings.target is not None:
            find_target(settings.target)
        return settings


@dataclass
class _Batches:
    """Batches of training samples with their groups; each iteration draws other batches."""

    source: BatchSource
    positions: Mapping[str, Positions]
    settings: FairPrune
    seed: int
    reads: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[tuple[Any, Any, list[str]]]:
        rng = np.random.default_rng([self.seed, self.reads])
        self.reads += 1
        size, count = self.settings.batch_size, self.settings.batches
        for batch in group_batches(self.source, self.positions, count, size, rng):
            levels = [""] * len(batch.labels)
            for group, rows in batch.rows.items():
                levels[rows] = [str(group)] * len(levels[rows])
            yield batch.inputs, batch.labels, levels


def prune_model(task: Task, model: Model, settings: FairPrune, seed: int) -> Pruned:
    """Prune a model for the group of the first attribute that it serves worst on validation.

    Raises
    ------
    EvenhandError
        If a group has no training patient, or AUC is undefined in a group on validation.
    """
    accelerator = make_accelerator(task.settings)
    model = model.to(accelerator.device).eval()
    val = BatchSource(task.splits.val, accelerator.device)
    auc = _group_auc(task, class_probabilities(model, val, accelerator))
    worst = min(auc, key=lambda group: auc[group])
    positions = _training_positions(task, list(auc))
    total = sum(len(rows) for group, rows in positions.items() if group != worst)
    betas = {
        group: settings.beta * len(rows) / total
        for group, rows in positions.items()
        if group != worst
    }

    def evaluate(network: nn.Module) -> tuple[float, float]:
        assert isinstance(network, Model)
        return _target_and_auc(task, settings, class_probabilities(network, val, accelerator))

    train = BatchSource(task.splits.train, accelerator.device)
    return prune_module(
        model,
        _Batches(train, positions, settings, seed),
        evaluate,
        unprivileged=worst,
        betas=betas,
        budget=settings.budget * POINT,
        share=settings.share,
        limit=settings.limit,
        estimator=settings.estimator,
        parameters=prunable_parameters(model, "weight", ("conv", "linear")),
        seed=seed,
    )


def _training_positions(task: Task, groups: list[str]) -> dict[str, Positions]:
    """Return the training rows of each group; refuse a group without any."""
    attribute = task.settings.attribute[0]
    positions = group_positions(task.splits.train, attribute, groups)
    if empty := [group for group, rows in positions.items() if not len(rows)]:
        raise EvenhandError(
            f"no training patient is of {', '.join(empty)} ({attribute}), but saliency is computed "
            "on training patients. Leave the group out with --exclude-group, or give fewer --folds."
        )
    return positions


def _target_and_auc(
    task: Task, settings: FairPrune, scores: NDArray[np.float64]
) -> tuple[float, float]:
    """Return the target (larger is better) and everybody's AUC, of scores ``(n, C)``."""
    val = task.splits.val
    target = find_target(settings.target) if settings.target else task.targets[0]
    patients = val.table["patient_id"].to_numpy()
    rows = (val.labels, scores, task.groups, task.excluded)
    value = target.value(*rows, patients=patients)
    overall = find_target("auc").value(*rows, patients=patients)
    return (value if target.maximise else -value), overall


def _group_auc(task: Task, scores: NDArray[np.float64]) -> dict[str, float]:
    """Return the validation AUC of each compared group of the first attribute."""
    val, attribute = task.splits.val, task.settings.attribute[0]
    binary = len(val.classes) == 2
    rows = as_scored(val.labels, scores[:, 1] if binary else scores, classes=val.classes)
    groups, auc = task.groups[attribute], find_metric("auc")
    levels = groups.compared(task.excluded.get(attribute, ()))
    values = points_by_level(rows, groups, levels, auc)
    if undefined := [level for level, value in values.items() if not np.isfinite(value)]:
        raise EvenhandError(
            f"AUC of {', '.join(undefined)} ({attribute}) is undefined on validation, but it "
            "chooses the unprivileged group. Leave the group out with --exclude-group."
        )
    return values


def check_pruning(task: Task, settings: FairPrune) -> None:
    """Check that the network has weights to prune, and that every group has training patients.

    Raises
    ------
    EvenhandError
        If the network has no such weights, a group has no training patients, or AUC or the target
        is undefined on validation.
    """
    prunable_parameters(task.model(), "weight", ("conv", "linear"))
    random_scores = np.random.default_rng(0).dirichlet(
        np.ones(len(task.splits.val.classes)), len(task.splits.val)
    )
    _training_positions(task, list(_group_auc(task, random_scores)))
    value, _ = _target_and_auc(task, settings, random_scores)
    if not np.isfinite(value):
        raise EvenhandError(
            f"--pruning: target {settings.target} is undefined on validation. Name another target."
        )
