"""How often a page of `assess` claims anything where nothing is to be claimed.

Both cells are the same recipe: their models differ by chance alone, in scores and in layers, and no
attribute has to do with anything. 400 test and 200 validation patients, a third of them with the
disease, two attributes (half and half; 30 and 70 %). A page claims something where stage 5 does (a
change in AUC, of everybody or of a group, or in deviation from parity) or stage 4 (a group is seen
otherwise by the two models). Printed is a line with the counts for pages of one seed and of three,
and the exact 95 % interval of their share; pages that are there are not made again:

    python benchmarks/assess_null.py --pages 200 --seeds 1 3 --out null.jsonl
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from evenhand.jobs.assess.answers import verdict_rows
from evenhand.jobs.assess.claims import claims_of
from evenhand.jobs.assess.evaluation import Evaluation
from evenhand.jobs.assess.judging import judge_model, worst_levels
from evenhand.jobs.assess.settings import SUPERVISED, AssessSettings
from evenhand.jobs.assess.similarity import of_all_seeds
from evenhand.jobs.similarity.layers import Patients, similarity_record
from evenhand.jobs.similarity.settings import SimilaritySettings
from evenhand.metrics.groups import groups_of
from evenhand.reporting.sections.similarity import similarity_verdicts
from evenhand.reporting.verdicts import Verdict
from evenhand.representation import Layer
from evenhand.tables.predictions import Predictions

TEST, VAL, WIDTH = 400, 200, 8
LEVELS = {"half": ("a", "b"), "third": ("c", "d")}
SHARES = {"half": 0.5, "third": 0.3}
SEED_SPREAD = 0.3  # of a seed's scores, beside what all seeds share
HOW = SimilaritySettings(runs=(Path("one"), Path("other")), permutations=399)
SETTINGS = AssessSettings(data="none", attribute=tuple(LEVELS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--out", type=Path, required=True, help="a line for each page")
    given = parser.parse_args()
    pages = [json.loads(line) for line in given.out.open()] if given.out.exists() else []
    done = {(page["seeds"], page["page"]) for page in pages}
    with given.out.open("a") as file:
        for seeds in given.seeds:
            for page in range(given.pages):
                if (seeds, page) not in done:
                    pages.append({"seeds": seeds, "page": page, **claims_of_page(seeds, page)})
                    print(json.dumps(pages[-1]), file=file, flush=True)
    for seeds in given.seeds:
        print(json.dumps(summary([page for page in pages if page["seeds"] == seeds])))


def claims_of_page(seeds: int, page: int) -> dict[str, Any]:
    """Return whether each stage of a page claims anything."""
    rng = np.random.default_rng([seeds, page])
    table = patients(rng)
    stages = {"evaluation": evaluated(table, seeds, rng), "similarity": alike(table, seeds, rng)}
    return {name: any(one.claim for one in verdicts) for name, verdicts in stages.items()}


def patients(rng: np.random.Generator) -> pd.DataFrame:
    """Return validation and test patients, with what every model's score has in common."""
    n = TEST + VAL
    names = [f"p{k}" for k in range(n)]
    table = pd.DataFrame({"sample_id": names, "patient_id": names})
    table["split"] = np.where(np.arange(n) < TEST, "test", "val")
    table["label"] = (rng.random(n) < 1 / 3).astype(int)
    for attribute, (one, other) in LEVELS.items():
        table[f"attr_{attribute}"] = np.where(rng.random(n) < SHARES[attribute], one, other)
    return table


def evaluated(table: pd.DataFrame, seeds: int, rng: np.random.Generator) -> list[Verdict]:
    """Return the verdicts of stage 5 on two cells of one recipe."""
    shared = 1.8 * (table["label"] - 0.5) + rng.normal(size=len(table)) - 0.7
    cells = {}
    for cell in ("frozen0", SUPERVISED):
        scores = [1 / (1 + np.exp(-shared - SEED_SPREAD * normal(rng))) for _ in range(seeds)]
        models = [Predictions(table.assign(score=of), ("0", "1"), LEVELS) for of in scores]
        cells[cell] = [judge_model(model, SETTINGS, 0) for model in models]
    models = {cell: tuple(one.judged for one in of) for cell, of in cells.items()}
    supervised = cells[SUPERVISED]
    worst = {SUPERVISED: worst_levels(supervised)}
    found = Evaluation(1.0, "frozen0", models, worst, {}, supervised[0].sizes)
    return list(verdict_rows(claims_of([found])))


def normal(rng: np.random.Generator) -> Any:
    return rng.normal(size=TEST + VAL)


def alike(table: pd.DataFrame, seeds: int, rng: np.random.Generator) -> list[Verdict]:
    """Return the verdicts of stage 4 on layers that have nothing to do with any group."""
    val = table[table["split"] == "val"]
    groups = {name: groups_of(val[f"attr_{name}"]) for name in LEVELS}
    served = {name: dict(zip(of, (0.8, 0.75), strict=True)) for name, of in LEVELS.items()}
    signal = rng.normal(size=(len(val), WIDTH)) + val["label"].to_numpy()[:, None]
    records = []
    for _ in range(seeds):
        layers = tuple([layer(signal, rng) for _ in range(2)] for _ in range(2))
        of = Patients(layers, val["label"].to_numpy(), groups, served)
        record = similarity_record(("a", "b"), (("1", "2"),) * 2, of, HOW, split="val", unit="p")
        records.append(record)
    return list(similarity_verdicts(of_all_seeds(records, range(seeds))))


def layer(signal: Any, rng: np.random.Generator) -> Layer:
    """Return one layer: part of the signal, mixed at random, with noise of its own."""
    mixed = signal @ rng.normal(size=(WIDTH, WIDTH)) / WIDTH**0.5
    return Layer(np.maximum(mixed + rng.normal(size=mixed.shape), 0))


def summary(pages: list[dict[str, Any]]) -> dict[str, Any]:
    any_claim = sum(page["evaluation"] or page["similarity"] for page in pages)
    ends = binomtest(any_claim, len(pages)).proportion_ci(0.95, "exact")
    return {
        "seeds": pages[0]["seeds"],
        "pages": len(pages),
        "evaluation": sum(page["evaluation"] for page in pages),
        "similarity": sum(page["similarity"] for page in pages),
        "any": any_claim,
        "interval": [round(float(end), 3) for end in (ends.low, ends.high)],
    }


if __name__ == "__main__":
    main()
