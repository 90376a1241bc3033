"""One pass over the resamples for many groups: the same numbers as group by group."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from evenhand.metrics import as_scored, sums
from evenhand.metrics.estimate import estimate
from evenhand.metrics.forms.pairs import Scan, transposed_weights
from evenhand.metrics.registry import METRICS
from evenhand.metrics.resample import Bootstrap, resample
from evenhand.metrics.stream import Stream

PAIRS, RESAMPLE = sys.modules[Scan.__module__], sys.modules[resample.__module__]


def samples(n=400, patients=150, decimals=None, seed=0):
    """Rows of patients with several each; with ``decimals``, positives and negatives tie."""
    rng = np.random.default_rng(seed)
    label = rng.integers(2, size=n)
    score = 1 / (1 + np.exp(-rng.normal(label - 0.5, 1)))
    score = score if decimals is None else score.round(decimals)
    return as_scored(label, score, patients=rng.integers(patients, size=n))


def groupings(rows, seed=1):
    """Three groups; forty, of which one is empty and few are large; and two that overlap."""
    rng = np.random.default_rng(seed)
    third, many = rng.integers(3, size=len(rows)), rng.integers(39, size=len(rows)) ** 2 // 39
    return [
        [np.flatnonzero(third == level) for level in range(3)],
        [np.flatnonzero(many == level) for level in range(40)],
        [np.arange(0, 250), np.arange(150, len(rows))],
    ]


@pytest.mark.parametrize("decimals", [None, 1])
@pytest.mark.parametrize(("cells", "span", "rows_a_cell"), [(2**16, 8192, 64), (8, 16, 1)])
def test_many_groups_at_once_are_as_each_by_itself(monkeypatch, decimals, cells, span, rows_a_cell):
    rows = samples(decimals=decimals)
    metrics = [METRICS[name] for name in ("auc", "accuracy", "mcc", "log_loss", "auprc", "f1")]
    resamples = resample(len(rows.members), Bootstrap(30), np.random.default_rng(0))
    alone = [
        estimate([rows.take(place) for place in places], metrics, resamples, (0, 1))
        for places in groupings(rows)
    ]
    monkeypatch.setattr(PAIRS, "CELLS", cells)
    monkeypatch.setattr(sums, "SPAN", span)
    monkeypatch.setattr(sums, "ROWS", rows_a_cell)
    stream = Stream(resamples)
    together = [stream.add(rows, places, metrics, (0, 1)) for places in groupings(rows)]
    stream.run()
    for item, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(item, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("decimals", [None, 1])
@pytest.mark.parametrize("cells", [2**16, 64, 1])
def test_chunks_of_any_length_count_the_pairs_of_a_group(monkeypatch, decimals, cells):
    """With few cells the rows of a group are cut into long chunks, with many into single rows."""
    monkeypatch.setattr(PAIRS, "CELLS", cells)
    rows = samples(decimals=decimals)
    places = groupings(rows)[0]
    rng = np.random.default_rng(2)
    weights = rng.integers(0, 256, size=(3, len(rows.members))).astype(np.uint8)
    counts = Scan(rows, places, len(rows.members), 3)(transposed_weights(weights))
    result = (counts.ordered / (counts.positives * counts.negatives)).reshape(3, 3)
    for place, values in zip(places, result, strict=True):
        for drawn, value in zip(weights, values, strict=True):
            weight = drawn[rows.patients[place]]
            expected = roc_auc_score(rows.labels[place], rows.scores[place], sample_weight=weight)
            assert value == pytest.approx(expected, rel=1e-12)


def test_resamples_that_are_not_kept_are_drawn_again_as_they_were(monkeypatch):
    bootstrap = Bootstrap(5, method="bca")
    stored = resample(60, bootstrap, np.random.default_rng(0)).weights
    monkeypatch.setattr(RESAMPLE, "KEPT", 0)
    rng = np.random.default_rng(0)
    drawn = resample(60, bootstrap, rng)
    for _ in range(2):
        np.testing.assert_array_equal(stored, np.concatenate([w for _, w in drawn.blocks(4)]))
    assert rng.random() == np.random.default_rng(0).random()
