"""Count how often a page of `assess` claims a difference if there is none.

All cells are the same recipe: their models differ by chance alone, in scores and in layers, and no
attribute has an effect. There are 400 test and 200 validation patients, a third of them with the
disease, and two attributes (half and half; 30 and 70 %). A page claims something if stage 5 does (a
change in AUC, of all patients or of a group, or in deviation from parity) or stage 4 (the two
models represent a group differently). With several arms, each has two cells, and validation
chooses one of them; every arm is compared with supervised, and the best of them with the others.
Prints a line with the counts for pages of one seed and of three, and the exact 95 % interval of
their share. Finished pages are not repeated:

    python benchmarks/assess_null.py --pages 200 --seeds 1 3 --arms 3 --out null.jsonl
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from evenhand.jobs.assess.answers import verdict_rows
from evenhand.jobs.assess.claims import make_claims
from evenhand.jobs.assess.evaluation import Evaluation
from evenhand.jobs.assess.judging import judge_model, worst_levels
from evenhand.jobs.assess.settings import SUPERVISED, AssessSettings
from evenhand.jobs.assess.similarity import combine_seeds
from evenhand.jobs.similarity.layers import similarity_record
from evenhand.jobs.similarity.settings import SimilaritySettings
from evenhand.metrics.groups import groups_of
from evenhand.reporting.sections.similarity import similarity_verdicts
from evenhand.reporting.verdicts import Verdict
from evenhand.representation import Layer
from evenhand.representation.by_group import PatientLayers
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
    parser.add_argument("--arms", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="a line for each page")
    arguments = parser.parse_args()
    pages = [json.loads(line) for line in arguments.out.open()] if arguments.out.exists() else []
    done = {(page["arms"], page["seeds"], page["page"]) for page in pages}
    with arguments.out.open("a") as file:
        for seeds in arguments.seeds:
            for page in range(arguments.pages):
                if (arguments.arms, seeds, page) not in done:
                    about = {"arms": arguments.arms, "seeds": seeds, "page": page}
                    pages.append(about | claims_of_page(arguments.arms, seeds, page))
                    print(json.dumps(pages[-1]), file=file, flush=True)
    for seeds in arguments.seeds:
        own = [page for page in pages if (page["arms"], page["seeds"]) == (arguments.arms, seeds)]
        print(json.dumps(summary(own)))


def claims_of_page(arms: int, seeds: int, page: int) -> dict[str, Any]:
    """Return whether each stage of a page claims anything."""
    rng = np.random.default_rng([seeds, page] if arms == 1 else [seeds, page, arms])
    table = patients(rng)
    stages = {
        "evaluation": evaluated(table, arms, seeds, rng),
        "similarity": alike(table, seeds, rng),
    }
    return {name: any(verdict.claim for verdict in verdicts) for name, verdicts in stages.items()}


def patients(rng: np.random.Generator) -> pd.DataFrame:
    """Return validation and test patients, with the part that is common to every model's score."""
    n = TEST + VAL
    names = [f"p{k}" for k in range(n)]
    table = pd.DataFrame({"sample_id": names, "patient_id": names})
    table["split"] = np.where(np.arange(n) < TEST, "test", "val")
    table["label"] = (rng.random(n) < 1 / 3).astype(int)
    for attribute, (first, second) in LEVELS.items():
        table[f"attr_{attribute}"] = np.where(rng.random(n) < SHARES[attribute], first, second)
    return table


def evaluated(
    table: pd.DataFrame, arms: int, seeds: int, rng: np.random.Generator
) -> list[Verdict]:
    """Return the verdicts of stage 5 on cells of one recipe."""
    shared = 1.8 * (table["label"] - 0.5) + rng.normal(size=len(table)) - 0.7
    starts = {f"arm{arm}": [f"arm{arm}-frozen0", f"arm{arm}-frozen3"] for arm in range(arms)}
    if arms == 1:
        starts = {"": ["frozen0"]}
    models, validated, tested = {}, {}, []
    val = (table["split"] == "val").to_numpy()
    for cell in (*(cell for cells in starts.values() for cell in cells), SUPERVISED):
        scores = [1 / (1 + np.exp(-shared - SEED_SPREAD * normal(rng))) for _ in range(seeds)]
        validated[cell] = np.mean(
            [roc_auc_score(table["label"][val], score[val]) for score in scores]
        )
        predictions = [
            Predictions(table.assign(score=score), ("0", "1"), LEVELS) for score in scores
        ]
        tested = [judge_model(model, SETTINGS, 0) for model in predictions]
        models[cell] = tuple(model.judged for model in tested)  # supervised comes last
    best = {start: max(cells, key=validated.__getitem__) for start, cells in starts.items()}
    chosen = max(best.values(), key=validated.__getitem__)
    worst = {SUPERVISED: worst_levels(tested)}
    evaluation = Evaluation(
        1.0, chosen, models, worst, {}, tested[0].sizes, best if arms > 1 else {}
    )
    return list(verdict_rows(make_claims([evaluation])))


def normal(rng: np.random.Generator) -> Any:
    return rng.normal(size=TEST + VAL)


def alike(table: pd.DataFrame, seeds: int, rng: np.random.Generator) -> list[Verdict]:
    """Return the verdicts of stage 4 on layers that are unrelated to all groups."""
    val = table[table["split"] == "val"]
    groups = {name: groups_of(val[f"attr_{name}"]) for name in LEVELS}
    served = {name: dict(zip(levels, (0.8, 0.75), strict=True)) for name, levels in LEVELS.items()}
    signal = rng.normal(size=(len(val), WIDTH)) + val["label"].to_numpy()[:, None]
    records = []
    for _ in range(seeds):
        layers = tuple([layer(signal, rng) for _ in range(2)] for _ in range(2))
        patients = PatientLayers(layers, val["label"].to_numpy(), groups, served)
        record = similarity_record(
            ("a", "b"), (("1", "2"),) * 2, patients, HOW, split="val", unit="p"
        )
        records.append(record)
    return list(similarity_verdicts(combine_seeds(records, range(seeds))))


def layer(signal: Any, rng: np.random.Generator) -> Layer:
    """Return one layer: part of the signal, mixed at random, with independent noise."""
    mixed = signal @ rng.normal(size=(WIDTH, WIDTH)) / WIDTH**0.5
    return Layer(np.maximum(mixed + rng.normal(size=mixed.shape), 0))


def summary(pages: list[dict[str, Any]]) -> dict[str, Any]:
    any_claim = sum(page["evaluation"] or page["similarity"] for page in pages)
    ends = binomtest(any_claim, len(pages)).proportion_ci(0.95, "exact")
    return {
        "arms": pages[0]["arms"],
        "seeds": pages[0]["seeds"],
        "pages": len(pages),
        "evaluation": sum(page["evaluation"] for page in pages),
        "similarity": sum(page["similarity"] for page in pages),
        "any": any_claim,
        "interval": [round(float(end), 3) for end in (ends.low, ends.high)],
    }


if __name__ == "__main__":
    main()
