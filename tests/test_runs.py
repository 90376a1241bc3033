"""The run directory: begun, continued, finished, never lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from evenhand.errors import EvenhandError
from evenhand.experiments.runs import Run, open_run
from evenhand.files import read_json, write_json
from evenhand.runs import SCHEMA, open_folder, run_scope, start_run

SETTINGS = {"seed": 3, "epochs": 2}


def begin(root, job="tune", settings=SETTINGS, fingerprint="f", **more):
    with run_scope():
        return start_run(root, job, settings, fingerprint=fingerprint, **more)


def contents(root):
    return {path.relative_to(root) for path in root.rglob("*")}


def test_what_a_new_run_says(tmp_path):
    begin(tmp_path / "run")
    facts = read_json(tmp_path / "run" / "run.json")
    assert facts.keys() == {
        *("schema", "job", "status", "settings", "seed", "chosen", "models", "fingerprint"),
        *("versions", "seconds"),
    }
    assert (facts["schema"], facts["status"], facts["seed"]) == (SCHEMA, "running", 3)
    assert {"python", "evenhand", "torch", "numpy"} <= facts["versions"].keys()


def test_an_unfinished_run_is_continued_as_it_is(tmp_path):
    run = begin(tmp_path)
    run.note(models=["full"])
    again = begin(tmp_path)
    assert again.head.models == ("full",)
    assert not again.finished


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"job": "finetune"}, "holds a run of 'tune', not of 'finetune'"),
        ({"settings": {"seed": 3, "epochs": 5}}, r"\(epochs was 2, is 5\)"),
        ({"settings": {"seed": 4}}, r"\(epochs was 2, is None; seed was 3, is 4\)"),
        ({"fingerprint": "g"}, "the data have changed"),
    ],
)
def test_another_run_is_refused_unless_it_may_be_replaced(tmp_path, change, message):
    begin(tmp_path).note(models=["full"])
    (tmp_path / "models" / "x").mkdir(parents=True)
    (tmp_path / "models" / "x" / "model.json").write_text("x")
    before = contents(tmp_path)
    with pytest.raises(EvenhandError, match=message) as refused:
        begin(tmp_path, **change)
    assert "--overwrite" in str(refused.value)
    assert contents(tmp_path) == before
    assert begin(tmp_path, **change, overwrite=True).head.models == ()
    assert contents(tmp_path) == {(tmp_path / "run.json").relative_to(tmp_path)}


def test_an_unfinished_run_of_an_earlier_version_is_continued_with_the_same_settings_alone(
    tmp_path,
):
    begin(tmp_path)
    write_json(tmp_path / "run.json", read_json(tmp_path / "run.json") | {"schema": 1})
    assert begin(tmp_path).head.schema_version == 1
    with pytest.raises(EvenhandError, match="unfinished run of an earlier version"):
        begin(tmp_path, settings={"seed": 4})


def test_a_finished_run_is_refused(tmp_path):
    begin(tmp_path).finish(chosen="full")
    with pytest.raises(EvenhandError, match=r"holds a finished run.*--out.*--overwrite"):
        begin(tmp_path)
    assert open_folder(str(tmp_path)).head.chosen == "full"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_other_things_is_never_touched(tmp_path, overwrite):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(EvenhandError, match="is not empty and holds no run"):
        begin(tmp_path, overwrite=overwrite)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    assert len(contents(tmp_path)) == 1


@pytest.mark.parametrize("read", [".", "mine.csv", "models", "../link/mine.csv"])
def test_a_run_does_not_replace_what_it_reads(tmp_path, read):
    out = tmp_path / "out"
    begin(out)
    (out / "mine.csv").write_text("years of work")
    (out / "models").mkdir()
    (tmp_path / "link").symlink_to(out)
    with pytest.raises(EvenhandError, match=r"is read by this run, .* another folder with --out"):
        begin(out, reads=[out / read], overwrite=True)
    assert (out / "mine.csv").read_text() == "years of work"


def test_a_run_may_lie_beside_what_it_reads_or_within(tmp_path, monkeypatch):
    begin(tmp_path / "out", reads=[tmp_path, tmp_path / "output", tmp_path / "out" / "absent"])
    monkeypatch.chdir(tmp_path / "out")
    begin(Path(), reads=[Path()], overwrite=True)  # phantoms lie nowhere


def test_phases_add_up_and_a_failed_one_is_not_lost_work(tmp_path):
    run = begin(tmp_path)
    for _ in range(2):
        with run.phase("training"):
            pass
    assert run.head.seconds.keys() == {"training"}


def test_models_are_those_with_predictions_in_their_order(tmp_path):
    run = Run(tmp_path)
    begin(tmp_path).note(models=["b", "a", "c"])
    for name in ("a", "b"):
        run.folder(name).mkdir(parents=True)
        run.predictions_file(name).touch()
    assert run.models == ("b", "a")


def test_what_is_no_run_or_a_later_one(tmp_path):
    with pytest.raises(EvenhandError, match=r"no run directory: it has no run\.json"):
        open_run(tmp_path)
    write_json(tmp_path / "run.json", {"schema": SCHEMA + 1})
    with pytest.raises(EvenhandError, match="schema 3; this version of Evenhand reads up to 2"):
        open_run(tmp_path)
