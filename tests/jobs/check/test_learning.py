"""What more training patients buy: shown where it is planted, and not where there is nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.command import evenhand

from evenhand.cohort.phantoms.images import PhantomSettings, make_phantoms
from evenhand.cohort.splits import split_patients
from evenhand.jobs.check.job import learning_findings
from evenhand.jobs.check.settings import CheckSettings

SIDE = 8


def planted(minority_cell: int, patients: int = 2400):
    """Return splits of pictures of noise, where one cell of each group's tells the label."""
    cohort = make_phantoms(PhantomSettings(patients=patients, size=16, minority=0.25))
    table = cohort.table.set_index("sample_id")
    labels = table["label"].to_dict()
    cells = (table["attr_group"].astype(str) == "minority").map({True: minority_cell, False: 0})
    cells = cells.to_dict()

    def read(name):
        rng = np.random.default_rng(list(name.encode()))
        picture = rng.normal(size=(SIDE, SIDE, 1))
        picture[0, cells[name], 0] += 1.5 * labels[name]
        return picture

    cohort = replace(cohort, read=read)
    return split_patients(cohort, ("group",), (0.3, 0.1, 0.6), np.random.default_rng(0))


def findings(minority_cell: int, *curves: str):
    settings = CheckSettings(data="phantom:", attribute=("group",), curve=curves)
    return list(learning_findings(planted(minority_cell), ("group",), settings))


def test_more_patients_of_a_group_whose_signs_are_its_own_help_it():
    (minority,) = findings(3, "group=minority")
    assert minority.status == "warn"
    assert minority.value is not None
    assert minority.value > 0.02
    assert "more patients helped" in minority.measured
    assert "AUC with 25%, 50%, 75%, 100%" in minority.measured


def test_more_patients_of_a_group_buy_nothing_where_the_others_show_the_same_signs():
    (minority,) = findings(0, "group=minority")
    assert minority.status == "pass"
    assert minority.value is not None
    assert abs(minority.value) < 0.02


def test_without_a_curve_nothing_is_fitted():
    assert findings(0) == []


def test_the_command_says_it_and_refuses_groups_that_are_not_there(tmp_path):
    words = ("check", "phantom:patients=200,size=16", "--attribute", "group")
    words = (*words, "--cache", tmp_path / "cache", "--out", tmp_path / "run")
    refused = evenhand(*words, "--curve", "group=nobody")
    assert refused.status == 2
    assert "nobody" in refused.err
    ended = evenhand(*words, "--curve", "everybody")
    assert ended.status in (0, 1), ended.err
    record = json.loads((tmp_path / "run" / "check.json").read_text())
    (finding,) = (item for item in record["findings"] if item["requirement"] == "learning")
    assert finding["about"] == "everybody"
    assert finding["measured"] in ended.out
    assert "Gain from more training patients" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("channels", [1, 3])
def test_series_and_images_become_a_few_numbers(channels):
    from evenhand.jobs.check import job

    series = np.full((5, 30, channels), np.nan)
    series[:, ::2] = np.arange(15)[None, :, None]
    coarse = job._coarse_series(series)
    assert coarse.shape == (5, 3 * channels)
    assert coarse[0, :channels] == pytest.approx(7.0)
    assert coarse[0, -channels:] == pytest.approx(0.5)
    images = np.ones((4, 20, 30, channels), np.uint8)
    assert job._coarse_images(images).sum() == images.sum()
