"""A damaged file of a run: one text that names the file, status 2, and nothing left behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.command import PHANTOMS, changed, evenhand, training

FULL = "models/full"
FILES = {
    "run.json": ("report", "export", "predict", "prune", "similarity", "audit", "compare", "start"),
    f"{FULL}/model.json": ("report", "export", "predict", "prune", "similarity"),
    f"{FULL}/model.safetensors": ("export", "predict", "prune", "similarity", "start"),
    "metrics.json": ("export",),
    "splits.csv": ("predict", "adjust", "prune", "start", "exclude"),
    f"{FULL}/predictions.parquet": (
        *("report", "export", "predict", "similarity", "audit", "compare"),
    ),
}
"""The files of a run, and the commands that read each."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def whole(cache, tmp_path_factory):
    """A finished run."""
    out = tmp_path_factory.mktemp("whole") / "run"
    ended = evenhand("finetune", PHANTOMS, *training(cache, "--epochs", 1, "--out", out))
    assert ended.status == 0, ended.err
    return out


@pytest.fixture
def run(whole, tmp_path):
    """A copy of it, to be damaged."""
    return shutil.copytree(whole, tmp_path / "run")


def words(command: str, run: Path, whole: Path, cache: Path, out: Path) -> tuple[object, ...]:
    external = PHANTOMS.replace("seed=1", "seed=2")
    train = ("finetune", *training(cache, "--epochs", 1), "--out", out)
    return {
        "report": ("report", run),
        "export": ("export", run, "--format", "safetensors", "--out", out),
        "predict": ("predict", run, external, "--cache", cache, "--out", out),
        "adjust": ("adjust", run, "--attribute", "group", "--method", "thresholds", "--out", out),
        "prune": ("prune", run, "--attribute", "group", "--cache", cache, "--out", out),
        "similarity": ("similarity", run, whole, "--cache", cache, "--out", out),
        "audit": ("audit", run, "--out", out),
        "compare": ("compare", run, whole, "--out", out),
        "start": changed((*train[:1], external, *train[1:]), "--weights", run),
        "exclude": (*train[:1], PHANTOMS, *train[1:], "--exclude-patients", run),
    }[command]


def check_refused(file: str, command: str, run: Path, whole: Path, cache: Path, out: Path) -> None:
    before = contents(run)
    ended = evenhand(*words(command, run, whole, cache, out))
    assert ended.status == 2
    assert ended.err.startswith("evenhand: ")
    assert str(run / file) in ended.err or f"no {Path(file).name}" in ended.err, ended.err
    assert ended.out == ""
    assert not out.exists()
    assert contents(run) == before


