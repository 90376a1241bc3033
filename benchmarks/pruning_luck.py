"""Measure the luck of choosing the best of several equal steps, with and without confirmation.

Ten models whose scores differ by chance alone represent the steps of a pruning. The step with the
smallest gap is chosen on some patients, as `evenhand prune` does; its true change is 0. With
``--growth``, each step serves the group with the lower AUC better than the step before. Prints the
mean errors of the chosen value and change, and of the confirmed ones, with their standard errors;
how often the intervals contain 0; and the announced gap minus that on as many test patients:

    python benchmarks/pruning_luck.py --runs 400 --patients 200 --how halves
    python benchmarks/pruning_luck.py --runs 200 --patients 60 --how repeated
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from evenhand.jobs.prune import luck
from evenhand.jobs.prune.judge import Halves, Judge
from evenhand.jobs.prune.settings import PruneSettings
from evenhand.metrics import Bootstrap, find_target
from evenhand.reporting.sections.luck import Span
from evenhand.tables.predictions import Predictions

STEPS = 10
LEVELS = {"group": ("majority", "minority")}
SIGNAL = (1.8, 1.2)  # of both groups: AUC .90 and .80
SHARED = 0.8  # of the variance of scores, that all steps have in common


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--patients", type=int, default=200)
    parser.add_argument("--how", choices=["halves", "repeated"], default="halves")
    parser.add_argument("--growth", type=float, default=0.0, help="of the lower signal, in all")
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    luck.BOOTSTRAP = Bootstrap(arguments.replicates)
    table = simulate(
        arguments.runs, arguments.patients, arguments.how, arguments.seed, arguments.growth
    )
    print(
        json.dumps(
            {
                "how": arguments.how,
                "patients": arguments.patients,
                "growth": arguments.growth,
                **summary(table),
            }
        )
    )


def simulate(runs: int, patients: int, how: str, seed: int, growth: float = 0.0) -> pd.DataFrame:
    """Return errors of the chosen and confirmed numbers, and whether intervals contain 0."""
    rngs = map(np.random.default_rng, np.random.SeedSequence(seed).spawn(runs))
    return pd.DataFrame([one_curve(rng, patients, how, growth) for rng in rngs])


def one_curve(
    rng: np.random.Generator, patients: int, how: str, growth: float = 0.0
) -> dict[str, float]:
    steps, test = draw_steps(rng, patients, growth), draw_steps(rng, patients, growth)
    choosing = frozenset(steps[0].table["patient_id"].iloc[::2])  # patients come in no order
    halves = Halves(choosing) if how == "halves" else None
    settings = PruneSettings(run=Path("run"), attribute=("group",), budget=None)
    judge = Judge(
        None,
        "group",
        find_target("auc_gap"),
        settings.rank_by,
        settings.budget,
        settings.budget_metric,
        {},
        halves,
    )
    values = [judge.values(step) for step in steps]
    winner = judge.best_step(values)
    result = luck.measure_luck(judge, steps, winner)
    tested = replace(judge, halves=None).values(test[winner])["auc_gap"]
    usual = {name: float(np.mean([step[name] for step in values])) for name in values[0]}
    if result is None:  # the untouched model has the least gap by chance
        chosen, change = values[0]["auc_gap"], 0.0
        confirmed = values[0].get("confirm:auc_gap", chosen)
        away = {"chosen_less_test": chosen - tested, "confirmed_less_test": confirmed - tested}
        return errors(usual, chosen, confirmed, change, change) | away | {"chosen_none": 1.0}
    differences = errors(
        usual,
        result.chosen[0],
        result.confirmed[0],
        result.gain[0],
        result.confirmed_gain[0],
    )
    return differences | {
        "chosen_less_test": result.chosen[0] - tested,
        "confirmed_less_test": result.confirmed[0] - tested,
        "chosen_none": 0.0,
        "chosen_change_holds_0": holds_0(result.gain),
        "confirmed_change_holds_0": holds_0(result.confirmed_gain),
        "luck": result.luck[0],
    }


def errors(
    usual: dict[str, float], chosen: float, confirmed: float, change: float, again: float
) -> dict[str, float]:
    """Return errors of values, relative to a step without choice, and of changes, relative to 0."""
    return {
        "chosen_value_error": chosen - usual["auc_gap"],
        "confirmed_value_error": confirmed - usual.get("confirm:auc_gap", usual["auc_gap"]),
        "chosen_change_error": change,
        "confirmed_change_error": again,
    }


def holds_0(span: Span) -> float:
    _, low, high = span
    return float("nan") if low is None or high is None else float(low <= 0 <= high)


def draw_steps(rng: np.random.Generator, patients: int, growth: float = 0.0) -> list[Predictions]:
    """Return the steps on new patients; without growth their scores differ by chance alone."""
    labels = rng.permutation(np.arange(patients) % 2)
    groups = rng.permutation(np.arange(patients) % 2)
    shared = rng.normal(size=patients) * SHARED**0.5
    table = pd.DataFrame(
        {
            "sample_id": [f"s{k}" for k in range(patients)],
            "patient_id": [f"p{k}" for k in range(patients)],
            "split": "val",
            "label": labels,
            "score": 0.0,
            "attr_group": np.array(LEVELS["group"])[groups],
        }
    )
    steps = []
    for step in range(STEPS):
        lower = SIGNAL[1] + growth * step / (STEPS - 1)
        signal = np.array([SIGNAL[0], lower])[groups] * labels
        own = signal + shared + rng.normal(size=patients) * (1 - SHARED) ** 0.5
        steps.append(
            Predictions(table.assign(score=1 / (1 + np.exp(0.7 - own))), ("0", "1"), LEVELS)
        )
    return steps


def summary(table: pd.DataFrame) -> dict[str, object]:
    """Return means with their standard errors over runs."""
    result: dict[str, object] = {"runs": len(table)}
    for name in table.columns:
        values = table[name].dropna()
        result[name] = [round(float(values.mean()), 4), round(float(values.sem()), 4)]
    return result


if __name__ == "__main__":
    main()
