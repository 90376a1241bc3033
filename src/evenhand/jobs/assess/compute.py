"""The compute of the cells of a grid, compared with that of supervised."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from evenhand.experiments.runs import Run
from evenhand.jobs.assess.cost import TrainingCost, training_cost
from evenhand.jobs.assess.grid import Cell, cell_start, encoder_weights, grid_cells
from evenhand.jobs.assess.settings import SUPERVISED, AssessSettings
from evenhand.reporting.section import Table
from evenhand.reporting.text.vocabulary import plain


@dataclass(frozen=True)
class ArmCost:
    """The mean costs of a cell over seeds: of its fits, and of their encoders if known."""

    fit: TrainingCost
    encoder: TrainingCost | None

    @property
    def passes(self) -> int:
        """The passes of fit and encoder together."""
        return self.fit.passes + (self.encoder.passes if self.encoder else 0)

    @property
    def seconds(self) -> float:
        """The seconds of fit and encoder together."""
        return self.fit.seconds + (self.encoder.seconds if self.encoder else 0.0)


def compute_table(run: Run, settings: AssessSettings, share: float) -> Table:
    """Return a table of the costs of each cell of a share of labels."""
    costs = dict(_costs(run, settings, share))
    base = costs[SUPERVISED]
    rows = tuple(_row(name, cost, base) for name, cost in costs.items())
    columns = ("Cell", "Epochs", "Passes", "Pre-training", "All passes", "× supervised", "Seconds")
    return Table("Compute, mean over seeds; passes in thousands", columns, rows)


def compute_sentence(run: Run, settings: AssessSettings, share: float, cell: str) -> str:
    """Return a sentence about the compute of a cell, compared with that of supervised."""
    costs = dict(_costs(run, settings, share))
    cost, base = costs[cell], costs[SUPERVISED]
    if not base.passes or not cost.passes:
        return "The version of Evenhand that trained these models did not record their compute."
    if cost.encoder is None and cell != SUPERVISED and not settings.equal_compute:
        return "The compute of the encoders is unknown and not counted."
    ratio = f"{plain(cost.passes / base.passes, 1)} times the compute of supervised"
    if settings.equal_compute:
        return (
            "By --equal-compute, supervised trains for as many passes as pre-training and "
            f"fine-tuning may take together, and keeps its best epoch: {cell} took {ratio}."
        )
    return (
        f"Compute is not equal: with its pre-training, {cell} took {ratio} in passes of samples. "
        "With --equal-compute, supervised trains for as many passes."
    )


def _costs(run: Run, settings: AssessSettings, share: float) -> Iterator[tuple[str, ArmCost]]:
    cells: dict[str, list[Cell]] = {}
    for cell in grid_cells(settings):
        if cell.share == share:
            cells.setdefault(cell.recipe, []).append(cell)
    for recipe, recipe_cells in cells.items():
        fits = [training_cost(run.folder(cell.name)) for cell in recipe_cells]
        encoders = [cost for cell in recipe_cells for cost in _encoder_cost(run, settings, cell)]
        yield recipe, ArmCost(_mean(fits), _mean(encoders) if encoders else None)


def _encoder_cost(run: Run, settings: AssessSettings, cell: Cell) -> Iterator[TrainingCost]:
    start = cell_start(settings, cell)
    if start is not None and start.objective is not None:
        yield training_cost(Path(encoder_weights(settings, run, start, cell.seed)).parent)


def _mean(costs: Sequence[TrainingCost]) -> TrainingCost:
    return TrainingCost(
        epochs=round(fmean(cost.epochs for cost in costs)),
        passes=round(fmean(cost.passes for cost in costs)),
        seconds=fmean(cost.seconds for cost in costs),
    )


def _row(name: str, cost: ArmCost, base: ArmCost) -> tuple[str, ...]:
    pretraining = f"{cost.encoder.passes / 1000:,.0f}" if cost.encoder else "–"
    ratio = plain(cost.passes / base.passes, 2) if base.passes else "–"
    passes = (f"{cost.fit.passes / 1000:,.0f}", pretraining, f"{cost.passes / 1000:,.0f}")
    return name, str(cost.fit.epochs), *passes, ratio, f"{cost.seconds:,.0f}"
