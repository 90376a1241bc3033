"""What arms cost is kept and said, and is made equal on request."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from tests.command import evenhand

from evenhand.jobs.assess.cost import epoch_passes, training_cost
from evenhand.jobs.assess.settings import AssessSettings

DATA = "series_phantom:patients=160,steps=12,seed=1"
GRID = ("--cell", "frozen0", "--cell", "gradual", "--seeds", 1, "--attribute", "group")
SHORT = ("--epochs", 3, "--patience", 0, "--device", "cpu")
PRETRAINING = ("--pretrain-epochs", 2, "--pretrain-patience", 0)


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    words = ("assess", DATA, *GRID, *SHORT, *PRETRAINING, "--cache", cache)
    return lambda out, *more: evenhand(*words, *more, "--out", out)


def costs(run):
    folders = [*(run / "models").iterdir(), *(run / "encoders").iterdir()]
    return {folder.name.removesuffix("-seed0"): training_cost(folder) for folder in folders}


def test_supervised_gets_the_passes_of_the_other_arm_on_request(command, tmp_path):
    ended = command(tmp_path / "equal", "--equal-compute")
    assert ended.status == 0, ended.err
    cost = costs(tmp_path / "equal")
    together, supervised = cost["frozen0"].passes + cost["seed0"].passes, cost["supervised"]
    each = supervised.passes // supervised.epochs
    assert together <= supervised.passes < together + each
    page = (tmp_path / "equal" / "report.html").read_text(encoding="utf-8")
    assert "By --equal-compute, supervised trains for as many passes" in page


def test_the_page_states_how_far_compute_is_from_equal(command, tmp_path):
    ended = command(tmp_path / "out")
    assert ended.status == 0, ended.err
    cost = costs(tmp_path / "out")
    assert cost["frozen0"].passes == cost["supervised"].passes == 3 * epoch_passes(96, 32)
    assert cost["seed0"].passes == 2 * epoch_passes(2 * 96, 0)
    assert all(item.seconds > 0 for item in cost.values())
    ratio = 1 + cost["seed0"].passes / cost["supervised"].passes
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert f"took {ratio:.1f} times the compute of supervised in passes" in page
    assert "gradual tunes the head first" in page


def test_the_usual_grid_unfreezes_gradually():
    assert "gradual" in AssessSettings(data="phantom:").cell


def test_equal_compute_needs_an_objective_whose_compute_is_known():
    inputs = {"data": "phantom:", "encoder": ("x.pth",), "equal_compute": True}
    with pytest.raises(ValidationError, match="Name an objective with --ssl"):
        AssessSettings(**inputs)
    assert AssessSettings(**inputs, ssl=("simclr",)).equal_compute
