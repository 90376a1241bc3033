"""Data that changed after a run was made: each job that reads them again says so."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pandas as pd
import pytest
from tests.command import evenhand, training
from tests.data.pictures import write_picture

from evenhand.cohort.prepare import with_change_note
from evenhand.cohort.readers import open_cohort
from evenhand.cohort.settings import DataSettings
from evenhand.files import read_json

COLUMNS = ("--image-column", "file", "--label", "dx", "--patient", "patient")
QUICK = ("--batches", 2, "--share", 50, "--limit", 50, "--budget", 90, "--device", "cpu")
TRAIN = ("--split", "train", "--minimum", 8, "--permutations", 19)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A run on a table of 80 pictures of one's own, with the folder of the data."""
    folder = tmp_path_factory.mktemp("own")
    rows = np.arange(80)
    for row in rows:
        write_picture(folder / "data" / f"{row}.png", int(row), (32, 32))
    frame = pd.DataFrame(
        {
            "file": [f"{row}.png" for row in rows],
            "patient": [f"p{row}" for row in rows],
            "dx": rows % 2,
            "group": np.where(rows // 2 % 2, "a", "b"),
        }
    )
    frame.to_csv(folder / "data" / "table.csv", index=False)
    words = training(folder / "cache", "--epochs", 1)
    ended = evenhand("finetune", folder / "data" / "table.csv", *COLUMNS, *words, "--out",
                     folder / "run")  # fmt: skip
    assert ended.status == 0, ended.err
    shutil.copytree(folder / "run", folder / "other")
    return folder


def jobs(folder):
    run, group = folder / "run", ("--attribute", "group")
    cache = ("--cache", folder / "cache")
    return {
        "prune": ("prune", run, *group, *QUICK, *cache),
        "adjust": ("adjust", run, *group, "--method", "dfr", "--device", "cpu", *cache),
        "similarity": ("similarity", run, folder / "other", *group, *TRAIN, *cache),
        "compare": ("compare", run, folder / "other", *group, "--probe", "--replicates", 30),
        "predict": ("predict", run, folder / "data" / "table.csv", "--device", "cpu", *cache),
    }


def changed(run):
    """Return how many notes of a run say that the data have changed."""
    notes = [note for note in read_json(run / "run.json")["notes"] if "have changed" in note]
    assert ("have changed" in (run / "report.html").read_text()) == bool(notes)
    return len(notes)


def test_a_report_written_again_is_the_same_page(own, tmp_path):
    files = ("report.html", "metrics.json", "verdicts.json")
    before = [(own / "run" / name).read_bytes() for name in files]
    for job in ("prune", "adjust"):
        ended = evenhand(*jobs(own)[job], "--out", tmp_path / job)
        assert ended.status == 0, ended.err
        assert changed(tmp_path / job) == 0
    pages = {job: (tmp_path / job / "report.html").read_bytes() for job in ("prune", "adjust")}
    for run in (own / "run", tmp_path / "prune", tmp_path / "adjust"):
        assert evenhand("report", run).status == 0
    assert [(own / "run" / name).read_bytes() for name in files] == before
    assert {job: (tmp_path / job / "report.html").read_bytes() for job in pages} == pages
    assert b"<dt>adjusted</dt>" in pages["adjust"]
    assert b"<dt>pruned</dt>" in pages["prune"]


@pytest.mark.parametrize("job", ["prune", "adjust", "similarity", "compare", "predict"])
def test_changed_data_are_noted(own, tmp_path, job):
    table = own / "data" / "table.csv"
    text, stamp = table.read_text(), table.stat()
    table.write_text(text.replace("0.png,p0,0", "0.png,p0,1"))
    ended = evenhand(*jobs(own)[job], "--out", tmp_path / "out")
    table.write_text(text)
    os.utime(table, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert ended.status == 0, ended.err
    assert changed(tmp_path / "out") == (2 if job == "compare" else 1)  # of both runs


def test_other_patients_at_the_path_of_the_run_are_no_change(own, tmp_path):
    table = own / "data" / "table.csv"
    text = table.read_text()
    table.write_text(text.replace(".png,p", ".png,external"))
    ended = evenhand(*jobs(own)["predict"], "--out", tmp_path / "out")
    table.write_text(text)
    assert ended.status == 0, ended.err
    assert changed(tmp_path / "out") == 0


def test_a_changed_picture_is_noted(own):
    settings = DataSettings(data=str(own / "data" / "table.csv"), image_column="file", label="dx",
                            patient="patient")  # fmt: skip
    recorded = open_cohort(settings).source.fingerprint
    write_picture(own / "data" / "1.png", 1000, (32, 32))
    cohort = open_cohort(settings)
    assert with_change_note(cohort, recorded, own).source.notes[-1].startswith("The data have ch")
    for same in (cohort.source.fingerprint, None, ""):
        assert with_change_note(cohort, same, own) is cohort
