"""Awkward tables through the command line: read as people mean them, or refused with the row."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.command import changed, evenhand
from tests.conftest import ROOT
from tests.data.pictures import write_picture

from evenhand.files import read_json
from evenhand.jobs import evaluate

DATA = Path(os.environ.get("EVENHAND_DATA", ROOT.parent / "shared" / "data"))
CASES = DATA.parent / "cases"
FEW = ("--replicates", 30, "--metric", "auc", "--across", "gap", "--across", "worst")
COLUMNS = ("--image-column", "file", "--label", "dx", "--patient", "patient", "--attribute", "sex")


def scores(**columns):
    """Return predictions of 80 patients, whose columns may be others."""
    rng = np.random.default_rng(0)
    label = np.arange(80) % 2
    frame = pd.DataFrame(
        {
            "sample_id": [f"s{k}" for k in range(80)],
            "patient_id": [f"p{k}" for k in range(80)],
            "label": label,
            "score": (0.4 * label + 0.6 * rng.random(80)).round(4),
            "sex": np.where(np.arange(80) // 2 % 2, "Male", "Female"),
            "age": 30 + np.arange(80) % 50,
        }
    )
    return frame.assign(**columns)


def audited(folder, frame, *words):
    path, out = folder / "mine.csv", folder / "out"
    frame.to_csv(path, index=False)
    ended = evenhand("audit", path, "--attribute", "sex", *changed(FEW, *words), "--out", out)
    assert ended.status in (0, 2), ended.err
    assert ended.status == 0 or not out.exists()
    return ended, (read_json(out / "metrics.json")["rows"] if ended.status == 0 else None)


def values(rows):
    return {(row["metric"], row["group"]): row["value"] for row in rows}


SPELT = {
    "case": ("male", "--merge sex=Male,male"),
    "letter": ("M", "--merge sex=Male,M"),
    "cyrillic": ("\u041cale", "--merge"),
}


@pytest.mark.parametrize(("spelt", "line"), SPELT.values(), ids=SPELT)
def test_one_group_in_two_spellings(tmp_path, spelt, line):
    right = values(audited(tmp_path, scores())[1])
    shutil.rmtree(tmp_path / "out")
    mixed = scores()
    mixed.loc[3::8, "sex"] = spelt
    refused, _ = audited(tmp_path, mixed)
    assert refused.status == 2
    assert line in refused.err
    flags = ("--merge", f"sex=Male,{spelt}")
    assert values(audited(tmp_path, mixed, *flags)[1]) == right


@pytest.mark.parametrize("spelt", ["Male\u00a0", "Ma\u200ble", " Male", "Male\u200e"])
def test_what_nobody_sees_makes_no_group(tmp_path, spelt):
    right = values(audited(tmp_path, scores())[1])
    shutil.rmtree(tmp_path / "out")
    mixed = scores()
    mixed.loc[3::8, "sex"] = spelt
    assert values(audited(tmp_path, mixed)[1]) == right


AGE = ("--attribute", "age")


@pytest.mark.parametrize(
    ("change", "words", "message"),
    [
        ({"age": 999}, ("--attribute", "age", "--bins", "age=60"), "--unknown-value age=999"),
        ({"age": "inf"}, ("--attribute", "age", "--bins", "age=60"), "inf, which is no age"),
        ({"patient_id": "unknown"}, (), "the patient id is unknown, which would"),
        ({"patient_id": "-1"}, (), "the patient id is -1"),
        ({"patient_id": "1.23457E+11"}, (), "a number that a spreadsheet has shortened"),
        ({"score": "[0.2, 0.8]"}, (), "score holds lists, as in [0.2, 0.8]. Write each class's"),
        ({"label": ["icu", "ward"] * 40}, (), "--positive icu or --positive ward"),
        ({"label": [1, 2] * 40}, (), "--positive 1 or --positive 2"),
        ({"label": ["yes", "Yes", "no", "no"] * 20}, (), "--merge label=Yes,yes"),
        ({"label": ["True", "TRUE", "False", "FALSE"] * 20}, (), "--merge label=TRUE,True"),
        ({"age": ["0-9", "Oct-19", "20-39", "5-9"] * 20}, AGE, "'Oct-19' was most likely '10-19'"),
        ({"age": ["9-May", "10-14", "15+", "<5"] * 20}, AGE, "'9-May' was most likely '5-9'"),
        ({"age": ["['F']"] * 80}, AGE, "holds lists or records, as in ['F']"),
        ({"age": ["young", "old" * 70] * 40}, AGE, "has more than 200 characters"),
        ({}, ("--map", "sex="), "--map 'sex=': write it as NAME=COLUMN"),
        ({}, ("--logits",), "are probabilities"),
        ({}, ("--attribute", "label"), "--attribute label: groups cannot be made from the label"),
        ({}, ("--attribute", "sex*sex"), "names an attribute twice"),
        ({}, ("--attribute", "sex"), "--attribute: 'sex' is given twice"),
        ({}, ("--condition", "sex"), "--condition sex is a part of --attribute sex"),
        ({}, ("--permutations", 1), "give 19 or more"),
        ({}, ("--replicates", 18), "give 19 or more (better 1000)"),
        ({}, ("--replicates", 2_000_000_000), "less than or equal to 1000000"),
        ({}, ("--seed", 2**80), "less than 4294967296"),
        ({}, ("--merge", "sax=Male,male"), "no attribute or label to give --merge for 'sax'"),
        ({}, ("--positive", "2"), "no class of the label"),
        ({}, ("--map", "label=a", "--map", "label=b"), "two columns for 'label'"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, change, words, message):
    frame = scores()
    for name, value in change.items():
        frame[name] = frame[name].astype(object)
        frame.loc[:, name] = value if isinstance(value, list) else [value, value, *frame[name][2:]]
    ended, _ = audited(tmp_path, frame, *words)
    assert ended.status == 2
    assert message in ended.err


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((False, True), ()),
        ((-1, 1), ()),
        (("no", "yes"), ()),
        (("benign", "malignant"), ()),
        (("ward", "icu"), ("--positive", "icu")),
        ((2, 1), ("--positive", "1")),
    ],
)
def test_labels_of_two_kinds_are_read(tmp_path, names, words):
    right = values(audited(tmp_path, scores())[1])
    shutil.rmtree(tmp_path / "out")
    frame = scores(label=[names[k % 2] for k in range(80)])
    assert values(audited(tmp_path, frame, *words)[1]) == right


def test_codes_for_unknown_are_noted_and_said(tmp_path):
    frame = scores()
    frame.loc[::10, "sex"] = "U"
    ended, rows = audited(tmp_path, frame)
    assert "--unknown-value sex=U" in ended.out
    assert any(
        "--unknown-value sex=U" in note for note in read_json(tmp_path / "out/run.json")["notes"]
    )
    assert "--unknown-value sex=U" in (tmp_path / "out/report.html").read_text(encoding="utf-8")
    shutil.rmtree(tmp_path / "out")
    _, rows = audited(tmp_path, frame, "--unknown-value", "sex=U")
    assert {row["group"] for row in rows} == {"*", "Female", "Male", "unknown"}


def test_a_run_is_audited_with_merged_groups(tmp_path):
    """Levels of Evenhand's own files can be merged, too."""
    frame = scores(sex=[("a", "b", "c", "d")[k // 2 % 4] for k in range(80)])
    audited(tmp_path, frame)
    words = ("--attribute", "sex", *FEW, "--merge", "sex=a,b", "--merge", "sex=other,c,d")
    ended = evenhand("audit", tmp_path / "out", *words, "--out", tmp_path / "again")
    assert ended.status == 0, ended.err
    rows = read_json(tmp_path / "again/metrics.json")["rows"]
    assert {row["group"] for row in rows if row["attribute"] == "sex"} == {"*", "a", "other"}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for k in range(40):
        write_picture(folder / "img" / f"im {k:02d}.png", k)
    return folder


def cases(**columns):
    frame = pd.DataFrame(
        {
            "file": [f"img/im {k:02d}.png" for k in range(40)],
            "dx": ["mel" if k % 4 < 2 else "nv" for k in range(40)],
            "patient": [f"{k // 2:05d}" for k in range(40)],
            "sex": ["F" if k // 4 % 2 else "M" for k in range(40)],
        }
    )
    return frame.assign(**columns)


def checked(pictures, folder, frame, *words):
    path = pictures / f"{folder.name}.csv"
    frame.to_csv(path, index=False)
    return evenhand("check", path, *COLUMNS, *words, "--cache", folder / "cache")


@pytest.mark.parametrize(
    ("change", "words", "message"),
    [
        ({"patient": "unknown"}, (), "rows 2, 3, 4, 5, 6 and 35 more: the patient id is unknown"),
        ({"sex": ["F", "M"] * 20}, (), "--conflict sex=majority"),
        ({"dx": ["icu", "icu", "ward", "ward"] * 10}, (), "--positive icu or --positive ward"),
        ({"dx": ["10", "010", "9", "9"] * 10}, (), "--merge dx=010,10"),
        ({"dx": ["mel", "MEL", "nv", "nv"] * 10}, (), "--merge dx=MEL,mel"),
        ({}, ("--attribute", "dx"), "--attribute dx is also the label"),
    ],
)
def test_tables_of_images_that_are_refused(pictures, tmp_path, change, words, message):
    ended = checked(pictures, tmp_path, cases(**change), *words)
    assert ended.status == 2
    assert message in ended.err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sex": ["F", "M"] * 20}, ("--conflict", "sex=keep")),
        ({"dx": ["icu", "icu", "ward", "ward"] * 10}, ("--positive", "icu")),
        ({"dx": ["mel", "MEL", "nv", "nv"] * 10}, ("--merge", "dx=mel,MEL")),
        ({"file": [f"img/im\u00a0{k:02d}.png" for k in range(40)]}, ()),
    ],
)
def test_tables_of_images_that_are_told(pictures, tmp_path, change, words):
    ended = checked(pictures, tmp_path, cases(**change), *words)
    assert ended.status in (0, 1), ended.err
    assert "0 of 40 samples cannot be read" in ended.out


def test_check_names_what_is_implausible(pictures, tmp_path):
    sex = ["FMU"[k // 4 % 3] for k in range(40)]
    ended = checked(pictures, tmp_path, cases(sex=sex))
    assert "--unknown-value sex=U" in ended.out


def test_a_file_in_another_unicode_form_is_found(tmp_path):
    for k in range(40):
        write_picture(tmp_path / "img" / f"Mu\u0308ller {k:02d}.png", k)
    frame = cases(file=[f"img/M\u00fcller {k:02d}.png" for k in range(40)])
    ended = checked(tmp_path, tmp_path, frame)
    assert "0 of 40 samples cannot be read" in ended.out, ended.err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_is_no_image(pictures, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    frame = cases()
    frame.loc[3, "file"] = str(tmp_path / "pipe.png")
    ended = checked(pictures, tmp_path, frame)
    assert ended.status == 2
    assert "row 5: " in ended.err
    assert "a pipe, a socket or a device" in ended.err


def test_folders_in_two_spellings(tmp_path):
    for k in range(12):
        write_picture(tmp_path / "data" / ("mel", "Mel", "nv")[k % 3] / f"{k}.png", k)
    ended = evenhand("datasets", "verify", f"folders:{tmp_path / 'data'}")
    assert ended.status == 2
    assert "--merge class=Mel,mel" in ended.err


def test_verify_says_that_the_positive_class_is_not_obvious(tmp_path):
    for k in range(12):
        write_picture(tmp_path / "data" / ("icu", "ward")[k % 2] / f"{k}.png", k)
    ended = evenhand("datasets", "verify", f"folders:{tmp_path / 'data'}")
    assert ended.status == 0
    assert "name it with --positive" in ended.out


RIGHT = {
    "case_word_group.csv": "--merge sex=Male,male",
    "f_female_mix.csv": "--merge sex=Female,F",
    "sex_unknown_codes.csv": "--unknown-value sex=",
    "age_999.csv": "--unknown-value age=999",
    "age_dob_nobins.csv": "holds dates",
    "latin1.csv": "iconv -f WINDOWS-1252",
    "utf16tab.csv": "auc_gap    sex: *     0.174",
    "score_list.csv": "score_0, score_1",
    "pq_index_is_sample.parquet": "auc_gap    sex: *     0.174",
    "sex_differs_in_patient.csv": "--conflict sex=majority",
    "pat_unknown.csv": "the patient id is unknown",
    "open_quote_swallows_cols.csv": "row 5: a quotation mark opens",
    "nul_byte.csv": "row 5: it holds a NUL byte",
}


@pytest.mark.skipif(not CASES.is_dir(), reason="the awkward files are not there")
@pytest.mark.parametrize("name", RIGHT)
def test_awkward_files(pictures, tmp_path, name):
    words = {"age_999.csv": ("age", "--bins", "age=60"), "age_dob_nobins.csv": ("age",)}
    path = CASES / name
    if b"dx" in path.read_bytes()[:200]:
        shutil.copy(path, pictures / name)
        ended = evenhand("check", pictures / name, *COLUMNS, "--cache", tmp_path / "cache")
    else:
        attribute = words.get(name, ("sex",))
        ended = evenhand("audit", path, "--attribute", *attribute, *FEW, "--out", tmp_path / "out")
    assert RIGHT[name] in " ".join([ended.out, ended.err])


def test_what_a_run_was_told_of_values_goes_on(pictures, tmp_path):
    """`predict` and `prune` read the same data as the run whose model they take."""
    sex = [("F", "Female", "M", "male")[k // 2 % 4] for k in range(40)]
    path = pictures / "told.csv"
    cases(sex=sex, dx=[("icu", "ward")[k // 8 % 2] for k in range(40)]).to_csv(path, index=False)
    text = ("--merge", "sex=F,Female", "--merge", "sex=M,male", "--positive", "icu")
    small = ("--image-size", 32, "--backbone", "test_vit", "--weights", "none", "--device", "cpu")
    cache = ("--cache", tmp_path / "cache")
    run = tmp_path / "run"
    ended = evenhand(
        *("finetune", path, *COLUMNS, *text, *small, *cache, "--epochs", 1, "--out", run)
    )
    assert ended.status == 0, ended.err
    assert read_json(run / "run.json")["source"]["label"] == "dx: ward, icu"
    assert read_json(run / "run.json")["source"]["levels"] == {"sex": ["F", "M"]}
    for command in (
        ("predict", run, path, *cache),
        ("prune", run, "--attribute", "sex", *cache, "--limit", 20, "--batches", 1),
    ):
        ended = evenhand(*command, "--out", tmp_path / command[0])
        assert ended.status == 0, ended.err
        rows = read_json(tmp_path / command[0] / "metrics.json")["rows"]
        assert {row["group"] for row in rows if row["attribute"] == "sex"} == {"*", "F", "M"}


def test_the_page_is_written_last(tmp_path, monkeypatch):
    """A job that was killed takes a run that has its page for complete."""
    monkeypatch.setattr(evaluate, "write_verdicts", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        audited(tmp_path, scores())
    assert not (tmp_path / "out" / "report.html").exists()


def test_a_csv_a_parquet_and_arrays_have_the_same_levels(tmp_path):
    import evenhand as package

    sex = np.arange(80) // 2 % 2.0
    frame = scores(sex=sex)
    frame.to_csv(tmp_path / "mine.csv", index=False)
    frame.to_parquet(tmp_path / "mine.parquet")
    settings = {"attribute": "sex", "replicates": 30, "metric": "auc"}
    doors = [
        package.audit(tmp_path / f"mine.{kind}", **settings, out=tmp_path / kind).metrics
        for kind in ("csv", "parquet")
    ]
    doors += [
        package.measure_groups(
            frame["label"], frame["score"], groups, patients=frame["patient_id"], replicates=30
        ).frame
        for groups in ({"sex": sex}, {"sex": sex.astype(str)}, frame["sex"].astype("Float64"))
    ]
    assert {tuple(sorted({*door["group"]})) for door in doors} == {("*", "0", "1")}


def test_a_label_of_floats_has_the_same_positive_class(tmp_path):
    frame = scores(label=np.arange(80) % 2 + 1.0)
    for positive in ("2", "2.0"):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        ended, rows = audited(tmp_path, frame, "--positive", positive)
        assert ended.status == 0, ended.err
        assert values(rows)["auc", "*"] > 0.7
