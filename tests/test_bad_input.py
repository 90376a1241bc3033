"""Each mistake through the command line: status 2, one clear text, and nothing left behind."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import sys

import numpy as np
import optuna
import pandas as pd
import pytest
from tests.command import PHANTOMS, SMALL, changed, evenhand, training
from tests.data.pictures import truncate
from tests.data.table import make_frame, make_table, write_frame

from evenhand.files import read_json
from evenhand.workers import cluster

PATIENTS = 60
COLUMNS = ("--image-column", "photo", "--label", "finding", "--patient", "person")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def path(tmp_path):
    return make_table(tmp_path / "data", patients=PATIENTS)


def refused(out, *words):
    """Return the text of a command that must be refused without a trace."""
    ended = evenhand(*words, "--out", out)
    assert ended.status == 2
    assert ended.err.startswith("evenhand: ")
    assert "Usage:" not in ended.err
    assert ended.out == ""
    assert not out.exists()
    return ended.err


def of_table(path, cache, *more):
    return ("finetune", path, *COLUMNS, *SMALL, "--cache", cache, "--epochs", 1, *more)


@pytest.mark.parametrize(
    ("command", "flags", "message"),
    [
        ("finetune", ("--attribute", "skin"), "skin"),
        ("finetune", ("--strategy", "blocks.99.attn"), "blocks.99.attn"),
        ("finetune", ("--strategy", "fulll"), "Did you mean 'full'?"),
        ("finetune", ("--objective", "min_aux"), "Did you mean 'min_auc'?"),
        ("finetune", ("--backbone", "test_vitt"), "test_vit"),
        ("finetune", ("--weights", "nowhere"), "nowhere"),
        ("tune", ("--family", "nothing"), "nothing"),
        ("tune", ("--family", "blocks.0.attn,blocks.99.attn"), "no unit 'blocks.99.attn'"),
        ("tune", ("--family", "conv-norm"), "no mask family 'conv-norm'; there are: attention,"),
        (
            "tune",
            ("--prefix-memory", 1, "--image-size", 224),
            "--prefix-memory 1: one batch of 32 takes",
        ),
        ("tune", ("--baseline", "nothing"), "nothing"),
        (
            "tune",
            (
                "--baseline",
                "blocks.1.attn,blocks.0.mlp",
                "--baseline",
                "blocks.0.mlp,blocks.1.attn",
            ),
            "--baseline blocks.1.attn,blocks.0.mlp and --baseline blocks.0.mlp,blocks.1.attn are "
            "the same; give it once.",
        ),
        ("tune", ("--pick", "ideal"), "there is one target (auc_worst). Give a second --target"),
        (
            "tune",
            ("--objective", "min_auc", "--objective", "auc_gap", "--pick", "budget=.1"),
            "needs one target over everybody",
        ),
        ("tune", ("--objective", "min_auc:age"), "no --attribute 'age'; there are: group"),
        ("tune", ("--space", "tree"), "'flat' or 'staged'"),
        ("tune", ("--lr-min", 1), "--lr-min 1 is above --lr-max 0.001"),
        ("tune", ("--workers", 0), "--workers: Input should be greater than 0 (given: '0')"),
        ("tune", ("--worker-cpus", 0), "--worker-cpus: Input should be greater than 0"),
        ("tune", ("--engine", "spark"), "--engine: Input should be 'local' or 'ray'"),
        ("tune", ("--ray-address", "head:6379"), "--ray-address head:6379 needs --engine ray"),
        ("tune", ("--worker-gpus", 0.5), "--worker-gpus 0.5 needs --engine ray"),
        ("finetune", ("--exclude-group", "group=nobody"), "nobody"),
        ("finetune", ("--exclude-patients", "nobody.txt"), "no run and no file nobody.txt"),
        ("finetune", ("--epochs", 0), "--epochs: Input should be greater than 0 (given: '0')"),
        ("finetune", ("--augment", "wild"), "wild"),
        ("finetune", ("--epochs", "many"), "--epochs: Input should be a valid integer"),
        ("tune", ("--lr-min", "x", "--trials", "y"), "(given: 'y'); --lr-min: Input should be"),
        ("finetune", ("--split", "1", "1", "1"), "--split: (1.0, 1.0, 1.0): give three shares"),
        ("finetune", ("--device", "tpu"), "--device: Input should be 'auto', 'cpu' or 'cuda'"),
        ("finetune", ("--config", "nowhere.yaml"), "nowhere.yaml"),
        ("finetune", ("--colour", "red"), "--colour"),
    ],
)
def test_settings(cache, tmp_path, command, flags, message):
    assert message in refused(tmp_path / "out", command, PHANTOMS, *training(cache, *flags))


def test_ray_is_not_installed(cache, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    text = refused(tmp_path / "out", "tune", PHANTOMS, *training(cache, "--engine", "ray"))
    assert "--engine ray needs Ray, which is not installed" in text
    assert "pip install 'evenhand[ray]'" in text


@pytest.mark.parametrize("listens", [False, True])
def test_no_ray_at_the_address(cache, tmp_path, monkeypatch, listens):
    """Nobody listens there, or somebody who does not speak Ray's protocol."""
    monkeypatch.setattr(cluster, "_PATIENCE", 0.5)
    with socket.socket() as other:
        other.bind(("localhost", 0))
        if listens:
            other.listen()
        address = f"localhost:{other.getsockname()[1]}"
        words = training(cache, "--engine", "ray", "--ray-address", address)
        text = refused(tmp_path / "out", "tune", PHANTOMS, *words)
    assert f"--ray-address {address}: nothing that speaks Ray's protocol answered" in text
    assert "`ray start --head`" in text


