"""A positive and a negative control of "pre-training without labels narrows the gap".

A series of the majority shows its class by a level, which a few labels teach. How one of the
minority does is the plant:

- relation: by whether two noisy channels move together or against each other. Untrained features
  hardly see it, and every view of a patient keeps it, so that pre-training teaches it;
- swing: by how fast a channel swings (negative control: untrained features tell that already).

Few patients have labels, and pre-training sees all of them. The words are the plant, a folder, the
number of seeds, and the share of the labels; a run that was killed goes on:

    python benchmarks/ssl_few_labels.py relation runs/relation 10 0.1
    python benchmarks/ssl_few_labels.py swing runs/swing 10 0.1

Printed are the gap in AUC (majority less minority) of `frozen0`, which starts from the encoder, and
of supervised, their difference over patients and seeds, that of each group, and what the page
claims.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.jobs.assess.claims import claims_of
from evenhand.jobs.assess.evaluation import Evaluation, evaluate
from evenhand.jobs.assess.job import assess
from evenhand.jobs.assess.settings import SUPERVISED, AssessSettings
from evenhand.metrics.parity import Judged
from evenhand.metrics.registry import Floats
from evenhand.metrics.seeds import recipe_difference
from evenhand.runs import open_run

Ints, Bools = NDArray[np.int64], NDArray[np.bool_]

PLANTS = ("relation", "swing")
PATIENTS, STEPS, MINORITY, FEW = 1000, 24, 0.2, 0.1
PERIODS = (9.0, 5.0)  # steps of a swing, by class
LEVEL, SWING, NOISE = 0.8, 1.5, 0.7
TOGETHER = 0.95  # correlation of two channels, or less of it against each other

Series = dict[str, Floats]  # (patients, steps) of each channel


def make_data(folder: Path, plant: str, seed: int = 0) -> Path:
    """Write the patients, and one long table of their series; return the patients' table."""
    rng = np.random.default_rng(seed)
    label = rng.integers(2, size=PATIENTS)
    minority = rng.random(PATIENTS) < MINORITY
    level = LEVEL * np.where(minority, 0.5, label)[:, None]
    values = {"relation": relations, "swing": swings}[plant](label, minority, rng)
    values["level"] = level + NOISE * rng.standard_normal((PATIENTS, STEPS))
    names = np.array([f"P{number:04d}" for number in range(PATIENTS)])
    folder.mkdir(parents=True, exist_ok=True)
    long = pd.concat(
        pd.DataFrame(
            {
                "patient": names.repeat(STEPS),
                "time": np.tile(np.arange(STEPS), PATIENTS),
                "variable": name,
                "value": channel.ravel().round(3),
            }
        )
        for name, channel in values.items()
    )
    in_order = long.sort_values(["patient", "time"], kind="stable")
    in_order.to_csv(folder / "series.csv", index=False)
    table = pd.DataFrame({"patient": names, "label": label})
    table["group"] = np.where(minority, "minority", "majority")
    table.to_csv(folder / "patients.csv", index=False)
    return folder / "patients.csv"


def relations(label: Ints, minority: Bools, rng: np.random.Generator) -> Series:
    """Return two pairs of channels; how the first pair moves is the class of the minority."""
    chance = rng.integers(2, size=(2, PATIENTS))  # anybody's, whatever the class
    together = np.stack([np.where(minority, label, chance[0]), chance[1]])
    channels = {}
    for pair, side in zip("ab", 2 * together - 1, strict=True):
        first, other = rng.standard_normal((2, PATIENTS, STEPS))
        joint = TOGETHER * side[:, None] * first + (1 - TOGETHER**2) ** 0.5 * other
        channels |= {f"{pair}1": first, f"{pair}2": joint}
    return channels


def swings(label: Ints, minority: Bools, rng: np.random.Generator) -> Series:
    """Return a channel that swings; how fast is the class of the minority."""
    period = np.where(minority, np.take(PERIODS, label), rng.uniform(4, 12, PATIENTS))
    phase = rng.random((PATIENTS, 1))
    swing = SWING * np.sin(2 * np.pi * (np.arange(STEPS) / period[:, None] + phase))
    return {"swing": swing + NOISE * rng.standard_normal((PATIENTS, STEPS))}


def settings_for(
    table: Path, seeds: int, cache: Path, shares: Sequence[float] = (FEW,)
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
        epochs=20,
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


def assessed(folder: Path, plant: str, seeds: int, shares: Sequence[float] = (FEW,)) -> Evaluation:
    """Make the data and assess them; return what came of the first share of labels."""
    data = folder / "data"
    table = data / "patients.csv" if data.exists() else make_data(data, plant)
    settings = settings_for(table, seeds, folder / "cache", shares)
    root = folder / "run"
    finished = (root / "run.json").exists() and open_run(root).finished
    run = open_run(root) if finished else assess(settings, root)
    return evaluate(run, settings)[0]


if __name__ == "__main__":
    plant, out, seeds, *shares = sys.argv[1:]
    start = time.process_time()
    found = assessed(Path(out), plant, int(seeds), tuple(map(float, shares)) or (FEW,))
    print(json.dumps({"plant": plant, "seeds": int(seeds), **narrowed(found)}))
    print(json.dumps({"cpu_minutes": round((time.process_time() - start) / 60, 1)}))
