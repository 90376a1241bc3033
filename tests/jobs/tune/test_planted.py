"""On phantoms with a planted shortcut, the search finds what full fine-tuning lacks."""

from __future__ import annotations

import numpy as np
import pytest

from evenhand.files import read_json
from evenhand.jobs.demo import pretraining, searching
from evenhand.jobs.finetune.job import finetune
from evenhand.jobs.tune.job import tune

SEEDS = (1, 2, 3)

MARGIN = 0.03
"""What the worst group's AUC on test must gain over full fine-tuning, on average over the seeds.

Fixed before any test split was scored, from validation patients of milder phantoms, whose
minority's lesions stood out less: with 30 % in the minority the best learning rate of full
fine-tuning had .812 and head only .867, with 15 % .667 and .745. Half of the smaller difference,
rounded, is the margin. The phantoms were then made to hold the shortcut and no other bias.
"""


@pytest.mark.slow
def test_the_search_beats_full_fine_tuning_for_the_worst_group(tmp_path):
    cache = tmp_path / "cache"
    pretrained = finetune(pretraining(1, cache), tmp_path / "pretrained").root
    gains = []
    for seed in SEEDS:
        settings = searching(pretrained, seed, confirm=0, confirm_seeds=1, cache=cache)
        run = tune(settings, tmp_path / f"seed{seed}")
        gains.append(worst_auc(run, "fairtune") - worst_auc(run, "full"))
    assert np.mean(gains) >= MARGIN, gains


def worst_auc(run, model):
    (row,) = [
        row
        for row in read_json(run.root / "metrics.json")["rows"]
        if (row["model"], row["split"], row["metric"]) == (model, "test", "auc_worst")
        and row["against"] is None
    ]
    return row["value"]
