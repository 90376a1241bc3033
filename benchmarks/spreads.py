"""Count claims and covering intervals of one model's largest group difference minus another's.

Cohorts of 600 patients are scored by two models. A tilt moves a model's scores by group; models
with the same tilt have the same true spread.

    python benchmarks/spreads.py --cohorts 100    # a JSON line for each world and number

``claims`` counts cohorts in which a difference is claimed (corrected); ``covered`` those whose
interval contains the difference in a cohort of 100,000.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import pandas as pd
from scipy.stats import norm

from evenhand.metrics import Bootstrap, Plan, as_scored, groups_of, measure

SPREADS = ("equalized_odds_difference", "sensitivity_gap")
WORLDS = {  # the tilts of both models, and the groups
    "no gap, 2 groups": (0.0, 0.0, 2),
    "equal gaps, 2 groups": (0.8, 0.8, 2),
    "no gap, 4 groups": (0.0, 0.0, 4),
    "equal gaps, 4 groups": (0.8, 0.8, 4),
    "repaired, 2 groups": (0.0, 0.8, 2),
    "repaired, 4 groups": (0.0, 0.8, 4),
    "halved, 2 groups": (0.4, 0.8, 2),
}
PATIENTS, REPLICATES, MANY = 600, 400, 100_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cohorts", type=int, default=100)
    cohorts = parser.parse_args().cohorts
    for world, (first, second, groups) in WORLDS.items():
        truth = differences(first, second, groups, cohorts, patients=MANY, replicates=2)["value"]
        tables = [differences(first, second, groups, seed) for seed in range(cohorts)]
        for spread in SPREADS:
            rows = [table.loc[spread] for table in tables]
            true = 0.0 if first == second else truth[spread]
            claims = sum(bool(row["p_adjusted"] <= 0.05) for row in rows)
            covered = sum(bool(row["low"] <= true <= row["high"]) for row in rows)
            counts = {"cohorts": cohorts, "claims": claims, "covered": covered}
            print(json.dumps({"world": world, "number": spread, **counts}), flush=True)


def differences(
    first: float,
    second: float,
    groups: int,
    seed: int,
    *,
    patients: int = PATIENTS,
    replicates: int = REPLICATES,
) -> pd.DataFrame:
    """Return the differences of two models of one cohort, by the name of the number."""
    rng = np.random.default_rng(seed)
    group, label = rng.integers(0, groups, patients), rng.integers(0, 2, patients)
    signal = 0.8 * (rng.normal(0, 1, patients) + 1.8 * label) - 0.8
    both = [
        as_scored(
            label,
            norm.cdf(signal + rng.normal(0, 0.6, patients) + tilt * (group / (groups - 1) - 0.5)),
            patients=np.arange(patients),
        )
        for tilt in (first, second)
    ]
    plan = Plan(
        metrics=("auc", "sensitivity", "specificity", "false_positive_rate"),
        across=("worst", "gap", "difference", "equalized_odds_difference"),
        bootstrap=Bootstrap(replicates=replicates),
        spreads=SPREADS,
    )
    levels = {"group": groups_of([f"g{number}" for number in group])}
    rng = np.random.default_rng(seed)
    table = measure(both[0], levels, plan, rng=rng, against=both[1])
    return table[table["attribute"] == "group"].set_index("metric").loc[list(SPREADS)]


if __name__ == "__main__":
    main()
