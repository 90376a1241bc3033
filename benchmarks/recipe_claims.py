"""Count how often a recipe is claimed to differ from itself with other seeds.

``fits DATA FOLDER EPOCHS CACHE`` trains the supervised cell of an assessment of PhysioNet 2012 with
40 seeds, one after the other, and saves their predictions; finished fits are not repeated. ``draws
DATA FOLDER`` takes random draws of the saved fits, half against half, and counts how many of their
assessments claim any difference; then how many detect a loss that is planted in the AUC of one
group of one half.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from evenhand.experiments.runs import Run
from evenhand.experiments.task_cache import cached_task
from evenhand.jobs.assess.claims import RecipeClaim, make_claims
from evenhand.jobs.assess.evaluation import Evaluation, Value
from evenhand.jobs.assess.grid import Cell, fit_cell
from evenhand.jobs.assess.judging import JudgedModel, judge_model, worst_levels
from evenhand.jobs.assess.settings import SUPERVISED, AssessSettings
from evenhand.metrics.claims import CLAIM
from evenhand.metrics.parity import ParityNumbers
from evenhand.tables.predictions import read_predictions

FITS, DRAWS, SEEDS = 40, 200, 3
HURT = ("age", "65+")


def settings_for(data: Path, **more: object) -> AssessSettings:
    """Return an assessment of PhysioNet 2012 by sex and age with the default recipe."""
    values = {"data": f"physionet2012:{data / 'physionet2012'}", "attribute": ("sex", "age")}
    return AssessSettings.model_validate(values | {"device": "cpu"} | more)


def fit(data: Path, folder: Path, epochs: int, cache: Path) -> None:
    """Train the missing ones of the 40 fits."""
    torch.set_num_threads(1)
    settings = settings_for(data, epochs=epochs, cache=cache)
    task, run = cached_task(settings), Run(folder)
    for seed in range(FITS):
        start = time.process_time()
        fit_cell(task, settings, run, Cell(SUPERVISED, 1.0, seed))
        print(json.dumps({"seed": seed, "cpu_seconds": time.process_time() - start}), flush=True)


def judged_fits(data: Path, folder: Path) -> list[JudgedModel]:
    """Evaluate every saved fit."""
    settings, run = settings_for(data), Run(folder)
    paths = [run.predictions_file(Cell(SUPERVISED, 1.0, seed).name) for seed in range(FITS)]
    return [judge_model(read_predictions(path), settings, 0) for path in paths if path.exists()]


def draw(
    tested: Sequence[JudgedModel], draws: int, seeds: int, planted: float = 0.0
) -> list[Evaluation]:
    """Compare random halves of the fits; one half may be made worse for a group."""
    rng = np.random.default_rng(0)
    result = []
    for _ in range(draws):
        position = rng.permutation(len(tested))[: 2 * seeds]
        first, other = (
            [tested[place] for place in part] for part in (position[:seeds], position[seeds:])
        )
        again = tuple(_worse(model.judged, planted) for model in first)
        models = {"again": again, SUPERVISED: tuple(model.judged for model in other)}
        worst = {SUPERVISED: worst_levels(other)}
        result.append(Evaluation(1.0, "again", models, worst, {}, tested[0].sizes))
    return result


def null(tested: Sequence[JudgedModel]) -> dict[str, object]:
    """Count the claims without a true difference."""
    drawn = draw(tested, DRAWS, SEEDS)
    claims = [make_claims([item])[0] for item in drawn]
    return {
        "fits": len(tested),
        "draws": DRAWS,
        "family": len(claims[0].family),
        "claim_anything": sum(any(claim.sign for claim in item.family) for item in claims),
        "level_down": sum(any(map(claim.levelled_down, claim.deviation)) for claim in claims),
        "any_interval_off_0": sum(any(map(_alone, claim.family)) for claim in claims),
        "any_group_by_patients_alone": sum(map(_by_patients_alone, drawn)),
        "sd_of_auc_by_seed": round(
            float(np.std([item.judged.auc[0] for item in tested], ddof=1)), 4
        ),
    }


def power(tested: Sequence[JudgedModel], seeds: int, planted: float) -> dict[str, object]:
    """Count how often a loss in the AUC of one group is detected, and called levelling down."""
    claims = [make_claims([item])[0] for item in draw(tested, DRAWS, seeds, planted)]
    seen = [any(c.sign < 0 and c.group == HURT[1] for c in claim.family) for claim in claims]
    levelled = [bool(claim.levelled_down(HURT[0])) for claim in claims]
    return {
        "planted": planted,
        "seeds": seeds,
        "seen": sum(seen) / DRAWS,
        "level_down": sum(levelled) / DRAWS,
    }


def _worse(judged: ParityNumbers, planted: float) -> ParityNumbers:
    by_group = {**judged.by_group, HURT: judged.by_group[HURT] - planted}
    return replace(judged, by_group=by_group)


def _by_patients_alone(evaluation: Evaluation) -> bool:
    """Return whether percentiles over patients, without seeds, exclude 0 for some group's AUC."""
    first, other = (evaluation.judged[name].by_group for name in ("again", SUPERVISED))
    ends = (Value.of(first[key] - other[key]) for key in first)
    return any(v.low is not None and v.high is not None and v.low * v.high > 0 for v in ends)


def _alone(claim: RecipeClaim) -> bool:
    expected = claim.change.difference
    return expected is not None and expected.p < CLAIM


if __name__ == "__main__":
    job, data, folder, *rest = sys.argv[1:]
    if job == "fits":
        fit(Path(data), Path(folder), int(rest[0]), Path(rest[1]))
    else:
        fits = judged_fits(Path(data), Path(folder))
        print(json.dumps(null(fits)))
        for seeds in (3, 5, 10):
            for planted in (0.03, 0.06, 0.1):
                print(json.dumps(power(fits, seeds, planted)), flush=True)
