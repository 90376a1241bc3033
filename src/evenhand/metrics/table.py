"""Measure scored samples: one metric row for each number, with its interval and counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from evenhand.errors import EvenhandError
from evenhand.metrics.aggregates import DETECTABLE
from evenhand.metrics.attribute_numbers import EstimateRequest, request_numbers
from evenhand.metrics.claims import Claim, ClaimFinder, leading_metric
from evenhand.metrics.groups import Groups
from evenhand.metrics.intervals import (
    NO_INTERVAL,
    Interval,
    clip,
    combined_interval,
    difference_interval,
    extreme_interval,
    extremes_difference_interval,
    group_interval,
    resampled_interval,
    spread_interval,
)
from evenhand.metrics.measured import Measured, add_tests, judge
from evenhand.metrics.numbers import (
    BIASED,
    Parts,
    ResampledNumber,
    divide_samples,
    undivided_samples,
)
from evenhand.metrics.plan import Plan, base_attribute, check_plan, compared_levels
from evenhand.metrics.resample import Bootstrap, Resamples, resample
from evenhand.metrics.rows import MetricRow, as_table, join_notes
from evenhand.metrics.scored import Scored
from evenhand.metrics.spreads import spread_difference_interval
from evenhand.metrics.stream import Stream

Progress = Callable[[int, int], None]
"""Function that is called with the number of steps done and the number of all steps."""


@dataclass(frozen=True)
class RowNames:
    """The model, the model that it is compared with, and the split, as metric rows name them."""

    model: str | None = None
    against: str | None = None
    split: str | None = None


NO_NAMES = RowNames()

NOT_FINITE = "no finite value: it divides by 0, or its fit has no solution"


def measure(
    rows: Scored,
    groups: Mapping[str, Groups],
    plan: Plan | None = None,
    *,
    rng: np.random.Generator,
    against: Scored | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Measure everybody, each group of each attribute, and across the groups.

    The differences that a page makes claims about are tested together (see `judge`).

    Parameters
    ----------
    rows
        The samples (see `scored`).
    groups
        The level of each sample, by attribute; an intersection is an attribute too.
    plan
        The metrics and comparisons to measure; by default ``Plan()``.
    rng
        Draws the resamples of patients. They depend on its state only, not on what is measured.
    against
        The same samples, in the same order, scored by another model. Every number is then a
        paired difference: the value of this model less that of the other, in the data and in each
        resample.
    progress
        Called from time to time with the number of resamples and permutations done, and the number
        of all of them.

    Returns
    -------
    pandas.DataFrame
        The columns ``COLUMNS``. ``model``, ``against`` and ``split`` are empty; the caller fills
        them.

    Raises
    ------
    EvenhandError
        If a name in the plan is not known, or if samples, groups and models do not fit together.
    """
    part = measure_part(rows, groups, plan, rng=rng, against=against, progress=progress)
    return as_table(judge([part]))


def measure_part(
    rows: Scored,
    groups: Mapping[str, Groups],
    plan: Plan | None = None,
    *,
    rng: np.random.Generator,
    against: Scored | None = None,
    progress: Progress | None = None,
    names: RowNames = NO_NAMES,
    patients: str = "",
) -> Measured:
    """Measure as `measure` does, without p-values; `judge` computes them for several parts.

    Parameters
    ----------
    rows, groups, plan, rng, against, progress
        As for `measure`.
    names
        The names of the models and the split in the rows.
    patients
        A name for the set of patients; parts with equal names are tested together.

    Returns
    -------
    Measured
        The rows and the claims about them.
    """
    plan = plan or Plan()
    check_plan(plan, groups)
    _check_rows(rows, groups, against)
    divided = _divided(rows, groups, plan)
    resamples = resample(len(rows.members), plan.bootstrap, rng)
    tested = plan.permutations if against is None else 0
    tests = tested * len(divided) * len(plan.metrics)
    step = _counter(progress, resamples.count + tests)
    stream = Stream(replace(resamples, progress=step))
    requests = _requests(rows, divided, plan, stream)
    other_requests = (
        [] if against is None else _requests(against, _divided(against, groups, plan), plan, stream)
    )
    stream.run()
    numbers = [number for request in requests for number in request.numbers()]
    if against is not None:
        other_numbers = [number for request in other_requests for number in request.numbers()]
        numbers = [
            number.minus(other)
            for number, other in zip(numbers, other_numbers, strict=True)
            if number.aggregate != DETECTABLE  # it belongs to the data, not to a model
        ]
    table = {number.key: _row(number, resamples, plan.bootstrap, names) for number in numbers}
    gaps = add_tests(table, divided, plan, rng.spawn(1)[0], step) if tested else ()
    claims: tuple[Claim, ...] = ()
    if plan.bootstrap:
        finder = ClaimFinder(numbers, table, resamples.replicates)
        claims = tuple(
            _find_claims(finder, divided, plan, paired=against is not None, tested=tested > 0)
        )
    adds_detectable = against is not None and DETECTABLE in plan.across
    return Measured(table, claims, gaps, adds_detectable, patients)


