"""How often one recipe against itself, with other seeds, is claimed to differ.

``fits`` trains the supervised cell of an assessment of PhysioNet 2012 with 40 seeds, one after the
other, and keeps their predictions; what is there is not trained again. ``draws`` takes 200 random
3 v 3 draws of them, and counts those whose assessment claims any difference.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from evenhand.assess.claims import LEVEL, Claim, claims_of
from evenhand.assess.evaluation import Evaluation, Tested, Value, judge_model, worst_levels
from evenhand.assess.grid import Cell, fit_cell
from evenhand.assess.settings import SUPERVISED, AssessSettings
from evenhand.finetune.prepared import prepared
from evenhand.predictions import read_predictions
from evenhand.runs import Run

FITS, DRAWS, SEEDS = 40, 200, 3


def settings_for(data: Path, **more: object) -> AssessSettings:
    """Return an assessment of PhysioNet 2012 by sex and age with the default recipe."""
    values = {"data": f"physionet2012:{data / 'physionet2012'}", "attribute": ("sex", "age")}
    return AssessSettings.model_validate(values | {"device": "cpu"} | more)


def fit(data: Path, folder: Path, epochs: int, cache: Path) -> None:
    """Train what is missing of the 40 fits."""
    torch.set_num_threads(1)
    settings = settings_for(data, epochs=epochs, cache=cache)
    task, run = prepared(settings), Run(folder)
    for seed in range(FITS):
        start = time.process_time()
        fit_cell(task, settings, run, Cell(SUPERVISED, 1.0, seed))
        print(json.dumps({"seed": seed, "cpu_seconds": time.process_time() - start}), flush=True)


def draw(data: Path, folder: Path, draws: int = DRAWS) -> dict[str, object]:
    """Assess random draws of the fits, one half of each draw against the other."""
    settings, run = settings_for(data), Run(folder)
    tested = [
        judge_model(
            read_predictions(run.predictions(Cell(SUPERVISED, 1.0, seed).name)), settings, 0
        )
        for seed in range(FITS)
    ]
    rng = np.random.default_rng(0)
    drawn = [_against(rng.permutation(FITS)[: 2 * SEEDS], tested) for _ in range(draws)]
    claims = [claims_of(one) for one in drawn]
    claimed = [[c.metric for c in one.family if c.sign] for one in claims]
    levelled = [any(map(one.levelled_down, one.deviation)) for one in claims]
    uncorrected = [any(_alone(claim) for claim in one.family) for one in claims]
    return {
        "draws": draws,
        "family": len(claims[0].family),
        "claim_anything": sum(map(bool, claimed)),
        "claim_auc": sum("auc" in one for one in claimed),
        "level_down": sum(levelled),
        "any_interval_off_0": sum(uncorrected),
        "any_group_by_patients_alone": sum(map(_by_patients_alone, drawn)),
        "sd_of_auc": round(float(np.std([one.judged.auc[0] for one in tested], ddof=1)), 4),
    }


def _against(seeds: Sequence[int], tested: Sequence[Tested]) -> Evaluation:
    one, other = ([tested[seed] for seed in part] for part in (seeds[:SEEDS], seeds[SEEDS:]))
    models = {
        name: tuple(model.judged for model in part)
        for name, part in (("again", one), (SUPERVISED, other))
    }
    return Evaluation(1.0, "again", models, worst_levels(other), {}, tested[0].sizes)


def _by_patients_alone(found: Evaluation) -> bool:
    """Whether percentiles over patients, seeds aside, are off 0 for some group's AUC."""
    one, other = (found.judged[name].by_group for name in ("again", SUPERVISED))
    ends = (Value.of(one[key] - other[key]) for key in one)
    return any(v.low is not None and v.high is not None and v.low * v.high > 0 for v in ends)


def _alone(claim: Claim) -> bool:
    known = claim.change.difference
    return known is not None and known.p < LEVEL


if __name__ == "__main__":
    job, data, folder, *rest = sys.argv[1:]
    if job == "fits":
        fit(Path(data), Path(folder), int(rest[0]), Path(rest[1]))
    else:
        print(json.dumps(draw(Path(data), Path(folder))))
