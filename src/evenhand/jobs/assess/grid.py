"""Stages 2 and 3: encoders for each seed, and the cells that are tuned from them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from evenhand.errors import EvenhandError
from evenhand.experiments.runs import Run
from evenhand.experiments.task import Task, save_and_score, train_model, with_label_share
from evenhand.jobs.assess.cost import TrainingCost, cost_of, epoch_passes, equal_epochs
from evenhand.jobs.assess.settings import LABELLED, SUPERVISED, AssessSettings
from evenhand.jobs.assess.starts import EncoderStart, is_named, starts_of
from evenhand.jobs.pretrain.curve import LossCurve
from evenhand.jobs.pretrain.settings import ContrastSettings
from evenhand.jobs.pretrain.state import STATE
from evenhand.jobs.pretrain.training import HELD_OUT, forget_state, train_encoder
from evenhand.masks.masks import Schedule
from evenhand.masks.strategies import find_strategy
from evenhand.networks.backbones import inherit_scale
from evenhand.networks.checkpoints import save_model
from evenhand.networks.inputs import Images, SeriesInputs
from evenhand.networks.model import Head, Model, build_model
from evenhand.pretraining.learners import Encoder
from evenhand.pretraining.registry import SSL_OBJECTIVES
from evenhand.training.settings import FitSettings
from evenhand.training.tracking import tracked


@dataclass(frozen=True)
class Cell:
    """One fit.

    Attributes
    ----------
    strategy
        What is tuned, or one of `LABELLED`.
    share
        Of the training patients, whose labels are used.
    seed
        Of everything that is drawn.
    start
        The name of what it starts from, where cells bear it (see `is_named`).
    """

    strategy: str
    share: float
    seed: int
    start: str = ""

    @property
    def recipe(self) -> str:
        """What models that differ in their seed or their labels have in common."""
        return f"{self.start}-{self.strategy}" if self.start else self.strategy

    @property
    def kind(self) -> str:
        """What models that differ in their seed only have in common."""
        return with_share(self.recipe, self.share)

    @property
    def name(self) -> str:
        """The model's folder."""
        return f"{self.kind}-seed{self.seed}"


def with_share(recipe: str, share: float) -> str:
    """Return the name of a recipe with a share of the labels.

    Examples
    --------
    >>> with_share("frozen1m", 0.5), with_share("frozen1m", 1.0)
    ('frozen1m-50pct', 'frozen1m')
    """
    return recipe if share == 1 else f"{recipe}-{100 * share:g}pct"


def cells_of(settings: AssessSettings) -> Iterator[Cell]:
    """Yield every fit of the grid."""
    names = [start.name for start in starts_of(settings)] if is_named(settings) else [""]
    tuned = [strategy for strategy in settings.cell if strategy not in LABELLED]
    labelled = [strategy for strategy in settings.cell if strategy in LABELLED]
    for number in range(settings.seeds):
        for share in settings.label_share:
            seed = settings.seed + number
            for name in names:
                yield from (Cell(strategy, share, seed, name) for strategy in tuned)
            yield from (Cell(strategy, share, seed) for strategy in labelled)


def start_of(settings: AssessSettings, cell: Cell) -> EncoderStart | None:
    """Return what a cell starts from; None where that is no encoder."""
    if cell.strategy in LABELLED:
        return None
    starts = starts_of(settings)
    return next((start for start in starts if start.name == cell.start), starts[0])


def encoder_of(settings: AssessSettings, run: Run, start: EncoderStart, seed: int) -> str:
    """Return the weights of an encoder, as ``--weights`` takes them."""
    if start.objective is None:
        return start.weights
    folder = start.folder(seed, alone=not is_named(settings))
    return str(run.root / "encoders" / folder / "model.safetensors")


def encoder_folders(settings: AssessSettings, run: Run, seed: int) -> list[Path]:
    """Return the folders of the encoders that are pre-trained with a seed."""
    trained = [start for start in starts_of(settings) if start.objective]
    return [Path(encoder_of(settings, run, start, seed)).parent for start in trained]


def check_encoders(task: Task, settings: AssessSettings) -> None:
    """Refuse encoders and objectives that do not fit the network or the data.

    Raises
    ------
    EvenhandError
        The file or the run is not there, or is of another shape or other channels; or an
        objective is not for such samples or such a network.
    """
    for start in starts_of(settings):
        if start.objective is not None:
            encoder = Encoder.of_model(task.model(), len(task.splits.train))
            SSL_OBJECTIVES.find(start.objective).make(encoder)
        else:
            try:
                _built(task, settings, start.weights, settings.seed)
            except EvenhandError as error:
                text = str(error).replace("--weights", "--encoder")
                raise EvenhandError(f"encoder {start.name}: {text}") from error