def contents(run: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "absent": lambda whole: None,
    "empty": lambda whole: b"",
    "truncated": lambda whole: whole[: len(whole) // 2],
    "binary": lambda whole: bytes(range(256)) * 4,
    "a list": lambda whole: b"[]",
    "an object": lambda whole: b"{}",
    "a number": lambda whole: b"7\n",
}


def damage(path: Path, how: str) -> None:
    damaged = DAMAGES[how](path.read_bytes())
    if damaged is None:
        path.unlink()
    else:
        path.write_bytes(damaged)


def cases() -> Iterator[object]:
    for file, commands in FILES.items():
        for how in DAMAGES:
            for command in commands:
                if (command, how) == ("exclude", "absent"):  # predictions name patients, too
                    continue
                quick = command == commands[0]
                marks = [] if quick else [pytest.mark.slow]
                yield pytest.param(file, how, command, marks=marks)


@pytest.mark.parametrize(("file", "how", "command"), list(cases()))
def test_a_damaged_file_is_named(file, how, command, run, whole, cache, tmp_path):
    damage(run / file, how)
    check_refused(file, command, run, whole, cache, tmp_path / "out")


def test_adjust_refuses_a_run_without_splits(run, whole, cache, tmp_path):
    damage(run / "splits.csv", "absent")
    check_refused("splits.csv", "adjust", run, whole, cache, tmp_path / "out")


@pytest.mark.parametrize("command", ["report", pytest.param("predict", marks=pytest.mark.slow)])
@pytest.mark.parametrize("wrong", [None, {"a": {}}, [["x"]], -1.5, "absent"])
def test_a_key_of_the_record_that_is_missing_or_of_another_type(
    wrong, command, run, whole, cache, tmp_path
):
    record = json.loads((run / "run.json").read_text())
    keys = ("schema", "job", "status", "settings", "seed", "models", "fingerprint", "versions")
    for key in (*keys, "seconds", "source"):
        damaged = {**record, key: wrong}
        if wrong == "absent":
            del damaged[key]
            if key == "source":
                continue
        if (key, wrong) == ("source", None):
            continue
        if isinstance(wrong, dict) and key in ("settings", "source"):
            damaged[key] = {**record[key], "attribute": wrong, "path": wrong}
        (run / "run.json").write_text(json.dumps(damaged))
        check_refused("run.json", command, run, whole, cache, tmp_path / "out")


@pytest.mark.parametrize("key", ["data", "attribute", "label", "bins"])
def test_a_setting_that_a_command_reads_is_missing(key, run, whole, cache, tmp_path):
    record = json.loads((run / "run.json").read_text())
    del record["settings"][key]
    (run / "run.json").write_text(json.dumps(record))
    check_refused("run.json", "predict", run, whole, cache, tmp_path / "out")


@pytest.mark.parametrize("file", ["run.json", f"{FULL}/model.json", "metrics.json"])
def test_a_newer_schema(file, run, whole, cache, tmp_path):
    record = json.loads((run / file).read_text())
    (run / file).write_text(json.dumps({**record, "schema": 99}))
    check_refused(file, "export", run, whole, cache, tmp_path / "out")


@pytest.mark.parametrize("key", ["spec", "units", "val"])
@pytest.mark.parametrize("wrong", [None, 3, "x", [1]])
def test_a_wrong_type_in_a_model(key, wrong, run, whole, cache, tmp_path):
    path = run / FULL / "model.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, key: wrong}))
    check_refused(f"{FULL}/model.json", "export", run, whole, cache, tmp_path / "out")


def test_weights_of_another_build(run, whole, cache, tmp_path):
    path = run / FULL / "model.json"
    record = json.loads(path.read_text())
    record["spec"]["classes"] = ["a", "b", "c"]
    path.write_text(json.dumps(record))
    file = f"{FULL}/model.safetensors"
    check_refused(file, "export", run, whole, cache, tmp_path / "out")


@pytest.mark.parametrize("key", ["model", "value", "metric"])
@pytest.mark.parametrize("wrong", ["absent", {"x": 1}, []])
def test_a_wrong_row_of_metrics(key, wrong, run, whole, cache, tmp_path):
    record = json.loads((run / "metrics.json").read_text())
    record["rows"][3][key] = wrong
    if wrong == "absent":
        del record["rows"][3][key]
    (run / "metrics.json").write_text(json.dumps(record))
    check_refused("metrics.json", "export", run, whole, cache, tmp_path / "out")


@pytest.mark.parametrize(
    "metadata",
    [
        b"no json",
        b"[]",
        {},
        {"classes": ["a", "b", "c"]},
        {"classes": ["a"]},
        {"classes": "ab"},
        {"levels": {"group": ["majority"]}},
        {"levels": {"sex": ["F", "M"]}},
        {"levels": [1]},
        {"schema": 2},
    ],
)
def test_metadata_that_contradict_the_columns(metadata, run, whole, cache, tmp_path):
    path = run / FULL / "predictions.parquet"
    table = pq.read_table(path)
    before = json.loads(table.schema.metadata[b"evenhand"])
    text = (
        metadata
        if isinstance(metadata, bytes)
        else json.dumps({**before, **metadata} if metadata else {})
    )
    pq.write_table(table.replace_schema_metadata({b"evenhand": text}), path)
    check_refused(f"{FULL}/predictions.parquet", "audit", run, whole, cache, tmp_path / "out")


@pytest.mark.parametrize("column", ["sample_id", "score", "label", "attr_group"])
def test_a_column_that_is_missing_or_of_another_type(column, run, whole, cache, tmp_path):
    path, file = run / FULL / "predictions.parquet", f"{FULL}/predictions.parquet"
    table = pq.read_table(path)
    place = table.schema.get_field_index(column)
    pq.write_table(table.drop_columns([column]), path)
    check_refused(file, "audit", run, whole, cache, tmp_path / "out")
    if column == "sample_id":
        return
    wrong = pa.array([["x"]] * len(table))
    pq.write_table(table.set_column(place, column, wrong), path)
    check_refused(file, "audit", run, whole, cache, tmp_path / "out")


@pytest.mark.parametrize(
    "lines", ["sample_id,split\na,train\n", "sample_id,patient_id,split\na,b,x\n"]
)
def test_a_wrong_table_of_splits(lines, run, whole, cache, tmp_path):
    (run / "splits.csv").write_text(lines)
    check_refused("splits.csv", "predict", run, whole, cache, tmp_path / "out")
    check_refused("splits.csv", "start", run, whole, cache, tmp_path / "out")


@pytest.fixture(scope="module")
def begun(cache, tmp_path_factory):
    """A search that has begun and is not finished, with the command that goes on."""
    out = tmp_path_factory.mktemp("begun") / "run"
    flags = training(cache, "--epochs", 1, "--trials", 1, "--confirm", 0, "--baseline", "head")
    command = ("tune", PHANTOMS, *flags)
    assert evenhand(*command, "--out", out).status == 0
    record = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**record, "status": "running"}))
    return out, command


@pytest.mark.parametrize("how", list(DAMAGES))
def test_a_damaged_study(how, begun, tmp_path):
    run = shutil.copytree(begun[0], tmp_path / "run")
    damage(run / "study.db", how)
    before = contents(run)
    ended = evenhand(*begun[1], "--out", run)
    assert ended.status == 2
    assert str(run / "study.db") in ended.err
    assert ended.err.count("\n") == 1
    before.pop(run / "run.json"), (after := contents(run)).pop(run / "run.json")
    assert after == before
