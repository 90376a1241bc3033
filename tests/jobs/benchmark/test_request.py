"""The data request of a benchmark: with so many more patients the gap shows, with fewer not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evenhand.jobs.benchmark.comparing import Result, SampleCounts
from evenhand.jobs.benchmark.entries import ERM
from evenhand.jobs.benchmark.request import make_requests
from evenhand.metrics import detectable_gap
from evenhand.metrics.rows import Key

OLD, YOUNG = Key("age", "old", "auc"), Key("age", "young", "auc")
SIZES = {OLD: SampleCounts(220, 200, 60), YOUNG: SampleCounts(900, 800, 90)}


def result(old: float, young: float) -> Result:
    """Return a benchmark whose groups have these errors."""
    rng = np.random.default_rng(0)
    values = {}
    for key, error in ((OLD, old), (YOUNG, young)):
        drawn = rng.normal(size=2000)
        drawn = 0.8 + error * (drawn - drawn.mean()) / drawn.std(ddof=1)
        values[key] = np.tile(np.concatenate([[0.8], drawn]), (2, 1))
    return Result({ERM: values}, [], SIZES, 2)


def test_a_group_alone_grows_until_the_gap_shows():
    (request,) = make_requests(result(0.04, 0.01), 0.08)
    assert (request.group, request.reference) == ("old", "young")
    assert request.gap == pytest.approx(detectable_gap(math.hypot(0.04, 0.01)))
    assert request.added is not None
    (patients, positives), reference = request.added
    assert reference == (0, 0)

    def gap(count: int) -> float:
        return detectable_gap(math.hypot(0.04 / math.sqrt(1 + count / 200), 0.01))

    assert gap(patients) <= 0.08 < gap(patients - 1)
    assert positives == pytest.approx(patients * 60 / 200, abs=1)


def test_both_groups_grow_where_one_would_not_do():
    (request,) = make_requests(result(0.04, 0.04), 0.08)
    assert request.added is not None
    (old, _), (young, _) = request.added
    assert young / 800 == pytest.approx(old / 200, rel=0.02)
    assert young > 0


def test_nothing_is_asked_for_where_the_gap_shows_already():
    (request,) = make_requests(result(0.01, 0.01), 0.08)
    assert request.added == ((0, 0), (0, 0))
