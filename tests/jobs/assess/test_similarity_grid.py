"""Stage 4 looks at every cell, share and seed, and the page shows it."""

from __future__ import annotations

import pytest
from tests.command import evenhand

from evenhand.experiments.runs import open_run
from evenhand.jobs.assess.similarity_grid_record import read_grid
from evenhand.tables.predictions import read_predictions

CELLS, SHARES = ("frozen3", "frozen0"), (1.0, 0.5)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grid")
    cells = [word for cell in CELLS for word in ("--cell", cell)]
    shares = [word for share in SHARES for word in ("--label-share", share)]
    ended = evenhand(
        *("assess", "series_phantom:patients=360,steps=8,seed=1", *cells, *shares, "--seeds", 2),
        *("--attribute", "sex", "--attribute", "group", "--epochs", 1, "--pretrain-epochs", 1),
        *("--device", "cpu", "--cache", folder / "cache", "--out", folder / "run"),
    )
    assert ended.status == 0, ended.err
    return open_run(folder / "run")


def test_every_cell_and_share_is_there_with_each_seed(run):
    grid = read_grid(run)
    assert {(contrast.cell, contrast.share) for contrast in grid.cells} == {
        (cell, share) for cell in CELLS for share in SHARES
    }
    assert all(len(contrast.by_seed) == 2 for contrast in grid.cells)
    assert grid.patients == len(_validation(run)["patient_id"].unique())


def test_a_group_that_is_too_small_is_left_out_with_the_reason(run):
    grid = read_grid(run)
    assert {contrast.attribute for contrast in grid.cells} == {"sex"}
    assert "30 validation patients" in grid.left_out["group"]


def test_best_and_worst_are_those_that_both_models_serve_so(run):
    grid = read_grid(run)
    assert all(contrast.gap >= 0 and contrast.best != contrast.worst for contrast in grid.cells)


def test_the_page_shows_the_grid_and_is_written_again_from_the_run(run):
    (run.root / "report.html").unlink()
    ended = evenhand("report", run.root)
    assert ended.status == 0, ended.err
    page = (run.root / "report.html").read_text()
    for text in ("4. Similarity over the whole grid", "Differences by layer, sex", "Permuted"):
        assert text in page
    (run.root / "similarity_grid.json").unlink()  # as runs of earlier versions lack it
    assert evenhand("report", run.root).status == 0


def _validation(run):
    table = read_predictions(run.predictions_file("supervised-seed0")).table
    return table[table["split"] == "val"]
