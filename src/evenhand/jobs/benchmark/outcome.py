"""The outcome of a benchmark, which the page shows."""

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