@pytest.mark.parametrize("address", ["nohost", "host:", "host:port", "http://host:6379/"])
def test_no_address_of_a_ray(cache, tmp_path, address):
    words = training(cache, "--engine", "ray", "--ray-address", address)
    text = refused(tmp_path / "out", "tune", PHANTOMS, *words)
    assert f"--ray-address {address} is not of the form HOST:PORT" in text
    assert "`ray start --head` printed, as in 10.0.0.1:6379, or leave it out" in text


def test_lora_without_its_extra(cache, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    words = training(cache, "--strategy", "lora:0")
    text = refused(tmp_path / "out", "finetune", PHANTOMS, *words)
    assert "peft is needed for strategy 'lora' and is not installed: pip install" in text
    assert "pip install 'evenhand[lora]'" in text


LATER = "CREATE TABLE version_info (version_info_id INTEGER, schema_version, library_version)"


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (("CREATE TABLE orders (id)",), "tables of another program (orders)"),
        (("CREATE TABLE studies (id)",), "tables of another program (studies)"),
        (("CREATE TABLE trials (id)", "CREATE TABLE users (id)"), "program (trials, users)"),
        ((LATER, "INSERT INTO version_info VALUES (1, 99, '9.1')"), "a later Optuna, 9.1, made"),
    ],
)
def test_a_database_of_something_else(cache, tmp_path, create, message):
    file = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(file)) as base, base:
        for statement in create:
            base.execute(statement)
    before = file.read_bytes()
    words = training(cache, "--storage", f"sqlite:///{file}")
    text = refused(tmp_path / "out", "tune", PHANTOMS, *words)
    assert f"--storage sqlite:///{file} cannot be opened as a storage of Optuna" in text
    assert message in text
    assert "Name another, or leave it out." in text
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "directions", "times"),
    [
        ("fairtune", ["maximize", "maximize"], 0),  # empty, and of other objectives
        ("fairtune", ["maximize"], 1),
        ("head confirmed", ["maximize"], 1),  # the last that a run would open
    ],
)
def test_a_storage_with_studies_of_others(cache, tmp_path, name, directions, times):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(storage=url, study_name=f"out/{name}", directions=directions)
    for _ in range(times):
        study.ask()
    text = refused(tmp_path / "out", "tune", PHANTOMS, *training(cache, "--storage", url))
    assert f"a study 'out/{name}' of other settings or data. Name another folder with --out" in text
    assert optuna.get_all_study_names(url) == [f"out/{name}"]


