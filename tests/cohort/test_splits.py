"""Splits by patient, and patients kept out."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.phantoms.images import PhantomSettings, make_phantoms
from evenhand.cohort.splits import (
    Splits,
    _apportion,
    draw_patients,
    exclude_patients,
    read_splits,
    share_of_patients,
    split_patients,
    write_splits,
)
from evenhand.errors import EvenhandError

FRACTIONS = (0.6, 0.2, 0.2)
BASE = make_phantoms(PhantomSettings(patients=10, size=16))


def patients(cohort: Cohort) -> set[str]:
    return set(cohort.table["patient_id"])


def places(splits: Splits) -> dict[str, str]:
    return {name: split for split, part in splits.items() for name in part.table["sample_id"]}


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@st.composite
def cohorts(draw: st.DrawFn) -> Cohort:
    """Cohorts of 10 to 40 patients, one to three rows each, in any order and of any strata."""
    rows = [
        (f"s{patient}-{k}", f"p{patient}", draw(st.integers(0, 1)), draw(st.sampled_from("abc")))
        for patient in range(draw(st.integers(10, 40)))
        for k in range(draw(st.integers(1, 3)))
    ]
    columns = ["sample_id", "patient_id", "label", "attr_group"]
    return replace(BASE, table=pd.DataFrame(draw(st.permutations(rows)), columns=columns))


@given(cohorts(), st.integers(0, 99))
def test_every_patient_is_in_one_split_whole(cohort, seed):
    splits = split_patients(cohort, ["group"], FRACTIONS, seeded(seed))
    parts = [patients(part) for _, part in splits.items()]
    assert set().union(*parts) == patients(cohort)
    assert sum(map(len, parts)) == len(patients(cohort))
    assert sum(len(part) for _, part in splits.items()) == len(cohort)


@given(cohorts(), st.integers(0, 99), st.randoms())
def test_the_order_of_rows_has_no_influence(cohort, seed, random):
    rows = list(range(len(cohort)))
    random.shuffle(rows)
    again = split_patients(cohort.select(np.array(rows)), ["group"], FRACTIONS, seeded(seed))
    assert places(again) == places(split_patients(cohort, ["group"], FRACTIONS, seeded(seed)))


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=20),
    st.lists(st.integers(1, 9), min_size=2, max_size=4),
)
def test_each_stratum_and_the_whole_are_near_their_shares(sizes, weights):
    fractions = np.array(weights) / sum(weights)
    parts = _apportion(sizes, fractions)
    ideal = np.outer(sizes, fractions)
    assert (parts.sum(1) == sizes).all()
    assert (np.abs(parts - ideal) < 1 + 1e-9).all()
    assert (np.abs(parts.sum(0) - ideal.sum(0)) < len(weights)).all()


def test_splits_of_phantoms_are_stratified():
    cohort = make_phantoms(PhantomSettings(patients=500, size=16, minority=0.2, prevalence=0.3))
    splits = split_patients(cohort, ["group", "sex"], FRACTIONS, seeded())
    for name, share in zip(("train", "val", "test"), FRACTIONS, strict=True):
        table = getattr(splits, name).table
        assert len(table) == pytest.approx(500 * share, abs=2)
        assert table["label"].mean() == pytest.approx(0.3, abs=0.02)
        assert (table["attr_group"] == "minority").mean() == pytest.approx(0.2, abs=0.02)


def test_seeds_give_different_splits(phantoms):
    first, two = (split_patients(phantoms, [], FRACTIONS, seeded(seed)) for seed in (0, 1))
    assert places(first) != places(two)


def test_too_few_patients(phantoms):
    item = phantoms.select(phantoms.table["patient_id"] == "P00001")
    with pytest.raises(EvenhandError, match=r"no patient in val and test \(1 patient in all\)"):
        split_patients(item, [], FRACTIONS, seeded())


def test_a_split_column_is_honoured(phantoms):
    number = phantoms.table["patient_id"].str[1:].astype(int)
    named = pd.Series(np.array(["test", "train", "val"])[number % 3])
    cohort = replace(phantoms, table=phantoms.table.assign(split=named))
    splits = split_patients(cohort, ["group"], FRACTIONS, seeded())
    assert places(splits) == dict(zip(phantoms.table["sample_id"], named, strict=True))


def test_a_patient_in_two_splits_of_a_column_is_named(phantoms):
    split = np.array(["train", "val", "test"])[np.arange(len(phantoms)) // 2 % 3]
    split[0] = "test"
    cohort = replace(phantoms, table=phantoms.table.assign(split=split))
    with pytest.raises(EvenhandError, match=r"1 patient is in two splits: P00001 \(test and train"):
        split_patients(cohort, [], FRACTIONS, seeded())


def test_draw_patients_is_stratified_and_keeps_patients_whole(phantoms):
    drawn = draw_patients(phantoms, 0.3, ["group"], seeded())
    assert len(patients(drawn)) == pytest.approx(18, abs=1)
    assert len(drawn) == 2 * len(patients(drawn))
    assert (drawn.table["attr_group"] == "minority").mean() == pytest.approx(0.3, abs=0.06)
    assert drawn.table["label"].mean() == pytest.approx(0.4, abs=0.06)


def test_drawing_everybody_leaves_the_cohort_as_it_is(phantoms):
    assert draw_patients(phantoms, 1.0, [], seeded()).table.equals(phantoms.table)


class TestSplitTables:
    """The table of splits that a run keeps."""

    @pytest.fixture
    def splits(self, phantoms):
        return split_patients(phantoms, ["group"], FRACTIONS, seeded())

    def test_round_trip(self, tmp_path, phantoms, splits):
        write_splits(tmp_path / "splits.csv", splits)
        shuffled = phantoms.select(seeded().permutation(len(phantoms)))
        assert places(read_splits(tmp_path / "splits.csv", shuffled)) == places(splits)

    def test_samples_that_are_not_named_take_no_part(self, tmp_path, phantoms, splits):
        few = replace(splits, train=splits.train.select(np.arange(4)))
        write_splits(tmp_path / "splits.csv", few)
        assert places(read_splits(tmp_path / "splits.csv", phantoms)) == places(few)

    def mended(self, tmp_path, splits, change):
        path = tmp_path / "splits.csv"
        write_splits(path, splits)
        table = pd.read_csv(path, dtype="str")
        change(table).to_csv(path, index=False)
        return path

    def test_a_patient_in_two_splits(self, tmp_path, phantoms, splits):
        patient = splits.train.table["patient_id"][0]

        def change(table):
            table.loc[0, "split"] = "test"
            return table

        path = self.mended(tmp_path, splits, change)
        with pytest.raises(EvenhandError, match=rf"splits.csv: 1 patient is .*{patient} \(test"):
            read_splits(path, phantoms)

    def test_another_name_of_a_split(self, tmp_path, phantoms, splits):
        path = self.mended(tmp_path, splits, lambda table: table.replace("val", "valid"))
        with pytest.raises(EvenhandError, match=r"splits.csv, rows .*one of train, val, test"):
            read_splits(path, phantoms)

    def test_a_sample_that_is_not_there(self, tmp_path, phantoms, splits):
        path = self.mended(tmp_path, splits, lambda table: table.replace("P00001-1", "Q"))
        with pytest.raises(EvenhandError, match=r"splits.csv, row \d+: .*no sample of that name"):
            read_splits(path, phantoms)

    def test_a_missing_column(self, tmp_path, phantoms, splits):
        path = self.mended(tmp_path, splits, lambda table: table.drop(columns="patient_id"))
        with pytest.raises(EvenhandError, match=r"splits.csv has no column 'patient_id'; it has"):
            read_splits(path, phantoms)


class TestExcludePatients:
    """Patients whom another run, or a list, has claimed."""

    def test_a_run_with_splits(self, tmp_path, phantoms):
        kept_apart = draw_patients(phantoms, 0.3, ["group"], seeded())
        write_splits(tmp_path / "splits.csv", split_patients(kept_apart, [], FRACTIONS, seeded()))
        rest = exclude_patients(phantoms, [tmp_path])
        assert patients(rest) == patients(phantoms) - patients(kept_apart)
        assert patients(kept_apart)

    def test_a_run_with_predictions_only(self, tmp_path, phantoms):
        folder = tmp_path / "models" / "full"
        folder.mkdir(parents=True)
        phantoms.table[:10].to_parquet(folder / "predictions.parquet")
        assert len(exclude_patients(phantoms, [tmp_path])) == len(phantoms) - 10

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("patients.txt", "P00001\n\n  P00002 \n"),
            ("patients.csv", "n,patient_id\n1,P00001\n2,P00002\n"),
        ],
    )
    def test_a_file_of_patients(self, tmp_path, phantoms, name, text):
        (tmp_path / name).write_text(text, encoding="utf-8")
        rest = exclude_patients(phantoms, [tmp_path / name])
        assert patients(phantoms) - patients(rest) == {"P00001", "P00002"}

    def test_several_sources(self, tmp_path, phantoms):
        for name in ("P00001", "P00002"):
            (tmp_path / name).write_text(name, encoding="utf-8")
        rest = exclude_patients(phantoms, [tmp_path / "P00001", tmp_path / "P00002"])
        assert patients(phantoms) - patients(rest) == {"P00001", "P00002"}

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (b"X1\nX2\n", r"names 2 patients \(X1, X2\), none of them in phantom:"),
            (b"\xff\xfe\x00", "is no list of patients"),
            (None, "no run and no file"),
        ],
    )
    def test_what_is_refused(self, tmp_path, phantoms, content, problem):
        path = tmp_path / "patients.txt"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(EvenhandError, match=problem):
            exclude_patients(phantoms, [path])

    def test_a_table_without_patients(self, tmp_path, phantoms):
        path = tmp_path / "patients.csv"
        path.write_text("id\nP00001\n", encoding="utf-8")
        with pytest.raises(EvenhandError, match=r"patients.csv has no column 'patient_id'"):
            exclude_patients(phantoms, [path])

    def test_a_folder_that_is_no_run(self, tmp_path, phantoms):
        with pytest.raises(EvenhandError, match=r"neither splits.csv nor"):
            exclude_patients(phantoms, [tmp_path])

    def test_everybody(self, tmp_path, phantoms):
        path = tmp_path / "all.txt"
        path.write_text("\n".join(patients(phantoms)), encoding="utf-8")
        with pytest.raises(EvenhandError, match="all the patients"):
            exclude_patients(phantoms, [path])


@settings(max_examples=30)
@given(st.integers(0, 99), st.lists(st.floats(0.01, 1), min_size=2, max_size=4))
def test_shares_of_patients_are_nested_and_keep_both_labels(seed, shares):
    cohort = make_phantoms(PhantomSettings(patients=50, size=16, images=2))
    result = [
        set(share_of_patients(cohort, share, np.random.default_rng(seed)).table["patient_id"])
        for share in sorted(shares)
    ]
    for small, large in pairwise(result):
        assert small <= large
    for share, patients in zip(sorted(shares), result, strict=True):
        assert abs(len(patients) - 50 * share) <= 2
        rows = cohort.table[cohort.table["patient_id"].isin(patients)]
        assert set(rows["label"]) == {0, 1}


def test_a_patient_with_any_positive_sample_counts_as_positive_in_a_share():
    rows = [(f"s{n}-{k}", f"p{n}", int(k == 1 and n < 10), "a") for n in range(40) for k in (0, 1)]
    columns = ["sample_id", "patient_id", "label", "attr_group"]
    cohort = replace(BASE, table=pd.DataFrame(rows, columns=columns))
    for seed in range(8):
        share = share_of_patients(cohort, 0.5, seeded(seed)).table
        assert share.loc[share["label"] == 1, "patient_id"].nunique() == 5
