"""A positive and a negative control of "pre-training without labels narrows the gap".

A series of the majority shows its class by a level, which a few labels teach; one of the minority
by how fast it swings, which takes many. Few patients have labels, and pre-training sees all of
them: there the gap in AUC should narrow. With everybody's labels it should not. Both come from one
assessment with the same encoders; the words are a folder, the number of seeds, and the shares of
the labels where others are wanted. docs/self_supervision.md says what was seen: no narrowing, as
the untrained encoder tells swings apart already.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from evenhand.jobs.assess.claims import claims_of
from evenhand.jobs.assess.evaluation import Evaluation, evaluate
from evenhand.jobs.assess.job import assess
from evenhand.jobs.assess.settings import SUPERVISED, AssessSettings
from evenhand.metrics.parity import Judged
from evenhand.metrics.registry import Floats
from evenhand.metrics.seeds import recipe_difference

PATIENTS, STEPS, MINORITY, FEW = 1000, 24, 0.2, 0.1
PERIODS = (9.0, 5.0)  # steps of a swing, by class
LEVEL, SWING, NOISE = 0.8, 1.5, 0.7


def make_data(folder: Path, seed: int = 0) -> Path:
    """Write the patients, and one long table of their series; return the patients' table."""
    rng = np.random.default_rng(seed)
    label = rng.integers(2, size=PATIENTS)
    minority = rng.random(PATIENTS) < MINORITY
    step = np.arange(STEPS)
    others = rng.uniform(4, 12, PATIENTS)  # anybody's, whatever the class
    period = np.where(minority, np.take(PERIODS, label), others)
    phase = rng.random((PATIENTS, 1))
    swing = SWING * np.sin(2 * np.pi * (step / period[:, None] + phase))
    level = np.where(minority, 0.5, label)
    values = {
        "swing": swing + NOISE * rng.standard_normal((PATIENTS, STEPS)),
        "level": LEVEL * level[:, None] + NOISE * rng.standard_normal((PATIENTS, STEPS)),
    }
    names = np.array([f"P{number:04d}" for number in range(PATIENTS)])
    folder.mkdir(parents=True, exist_ok=True)
    long = [
        pd.DataFrame(
            {
                "patient": names.repeat(STEPS),
                "time": np.tile(step, PATIENTS),
                "variable": name,
                "value": found.ravel().round(3),
            }
        )
        for name, found in values.items()
    ]
    in_order = pd.concat(long).sort_values(["patient", "time"], kind="stable")
    in_order.to_csv(folder / "series.csv", index=False)
    table = pd.DataFrame({"patient": names, "label": label})
    table["group"] = np.where(minority, "minority", "majority")
    table.to_csv(folder / "patients.csv", index=False)
    return folder / "patients.csv"


def settings_for(
    table: Path, seeds: int, cache: Path, shares: Sequence[float] = (1.0, FEW)
) -> AssessSettings:
    """Return an assessment at some shares of the labels."""
    return AssessSettings(
        data=str(table),
        series_column="patient",
        series_table="series.csv",
        label="label",
        patient="patient",
        attribute=("group",),
        split=(0.4, 0.1, 0.5),
        cell=("frozen0",),
        label_shares=shares,
        seeds=seeds,
        epochs=40,
        batch_size=16,
        pretrain_epochs=40,
        patience=0,
        lr=3e-3,
        head="linear",
        pretrain_patience=0,
        device="cpu",
        cache=cache,
    )


def narrowed(found: Evaluation) -> dict[str, object]:
    """Return what pre-training does to the gap in AUC and to each group."""

    def gaps(cell: str) -> Floats:
        return np.stack([_gap(model) for model in found.models[cell]])

    fewest = found.sizes["group", "minority"].rarer
    change = recipe_difference(gaps(found.chosen), gaps(SUPERVISED), fewest)
    claims = claims_of(found)
    assert change is not None
    return {
        "labels": found.share,
        "cell": found.chosen,
        "gap_supervised": round(float(gaps(SUPERVISED)[:, 0].mean()), 3),
        "gap_ssl": round(float(gaps(found.chosen)[:, 0].mean()), 3),
        "change": [round(value, 3) for value in (change.value, change.low, change.high)],
        "groups": {
            claim.group: [round(v or 0, 3) for v in vars(claim.change.shown).values()]
            for claim in claims.groups["group"]
        },
        "claims": [f"{c.metric} {c.group} {c.sign:+d}" for c in claims.family if c.sign],
    }


def _gap(model: Judged) -> Floats:
    return model.by_group["group", "majority"] - model.by_group["group", "minority"]


if __name__ == "__main__":
    out, seeds, *shares = sys.argv[1:]
    folder = Path(out)
    settings = settings_for(
        make_data(folder / "data"),
        int(seeds),
        folder / "cache",
        tuple(map(float, shares)) or (1.0, FEW),
    )
    start = time.process_time()
    run = assess(settings, folder / "run")
    for found in evaluate(run, settings):
        print(json.dumps(narrowed(found)))
    print(json.dumps({"cpu_minutes": round((time.process_time() - start) / 60, 1)}))
