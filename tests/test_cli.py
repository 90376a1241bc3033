"""The jobs, one after the other, as users give them."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys

import pandas as pd
import pytest
from tests.command import PHANTOMS, evenhand, training

from evenhand import AuditSettings, CompareSettings, FinetuneSettings, PredictSettings, TuneSettings
from evenhand.cli import app
from evenhand.experiments.runs import begin_run
from evenhand.files import read_json, write_json
from evenhand.flags import flag_name
from evenhand.jobs.assess.settings import AssessSettings
from evenhand.jobs.pretrain.settings import PretrainSettings
from evenhand.metrics import COLUMNS
from evenhand.runs import run_scope

MODEL = {"model.safetensors", "model.json", "predictions.parquet"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def trained(cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "trained"
    ended = evenhand("finetune", PHANTOMS, *training(cache, "--epochs", 1, "--out", out))
    assert ended.status == 0, ended.err
    return out, ended


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_finetune_leaves_the_files_of_the_contract(trained):
    out, ended = trained
    assert names(out) == {
        "run.json",
        "models",
        "metrics.json",
        "report.html",
        "splits.csv",
        "verdicts.json",
    }
    assert names(out / "models") == {"full"}
    assert names(out / "models" / "full") == MODEL
    assert ended.out.rstrip().endswith(f"report: {out / 'report.html'}")
    assert "group: minority" in ended.out
    facts = read_json(out / "run.json")
    assert (facts["job"], facts["status"], facts["chosen"]) == ("finetune", "finished", "full")
    assert facts["source"]["unit"] == "patient"
    room = {"cache", "prefix_memory", "prefix_disk", "imports", "track"}  # not kept
    assert facts["settings"].keys() == FinetuneSettings.model_fields.keys() - room
    assert {"training", "evaluation"} == facts["seconds"].keys()


def test_metric_rows_have_the_contracts_columns(trained):
    content = read_json(trained[0] / "metrics.json")
    assert content["schema"] == 2
    assert {tuple(row) for row in content["rows"]} == {tuple(COLUMNS)}
    assert {row["split"] for row in content["rows"]} == {"train", "val", "test"}


def test_report_writes_the_same_again(trained):
    out = trained[0]
    before = (out / "metrics.json").read_bytes(), (out / "report.html").read_bytes()
    (out / "metrics.json").unlink()
    (out / "report.html").unlink()
    assert evenhand("report", out).status == 0
    assert (out / "metrics.json").read_bytes() == before[0]
    assert (out / "report.html").exists()


def test_report_refuses_what_a_run_has_not(tmp_path):
    with run_scope():
        run = begin_run(tmp_path, "pretrain", PretrainSettings(data="phantom:"), fingerprint="")
    run.finish()
    record = read_json(tmp_path / "run.json")
    ended = evenhand("report", tmp_path)
    assert (ended.status, "a run of 'pretrain', which has no report" in ended.err) == (2, True)
    settings = AssessSettings(data="phantom:").recorded()
    write_json(tmp_path / "run.json", record | {"job": "assess", "settings": settings})
    ended = evenhand("report", tmp_path, "--card", tmp_path / "card.md")
    assert (ended.status, "which has no card" in ended.err) == (2, True)


def test_predict_takes_a_share_of_the_patients_and_no_splits(trained, cache, tmp_path):
    external = PHANTOMS.replace("seed=1", "seed=2")
    words = ("predict", trained[0], external, "--cache", cache, "--patient-share", 0.25)
    ended = evenhand(*words, "--out", tmp_path / "share")
    assert ended.status == 0, ended.err
    assert 30 <= len(pd.read_parquet(tmp_path / "share/models/full/predictions.parquet")) <= 50
    ended = evenhand(*words, "--split", 0.8, 0.1, 0.1, "--out", tmp_path / "split")
    assert (ended.status, "No such option: --split" in ended.err) == (2, True)


def test_predict_and_audit_on_new_patients(trained, cache, tmp_path):
    external = PHANTOMS.replace("seed=1", "seed=2")
    out, audited = tmp_path / "external", tmp_path / "audited"
    ended = evenhand("predict", trained[0], external, "--cache", cache, "--out", out)
    assert ended.status == 0, ended.err
    assert names(out / "models" / "full") == {"predictions.parquet"}
    table = pd.read_parquet(out / "models" / "full" / "predictions.parquet")
    assert len(table) == 160
    assert set(table["split"]) == {"test"}
    cut = read_json(out / "run.json")["cuts"]["full"]["threshold"]
    rows = read_json(trained[0] / "metrics.json")["rows"]
    assert cut in {row["threshold"] for row in rows if row["threshold"] is not None}

    ended = evenhand("audit", out, trained[0], "--out", audited)
    assert ended.status == 0, ended.err
    rows = read_json(audited / "metrics.json")["rows"]
    assert {row["model"] for row in rows} == {"external-full", "trained-full"}
    brought = {row["threshold"] for row in rows if row["model"] == "external-full"}
    assert brought == {None, cut}

    ended = evenhand("compare", out, trained[0], "--out", tmp_path / "compared")
    assert ended.status == 2
    assert "compare models on the same data" in ended.err
    assert not (tmp_path / "compared").exists()


def test_audit_of_one_run_gives_its_numbers(trained, tmp_path):
    words = ("audit", trained[0], "--attribute", "group", "--out", tmp_path / "again")
    assert evenhand(*words).status == 0
    first, second = (
        [row for row in read_json(out / "metrics.json")["rows"] if row["split"] == "test"]
        for out in (trained[0], tmp_path / "again")
    )
    assert first == second


def test_a_flag_beats_the_file(cache, tmp_path):
    config = tmp_path / "settings.yaml"
    config.write_text("strategy: head\nepochs: 7\nbatch-size: 16\nlr: 1.0e-3\n")
    words = training(cache, "--config", config, "--epochs", 1, "--out", tmp_path / "run")
    ended = evenhand("finetune", PHANTOMS, *words)
    assert ended.status == 0, ended.err
    settings = read_json(tmp_path / "run" / "run.json")["settings"]
    assert (settings["strategy"], settings["lr"]) == ("head", 1e-3)
    assert (settings["epochs"], settings["batch_size"]) == (1, 32)


@pytest.mark.parametrize(
    ("command", "settings"),
    [
        ("finetune", FinetuneSettings),
        ("tune", TuneSettings),
        ("predict", PredictSettings),
        ("audit", AuditSettings),
        ("compare", CompareSettings),
    ],
)
def test_every_setting_is_a_flag_or_an_argument_with_a_text(command, settings):
    shown = evenhand(command, "--help").out
    arguments = {"data", "run", "inputs"}
    for name, field in settings.model_fields.items():
        flag = name.upper() if name in arguments else flag_name(name)
        assert flag in shown
        assert field.description
        assert field.description.split()[0] in shown
    assert all(flag in shown for flag in ("--out", "--config", "--overwrite"))


COMMANDS = [info.name or info.callback.__name__ for info in app.registered_commands]


@pytest.mark.parametrize("command", [*COMMANDS, "datasets", "datasets verify"])
def test_help_is_for_people(command):
    shown = evenhand(*command.split(), "--help").out
    assert not re.search(r"<\w|list\[|None|Literal|Ellipsis|\(\)", shown)
    for text in re.split(r"\n  (?=\S)", shown):
        assert len(re.findall(r"default:|required", text)) <= 1, text


def test_usage_shows_what_is_needed():
    assert "audit [OPTIONS] INPUTS...\n" in evenhand("audit", "--help").out
    assert "predict [OPTIONS] RUN DATA\n" in evenhand("predict", "--help").out
    assert "report [OPTIONS] RUN\n" in evenhand("report", "--help").out


def test_the_commands_fit_on_their_lines():
    listed = evenhand("--help").out.partition("Commands:")[2].strip().splitlines()
    assert len(listed) == len(COMMANDS) + len(app.registered_groups)
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)


def test_flags_stand_under_headings_from_the_job_to_the_general():
    shown = evenhand("tune", "--help").out
    headings = re.findall(r"^(\w+):$", shown, re.MULTILINE)
    assert headings == [
        *("Arguments", "Search", "Data", "Values", "Model", "Target", "Training"),
        *("Method", "Workers"),
        "Options",
    ]
    part = shown.partition("Model:")[2].partition("Target:")[0]
    assert "--backbone" in part
    assert "--trials" not in part


def test_an_unknown_setting_in_the_file_is_named_with_the_nearest(tmp_path):
    config = tmp_path / "settings.yaml"
    config.write_text("epohcs: 7\n")
    ended = evenhand("finetune", PHANTOMS, "--config", config, "--out", tmp_path / "run")
    assert (ended.status, "no setting 'epohcs'" in ended.err) == (2, True)
    assert "Did you mean 'epochs'?" in ended.err


def test_units_are_listed():
    ended = evenhand("units", "test_vit")
    assert ended.status == 0
    assert "blocks.0.attn" in ended.out


def test_no_command_shows_help():
    assert "finetune" in evenhand().out + evenhand().err


def test_a_bug_shows_its_traceback():
    code = """
        import sys
        import evenhand.masks.listing as listing
        from evenhand.cli import main

        def broken(*given):
            raise KeyError("a bug")

        listing.unit_listing = broken
        sys.argv = ["evenhand", "units", "test_vit"]
        main()
    """
    words = [sys.executable, "-c", inspect.cleandoc(code)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr
    assert "a bug" in ended.stderr
