"""What a run directory loses when its run is replaced, and who may work in it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest

from evenhand.errors import EvenhandError
from evenhand.experiments.runs import Run
from evenhand.files import DamagedError, host_name, write_json
from evenhand.run_files import HOLDER, LOCK, WRITERS, WRITTEN, Contents, hold_lock, refuse_locked
from evenhand.runs import RunFolder, run_scope, start_run

DEAD = 2**22 + 1  # above the largest process id that Linux gives


def begin(root: Path, **more: object) -> Run:
    with run_scope():
        return start_run(root, "tune", {"seed": 0}, fingerprint="f", **more)


def names(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


@pytest.mark.parametrize(
    "record",
    [
        {"mine": 1},
        {"schema": 1, "job": "tune"},
        {"schema": 1, "fingerprint": "f"},
        {"schema": "x", "job": "tune", "fingerprint": "f"},
        {"schema": 1, "job": 3, "fingerprint": "f"},
        [],
    ],
)
def test_a_folder_of_somebody_else_is_not_overwritten(tmp_path, record):
    write_json(tmp_path / "run.json", record)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.tex").write_text("years of work")
    before = names(tmp_path)
    with pytest.raises(EvenhandError, match=r"run\.json is damaged.*nothing was removed"):
        begin(tmp_path, overwrite=True)
    assert names(tmp_path) == before


@pytest.mark.parametrize("mine", ["notes.txt", "models/notes.txt", "mine/report.html", "a/"])
def test_what_no_run_writes_is_named_and_nothing_is_removed(tmp_path, mine):
    begin(tmp_path).finish()
    (tmp_path / "report.html").touch()
    path = tmp_path / mine
    path.mkdir(parents=True) if mine.endswith("/") else path.parent.mkdir(exist_ok=True)
    if not mine.endswith("/"):
        path.write_text("mine")
    before = names(tmp_path)
    with pytest.raises(
        EvenhandError, match=f"holds files that no run writes: {mine.split('/')[0]}"
    ):
        begin(tmp_path, overwrite=True)
    assert names(tmp_path) == before


@pytest.mark.parametrize(
    "file",
    ["models/mine/model.json", "models/a/fits/mine/model.json", "models/mine/predictions.parquet"],
)
def test_a_model_that_evenhand_has_not_written_stays(tmp_path, file):
    begin(tmp_path).finish()
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    if path.suffix == ".json":
        path.write_text('{"layers": 3}')
    else:
        pd.DataFrame({"score": [0.5]}).to_parquet(path)
    before = names(tmp_path)
    with pytest.raises(
        EvenhandError, match=f"holds files that no run writes: .*{path.parent.name}"
    ):
        begin(tmp_path, overwrite=True)
    assert names(tmp_path) == before


@pytest.mark.parametrize("text", ["", "{", '{"schema": 1, "spec": {}}'])
def test_a_model_of_the_run_goes_also_when_it_is_damaged(tmp_path, text):
    begin(tmp_path).finish()
    path = tmp_path / "models" / "full" / "model.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    (path.parent / "predictions.parquet").write_bytes(b"PAR1")
    begin(tmp_path, overwrite=True)
    assert names(tmp_path) == {"run.json"}


def test_a_file_of_another_job_stays(tmp_path):
    begin(tmp_path).finish()
    (tmp_path / "curve.csv").write_text("step,loss")
    with pytest.raises(EvenhandError, match=r"holds files that no run writes: curve\.csv"):
        begin(tmp_path, overwrite=True)
    assert (tmp_path / "curve.csv").exists()


def test_everything_that_a_run_writes_goes(tmp_path):
    left = {*WRITTEN}
    for job in ("tune", "prune", "compare", "predict", "assess", "benchmark", "pretrain"):
        write_json(tmp_path / "run" / "run.json", {"schema": 1, "job": job, "fingerprint": "f"})
        for pattern in WRITTEN:
            path = tmp_path / "run" / pattern.replace("*", "some.name+x")
            if path.name == "run.json" or job not in WRITERS.get(pattern, (job,)):
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            left -= {pattern}
        begin(tmp_path / "run", overwrite=True)
        assert names(tmp_path / "run") == {"run.json"}
    assert left == {"run.json"}


def test_links_are_removed_as_links(tmp_path):
    """In the place of a folder, in the place of a file, and the run's own folder."""
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    (outside / "model.json").write_text("kept")
    (tmp_path / "link").symlink_to(root)
    begin(root)
    (root / "models").mkdir()
    (root / "models" / "full").symlink_to(outside)
    (root / "steps").symlink_to(outside)
    (root / "report.html").symlink_to(outside / "model.json")
    begin(tmp_path / "link", overwrite=True)
    assert names(root) == {"run.json"}
    assert (outside / "model.json").read_text() == "kept"
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("process", [DEAD, os.getpid()], ids=["dead", "own"])
def test_temporary_files_of_dead_processes_are_no_content(tmp_path, process):
    """A kill before the first rename leaves one, perhaps of a process with the same number."""
    for temporary in (f".run.json.{host_name()}-{process}.part", f".run.json.{process}.part"):
        (tmp_path / temporary).write_text("{")
    (tmp_path / ".lock").touch()
    begin(tmp_path)
    assert names(tmp_path) == {"run.json"}
    for temporary in (".metrics.json.node-7.part", "models/x/.model.json.node-7.part"):
        (tmp_path / temporary).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / temporary).write_text("{")
    begin(tmp_path)  # goes on
    assert Contents.of(tmp_path).temporary == ()


