"""On phantoms whose label goes with the group, the search finds what full fine-tuning lacks."""

from __future__ import annotations

import numpy as np
import pytest

from evenhand.jobs.demo import TARGET, pretrain_settings, search_settings
from evenhand.jobs.finetune.job import finetune
from evenhand.jobs.tune.job import tune
from evenhand.metrics import EVERYBODY

SEEDS = (1, 2, 3)

MARGIN = 0.08
"""By how much the equalised odds difference on test must fall, on average over the seeds.

Fixed on the seeds 1001 to 1003, where it fell by .47, .16 and .20: half of the smallest.
"""


@pytest.mark.slow
@pytest.mark.parametrize("planted", [True, False])
def test_the_search_repairs_a_planted_tilt_and_claims_nothing_without_one(tmp_path, planted):
    cache = tmp_path / "cache"
    pretrained = finetune(pretrain_settings(1, cache), tmp_path / "pretrained").root
    gains, claims = [], 0
    for seed in SEEDS:
        settings = search_settings(pretrained, seed, confirm=0, confirm_seeds=1, cache=cache)
        if not planted:
            data = settings.data.replace("tilt=0.6", "tilt=0")
            settings = settings.model_copy(update={"data": data})
        rows = tune(settings, tmp_path / f"seed{seed}").metrics
        change = odds_change(rows)
        gains.append(-change["value"])
        claims += change["p_adjusted"] <= 0.05 and change["value"] != 0
    assert (np.mean(gains) >= MARGIN) == planted, gains
    assert (claims > 0) == planted


def odds_change(rows):
    """Return the row of FairTune's equalised odds difference less that of full fine-tuning."""
    paired = rows[(rows["model"] == "fairtune") & (rows["against"] == "full")]
    across = paired[(paired["group"] == EVERYBODY) & (paired["metric"] == TARGET)]
    (row,) = across.to_dict("records")
    return row
