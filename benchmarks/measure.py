"""Measure seconds and memory of group metrics with bootstrap intervals, and of fairlearn's.

Ours resamples patients and gives AUC and ten rates for all patients and each group, with worst,
best, gap and signed differences. fairlearn's ``MetricFrame`` resamples rows, and computes only the
AUC and four rates; it is timed on a few resamples, and the time for 1,000 is extrapolated, since it
grows by the same amount with each.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import sklearn.metrics
from fairlearn.metrics import (
    MetricFrame,
    false_positive_rate,
    selection_rate,
    true_positive_rate,
)

from evenhand.metrics import Bootstrap, Plan, as_scored, groups_of, measure

RATES = (
    *("accuracy", "sensitivity", "specificity", "ppv", "npv", "selection_rate"),
    *("false_negative_rate", "false_positive_rate"),
    *("false_discovery_rate", "false_omission_rate"),
)
THRESHOLD = 0.6
RESAMPLES = 1000
FEW = 5


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeats", type=int, default=3)
    repeats = arguments.parse_args().repeats
    small = make(20_000, 20_000, 5)
    run_ours(small)  # once beforehand: imports, caches
    pairs = [(seconds(lambda: run_ours(small)), fairlearn_seconds(small)) for _ in range(repeats)]
    ours, theirs = zip(*pairs, strict=True)
    detail = {"rows": 20_000, "groups": 5, "resamples": RESAMPLES, "seconds": ours}
    show("measure_20000_rows_over_1_second", statistics.median(ours), "lower", 1.0, detail)
    detail = {"fairlearn_seconds_from_few_resamples": theirs, "few": FEW, "ours_seconds": ours}
    ratios = [plain / mine for mine, plain in pairs]
    show("fairlearn_over_measure", statistics.median(ratios), "higher", 100.0, detail)
    large = make(1_000_000, 200_000, 10)
    spent = seconds(lambda: run_ours(large))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    detail = {"patients": 200_000, "groups": 10, "resamples": RESAMPLES, "seconds": spent}
    show("measure_1000000_rows_over_60_seconds", spent / 60, "lower", 1.0, detail)
    show("measure_1000000_rows_over_4_gib", memory / 4, "lower", 1.0, {"gib": memory})


def make(rows: int, patients: int, groups: int) -> pd.DataFrame:
    """Draw a table of labels, scores, patients and their groups."""
    rng = np.random.default_rng(0)
    patient = rng.integers(patients, size=rows)
    group = np.char.add("group ", rng.integers(groups, size=patients).astype(str))[patient]
    label = rng.integers(2, size=rows)
    score = np.clip(0.7 * rng.random(rows) + 0.3 * label, 0, 1)
    return pd.DataFrame({"patient": patient, "group": group, "label": label, "score": score})


def run_ours(table: pd.DataFrame) -> pd.DataFrame:
    rows = as_scored(
        table["label"], table["score"], patients=table["patient"].to_numpy(), threshold=THRESHOLD
    )
    plan = Plan(metrics=("auc", *RATES), bootstrap=Bootstrap(RESAMPLES))
    groups = {"group": groups_of(table["group"])}
    return measure(rows, groups, plan, rng=np.random.default_rng(0))


def fairlearn_seconds(table: pd.DataFrame) -> float:
    few, none = (
        seconds(lambda resamples=resamples: run_fairlearn(table, resamples))
        for resamples in (FEW, None)
    )
    return none + (few - none) / FEW * RESAMPLES


def run_fairlearn(table: pd.DataFrame, resamples: int | None) -> None:
    boot = {"n_boot": resamples, "ci_quantiles": [0.025, 0.975], "random_state": 0}
    rates = {
        "accuracy": sklearn.metrics.accuracy_score,
        "sensitivity": true_positive_rate,
        "false positives": false_positive_rate,
        "selection": selection_rate,
    }
    for metrics, predicted in (
        (rates, (table["score"] >= THRESHOLD).astype(int)),
        ({"auc": sklearn.metrics.roc_auc_score}, table["score"]),
    ):
        MetricFrame(
            metrics=metrics,
            y_true=table["label"],
            y_pred=predicted,
            sensitive_features=table["group"],
            **(boot if resamples else {}),
        )


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def show(name: str, ratio: float, better: str, goal: float, detail: dict[str, object]) -> None:
    line = {"name": name, "ratio": ratio, "better": better, "goal": goal, "detail": detail}
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
