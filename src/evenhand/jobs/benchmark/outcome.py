"""What the page of a benchmark is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from evenhand.experiments.runs import Run
from evenhand.jobs.benchmark.comparing import Result
from evenhand.jobs.benchmark.external import ExternalResult
from evenhand.jobs.benchmark.record import BenchmarkRecord, DataSets
from evenhand.jobs.benchmark.settings import BenchmarkSettings
from evenhand.jobs.benchmark.verdicts import Statement
from evenhand.metrics.learning_curve import LearningCurve


@dataclass(frozen=True, eq=False)
class Outcome:
    """A benchmark whose fits are compared.

    Attributes
    ----------
    run, record
        The run, and the content of its ``benchmark.json``.
    result, statements
        The comparison of the entries, and the verdicts on it.
    outside, data_sets
        What came of external patients and of several data sets, where there are some.
    curves
        Learning curves, where they were asked for.
    """

    run: Run
    record: BenchmarkRecord
    result: Result
    statements: Sequence[Statement]
    outside: ExternalResult | None = None
    data_sets: DataSets | None = None
    curves: Sequence[LearningCurve] = ()

    @cached_property
    def settings(self) -> BenchmarkSettings:
        """The settings of the run."""
        return self.run.record.settings_as(BenchmarkSettings)
