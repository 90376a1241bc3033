"""Files appear whole or not at all; fingerprints change with the data."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from evenhand import files
from evenhand.files import (
    DamagedError,
    Stamp,
    fingerprint,
    read_json,
    replacing,
    write_json,
    write_text,
)


def stamps(paths: Iterable[Path]) -> Iterator[Stamp]:
    for path in paths:
        yield str(path), path.stat().st_size, path.stat().st_mtime_ns


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "old")

    def interrupted() -> None:
        with replacing(path) as part:
            part.write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        interrupted()
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with replacing(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_only_what_may_be_written_is_synced_as_windows_wants_it(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl", reason="Windows refuses by itself")

    def fsync(descriptor: int) -> None:
        assert fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(tmp_path / "file.txt", "new")
    assert (tmp_path / "file.txt").read_text() == "new"


def test_json_comes_back_and_holds_no_nan(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"größe": [1, None, 0.1]})
    assert read_json(path) == {"größe": [1, None, 0.1]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"x": float("nan")})
    assert read_json(path) == {"größe": [1, None, 0.1]}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "model.json")
    with pytest.raises(DamagedError, match="a pipe"):
        read_json(tmp_path / "model.json")


def test_bulk_files_count_by_path_size_and_time(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("1")
    second.write_text("2")
    before = fingerprint(stamps([first, second]))
    assert fingerprint(stamps([second, first])) == before
    assert fingerprint(stamps([first])) != before
    os.utime(second, (1, 1))
    assert fingerprint(stamps([first, second])) != before


def test_moved_files_are_the_same_and_renamed_ones_are_not(tmp_path):
    names = [Path("here/a.jpg"), Path("here/deep/b.jpg")]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    before = fingerprint(stamps(tmp_path / name for name in names))
    (tmp_path / "here").rename(tmp_path / "there")
    moved = [tmp_path / "there" / name.relative_to("here") for name in names]
    assert fingerprint(stamps(moved)) == before
    moved[1] = moved[1].rename(moved[1].with_name("c.jpg"))
    assert fingerprint(stamps(moved)) != before


@pytest.mark.parametrize("folder", ["", "images/"])
def test_files_named_from_another_working_directory_are_the_same(tmp_path, monkeypatch, folder):
    (tmp_path / "images").mkdir()
    names = [f"{folder}a.jpg", f"{folder}b.jpg"]
    for name in names:
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    roots = ("", f".{os.sep}", f"{tmp_path}{os.sep}", f"..{os.sep}{tmp_path.name}{os.sep}")
    digests = {fingerprint([(f"{root}{name}", 0, 1) for name in names]) for root in roots}
    assert len(digests) == 1


def test_files_of_which_only_some_are_named_from_the_root(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").touch()
    monkeypatch.chdir(tmp_path)
    short, full = Path("a.jpg"), tmp_path / "a.jpg"
    assert fingerprint(stamps([short, full])) != fingerprint(stamps([short]))


def test_tables_count_by_content(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("1")
    second.write_text("1")
    os.utime(second, (1, 1))
    assert fingerprint((), [first]) == fingerprint((), [second])
    second.write_text("2")
    assert fingerprint((), [first]) != fingerprint((), [second])


def test_every_file_has_the_mode_that_new_files_have(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    with replacing(tmp_path / "private") as part:
        part.unlink()
        os.close(os.open(part, os.O_CREAT | os.O_WRONLY, 0o600))
    assert (tmp_path / "private").stat().st_mode == plain.stat().st_mode


def test_a_planted_link_is_not_written_through(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_temporary_name", lambda name: f".{name}.part")
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / ".a.json.part").symlink_to(victim)
    files.write_json(tmp_path / "a.json", {})
    assert victim.read_text() == "mine"
    assert (tmp_path / "a.json").read_text() == "{}\n"
