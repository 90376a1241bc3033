"""The outcome of a benchmark, which the page shows, and the table that the terminal prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from evenhand.experiments.runs import Run
from evenhand.jobs.benchmark.comparing import Result
from evenhand.jobs.benchmark.external import ExternalResult
from evenhand.jobs.benchmark.record import BenchmarkRecord, DataSets, EntryRecord
from evenhand.jobs.benchmark.settings import BenchmarkSettings
from evenhand.jobs.benchmark.verdicts import Statement
from evenhand.metrics.learning_curve import LearningCurve
from evenhand.reporting.text.vocabulary import PLAIN, SIGNED


@dataclass(frozen=True, eq=False)
class Outcome:
    """The results of a benchmark.

    Attributes
    ----------
    run, record
        The run, and the content of its ``benchmark.json``.
    result, statements
        The comparison of the entries, and the statements about it.
    external
        The results for external patients; None without ``--external``.
    data_sets
        The results for several data sets; None without ``--also``.
    curves
        The learning curves; empty without ``--curve``.
    """

    run: Run
    record: BenchmarkRecord
    result: Result
    statements: Sequence[Statement]
    external: ExternalResult | None = None
    data_sets: DataSets | None = None
    curves: Sequence[LearningCurve] = ()

    @cached_property
    def settings(self) -> BenchmarkSettings:
        """The settings of the run."""
        return self.run.record.settings_as(BenchmarkSettings)


UNDEFINED = "undefined"
NOT_COMPARED = "not compared", "it changes only decisions, which do not affect this number"
"""The texts of an entry without a difference, in the columns of the difference and the interval."""


def entries_text(record: BenchmarkRecord) -> str:
    """Return a text table of the primary number of each entry, and its difference from erm."""
    name, reference = record.plan.primary_metric, record.plan.reference
    lines = [("entry", "number", "attribute", "value", f"minus {reference}", "interval")]
    for entry in record.entries:
        lines += _lines(entry, name, record.plan.primary_attributes, reference)
    return "\n".join(_aligned(lines))


def _lines(
    entry: EntryRecord, name: str, attributes: Sequence[str], reference: str
) -> Iterator[tuple[str, str, str, str, str, str]]:
    for number in entry.numbers:
        if not number.is_across(name, attributes):
            continue
        value = UNDEFINED if number.value is None else PLAIN.text(number.value)
        change, interval = ("", "") if entry.name == reference else NOT_COMPARED
        for difference in entry.differences:
            if difference.is_across(name, (number.attribute,)):
                change = UNDEFINED if difference.value is None else SIGNED.text(difference.value)
                interval = SIGNED.interval(difference.low, difference.high) or "no interval"
        yield entry.name, name, number.attribute, value, change, interval


def _aligned(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        yield "  ".join(cells).rstrip()
