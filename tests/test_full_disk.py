"""What the system refuses to write is told in one text, and nothing that was finished is lost."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from tests.command import PHANTOMS, evenhand, training

from evenhand.errors import EvenhandError
from evenhand.files import WriteError, replacing, write_json, write_text

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Linux's limits and file systems")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def predictions(cache, tmp_path_factory):
    """A run, whose predictions are audited here: the quickest job."""
    out = tmp_path_factory.mktemp("runs") / "run"
    ended = evenhand("finetune", PHANTOMS, *training(cache, "--epochs", 1, "--out", out))
    assert ended.status == 0, ended.err
    return out / "models" / "full" / "predictions.parquet"


def bad_place(kind: str, folder: Path) -> Path:
    """Make a path where no run can be written."""
    if kind == "a file":
        (folder / "file").touch()
        return folder / "file"
    if kind == "below a file":
        (folder / "file").touch()
        return folder / "file" / "run"
    if kind == "a loop":
        (folder / "one").symlink_to(folder / "two")
        (folder / "two").symlink_to(folder / "one")
        return folder / "one" / "run"
    if kind == "a link to nothing":
        (folder / "link").symlink_to(folder / "nothing")
        return folder / "link"
    if kind == "a long name":
        return folder / "made" / ("x" * 300)
    (folder / "locked").mkdir(mode=0o500)
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    return folder / "locked" / "run"


KINDS = ("a file", "below a file", "a loop", "a link to nothing", "a long name", "read-only")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flag", ["--out", "export", "--card"])
def test_a_place_where_nothing_can_be_written(kind, flag, predictions, tmp_path):
    run = predictions.parents[2]
    out = bad_place(kind, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    if kind in ("a file", "a link to nothing") and flag != "--out":
        pytest.skip("a file may be written there")
    words = {
        "--out": ("audit", predictions, "--out", out),
        "export": ("export", run, "--format", "safetensors", "--out", out),
        "--card": ("report", run, "--card", out),
    }[flag]
    ended = evenhand(*words)
    assert ended.status == 2
    assert ended.err.startswith("evenhand: ")
    assert ended.err.count("\n") == 1
    assert str(out)[:200] in ended.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("command", ["report", "audit", "check", "predict"])
def test_a_name_that_no_file_can_have(command, tmp_path):
    long = "x" * 5000
    ended = evenhand(command, long, *(["y", "--out", "z"] if command == "predict" else []))
    assert ended.status == 2
    assert "Traceback" not in ended.err


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory):
    """A file system of eight megabytes, where this user may mount one."""
    folder = tmp_path_factory.mktemp("disk")
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("this user may not mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path, left: int = 0) -> Path:
    """Fill a disk but for some bytes."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    os.truncate(ballast, max(0, ballast.stat().st_size - left))
    return ballast


@LINUX
@pytest.mark.parametrize("left", [0, 4096, 12288, 40960])
def test_a_full_disk_at_the_start_or_later_leaves_nothing(predictions, small_disk, left):
    ballast = fill(small_disk, left)
    try:
        ended = evenhand("audit", predictions, "--out", small_disk / "run")
        assert ended.status == 2
        assert "No space left on device. Make room" in ended.err
        assert ended.err.count("\n") == 1
        assert [path.name for path in small_disk.iterdir()] == ["ballast"]
    finally:
        ballast.unlink()


@LINUX
@pytest.mark.parametrize("command", ["export", "report"])
def test_a_full_disk_leaves_the_old_files(command, predictions, small_disk):
    run = shutil.copytree(predictions.parents[2], small_disk / "run")
    ballast = fill(small_disk)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    words = ("report", run)
    if command == "export":
        words = ("export", run, "--format", "safetensors", "--out", small_disk / "model")
    try:
        ended = evenhand(*words)
        assert (ended.status, "No space left" in ended.err) == (2, True)
        assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        assert not (small_disk / "model").exists()
    finally:
        ballast.unlink()
        shutil.rmtree(run)


@LINUX
def test_a_read_only_disk(predictions, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    try:
        ended = evenhand("audit", predictions, "--out", small_disk / "deep" / "run")
        assert ended.status == 2
        assert f"{small_disk}/deep/run cannot be written: Read-only file system." in ended.err
    finally:
        subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)


def finished(study: Path) -> list[tuple[int, int, float | None]]:
    """Return the trials that are done, with their values."""
    words = (
        "SELECT study_id, number, value FROM trials LEFT JOIN trial_values USING (trial_id) "
        "WHERE state IN ('COMPLETE', 'PRUNED') ORDER BY study_id, number"
    )
    with contextlib.closing(sqlite3.connect(study)) as base:
        return base.execute(words).fetchall()


@LINUX
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_search_goes_on_when_there_is_room_again(
    workers, cache, small_disk, monkeypatch, importable_tests
):
    """The disk is full from the second trial on."""
    out = small_disk / "tuned"
    flags = training(cache, "--epochs", 1, "--trials", 3, "--confirm", 0, "--baseline", "head")
    words = ("tune", PHANTOMS, *flags, "--out", out, "--workers", workers)

    def full_at_second(study: object) -> str:
        trials = finished(out / "study.db")
        if len(trials) == 1 and not (small_disk / "ballast").exists():
            fill(small_disk)
        return ""

    with monkeypatch.context() as patch:
        patch.setattr("evenhand.experiments.trials.summary_of", full_at_second)
        ended = evenhand(*words)
    assert ended.status == 2
    assert ended.err.count("\n") == 1, ended.err
    assert "full" in ended.err or "No space left" in ended.err
    (small_disk / "ballast").unlink()
    before = finished(out / "study.db")
    assert before
    ended = evenhand(*words)
    assert ended.status == 0, ended.err
    assert set(before) <= set(finished(out / "study.db"))
    # Three of each search, and the baseline's, which FairTune's search adopts.
    assert len(finished(out / "study.db")) == 9
    shutil.rmtree(out)


@LINUX
def test_a_limit_of_the_file_size_is_told(tmp_path):
    code = (
        "import resource, pathlib, sys\n"
        "from evenhand.files import write_text\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_text(pathlib.Path(sys.argv[1]), 'x' * 2000)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, tmp_path / "a"], capture_output=True)
    assert b"WriteError" in ended.stderr
    assert b"File too large. Make room" in ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
def test_what_the_system_says_is_told_with_the_path(number, tmp_path, monkeypatch):
    write_text(tmp_path / "a.json", "old")

    def refuse(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(WriteError, match=f"a.json cannot be written: {os.strerror(number)}"):
        write_json(tmp_path / "a.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"


def test_a_bug_in_the_block_stays_a_bug(tmp_path):
    with pytest.raises(KeyError), replacing(tmp_path / "a"):
        raise KeyError("bug")
    assert not issubclass(KeyError, EvenhandError)
    assert list(tmp_path.iterdir()) == []
