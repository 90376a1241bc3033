"""How often intervals contain the truth, on simulated cohorts where the truth is known.

Each of three groups has 250 patients with three images that are alike (correlation .6) and share
the patient's label. Scores are Φ(s (y − ½) + noise) with standard normal noise, so that in a group
with separation s the AUC is Φ(s / √2), and the sensitivity at a threshold of .5 is Φ(s / 2).
A second model has less separation and noise that is alike to the first one's.

This is about percentiles and BCa, and about resampling patients rather than rows. How the intervals
that are made by default hold, with few patients above all, is in ``test_few_patients.py``.

Run with ``pytest -m slow -s tests/metrics/test_coverage.py`` to see the figures.
"""

from __future__ import annotations

import json
from collections import defaultdict

import numpy as np
import pytest
from scipy.stats import norm

from evenhand.metrics import as_scored
from evenhand.metrics.estimate import estimate
from evenhand.metrics.families import family_of_draws
from evenhand.metrics.intervals import extreme_interval, resampled_interval, spread_interval
from evenhand.metrics.registry import find_metric
from evenhand.metrics.resample import Bootstrap, resample

COHORTS = 2000
PATIENTS = 250
IMAGES = 3
ALIKE = 0.6
LESS = 0.3
"""By how much less the second model separates the classes."""

PERCENTILE = Bootstrap(1000, method="percentile")
BCA = Bootstrap(1000, method="bca")
METRICS = [find_metric("auc"), find_metric("sensitivity")]
DESIGNS = {"separated": np.array([2.4, 1.8, 1.2]), "tied": np.array([1.8, 1.8, 1.8])}


def truth(separation):
    """AUC and sensitivity of each group, ``(groups, 2)``."""
    return np.stack([norm.cdf(separation / np.sqrt(2)), norm.cdf(separation / 2)], axis=1)


def draw(separation, size, rng):
    """Return the images as two models score them, and the rows of each group."""
    patients = size * len(separation)
    patient = np.repeat(np.arange(patients), IMAGES)
    group = patient // size
    label = rng.integers(2, size=patients)[patient]
    noise = np.sqrt(ALIKE) * rng.normal(size=(2, patients))[:, patient]
    noise += np.sqrt(1 - ALIKE) * rng.normal(size=(2, len(patient)))
    noise[1] = 0.8 * noise[0] + 0.6 * noise[1]
    models = [
        as_scored(label, norm.cdf(s[group] * (label - 0.5) + e), patients=patient)
        for s, e in zip((separation, separation - LESS), noise, strict=True)
    ]
    return models, [np.flatnonzero(group == g) for g in range(len(separation))]


def values(rows, groups, resamples):
    return estimate([rows.take(group) for group in groups], METRICS, resamples, (0, 1))


def of_groups(values):
    return family_of_draws(tuple(map(str, range(len(values)))), values)


def simulate(separation, cohorts, rng, size=PATIENTS):
    """Return the share of cohorts in which each kind of interval contains the truth."""
    first, second = truth(separation), truth(separation - LESS)
    hits = defaultdict(list)

    def note(name, groups, true, resamples, bootstrap):
        result = resampled_interval(groups, resamples, bootstrap)
        hits[name].append(result.low <= true <= result.high)

    for _ in range(cohorts):
        (item, two), groups = draw(separation, size, rng)
        patients = resample(size * len(separation), BCA, rng)
        a, b = (values(rows, groups, patients) for rows in (item, two))
        rows = resample(len(item), PERCENTILE, rng)
        plain = values(as_scored(item.labels, item.scores), groups, rows)
        for m, name in enumerate(["auc", "sensitivity"]):
            for how, bootstrap in (("percentile", PERCENTILE), ("bca", BCA)):
                note(f"group {name}, {how}", a[0, m], first[0, m], patients, bootstrap)
                true = first[1, m] - first[0, m]
                note(f"signed {name}, {how}", a[1, m] - a[0, m], true, patients, bootstrap)
                true = first[0, m] - second[0, m]
                note(f"paired {name}, {how}", a[0, m] - b[0, m], true, patients, bootstrap)
            note(f"group {name}, rows resampled", plain[0, m], first[0, m], rows, PERCENTILE)
            numbers, true = a[:, m], first[:, m]
            spread = numbers.max(axis=0) - numbers.min(axis=0)
            note(f"gap {name}, percentile", spread, np.ptp(true), patients, PERCENTILE)
            note(f"worst {name}, percentile", numbers.min(axis=0), true.min(), patients, PERCENTILE)
            result = spread_interval([of_groups(numbers)], patients, PERCENTILE)
            hits[f"gap {name}, simultaneous"].append(result.low <= np.ptp(true) <= result.high)
            result = extreme_interval(of_groups(numbers), "lowest", patients, PERCENTILE)
            hits[f"worst {name}, simultaneous"].append(result.low <= true.min() <= result.high)
    return {kind: float(np.mean(hit)) for kind, hit in hits.items()}


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
def test_intervals_contain_the_truth_as_often_as_they_say(design):
    shares = simulate(DESIGNS[design], COHORTS, np.random.default_rng(11))
    print(json.dumps({"design": design, "cohorts": COHORTS, **shares}, indent=1))
    for name, share in shares.items():
        kind, _, how = name.partition(", ")
        low, high = {
            "percentile": (0.93, 0.97),
            "bca": (0.92, 0.97),
            "simultaneous": (0.93, 1.0),
            "rows resampled": (0.0, 0.88),
        }[how]
        picked = how == "percentile" and kind.split()[0] in ("gap", "worst")
        assert picked or low <= share <= high, name
    if design == "tied":
        assert shares["gap auc, percentile"] < 0.5


def test_a_few_cohorts():
    """The simulation itself, cheaply: patients cover where rows do not."""
    shares = simulate(DESIGNS["tied"], 60, np.random.default_rng(0), size=60)
    assert shares["group auc, percentile"] > 0.8
    assert shares["signed auc, percentile"] > 0.8
    assert shares["gap auc, simultaneous"] > 0.85
    assert shares["gap auc, percentile"] < 0.5