def pretrained(
    task: Task, settings: AssessSettings, run: Run, start: EncoderStart, seed: int
) -> Path:
    """Return the encoder of a seed, pre-trained on training patients where it is not yet."""
    weights = Path(encoder_of(settings, run, start, seed))
    folder = weights.parent
    if not weights.exists() or not (folder / "model.json").exists():
        model = _built(task, settings, start.weights, seed)
        contrast = ContrastSettings(
            ssl=str(start.objective),
            epochs=settings.pretrain_epochs,
            patience=settings.pretrain_patience,
            lr=settings.pretrain_lr,
            device=settings.device,
            precision=settings.precision,
        )
        begun = time.monotonic()
        about = {"lr": contrast.lr, "seed": seed, "ssl": start.objective}
        name = folder.relative_to(run.root).as_posix()
        resumed = (folder / STATE).exists()
        with tracked(settings, run.root, name, about, resumed=resumed) as tracker:
            model, curve = train_encoder(model, task.splits.train, contrast, seed, folder, tracker)
        cost = _pretraining_cost(curve, len(task.splits.train), time.monotonic() - begun)
        facts = {**curve.facts, "losses": curve.judged, "cost": cost.model_dump()}
        save_model(folder, model, ssl=start.objective, **facts)
        forget_state(folder)
    return weights


def fit_cell(task: Task, settings: AssessSettings, run: Run, cell: Cell) -> None:
    """Train and keep one model of the grid, where it is not kept yet: all have one recipe."""
    if run.predictions_file(cell.name).exists():
        return
    few = _with_labels(task, settings, cell.share)
    model, schedule = untrained(task, settings, run, cell)
    begun = time.monotonic()
    about = {"lr": settings.lr, "seed": cell.seed}
    with tracked(settings, run.root, cell.name, about) as tracker:
        fit_settings = _fit_settings(few, settings, run, cell)
        trained = train_model(few, model, schedule, fit_settings, tracker=tracker)
    cost = TrainingCost(
        epochs=len(trained.logged),
        passes=len(trained.logged) * _epoch_passes(few),
        seconds=time.monotonic() - begun,
    )
    save_and_score(few, run, cell.name, trained, lr=settings.lr, cost=cost.model_dump())


def _with_labels(task: Task, settings: AssessSettings, share: float) -> Task:
    """Return the task with the labels of a share of the training patients.

    Shares are nested, so that what frozen layers make of the samples of the largest one serves all.
    """
    pool = with_label_share(task.splits, max(settings.label_share), settings.seed).train
    splits = with_label_share(task.splits, share, settings.seed)
    return replace(task, splits=replace(splits, pool=pool))


def _fit_settings(few: Task, settings: AssessSettings, run: Run, cell: Cell) -> FitSettings:
    """Return how a cell is trained; on equal compute, cells without an encoder train longer."""
    usual = few.fit_settings(settings.lr, cell.seed)
    if not settings.equal_compute or cell.strategy not in LABELLED:
        return usual
    folders = encoder_folders(settings, run, cell.seed)
    passes = max(cost_of(folder).passes for folder in folders)
    epochs = equal_epochs(settings.epochs, passes, _epoch_passes(few))
    return usual.model_copy(
        update={"epochs": epochs, "patience": epochs if settings.patience else 0}
    )


def _epoch_passes(task: Task) -> int:
    return epoch_passes(len(task.splits.train), len(task.splits.val))


def _pretraining_cost(curve: LossCurve, samples: int, seconds: float) -> TrainingCost:
    """Return what pre-training took: two views of each sample, some of which are held out."""
    held = HELD_OUT * samples if curve.held_out else 0.0
    each = epoch_passes(round(2 * (samples - held)), round(2 * held))
    return TrainingCost(epochs=len(curve.loss), passes=len(curve.loss) * each, seconds=seconds)


def untrained(task: Task, settings: AssessSettings, run: Run, cell: Cell) -> tuple[Model, Schedule]:
    """Return a cell's model before it sees a label, and what it may change.

    Supervised starts from the weights that pre-training starts from (random ones are those of the
    same seed) and trains everything. Scratch always starts from random weights. Every cell scales
    its inputs by all training patients, also where few of them have labels.
    """
    strategy, weights = find_strategy(cell.strategy), settings.weights
    start = start_of(settings, cell)
    if start is not None:
        weights = encoder_of(settings, run, start, cell.seed)
    elif cell.strategy == SUPERVISED:
        strategy = find_strategy("full")
    model = _built(task, settings, weights, cell.seed, settings.head)
    return strategy(model, cell.seed)


def _built(
    task: Task, settings: AssessSettings, weights: str, seed: int, head: Head = "linear"
) -> Model:
    """Return a model with the scale that all arms have."""
    inputs, classes = common_inputs(task, settings), task.splits.train.classes
    return build_model(settings.backbone, weights, inputs, classes, seed, head)


def common_inputs(task: Task, settings: AssessSettings) -> Images | SeriesInputs:
    """Return what all arms take in: series in the scale that the encoders were learnt in.

    Where encoders bring scales that differ, each keeps its own, and the other arms have that of
    the training patients.
    """
    inputs = task.inputs
    if not isinstance(inputs, SeriesInputs):
        return inputs
    weights = [start.weights for start in starts_of(settings)]
    brought = [
        inherit_scale(inputs, source) for source in dict.fromkeys((*weights, settings.weights))
    ]
    others = [scale for scale in brought if scale is not inputs]  # it is, where weights bring none
    return others[0] if others and all(scale == others[0] for scale in others) else inputs
