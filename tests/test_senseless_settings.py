"""Settings and environments that mean nothing: one text, status 2, and nothing is written."""

from __future__ import annotations

import sys

import pytest
from tests.command import PHANTOMS, changed, evenhand

from evenhand.errors import EvenhandError
from evenhand.launcher import check_environment, is_main

SPLIT = ("--split", ".6", ".2", ".2")
TRAIN = ("finetune", PHANTOMS, "--backbone", "test_vit", "--weights", "none", "--epochs", 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            (*TRAIN, "--image-size", 33),
            "its patches are 16 pixels wide. Give --image-size 32, or another",
        ),
        ((*TRAIN, "--image-size", 1_000_000), "--image-size: give the side in pixels"),
        ((*TRAIN, "--seed", 2**80), "--seed: Input should be less than 4294967296"),
        ((*TRAIN, "--attribute", "sex*sex"), "names an attribute twice"),
        ((*TRAIN, "--attribute", "sex*"), "lacks a name"),
        ((*TRAIN, "--attribute", "sex*group", "--attribute", "group*sex"), "are the same"),
        ((*TRAIN, "--merge", "sex=female,male"), "--merge cannot be given with phantom"),
        ((*TRAIN, "--positive", "benign"), "--positive cannot be given with phantom"),
        (
            (*changed(TRAIN, "--backbone", "test_resnet"), "--image-size", 32, "--batch-size", 1),
            "Give a batch of two or more",
        ),
        ((*TRAIN, "--attribute", "sex", "--method-attribute", "sex"), "works without an attribute"),
        ((*TRAIN, "--attribute", "sex", "--method", "jtt:wrong=1"), "wrong is computed"),
        ((*TRAIN, "--attribute", "sex", "--method", "jtt:weight=0"), "greater than 0"),
        ((*TRAIN, "--attribute", "sex", "--method", "minimax:rate=nan"), "rate='nan'"),
        ((*TRAIN, "--attribute", "sex", "--method", "group-dro:rate=-1"), "greater than or equal"),
        (("finetune", "phantom:patients=40,patients=50"), "gives 'patients' twice"),
        ((*TRAIN, "--seed", 1, "--seed=2"), "--seed is given more than once: 1 and 2"),
        ((*TRAIN, *SPLIT, *SPLIT), "--split is given more than once: .6 .2 .2 and .6 .2 .2"),
        ((*TRAIN, "--attribute", ""), "--attribute is given an empty value"),
        ((*TRAIN, "--attribute", "sex", "--max-pixels", 100), "phantom reads no image files"),
        (
            ("tune", PHANTOMS, *["--objective", "min_auc", "--objective", "min_auc"]),
            "is given twice",
        ),
    ],
)
def test_senseless_settings(tmp_path, words, message):
    ended = evenhand(*words, "--device", "cpu", "--cache", tmp_path / "c", "--out", tmp_path / "o")
    assert ended.status == 2
    assert message in ended.err
    assert not (tmp_path / "o").exists()


def test_an_empty_folder_name_is_not_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = evenhand(*TRAIN, "--out", "")
    assert ended.status == 2
    assert "--out is given an empty value" in ended.err
    ended = evenhand("audit", "a.csv", "a.csv", "--out", "o")
    assert "INPUTS: 'a.csv' is given twice; give it once" in ended.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1:30", "--seed: Input should be a valid integer"),
        ("label: ''", "label has an empty value"),
        ("seed: " + "9" * 5000, "cannot be read: Exceeds the limit"),
        ("[" * 3000 + "]" * 3000, "cannot be read: maximum recursion depth"),
        ("seed: 1\nseed: 2", "is given twice"),
        ("seed: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("batch-size: 0", "--batch-size: Input should be greater than 0"),
        (
            "patient-share: 010",
            "than or equal to 1 (given: 10",
        ),
    ],
)
def test_a_file_of_settings_that_means_nothing(tmp_path, text, message):
    (tmp_path / "c.yaml").write_text(text)
    ended = evenhand(*TRAIN, "--config", tmp_path / "c.yaml", "--out", tmp_path / "o")
    assert (ended.status, message in ended.err) == (2, True), ended.err


def test_a_word_that_is_no_text(tmp_path):
    ended = evenhand(*TRAIN, "--out", tmp_path / "\udcff")
    assert ended.status == 2
    assert "\\udcff' on the command line is not valid UTF-8" in ended.err


def test_more_memory_than_there_is(tmp_path):
    ended = evenhand("check", "phantom:size=99999", "--attribute", "group")
    assert ended.status == 2
    assert "there is not enough memory: Unable to allocate" in ended.err


def test_a_flag_that_is_given_as_a_value_is_not_given_twice():
    ended = evenhand(*TRAIN, "--label", "--seed", "--seed", 3, "--out", "o")
    assert "--label cannot be given with phantom" in ended.err


@pytest.mark.parametrize("names", [("seed", "seed"), ("image-size", "image_size")])
def test_a_setting_twice_in_a_file(tmp_path, names):
    config = tmp_path / "c.yaml"
    config.write_text("".join(f"{name}: {value}\n" for value, name in enumerate(names)))
    ended = evenhand(*TRAIN, "--config", config, "--out", tmp_path / "o")
    assert ended.status == 2
    assert "is given twice; give it once" in ended.err
    assert "line 2" in ended.err


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"OMP_NUM_THREADS": "x"}, "OMP_NUM_THREADS=x in the environment is not a whole number"),
        ({"OMP_NUM_THREADS": "0"}, "give at least 1 thread"),
        ({"RANK": "1"}, "the environment has RANK=1 and WORLD_SIZE=1"),
        ({"RANK": "x"}, "RANK=x in the environment"),
        ({"WORLD_SIZE": "many"}, "WORLD_SIZE=many in the environment"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2 and WORLD_SIZE=2"),
    ],
)
def test_a_shell_that_says_what_cannot_be(monkeypatch, variables, message):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(EvenhandError, match=message):
        check_environment()


def test_a_launcher_and_nested_threads_are_well(monkeypatch):
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "OMP_NUM_THREADS": "4,2"}.items():
        monkeypatch.setenv(name, value)
    check_environment()
    assert not is_main()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert is_main()


def test_a_model_of_no_card(tmp_path):
    rows = "sample_id,patient_id,label,score,sex\n" + "".join(
        f"s{k},p{k},{k % 2},0.{k % 7 + 1},{'fm'[k % 3 % 2]}\n" for k in range(40)
    )
    (tmp_path / "t.csv").write_text(rows)
    run = tmp_path / "run"
    words = ("--attribute", "sex", "--replicates", 20, "--out", run)
    assert evenhand("audit", tmp_path / "t.csv", *words).status == 0
    for more, message in (
        (("--model", "x"), "--model x names the model of a card, but no card is requested"),
        (("--model", "x", "--card", tmp_path / "c.md"), "no model in"),
    ):
        ended = evenhand("report", run, *more)
        assert ended.status == 2
        assert message in ended.err
    assert not (tmp_path / "c.md").exists()


def test_an_encoding_that_lacks_a_letter(tmp_path, monkeypatch):
    path = tmp_path / "m\u00fcller.csv"
    with open(tmp_path / "err", "w", encoding="ascii") as err:  # noqa: PTH123
        monkeypatch.setattr(sys, "stderr", err)
        monkeypatch.setattr(sys, "argv", ["evenhand", "audit", str(path), "--out", "x"])
        from evenhand.cli import main

        with pytest.raises(SystemExit):
            main()
    assert "m\\xfcller.csv" in (tmp_path / "err").read_text()
