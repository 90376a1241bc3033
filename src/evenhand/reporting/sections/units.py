"""The section on units: a map of the units that a mask tunes, depth across, kind down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evenhand.reporting.report import Report, UnitShare
from evenhand.reporting.section import section
from evenhand.reporting.text.vocabulary import PERCENT


@dataclass(frozen=True)
class UnitView:
    """The map, with the units at each depth for each kind, and the counts of units."""

    depths: tuple[int, ...]
    kinds: tuple[tuple[str, tuple[tuple[UnitShare, ...], ...]], ...]
    tuned: int
    units: int
    parameters: int
    tuned_parameters: int

    @property
    def share(self) -> float:
        """The share of the parameters that the mask tunes, in percent."""
        return 100 * self.tuned_parameters / self.parameters if self.parameters else 0.0

    @property
    def share_text(self) -> str:
        """The share as text."""
        return PERCENT.text(self.share / 100)


def _title(report: Report) -> str:
    """Return the title; only a search has a best mask."""
    return "What the best mask tunes" if report.search else "What fine-tuning may change"


@section("report", "units", _title, place=90)
def units_section(report: Report) -> UnitView | None:
    """Lay out the units of a report's model, None if they are not known."""
    return unit_view(report.units) if report.units else None


def unit_view(units: Sequence[UnitShare]) -> UnitView:
    """Lay out a map of units, with the kinds in the order in which they occur."""
    depths = tuple(sorted({unit.depth for unit in units}))
    kinds = tuple(dict.fromkeys(unit.kind for unit in units))
    tuned = [unit for unit in units if unit.tuned]
    return UnitView(
        depths=depths,
        kinds=tuple((kind, _by_depth(units, kind, depths)) for kind in kinds),
        tuned=len(tuned),
        units=len(units),
        parameters=sum(unit.parameters for unit in units),
        tuned_parameters=sum(unit.parameters for unit in tuned),
    )


def _by_depth(
    units: Sequence[UnitShare], kind: str, depths: Sequence[int]
) -> tuple[tuple[UnitShare, ...], ...]:
    return tuple(
        tuple(unit for unit in units if (unit.kind, unit.depth) == (kind, depth))
        for depth in depths
    )
