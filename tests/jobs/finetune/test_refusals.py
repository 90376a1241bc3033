"""Data and settings that a mitigation method cannot work with: one error, before any training."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from tests.command import evenhand, training, without
from tests.data.table import make_frame, make_table, write_frame

NOBODY = "the training of a refused method"
WORDS = ("--image-column", "photo", "--patient", "person", "--label", "finding", "--attribute")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("refused")
    make_table(root)
    return root


def altered(frame: pd.DataFrame, fault: str) -> pd.DataFrame:
    """Return a table with two sites, one of which something is wrong with."""
    person = frame["person"].astype(int)
    frame = frame.assign(site=np.where(person % 2 == 0, "north", "south"))
    if fault == "one label":
        return frame.assign(finding=frame["finding"].where(frame["site"] == "north", "healthy"))
    if fault == "unknown":
        return frame.assign(site=frame["site"].where(person % 5 > 1, ""))
    if fault == "three classes":
        return frame.assign(finding=np.array(["benign", "nevus", "tumour"])[person % 3])
    return frame


@pytest.mark.parametrize(
    ("fault", "method", "text"),
    [
        ("one label", "soft-eodds", "south has 0 rows of class 1"),
        ("one label", "coral", "south has 0 rows of class 1"),
        ("one label", "cdann", "south has 0 rows of class 1"),
        ("one label", "domain-independent", "south has 0 rows of class 1"),
        ("one label", "group-dro", "none in south, class 1"),
        ("one label", "minimax:by=label*attribute", "none in south, class 1"),
        ("one label", "group-balance", "none in south, class 1"),
        ("unknown", "group-dro", "is unknown; the method needs it for at least 80%"),
        ("unknown", "coral", "is unknown; the method needs it for at least 80%"),
        ("three classes", "soft-eodds", "soft-eodds is for two classes; there are 3"),
        ("nothing", "coral:rate=1", "coral has no setting 'rate'; it has: strength"),
        ("nothing", "swad:strength=1", "swad has no setting 'strength'"),
        ("nothing", "group-dro:weight=3", "group-dro has no setting 'weight'"),
    ],
)
def test_what_a_method_cannot_work_with_is_refused_before_training(
    folder, tmp_path, monkeypatch, fault, method, text
):
    def train(*arguments, **more):
        raise AssertionError(NOBODY)

    monkeypatch.setattr("evenhand.jobs.finetune.job.train_model", train)
    table = write_frame(folder / f"{fault.replace(' ', '-')}.csv", altered(make_frame(), fault))
    flags = without(training(folder / "cache"), "--attribute")
    words = (*WORDS, "site", *flags, "--target", "auc", "--method", method)
    ended = evenhand("finetune", table, *words, "--out", tmp_path / "run")
    assert ended.status == 2
    assert text in ended.err
    assert not (tmp_path / "run").exists()


def test_predict_refuses_data_that_lack_the_attribute_that_decisions_need(folder, tmp_path):
    table = write_frame(folder / "sites.csv", altered(make_frame(), "nothing"))
    flags = without(training(folder / "cache"), "--attribute")
    shares = ("--split", 0.4, 0.4, 0.2)
    words = (*WORDS, "site", *flags, *shares, "--epochs", 1, "--target", "auc")
    assert evenhand("finetune", table, *words, "--out", tmp_path / "run").status == 0
    by_group = ("--attribute", "site", "--method", "thresholds", "--cache", folder / "cache")
    ended = evenhand("adjust", tmp_path / "run", *by_group, "--out", tmp_path / "adjusted")
    assert ended.status == 0, ended.err
    without_site = write_frame(folder / "no-site.csv", make_frame())
    words = (tmp_path / "adjusted", without_site, "--attribute", "years", "--bins", "years=30")
    names = pd.Series([path.name for path in (tmp_path / "adjusted" / "models").iterdir()])
    name = names[names.str.contains("thresholds")].iloc[0]
    ended = evenhand("predict", *words, "--model", name, "--out", tmp_path / "new")
    assert ended.status == 2
    assert "site" in ended.err
    assert not (tmp_path / "new").exists()