def test_exclude_patients_of_other_data(cache, tmp_path):
    ids = tmp_path / "ids.txt"
    ids.write_text("somebody\n")
    words = training(cache, "--exclude-patients", ids)
    assert "names 1 patient (somebody), none" in refused(
        tmp_path / "out", "finetune", PHANTOMS, *words
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"skin": "I"}, "attribute 'skin' has one level, 'I'"),
        ({"finding": "healthy"}, "every sample has the label 'healthy'"),
        ({"split": ["train", "val"] * PATIENTS}, "patients are in two splits: 0000"),
        ({"photo": "images/000.png"}, "already named above in 'photo'"),
    ],
)
def test_tables(path, cache, tmp_path, change, message):
    write_frame(path, make_frame(PATIENTS).assign(**change))
    text = refused(tmp_path / "out", *of_table(path, cache, "--attribute", "skin"))
    assert message in text
    assert "cohort.csv" in text


def test_a_column_that_is_missing(path, cache, tmp_path):
    write_frame(path, make_frame(PATIENTS).drop(columns="finding"))
    assert "no column 'finding'; it has: photo" in refused(tmp_path / "out", *of_table(path, cache))


def test_an_image_that_is_absent(path, cache, tmp_path):
    (path.parent / "images" / "005.png").unlink()
    text = refused(tmp_path / "out", *of_table(path, cache))
    assert "row 7" in text
    assert "005.png" in text


def test_a_group_without_positives_in_validation(path, cache, tmp_path):
    frame = make_frame(PATIENTS)
    never = frame["finding"].where(frame["skin"] != "III", "healthy")
    write_frame(path, frame.assign(finding=np.asarray(never)))
    words = of_table(path, cache, "--attribute", "skin", "--objective", "min_auc")
    text = refused(tmp_path / "out", *words)
    assert "undefined on the validation split" in text
    assert "0 positives" in text
    assert '--exclude-group "skin=III"' in text
    assert evenhand(*words, "--exclude-group", "skin=III", "--out", tmp_path / "out").status == 0


def test_a_truncated_jpeg_is_named_and_can_be_left_out(path, cache, tmp_path):
    broken = path.parent / "images" / "004.png"
    truncate(broken)
    out = tmp_path / "out"
    text = refused(out, *of_table(path, cache))
    assert "004.png" in text
    assert "--skip-unreadable" in text
    assert evenhand(*of_table(path, cache, "--skip-unreadable"), "--out", out).status == 0
    (left_out,) = read_json(out / "run.json")["source"]["left_out"]
    assert "004.png" in left_out


def test_folders_of_other_things(cache, tmp_path):
    words = ("finetune", PHANTOMS, *training(cache, "--epochs", 1))
    foreign, run = tmp_path / "foreign", tmp_path / "run"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("years of work")
    ended = evenhand(*words, "--overwrite", "--out", foreign)
    assert (ended.status, [path.name for path in foreign.iterdir()]) == (2, ["thesis.tex"])
    assert "is not empty and holds no run" in ended.err

    assert evenhand(*words, "--out", run).status == 0
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    for other, message in [
        (words, "holds a finished run"),
        (("tune", *words[1:]), "holds a run of 'finetune', not of 'tune'"),
        (("predict", run, PHANTOMS, "--cache", cache), "is read by this run"),
        ((*changed(words, "--weights", run), "--overwrite"), "is read by this run"),
    ]:
        ended = evenhand(*other, "--out", run)
        assert ended.status == 2
        assert message in ended.err
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_training_that_diverges_leaves_nothing(path, cache, tmp_path):
    words = of_table(path, cache, "--lr", 1e30)
    assert "give a lower --lr than 1e+30" in refused(tmp_path / "out", *words)


def test_a_run_without_a_model(tmp_path, cache):
    rows = pd.DataFrame({"label": [0, 1] * 20, "score": [0.2, 0.6, 0.7, 0.4] * 10, "attr_a": "b"})
    ids = rows.index.astype("str")
    rows.loc[::3, "attr_a"] = "c"
    rows.assign(sample_id=ids, patient_id=ids).to_csv(tmp_path / "rows.csv", index=False)
    run = tmp_path / "audited"
    assert evenhand("audit", tmp_path / "rows.csv", "--out", run).status == 0
    training_from = training(cache, "--weights", run)
    for words in (
        ("predict", run, PHANTOMS, "--cache", cache),
        ("export", run),
        ("finetune", PHANTOMS, *training_from),
        ("similarity", run, run),
    ):
        assert f"the run in {run} holds no model; name a run that does." in refused(
            tmp_path / "out", *words
        )
