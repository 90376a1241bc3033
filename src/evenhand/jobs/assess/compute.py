"""What the cells of a grid cost, beside supervised (see `evenhand.jobs.assess.cost`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from evenhand.experiments.runs import Run
from evenhand.jobs.assess.cost import TrainingCost, cost_of
from evenhand.jobs.assess.grid import Cell, cells_of, encoder_of, start_of
from evenhand.jobs.assess.settings import SUPERVISED, AssessSettings
from evenhand.reporting.part import Table
from evenhand.reporting.text.numbers import plain


@dataclass(frozen=True)
class ArmCost:
    """The costs of a cell, mean over seeds: of its fits, and of their encoders."""

    fit: TrainingCost
    encoder: TrainingCost | None

    @property
    def passes(self) -> int:
        """Of both together."""
        return self.fit.passes + (self.encoder.passes if self.encoder else 0)

    @property
    def seconds(self) -> float:
        """Of both together."""
        return self.fit.seconds + (self.encoder.seconds if self.encoder else 0.0)


def cost_table(run: Run, settings: AssessSettings, share: float) -> Table:
    """Show what each cell of a share of labels costs, beside supervised."""
    costs = dict(_costs(run, settings, share))
    base = costs[SUPERVISED]
    rows = tuple(_row(name, cost, base) for name, cost in costs.items())
    columns = ("Cell", "Epochs", "Passes", "Pre-training", "Together", "Of supervised's", "Seconds")
    return Table("Compute, mean over seeds; passes in thousands", columns, rows)


def cost_sentence(run: Run, settings: AssessSettings, share: float, cell: str) -> str:
    """Say whether the cell that stands for the others costs as much as supervised."""
    costs = dict(_costs(run, settings, share))
    own, base = costs[cell], costs[SUPERVISED]
    if not base.passes or not own.passes:
        return "What training took was not kept by the version of Evenhand that trained."
    if own.encoder is None and cell != SUPERVISED and not settings.equal_compute:
        return "What it took to make the encoders is not known, and is not counted."
    ratio = f"{plain(own.passes / base.passes, 1)} times the compute of supervised"
    if settings.equal_compute:
        return (
            "As was asked for, supervised trains for as many passes as pre-training and "
            f"fine-tuning may take together, and keeps its best epoch: {cell} took {ratio}."
        )
    return (
        f"Compute is not equal: with its pre-training, {cell} took {ratio} in passes of samples. "
        "--equal-compute gives supervised as much."
    )


def _costs(run: Run, settings: AssessSettings, share: float) -> Iterator[tuple[str, ArmCost]]:
    cells: dict[str, list[Cell]] = {}
    for cell in cells_of(settings):
        if cell.share == share:
            cells.setdefault(cell.recipe, []).append(cell)
    for recipe, same in cells.items():
        fits = [cost_of(run.folder(cell.name)) for cell in same]
        encoders = [cost for cell in same for cost in _encoder_cost(run, settings, cell)]
        yield recipe, ArmCost(_mean(fits), _mean(encoders) if encoders else None)


def _encoder_cost(run: Run, settings: AssessSettings, cell: Cell) -> Iterator[TrainingCost]:
    start = start_of(settings, cell)
    if start is not None and start.objective is not None:
        yield cost_of(Path(encoder_of(settings, run, start, cell.seed)).parent)


def _mean(costs: Sequence[TrainingCost]) -> TrainingCost:
    return TrainingCost(
        epochs=round(fmean(cost.epochs for cost in costs)),
        passes=round(fmean(cost.passes for cost in costs)),
        seconds=fmean(cost.seconds for cost in costs),
    )


def _row(name: str, cost: ArmCost, base: ArmCost) -> tuple[str, ...]:
    before = f"{cost.encoder.passes / 1000:,.0f}" if cost.encoder else "–"
    ratio = plain(cost.passes / base.passes, 2) if base.passes else "–"
    passes = (f"{cost.fit.passes / 1000:,.0f}", before, f"{cost.passes / 1000:,.0f}")
    return name, str(cost.fit.epochs), *passes, ratio, f"{cost.seconds:,.0f}"
