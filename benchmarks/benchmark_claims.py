"""Count how often simulated benchmarks claim a winner, without and with a true one.

``same FOLDER``: one recipe under several names; the fits differ by their seeds only.
``permuted FOLDER``: recipes that differ, with an attribute that was shuffled (gap claims only).
``tilt FOLDER``: label and group are correlated; balancing by label × group against erm.
``summary FOLDER`` prints one line for each of them.

Each simulated benchmark trains linear models in 5 outer folds with 2 seeds, and uses the statistics
of `evenhand benchmark`. It is one line in a file of the folder; finished benchmarks are not
repeated.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.jobs.benchmark.adjusting import TestedModel
from evenhand.jobs.benchmark.comparing import Result, compare_entries
from evenhand.jobs.benchmark.entries import ERM
from evenhand.jobs.benchmark.settings import BenchmarkSettings
from evenhand.metrics.scored import as_scored
from evenhand.metrics.thresholds import youden
from evenhand.tables.predictions import Predictions

FOLDS, SEEDS, DRAWS, NAMES = 5, 2, 200, 3
PATIENTS = {"same": 600, "permuted": 600, "tilt": 1000}
TILT = 0.6
SETTINGS = BenchmarkSettings(
    data="simulated", attribute=("group",), method=("group-balance",), folds=FOLDS, seeds=SEEDS
)


@dataclass(frozen=True)
class World:
    """Patients with two informative features, and one that reveals the group."""

    features: NDArray[np.float64]
    labels: NDArray[np.int64]
    groups: NDArray[np.str_]  # that training and evaluation see

    @classmethod
    def draw(cls, kind: str, rng: np.random.Generator) -> World:
        """Draw patients; with a tilt, more patients of group b are positive."""
        count, tilt = PATIENTS[kind], TILT if kind == "tilt" else 0.0
        group = (rng.random(count) < 0.4).astype(np.int64)
        labels = (rng.random(count) < 0.4 + tilt * (group - 0.4)).astype(np.int64)
        features = rng.normal(size=(count, 6))
        features[:, :2] += 0.8 * labels[:, None]
        features[:, 2] += 2.0 * group
        seen = rng.permutation(group) if kind == "permuted" else group
        return cls(features, labels, np.array(["a", "b"])[seen])


def fit_fold(
    world: World,
    train: NDArray[np.intp],
    val: NDArray[np.intp],
    test: NDArray[np.intp],
    recipe: str,
    rng: np.random.Generator,
) -> TestedModel:
    """Train on a resample of the training patients (drawn by the seed), and test."""
    drawn = rng.choice(train, len(train))
    weights = np.ones(len(drawn))
    if recipe == "balance":
        cells = pd.Series(world.groups[drawn]) + world.labels[drawn].astype(str)
        weights = 1 / cells.map(cells.value_counts()).to_numpy(np.float64)
        weights *= len(weights) / weights.sum()
    used = 2 if recipe == "few" else world.features.shape[1]
    inputs = np.c_[np.ones(len(world.labels)), world.features[:, :used]]
    weighted = inputs[drawn].T * weights
    line = np.linalg.solve(weighted @ inputs[drawn], weighted @ (2 * world.labels[drawn] - 1))
    on_val, on_test = (1 / (1 + np.exp(-2 * inputs[position] @ line)) for position in (val, test))
    names = [f"p{patient:04d}" for patient in test]
    table = pd.DataFrame({"sample_id": names, "patient_id": names, "split": "test"})
    table["label"], table["score"] = world.labels[test], on_test
    table["attr_group"] = world.groups[test]
    cut = youden(world.labels[val], on_val)
    rows = as_scored(world.labels[test], on_test, patients=names, threshold=cut)
    return TestedModel(Predictions(table, ("0", "1"), {"group": ("a", "b")}), rows)


def simulate(kind: str, seed: int) -> Result:
    """Run one simulated benchmark."""
    rng = np.random.default_rng([{"same": 1, "permuted": 2, "tilt": 3}[kind], seed])
    world = World.draw(kind, rng)
    recipes = {
        "same": {ERM: "erm", **{f"again{k}": "erm" for k in range(NAMES)}},
        "permuted": {ERM: "erm", "balance": "balance", "few": "few"},
        "tilt": {ERM: "erm", "balance": "balance"},
    }[kind]
    place = rng.permutation(np.arange(PATIENTS[kind]) % FOLDS)
    splits = []
    for fold in range(FOLDS):
        rest = rng.permutation(np.flatnonzero(place != fold))
        splits.append(
            (rest[len(rest) // 4 :], rest[: len(rest) // 4], np.flatnonzero(place == fold))
        )
    tested = {
        name: [[fit_fold(world, *split, recipe, rng) for split in splits] for _ in range(SEEDS)]
        for name, recipe in recipes.items()
    }
    return compare_entries(tested, SETTINGS.model_copy(update={"seed": seed}))


def line_of(kind: str, seed: int) -> dict[str, object]:
    """Return what one simulated benchmark claims."""
    start = time.process_time()
    result = simulate(kind, seed)
    better = [
        (difference.recipe, difference.key)
        for difference in result.differences
        if difference.better
    ]
    gaps = [key for _, key in better if key.group == "*" and key.attribute == "group"]
    eodd = [
        difference
        for difference in result.differences
        if difference.key.base == "equalized_odds_difference"
    ]
    return {
        "seed": seed,
        "winner": bool(better),
        "any": any(difference.better is not None for difference in result.differences),
        "gap_winner": bool([key for key in gaps if key.aggregate != "worst"]),
        "eodd_winner": any(item.better for item in eodd),
        "eodd_change": eodd[0].value,
        "detectable": eodd[0].detectable,
        "tests": len(result.differences),
        "cpu_seconds": round(time.process_time() - start, 2),
    }


def run(kind: str, folder: Path) -> None:
    """Simulate the missing benchmarks."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kind}.jsonl"
    finished = len(path.read_text().splitlines()) if path.exists() else 0
    for seed in range(finished, DRAWS):
        with path.open("a") as file:
            file.write(json.dumps(line_of(kind, seed)) + "\n")


def summary(folder: Path) -> None:
    """Print the counts and their goals."""
    goals = {
        "same": ("winner", 18 / DRAWS, "at most"),
        "permuted": ("gap_winner", 18 / DRAWS, "at most"),
        "tilt": ("eodd_winner", 0.9, "at least"),
    }
    for kind, (claim, goal, how) in goals.items():
        path = folder / f"{kind}.jsonl"
        if not path.exists():
            continue
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        count = sum(bool(line[claim]) for line in lines)
        medians = {
            name: round(float(np.median([abs(line[name]) for line in lines])), 3)
            for name in ("eodd_change", "detectable", "cpu_seconds")
        }
        about = {"count": count, "n": len(lines), "tests": lines[0]["tests"], "medians": medians}
        about["any_claim"] = sum(bool(line["any"]) for line in lines)
        ratio = count / len(lines)
        print(json.dumps({"name": f"benchmark_claims_{kind}", "ratio": ratio, "better": how,
                          "goal": goal, "detail": about}))  # fmt: skip


if __name__ == "__main__":
    job, place = sys.argv[1], Path(sys.argv[2])
    if job == "summary":
        summary(place)
    else:
        run(job, place)
