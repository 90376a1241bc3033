"""What earlier versions wrote, in flags, files and runs, is still read."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from tests.command import evenhand

from evenhand.experiments.settings import FinetuneSettings
from evenhand.files import read_json
from evenhand.jobs.prune.settings import PruneSettings
from evenhand.jobs.tune.settings import TuneSettings
from evenhand.search.study import check_study, identity_of
from evenhand.settings import current_settings


def test_settings_keep_their_earlier_names():
    old = {"data": "d", "objective": ["min_auc", "acc_gap:age"], "objective_bound": True}
    settings = TuneSettings.model_validate(old)
    assert (settings.target, settings.pessimistic) == (("auc_worst", "accuracy_gap:age"), True)
    assert FinetuneSettings(data="d", target=("overall_auc",)).target == ("auc",)
    assert TuneSettings(data="d").target == ("auc_worst",)


@pytest.mark.parametrize(
    ("old", "target"),
    [
        ({"objective": "auc_gap", "target": None}, "auc_gap"),
        ({"objective": "auc_gap", "target": "auc_worst=0.8"}, "auc_worst=0.8"),
        ({"objective": "eopp1_sum"}, "eopp1_sum"),
        ({}, "auc_gap"),
    ],
)
def test_a_pruning_had_an_objective_and_a_target(old, target):
    assert PruneSettings.model_validate({"run": "r", "attribute": ["a"]} | old).target == target


def test_a_flag_of_either_name_beats_a_file_of_the_other(tmp_path):
    from evenhand.flags import gather_settings

    for in_file, flag in (("objective", "target"), ("target", "objective")):
        config = tmp_path / "settings.yaml"
        config.write_text(f"{in_file}: [min_auc]\ndata: d\n", encoding="utf-8")
        assert gather_settings(TuneSettings, config, {}, ("data",)).target == ("auc_worst",)
        assert gather_settings(TuneSettings, config, {flag: ["max_loss"]}, ()).target == (
            "log_loss_worst",
        )


def test_a_study_of_an_earlier_version_is_the_same_study():
    import optuna

    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(storage=storage, study_name="s", directions=["maximize"])
    before = {"objective": ["min_auc"], "objective_bound": False, "seed": 0}
    study.set_user_attr("identity", identity_of(before, "data"))
    now = {"target": ["auc_worst"], "pessimistic": False, "seed": 0}
    assert current_settings(before) == now
    check_study(storage, "s", ["maximize"], identity_of(now, "data"))


def earlier(value, names):
    """Return a record with the names that an earlier version gave."""
    if isinstance(value, dict):
        return {names.get(name, name): earlier(item, names) for name, item in value.items()}
    if isinstance(value, list):
        return [earlier(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value


SMALL = ("phantom:patients=60,size=32", "--attribute", "group", "--backbone", "test_vit")
FITS = ("--weights", "none", "--epochs", 1, "--trials", 1, "--confirm", 0, "--image-size", 32)


def test_a_run_of_an_earlier_version_is_continued_and_reported(tmp_path):
    """A finished search is turned into one of an earlier version that was killed at its end."""
    out, cache = tmp_path / "run", tmp_path / "cache"
    words = ("tune", *SMALL, *FITS, "--cache", cache, "--baseline", "full", "--out", out)
    assert evenhand(*words).status == 0
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "auc_worst" in page
    names = {"auc_worst": "min_auc", "target": "objective", "pessimistic": "objective_bound"}
    for name in ("run.json", "search.json"):
        record = earlier(read_json(out / name), names)
        (out / name).write_text(json.dumps(record), encoding="utf-8")
    trials = pd.read_csv(out / "trials.csv", keep_default_na=False)
    trials.rename(columns=names).to_csv(out / "trials.csv", index=False)
    assert evenhand("report", out).status == 0
    assert "auc_worst" in (out / "report.html").read_text(encoding="utf-8")
    record = read_json(out / "run.json") | {"status": "running"}
    (out / "run.json").write_text(json.dumps(record), encoding="utf-8")
    again = evenhand(*words, "--objective", "min_auc")
    assert again.status == 0, again.err
    assert "auc_worst" in read_json(out / "search.json")["objectives"][0]["name"]
