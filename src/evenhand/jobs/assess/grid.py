"""Stages 2 and 3: an encoder for each seed, and the cells that are tuned from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from evenhand.experiments.runs import Run
from evenhand.experiments.task import Task, keep, train, with_label_share
from evenhand.jobs.assess.settings import LABELLED, SUPERVISED, AssessSettings
from evenhand.jobs.pretrain.settings import ContrastSettings
from evenhand.jobs.pretrain.training import train_encoder
from evenhand.masks.masks import Schedule
from evenhand.masks.strategies import find_strategy
from evenhand.networks.checkpoints import save_model
from evenhand.networks.model import Model, build_model


@dataclass(frozen=True)
class Cell:
    """One fit: a strategy, a share of the labels, a seed."""

    strategy: str
    share: float
    seed: int

    @property
    def kind(self) -> str:
        """What models that differ in their seed only have in common."""
        return self.strategy if self.share == 1 else f"{self.strategy}-{100 * self.share:g}pct"

    @property
    def name(self) -> str:
        """The model's folder."""
        return f"{self.kind}-seed{self.seed}"


def cells_of(settings: AssessSettings) -> Iterator[Cell]:
    """Yield every fit of the grid."""
    for number in range(settings.seeds):
        for share in settings.label_shares:
            for strategy in settings.cell:
                yield Cell(strategy, share, settings.seed + number)


def pretrained(task: Task, settings: AssessSettings, run: Run, seed: int) -> Path:
    """Return the encoder of a seed, pre-trained on training patients where it is not yet."""
    folder = run.root / "encoders" / f"seed{seed}"
    weights = folder / "model.safetensors"
    if not weights.exists() or not (folder / "model.json").exists():
        classes = task.splits.train.classes
        model = build_model(settings.backbone, settings.weights, task.inputs, classes, seed)
        contrast = ContrastSettings(
            ssl=settings.ssl,
            epochs=settings.pretrain_epochs,
            patience=settings.pretrain_patience,
            lr=settings.pretrain_lr,
            device=settings.device,
            precision=settings.precision,
        )
        model, curve = train_encoder(model, task.splits.train, contrast, seed)
        save_model(folder, model, ssl=settings.ssl, epoch=curve.best, losses=curve.judged)
    return weights


def fit_cell(task: Task, settings: AssessSettings, run: Run, cell: Cell) -> None:
    """Train and keep one model of the grid, where it is not kept yet: all have one recipe."""
    if run.predictions_file(cell.name).exists():
        return
    few = replace(task, splits=with_label_share(task.splits, cell.share, settings.seed))
    model, schedule = start_of(task, settings, run, cell)
    trained = train(few, model, schedule, few.fit_settings(settings.lr, cell.seed))
    keep(few, run, cell.name, trained, lr=settings.lr)


def start_of(task: Task, settings: AssessSettings, run: Run, cell: Cell) -> tuple[Model, Schedule]:
    """Return a cell's model before it sees a label, and what it may change.

    Supervised starts from the weights that pre-training starts from (random ones are those of the
    same seed) and trains everything. Scratch always starts from random weights. Every cell scales
    its inputs by all training patients, also where few of them have labels.
    """
    strategy, weights = find_strategy(cell.strategy), settings.weights
    if cell.strategy not in LABELLED:
        weights = str(run.root / "encoders" / f"seed{cell.seed}" / "model.safetensors")
    elif cell.strategy == SUPERVISED:
        strategy = find_strategy("full")
    classes = task.splits.train.classes
    model = build_model(settings.backbone, weights, task.inputs, classes, cell.seed, settings.head)
    return strategy(model, cell.seed)