def _find_claims(
    finder: ClaimFinder, divided: Sequence[Parts], plan: Plan, *, paired: bool, tested: bool
) -> Iterator[Claim]:
    """Yield the claims: of differences of two models, or of groups and of the AUC from chance."""
    attributes = [parts.attribute for parts in divided]
    if paired:
        yield from finder.between_models(attributes, plan.judged or (leading_metric(plan.metrics),))
        yield from finder.between_spreads(plan.spreads)
        return
    if not tested:
        yield from finder.against_chance()
        for attribute in attributes:
            yield from finder.between_groups(attribute, plan.metrics)


def _counter(progress: Progress | None, total: int) -> Callable[[int], None]:
    """Return a function that counts steps and reports the number of steps done."""
    done = 0

    def step(steps: int) -> None:
        nonlocal done
        done += steps
        if progress:
            progress(done, total)

    return step


def _divided(rows: Scored, groups: Mapping[str, Groups], plan: Plan) -> list[Parts]:
    """Return the samples of the groups of each attribute."""
    return [
        divide_samples(
            rows,
            name,
            levels,
            compared_levels(plan, name, levels),
            reference=plan.references.get(base_attribute(name)),
            minimum=plan.minimum,
        )
        for name, levels in groups.items()
    ]


def _requests(
    rows: Scored, divided: Sequence[Parts], plan: Plan, stream: Stream
) -> list[EstimateRequest]:
    """Request the values of everybody, and of the groups of each attribute, from a stream."""
    return [
        request_numbers(undivided_samples(rows), plan.metrics, (), stream),
        *(request_numbers(parts, plan.metrics, plan.across, stream) for parts in divided),
    ]


def _interval(
    number: ResampledNumber, resamples: Resamples, bootstrap: Bootstrap | None
) -> Interval:
    """Return the interval of a number, clipped to its bounds."""
    ends = clip(unbounded_interval(number, resamples, bootstrap), number.bounds)
    return ends.mark_if_few(min((family.fewest for family in number.family), default=ends.few))


def unbounded_interval(
    number: ResampledNumber, resamples: Resamples, bootstrap: Bootstrap | None
) -> Interval:
    """Return the interval of a number; it may extend beyond the number's bounds."""
    if number.composition == "point" or bootstrap is None:
        return NO_INTERVAL
    if number.reason:
        return resampled_interval(number.values, resamples, bootstrap)
    if number.composition == "one":
        return group_interval(number.family[0], resamples, bootstrap)
    if number.composition == "difference":
        return difference_interval(number.values, number.family[0], resamples, bootstrap)
    if number.composition == "other":
        return combined_interval(number.values, number.family, resamples, bootstrap)
    if number.composition == "spread":
        return spread_interval(number.family, resamples, bootstrap)
    if number.composition == "spreads":
        return spreads_interval(number, resamples, bootstrap)
    if len(number.family) > 1:
        return extremes_difference_interval(
            number.values, number.family, number.composition, resamples, bootstrap
        )
    return extreme_interval(number.family[0], number.composition, resamples, bootstrap)


def spreads_interval(
    number: ResampledNumber, resamples: Resamples, bootstrap: Bootstrap
) -> Interval:
    """Return the interval of one model's spread less another's.

    If there are too many pairs of groups, or a share that no resample changes, it is the percentile
    interval of the difference, which is approximate.
    """
    count = len(number.family) // 2
    families = number.family[:count], number.family[count:]
    by_resamples = combined_interval(number.values, number.family, resamples, bootstrap)
    if by_resamples.low is None:
        return by_resamples
    ends = spread_difference_interval(*families, resamples, bootstrap)
    return replace(by_resamples, approximate=BIASED) if ends is None else ends


def _row(
    number: ResampledNumber, resamples: Resamples, bootstrap: Bootstrap | None, names: RowNames
) -> MetricRow:
    """Return the row of a number."""
    value = float(number.values[0])
    ends = _interval(number, resamples, bootstrap)
    undefined = number.reason or (NOT_FINITE if math.isnan(value) else None)
    return MetricRow(
        model=names.model,
        against=names.against,
        split=names.split,
        attribute=number.attribute,
        group=number.group,
        base=number.base.name,
        aggregate=number.aggregate,
        reference=number.reference,
        threshold=number.threshold,
        value=None if undefined else value,
        low=ends.low,
        high=ends.high,
        level=bootstrap.level if bootstrap and ends.low is not None else None,
        interval_method=ends.method,
        n=len(number.rows),
        patients=len(number.rows.members),
        positives=int(number.rows.labels.sum()) if number.rows.binary else None,
        replicates_undefined=ends.undefined if bootstrap else None,
        undefined=undefined,
        no_interval=number.no_interval or ends.reason,
        approximate=ends.approximate,
        note=join_notes(number.note),
    )


def _check_rows(rows: Scored, groups: Mapping[str, Groups], against: Scored | None) -> None:
    """Check that there are samples, and that groups and the other model have the same samples."""
    if not len(rows):
        raise EvenhandError("there are no samples to measure.")
    for attribute, levels in groups.items():
        if len(levels.codes) != len(rows):
            raise EvenhandError(
                f"attribute {attribute!r} has {len(levels.codes)} levels for {len(rows)} "
                "samples; there must be one for each."
            )
    is_paired = against is None or (
        np.array_equal(rows.labels, against.labels)
        and np.array_equal(rows.patients, against.patients)
    )
    if not is_paired:
        raise EvenhandError(
            "the two models were not scored on the same samples in the same order; labels and "
            "patients differ. Match their predictions by sample_id first."
        )
