"""A large grid is read at a glance: the best of each kind, chosen on validation alone."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from evenhand.jobs.assess.evaluation import Evaluation, RowCounts
from evenhand.jobs.assess.grid import grid_cells
from evenhand.jobs.assess.overview import LARGE, overview_part
from evenhand.jobs.assess.settings import AssessSettings

SETTINGS = AssessSettings(
    data="none",
    attribute=("sex",),
    ssl=("simclr", "vicreg"),
    cell=("frozen0", "frozen1", "frozen3"),
    label_share=(1.0, 0.1),
    seeds=1,
)
BEST = {"simclr-frozen1": 0.9, "vicreg-frozen3": 0.8}


def judged(auc):
    numbers = np.full(101, auc)
    return SimpleNamespace(
        auc=numbers,
        deviation={"sex": np.full(101, 0.2)},
        aaod={},
        by_group={},
        apart={"sex": True},
        numbers={},
    )


def evaluation_of(share, monkeypatch):
    recipes = [cell.recipe for cell in grid_cells(SETTINGS) if cell.share == share]
    models = {name: (judged(0.6),) for name in recipes}
    evaluation = Evaluation(
        share, "simclr-frozen1", models, {}, {}, {("*", "*"): RowCounts(9, 9, 4, 4)}
    )
    monkeypatch.setattr(Evaluation, "judged", {name: own[0] for name, own in models.items()})
    low = 0.0 if share == 1 else 0.3
    return replace(
        evaluation, validation_values={name: BEST.get(name, 0.5) - low for name in recipes}
    )


@pytest.fixture
def evaluations(monkeypatch):
    return [evaluation_of(share, monkeypatch) for share in SETTINGS.label_share]


def test_the_best_of_each_kind_is_the_best_on_validation(evaluations):
    part = overview_part(evaluations, (), SETTINGS)
    best = {row[0]: row[1] for row in part.tables[0].rows}
    assert best == {
        "start simclr": "simclr-frozen1",
        "start vicreg": "vicreg-frozen3",
        "strategy frozen0": "simclr-frozen0",
        "strategy frozen1": "simclr-frozen1",
        "strategy frozen3": "vicreg-frozen3",
        "labels 100 %": "simclr-frozen1",
        "labels 10 %": "simclr-frozen1-10pct",
        "supervised": "supervised",
    }


def test_every_cell_is_in_the_table_that_folds(evaluations):
    part = overview_part(evaluations, (), SETTINGS)
    (fold,) = part.hidden
    rows = fold.part.tables[0].rows
    assert len(rows) == len({row[0] for row in rows}) == 14 > LARGE
    assert rows[0][0] == "simclr-frozen1"
    assert "14 fits: 14 cells" in part.sentences[0]


def test_a_small_grid_has_no_such_part(evaluations):
    small = SETTINGS.model_copy(update={"label_share": (1.0,)})
    assert overview_part(evaluations[:1], (), small) is None
