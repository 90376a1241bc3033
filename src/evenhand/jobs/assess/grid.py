"""Stages 2 and 3: pre-train the encoders and fit the cells of the grid, in workers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from evenhand.errors import EvenhandError
from evenhand.experiments.runs import Run
from evenhand.experiments.task import Task, save_and_score, train_model, with_label_share
from evenhand.experiments.task_cache import FitContext
from evenhand.jobs.assess.cost import TrainingCost, epoch_passes, equal_epochs, training_cost
from evenhand.jobs.assess.settings import LABELLED, SUPERVISED, AssessSettings
from evenhand.jobs.assess.starts import EncoderStart, cells_name_starts, encoder_starts
from evenhand.jobs.pretrain.curve import LossCurve
from evenhand.jobs.pretrain.settings import ContrastSettings
from evenhand.jobs.pretrain.training import HELD_OUT, remove_state, train_tracked_encoder
from evenhand.masks.masks import Schedule
from evenhand.masks.strategies import find_strategy
from evenhand.networks.backbones import inherit_scale
from evenhand.networks.inputs import Images, SeriesInputs
from evenhand.networks.model import Head, Model, build_model, save_model
from evenhand.pretraining.learners import Encoder
from evenhand.pretraining.registry import SSL_OBJECTIVES
from evenhand.progress import bar
from evenhand.training.settings import FitSettings
from evenhand.training.tracking import open_trackers
from evenhand.workers import Engine, Job, complete_jobs


@dataclass(frozen=True)
class Cell:
    """One fit of the grid.

    Attributes
    ----------
    strategy
        The strategy of fine-tuning, or one of `LABELLED`.
    share
        The share of the training patients whose labels are used.
    seed
        The seed of all random numbers.
    start
        The name of its start; "" unless names of cells contain it (see `cells_name_starts`).
    """

    strategy: str
    share: float
    seed: int
    start: str = ""

    @property
    def recipe(self) -> str:
        """The name of its start and strategy, without seed and share of labels."""
        return f"{self.start}-{self.strategy}" if self.start else self.strategy

    @property
    def name(self) -> str:
        """The name of the model."""
        return cell_name(self.recipe, self.share, self.seed)


def cell_name(recipe: str, share: float, seed: int) -> str:
    """Return the name of the model of a recipe, a share of the labels and a seed.

    Examples
    --------
    >>> cell_name("frozen1m", 0.5, 3)
    'frozen1m-50pct-seed3'
    """
    return f"{with_share(recipe, share)}-seed{seed}"


def with_share(recipe: str, share: float) -> str:
    """Return the name of a recipe with a share of the labels.

    Examples
    --------
    >>> with_share("frozen1m", 0.5), with_share("frozen1m", 1.0)
    ('frozen1m-50pct', 'frozen1m')
    """
    return recipe if share == 1 else f"{recipe}-{100 * share:g}pct"


def grid_cells(settings: AssessSettings) -> Iterator[Cell]:
    """Yield every fit of the grid, by seed and share of labels."""
    names = (
        [start.name for start in encoder_starts(settings)] if cells_name_starts(settings) else [""]
    )
    tuned = [strategy for strategy in settings.cell if strategy not in LABELLED]
    labelled = [strategy for strategy in settings.cell if strategy in LABELLED]
    for number in range(settings.seeds):
        for share in settings.label_share:
            seed = settings.seed + number
            for name in names:
                yield from (Cell(strategy, share, seed, name) for strategy in tuned)
            yield from (Cell(strategy, share, seed) for strategy in labelled)


def cell_start(settings: AssessSettings, cell: Cell) -> EncoderStart | None:
    """Return the start of a cell; None for cells without an encoder."""
    if cell.strategy in LABELLED:
        return None
    starts = encoder_starts(settings)
    return next((start for start in starts if start.name == cell.start), starts[0])


def encoder_weights(settings: AssessSettings, run: Run, start: EncoderStart, seed: int) -> str:
    """Return the weights of an encoder, in the form of ``--weights``."""
    if start.objective is None:
        return start.weights
    folder = start.folder(seed, alone=not cells_name_starts(settings))
    return str(run.root / "encoders" / folder / "model.safetensors")


def encoder_folders(settings: AssessSettings, run: Run, seed: int) -> list[Path]:
    """Return the folders of the encoders that are pre-trained with a seed."""
    trained = [start for start in encoder_starts(settings) if start.objective]
    return [Path(encoder_weights(settings, run, start, seed)).parent for start in trained]


def check_encoders(task: Task, settings: AssessSettings) -> None:
    """Refuse encoders and objectives that do not fit the network or the data.

    Raises
    ------
    EvenhandError
        If an encoder cannot be read or has another shape or other channels, or an objective is not
        for such samples or such a network.
    """
    for start in encoder_starts(settings):
        if start.objective is not None:
            encoder = Encoder.of_model(task.model(), len(task.splits.train))
            SSL_OBJECTIVES.find(start.objective).make(encoder)
        else:
            try:
                _build(task, settings, start.weights, settings.seed)
            except EvenhandError as error:
                text = str(error).replace("--weights", "--encoder")
                raise EvenhandError(f"encoder {start.name}: {text}") from error


def pretrain_encoder(
    task: Task, settings: AssessSettings, run: Run, start: EncoderStart, seed: int
) -> Path:
    """Pre-train the encoder of a seed unless it exists; return its file of weights."""
    weights = Path(encoder_weights(settings, run, start, seed))
    folder = weights.parent
    if not weights.exists() or not (folder / "model.json").exists():
        model = _build(task, settings, start.weights, seed)
        contrast = ContrastSettings(
            ssl=str(start.objective),
            epochs=settings.pretrain_epochs,
            patience=settings.pretrain_patience,
            lr=settings.pretrain_lr,
            device=settings.device,
            precision=settings.precision,
            track=settings.track,
        )
        start_time = time.monotonic()
        name = folder.relative_to(run.root).as_posix()
        model, curve = train_tracked_encoder(
            model, task.splits.train, contrast, seed, root=run.root, name=name, folder=folder
        )
        cost = _pretraining_cost(curve, len(task.splits.train), time.monotonic() - start_time)
        record = {**curve.best_record, "losses": curve.judged_losses, "cost": cost.model_dump()}
        save_model(folder, model, ssl=start.objective, **record)
        remove_state(folder)
    return weights


def fit_cell(task: Task, settings: AssessSettings, run: Run, cell: Cell) -> None:
    """Train and save one model of the grid unless it exists; all cells have the same recipe."""
    if run.predictions_file(cell.name).exists():
        return
    cell_task = _with_labels(task, settings, cell.share)
    model, schedule = make_cell_model(task, settings, run, cell)
    start_time = time.monotonic()
    tracked_values = {"lr": settings.lr, "seed": cell.seed}
    with open_trackers(settings, run.root, cell.name, tracked_values) as tracker:
        fit_settings = _fit_settings(cell_task, settings, run, cell)
        trained = train_model(cell_task, model, schedule, fit_settings, tracker=tracker)
    cost = TrainingCost(
        epochs=len(trained.logged),
        passes=len(trained.logged) * _epoch_passes(cell_task),
        seconds=time.monotonic() - start_time,
    )
    save_and_score(cell_task, run, cell.name, trained, lr=settings.lr, cost=cost.model_dump())


def _with_labels(task: Task, settings: AssessSettings, share: float) -> Task:
    """Return the task with the labels of a share of the training patients.

    Smaller shares are subsets of larger ones, so that all cells can reuse the activations of frozen
    layers on the samples of the largest share.
    """
    pool = with_label_share(task.splits, max(settings.label_share), settings.seed).train
    splits = with_label_share(task.splits, share, settings.seed)
    return replace(task, splits=replace(splits, pool=pool))


def _fit_settings(cell_task: Task, settings: AssessSettings, run: Run, cell: Cell) -> FitSettings:
    """Return the training settings of a cell; with equal compute, supervised trains longer."""
    usual = cell_task.fit_settings(settings.lr, cell.seed)
    if not settings.equal_compute or cell.strategy not in LABELLED:
        return usual
    folders = encoder_folders(settings, run, cell.seed)
    passes = max(training_cost(folder).passes for folder in folders)
    epochs = equal_epochs(settings.epochs, passes, _epoch_passes(cell_task))
    return usual.model_copy(
        update={"epochs": epochs, "patience": epochs if settings.patience else 0}
    )


def _epoch_passes(task: Task) -> int:
    return epoch_passes(len(task.splits.train), len(task.splits.val))


def _pretraining_cost(curve: LossCurve, samples: int, seconds: float) -> TrainingCost:
    """Return the cost of pre-training, with two views of each sample."""
    scored = HELD_OUT * samples if curve.held_out else 0.0
    passes = epoch_passes(round(2 * (samples - scored)), round(2 * scored))
    return TrainingCost(epochs=len(curve.loss), passes=len(curve.loss) * passes, seconds=seconds)


def make_cell_model(
    task: Task, settings: AssessSettings, run: Run, cell: Cell
) -> tuple[Model, Schedule]:
    """Return the untrained model of a cell, and its schedule.

    Supervised starts from the same weights as pre-training (random weights have the same seed) and
    tunes all units. Scratch always starts from random weights. Every cell scales its inputs by all
    training patients, even if few of them have labels.
    """
    strategy, weights = find_strategy(cell.strategy), settings.weights
    start = cell_start(settings, cell)
    if start is not None:
        weights = encoder_weights(settings, run, start, cell.seed)
    elif cell.strategy == SUPERVISED:
        strategy = find_strategy("full")
    model = _build(task, settings, weights, cell.seed, settings.head)
    return strategy(model, cell.seed)


def _build(
    task: Task, settings: AssessSettings, weights: str, seed: int, head: Head = "linear"
) -> Model:
    """Build a model with the input scale that all arms share."""
    inputs, classes = common_inputs(task, settings), task.splits.train.classes
    return build_model(settings.backbone, weights, inputs, classes, seed, head)


def common_inputs(task: Task, settings: AssessSettings) -> Images | SeriesInputs:
    """Return the inputs of all arms; series have the scale with which the encoders were trained.

    If encoders have different scales, each keeps its scale, and the other arms have the scale of
    the training patients.
    """
    inputs = task.inputs
    if not isinstance(inputs, SeriesInputs):
        return inputs
    weights = [start.weights for start in encoder_starts(settings)]
    scales = [
        inherit_scale(inputs, source) for source in dict.fromkeys((*weights, settings.weights))
    ]
    inherited = [scale for scale in scales if scale is not inputs]  # `inputs` if weights have none
    all_equal = all(scale == inherited[0] for scale in inherited)
    return inherited[0] if inherited and all_equal else inputs


T = TypeVar("T")


def fit_grid(context: FitContext[AssessSettings], cells: Sequence[Cell], engine: Engine) -> None:
    """Pre-train the encoders and fit every cell in workers; skip those that exist.

    Raises
    ------
    EvenhandError
        If a worker dies.
    """
    order = _Order(context, cells)
    with bar("assessment", len(order.todo)) as advance:
        while order.todo:
            for job, _ in _timed(context.run, complete_jobs(engine, order.jobs())):
                order.done.add(job.name)
                advance(text=job.name)


def _timed(run: Run, results: Iterator[T]) -> Iterator[T]:
    """Yield results, and add the time of each to the run at once, so that a killed run has it."""
    while True:
        with run.phase("training"):
            result = next(results, None)
        if result is None:
            return
        yield result


class _Order:
    """Order jobs: encoders begin first, as they take longest; a cell waits for its encoder."""

    def __init__(self, context: FitContext[AssessSettings], cells: Sequence[Cell]) -> None:
        settings = context.settings
        seeds = dict.fromkeys(cell.seed for cell in cells)
        trained = [start for start in encoder_starts(settings) if start.objective]
        name = partial(_encoder_name, alone=not cells_name_starts(settings))
        self.todo: list[Job[None]] = [
            *(
                Job(name(start, seed), _pretrain, (context, start, seed))
                for seed in seeds
                for start in trained
            ),
            *(Job(cell.name, _fit, (context, cell)) for cell in cells),
        ]
        self.done: set[str] = set()
        self._needs = {
            cell.name: {name(start, cell.seed) for start in _needed_starts(settings, cell, trained)}
            for cell in cells
        }

    def jobs(self) -> Iterator[Job[None] | None]:
        """Yield jobs that can begin, and None while all jobs wait for an encoder."""
        while self.todo:
            ready = next(filter(self._can_begin, self.todo), None)
            if ready is not None:
                self.todo.remove(ready)
            yield ready

    def _can_begin(self, job: Job[None]) -> bool:
        return self._needs.get(job.name, set()) <= self.done


def _needed_starts(
    settings: AssessSettings, cell: Cell, trained: Sequence[EncoderStart]
) -> Sequence[EncoderStart]:
    """Return the starts that must be pre-trained before a cell can be fitted.

    With equal compute, a cell without an encoder needs all of them, as their cost sets its epochs.
    """
    start = cell_start(settings, cell)
    if start is None:
        return trained if settings.equal_compute else ()
    return [start] if start.objective else []


def _encoder_name(start: EncoderStart, seed: int, *, alone: bool) -> str:
    return f"encoder of seed {seed}" if alone else f"encoder {start.name} of seed {seed}"


def _pretrain(context: FitContext[AssessSettings], start: EncoderStart, seed: int) -> None:
    """Pre-train the encoder of a seed, in a worker."""
    pretrain_encoder(context.task(), context.settings, context.run, start, seed)


def _fit(context: FitContext[AssessSettings], cell: Cell) -> None:
    """Fit a cell, in a worker."""
    fit_cell(context.task(), context.settings, context.run, cell)
