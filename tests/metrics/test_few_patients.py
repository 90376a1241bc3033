"""How often intervals hold where patients are few, on simulated cohorts where the truth is known.

Each of three groups has 20 to 160 patients with one to three rows that are alike (correlation .6)
and share the patient's label. The evidence of a row is z = s (y − ½) + noise, with standard normal
noise, and its score is the probability of the label given z, so that every truth is a closed form
or a sum over z. A second model has .3 less separation s, and noise that is alike to the first's.

Run this file with ``python FILE 150 table.csv auto 20 40 80 160`` (cohorts of each design, output,
method of the bootstrap, patients in a group) for the figures of ``docs/results/coverage.md``.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import norm

from evenhand.metrics import Bootstrap, Plan, as_scored, find_metric, groups_of, measure
from evenhand.metrics.estimate import estimate
from evenhand.metrics.families import join_families, metric_family
from evenhand.metrics.intervals import (
    combined_interval,
    difference_interval,
    extreme_interval,
    group_interval,
    spread_interval,
)
from evenhand.metrics.resample import resample

METRICS = (
    *("auc", "sensitivity", "specificity", "accuracy", "log_loss", "calibration_slope"),
    *("brier", "f1", "squared_calibration_error"),
)
ALIKE = 0.6
LESS = 0.3
SEPARATIONS = {"tied": (1.8, 1.8, 1.8), "apart": (2.4, 1.8, 1.2)}
GRID = np.linspace(-12, 12, 20001)
ASKED = 0.95
HOLDS = (0.93, 0.99)


def truths(separation: float, prevalence: float) -> dict[str, float]:
    """Return what each metric is in the population."""
    up, down = (norm.pdf(GRID, side * separation / 2) for side in (1, -1))
    p = expit(separation * GRID + np.log(prevalence / (1 - prevalence)))

    def mean(of_positives, of_negatives):
        whole = prevalence * up * of_positives + (1 - prevalence) * down * of_negatives
        return np.trapezoid(whole, GRID)

    cut = -np.log(prevalence / (1 - prevalence)) / separation
    tpr, fpr = (norm.sf(cut, side * separation / 2) for side in (1, -1))
    flagged = prevalence * tpr + (1 - prevalence) * fpr
    true = {
        "auc": norm.cdf(separation / np.sqrt(2)),
        "sensitivity": tpr,
        "specificity": 1 - fpr,
        "accuracy": prevalence * tpr + (1 - prevalence) * (1 - fpr),
        "log_loss": mean(-np.log(p), -np.log1p(-p)),
        "calibration_slope": 1.0,
        "brier": mean((1 - p) ** 2, p**2),
        "ppv": prevalence * tpr / flagged,
        "f1": 2 * prevalence * tpr / (flagged + prevalence),
        "balanced_accuracy": (tpr + 1 - fpr) / 2,
        "squared_calibration_error": 0.0,
    }
    true["brier_skill"] = 1 - true["brier"] / (prevalence * (1 - prevalence))
    spread = np.sqrt(prevalence * (1 - prevalence) / (flagged * (1 - flagged)))
    true["mcc"] = (tpr - fpr) * spread
    return true | _areas(separation, prevalence)


def _areas(separation: float, prevalence: float) -> dict[str, float]:
    tpr, fpr = (norm.sf(GRID[::-1], side * separation / 2) for side in (1, -1))
    precision = prevalence * tpr / (prevalence * tpr + (1 - prevalence) * fpr)
    odds = prevalence / (1 - prevalence)
    gain, recall = 1 - fpr / tpr, 1 - odds * (1 - tpr) / tpr
    right = recall >= 0
    return {
        "auprc": np.trapezoid(precision, tpr),
        "auprg": np.trapezoid(gain[right], recall[right]),
    }


def draw(separations, size, prevalence, rng):
    """Return the rows as two models score them, and the groups."""
    patients = size * len(separations)
    patient = np.repeat(np.arange(patients), rng.integers(1, 4, size=patients))
    group = patient // size
    label = (rng.random(patients) < prevalence)[patient].astype(int)
    noise = np.sqrt(ALIKE) * rng.normal(size=(2, patients))[:, patient]
    noise += np.sqrt(1 - ALIKE) * rng.normal(size=(2, len(patient)))
    noise[1] = 0.8 * noise[0] + 0.6 * noise[1]
    models = []
    for less, e in zip((0, LESS), noise, strict=True):
        s = np.array(separations)[group] - less
        logit = s * (s * (label - 0.5) + e) + np.log(prevalence / (1 - prevalence))
        models.append(as_scored(label, expit(logit), patients=patient))
    return models, {"x": groups_of([f"g{g}" for g in group])}


def simulate(separations, size, prevalence, cohorts, rng, method="auto") -> pd.DataFrame:
    """Return a row for each interval: its kind, metric, whether it held, and its mark."""
    bootstrap = Bootstrap(500, method=method)
    true = [truths(s, prevalence) for s in separations]
    less = [truths(s - LESS, prevalence) for s in separations]
    held = []
    for _ in range(cohorts):
        models, groups = draw(separations, size, prevalence, rng)
        patients = resample(size * len(separations), bootstrap, rng)
        of_models = [families(rows, groups["x"], patients) for rows in models]
        for name in METRICS:
            place, at_less = (np.array([item[name] for item in each]) for each in (true, less))
            both = [of_model[name] for of_model in of_models]
            for kind, truth, few, ends in intervals(
                *both, place, place - at_less, patients, bootstrap
            ):
                if ends.low is not None:
                    within = ends.low <= truth <= ends.high
                    marked = few < ends.few
                    held.append((kind, name, within, few, marked, ends.high - ends.low))
    rows = pd.DataFrame(held, columns=["kind", "metric", "held", "few", "marked", "width"])
    return rows.assign(size=size, prevalence=prevalence)


def families(rows, groups, resamples):
    parts = {level: rows.take(groups.rows(level)) for level in groups.levels}
    metrics = [find_metric(name) for name in METRICS]
    values = estimate(list(parts.values()), metrics, resamples, (0, 1))
    return {
        metric.name: metric_family(parts, metric, values[:, m], resamples, (0, 1))
        for m, metric in enumerate(metrics)
    }


def intervals(groups, other, true, apart, resamples, bootstrap):
    """Yield kind, truth, fewest patients and interval of each number that can be made."""
    how = resamples, bootstrap
    first = groups.take([0])
    lower = groups.scale == "mean" and true[0] < true[-1]
    which = "highest" if lower else "lowest"
    for g in range(3):
        alone = groups.take([g])
        if np.isnan(alone.values[0, 0]):
            return
        yield "one", true[g], alone.fewest, group_interval(alone, *how)
        paired = join_families(alone, other.take([g]), paired=True)
        less = alone.values[0] - paired.values[1]
        ends = difference_interval(less, paired, *how)
        yield "paired", apart[g], paired.fewest, ends
        if g:
            both = groups.take([g, 0])
            less = alone.values[0] - first.values[0]
            yield (
                "difference",
                true[g] - true[0],
                both.fewest,
                difference_interval(less, both, *how),
            )
            if true[0] > 0:
                with np.errstate(divide="ignore", invalid="ignore"):
                    ratio = alone.values[0] / first.values[0]
                ratio = np.where(np.isfinite(ratio), ratio, np.nan)
                yield (
                    "ratio",
                    true[g] / true[0],
                    both.fewest,
                    combined_interval(ratio, [both], *how),
                )
    yield "gap", np.ptp(true), groups.fewest, spread_interval([groups], *how)
    worst = true.max() if which == "highest" else true.min()
    yield "worst", worst, groups.fewest, extreme_interval(groups, which, *how)


def all_designs(cohorts: int, method: str, sizes):
    """Yield the rows of each design; of small groups there are twice as many cohorts."""
    for size in sizes:
        for prevalence in (0.5, 0.2):
            for name, separations in SEPARATIONS.items():
                rng = np.random.default_rng([size, round(10 * prevalence), len(name)])
                result = simulate(
                    separations, size, prevalence, cohorts * (1 + (size < 80)), rng, method
                )
                yield result.assign(design=name)


@pytest.mark.slow
@pytest.mark.parametrize("design", SEPARATIONS)
@pytest.mark.parametrize("size", [20, 40])
def test_intervals_hold_or_say_that_they_are_approximate(size, design):
    """Three standard errors of the simulation are allowed for."""
    rng = np.random.default_rng(size)
    rows = simulate(SEPARATIONS[design], size, 0.5, 200, rng)
    means = ("log_loss", "brier", "squared_calibration_error")
    least = np.where(rows["metric"].isin(means), 40, 10)
    least = np.select([rows["kind"] == "ratio", rows["kind"] == "paired"], [160, 80], least)
    for (kind, metric), values in rows[rows["few"] >= least].groupby(["kind", "metric"]):
        error = np.sqrt(HOLDS[0] * (1 - HOLDS[0]) / len(values)) * 3
        assert values["held"].mean() >= HOLDS[0] - error, (kind, metric, len(values))


def test_a_few_cohorts():
    rows = simulate(SEPARATIONS["tied"], 40, 0.5, 12, np.random.default_rng(0))
    held = rows.groupby("kind")["held"].mean()
    assert set(held.index) == {"one", "gap", "worst", "difference", "ratio", "paired"}
    assert (held > 0.85).all()


def test_truths_are_those_of_a_large_cohort():
    rng = np.random.default_rng(1)
    (rows, _), _ = draw((1.8, 1.8, 1.8), 60_000, 0.2, rng)
    true = truths(1.8, 0.2)
    plan = Plan(tuple(true), (), bootstrap=None)
    table = measure(rows, {}, plan, rng=rng).set_index("metric")["value"]
    for name, place in true.items():
        assert table[name] == pytest.approx(place, abs=0.01), name


if __name__ == "__main__":
    cohorts, path, method, *sizes = sys.argv[1:]
    pieces = []
    for design_table in all_designs(int(cohorts), method, map(int, sizes)):
        few = pd.cut(design_table["few"], [0, 4, 9, 19, 39, 79, 159, 1000])
        keys = ["design", "size", "prevalence", "kind", "metric", "marked", few]
        table = design_table.groupby(keys, observed=True).agg(
            held=("held", "sum"), n=("held", "size"), width=("width", "median")
        )
        pieces.append(table.reset_index())
        pd.concat(pieces).to_csv(path, index=False)