HOLD = """
import sys, pathlib
from evenhand.runs import run_scope, start_run
with run_scope():
    start_run(pathlib.Path(sys.argv[1]), "tune", {"seed": 0}, fingerprint="f")
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that works in a run directory."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "run"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


@pytest.mark.parametrize("overwrite", [False, True])
def test_one_process_works_in_a_run_directory_at_a_time(holder, tmp_path, overwrite):
    who = f"process {holder.pid} on {socket.gethostname()} since 20.* works in .*/run"
    with pytest.raises(EvenhandError, match=who):
        begin(tmp_path / "run", overwrite=overwrite)
    with pytest.raises(EvenhandError, match=who):
        refuse_locked(tmp_path / "run")
    assert names(tmp_path / "run") == {"run.json", LOCK, HOLDER}


def test_a_process_that_only_looks_refuses_nobody(tmp_path):
    """`refuse_locked` holds the lock for a moment; who opens the run then waits for that."""
    held, released = threading.Event(), threading.Event()

    def look() -> None:
        with hold_lock(tmp_path):
            held.set()
            released.wait(0.2)  # far longer than a look, far shorter than the patience

    thread = threading.Thread(target=look)
    thread.start()
    held.wait()
    refuse_locked(tmp_path)
    thread.join()
    with hold_lock(tmp_path):
        assert (tmp_path / LOCK).exists()


def test_a_lock_ends_with_its_process_even_killed(holder, tmp_path):
    holder.kill()
    holder.wait()
    refuse_locked(tmp_path / "run")
    begin(tmp_path / "run")
    assert names(tmp_path / "run") == {"run.json"}


def test_a_scope_in_this_process_locks_too(tmp_path):
    with run_scope():
        start_run(tmp_path, "tune", {"seed": 0}, fingerprint="f")
        with pytest.raises(EvenhandError, match=f"process {os.getpid()}"):
            begin(tmp_path)
    begin(tmp_path)


def test_where_the_system_has_no_locks_the_file_is_the_lock(tmp_path, monkeypatch):
    """And the one of a dead process of this machine is none."""
    fcntl = pytest.importorskip("fcntl", reason="Windows has other locks")

    def flock(*arguments: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with hold_lock(tmp_path), pytest.raises(EvenhandError, match=f"process {os.getpid()}"):
        refuse_locked(tmp_path)
    assert names(tmp_path) == set()
    with hold_lock(tmp_path):
        pass


@pytest.mark.parametrize("work", [None, "models/full/model.json", "study.db", "steps/1/model.json"])
def test_a_refused_command_leaves_nothing_but_work(tmp_path, work):
    root = tmp_path / "deep" / "run"

    def refused() -> None:
        with run_scope():
            start_run(root, "tune", {"seed": 0}, fingerprint="f")
            (root / "splits.csv").touch()
            if work:
                (root / work).parent.mkdir(parents=True, exist_ok=True)
                (root / work).touch()
            raise EvenhandError("a lower --lr, please")

    with pytest.raises(EvenhandError, match="lower"):
        refused()
    assert (tmp_path / "deep").exists() == (work is not None)
    assert work is None or work in names(root)


def test_a_continued_run_stays_when_it_is_refused(tmp_path):
    begin(tmp_path)

    def refused() -> None:
        with run_scope():
            start_run(tmp_path, "tune", {"seed": 0}, fingerprint="f")
            raise EvenhandError("no")

    with pytest.raises(EvenhandError, match="no"):
        refused()
    assert names(tmp_path) == {"run.json"}


def test_finished_runs_whose_predictions_are_absent(tmp_path):
    begin(tmp_path).note(models=["full"])
    run = Run(tmp_path)
    assert run.models == ()
    RunFolder(tmp_path).finish()
    with pytest.raises(DamagedError, match=r"full/predictions\.parquet is damaged: there is no"):
        _ = run.models


def test_a_missing_key_names_the_file(tmp_path):
    begin(tmp_path)
    with pytest.raises(DamagedError, match=r"run\.json is damaged: settings: it lacks 'attribute'"):
        _ = Run(tmp_path).record
