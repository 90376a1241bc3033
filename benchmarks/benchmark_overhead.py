"""Measure the cost of a benchmark beyond its fits: 50 entries × 5 folds × 2 seeds.

``python benchmarks/benchmark_overhead.py [PATIENTS]`` makes predictions of this number of patients
(1,000 by default) with two attributes, and prints one JSON object with the CPU seconds of the
analysis of all entries; the goal is 60. ``fits`` in place of a number runs a small benchmark by the
command, and prints the share of its CPU seconds that is not spent in training and scoring; the goal
is .05.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evenhand.evaluation.rows import choose_cut, scored_rows
from evenhand.jobs.benchmark import fitting, job
from evenhand.jobs.benchmark.adjusting import TestedModel
from evenhand.jobs.benchmark.comparing import compare_entries
from evenhand.jobs.benchmark.entries import ERM
from evenhand.jobs.benchmark.settings import BenchmarkSettings
from evenhand.tables.predictions import Predictions

ENTRIES, FOLDS, SEEDS = 50, 5, 2


def predictions(patients: int, seed: int) -> list[Predictions]:
    """Return synthetic predictions of each fold, validation and test."""
    rng = np.random.default_rng(seed)
    world = np.random.default_rng(0)
    label = world.integers(0, 2, patients)
    score = 1 / (1 + np.exp(-(1.5 * label - 0.75 + rng.normal(size=patients))))
    names = [f"p{number:06d}" for number in range(patients)]
    table = pd.DataFrame({"sample_id": names, "patient_id": names, "label": label, "score": score})
    table["attr_age"] = world.choice(["old", "young"], patients)
    table["attr_sex"] = world.choice(["female", "male"], patients)
    table.insert(2, "split", "test")
    levels = {"age": ("old", "young"), "sex": ("female", "male")}
    place = np.arange(patients) % FOLDS
    folds = []
    for fold in range(FOLDS):
        val = table[place == (fold + 1) % FOLDS].assign(split="val")
        rows = pd.concat([val, table[place == fold]], ignore_index=True)
        folds.append(Predictions(rows, ("0", "1"), levels))
    return folds


def tested(predicted: Predictions) -> TestedModel:
    """Return the test rows of a fold with their decisions."""
    test = predicted.of_split("test")
    return TestedModel(test, scored_rows(test, choose_cut(predicted)))


def analysis(patients: int) -> None:
    """Time the analysis of all entries."""
    names = [ERM, *(f"entry{number}" for number in range(1, ENTRIES))]
    stored = {
        name: [predictions(patients, SEEDS * number + seed + 1) for seed in range(SEEDS)]
        for number, name in enumerate(names)
    }
    settings = BenchmarkSettings(
        data="a.csv", attribute=("age", "sex"), method=("dfr",), folds=FOLDS, seeds=SEEDS
    )
    start, wall = time.process_time(), time.perf_counter()
    by_name = {
        name: [[tested(fold) for fold in folds] for folds in seeds]
        for name, seeds in stored.items()
    }
    result = compare_entries(by_name, settings)
    spent = time.process_time() - start
    detail = {"patients": patients, "entries": ENTRIES, "differences": len(result.differences)}
    detail["seconds"] = round(time.perf_counter() - wall, 1)
    print_line("benchmark_analysis_cpu_seconds", spent, 60, detail)


def overhead() -> None:
    """Run a small benchmark, and print the share of its time that is not spent in fits."""
    own = [0.0]

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def work(*arguments: Any, **keywords: Any) -> Any:
            start = time.process_time()
            try:
                return function(*arguments, **keywords)
            finally:
                own[0] += time.process_time() - start

        return work

    for name in ("train_model", "predict_cohorts", "prune_model"):
        setattr(fitting, name, timed(getattr(fitting, name)))
    with tempfile.TemporaryDirectory() as folder:
        settings = BenchmarkSettings(
            data="phantom:patients=600,size=32,seed=1",
            attribute=("group",),
            backbone="resnet18",
            weights="none",
            image_size=32,
            epochs=4,
            device="cpu",
            trials=3,
            folds=FOLDS,
            seeds=SEEDS,
            method=("group-balance",),
            strategy=("head",),
            cache=Path(folder) / "cache",
        )
        start = time.process_time()
        job.benchmark(settings, Path(folder) / "run")
        whole = time.process_time() - start
    detail = {"cpu_seconds": round(whole, 1), "of_fits": round(own[0], 1)}
    print_line("benchmark_overhead", 1 - own[0] / whole, 0.05, detail)


def print_line(name: str, value: float, goal: float, detail: dict[str, object]) -> None:
    """Print one claim."""
    line = {"name": name, "ratio": round(value, 4), "better": "at most", "goal": goal}
    print(json.dumps(line | {"detail": detail}))


if __name__ == "__main__":
    if sys.argv[1:] == ["fits"]:
        overhead()
    else:
        analysis(int(sys.argv[1]) if sys.argv[1:] else 1000)
