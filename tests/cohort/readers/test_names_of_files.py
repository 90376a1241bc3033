"""Names in tables that differ from those of files in their form alone; values of published data."""

from __future__ import annotations

import pandas as pd
import pytest
from tests.data.chexpert import make_chexpert
from tests.data.ham10000 import make_ham10000, read_metadata, write_metadata

from evenhand.cohort.readers import open_cohort
from evenhand.cohort.settings import DataSettings
from evenhand.errors import EvenhandError


def test_ids_may_end_as_files_do(tmp_path):
    root = make_ham10000(tmp_path / "ham", lesions=16)
    plain = open_cohort(DataSettings(data=f"ham10000:{root}"))
    table = read_metadata(root)
    write_metadata(root, table.assign(image_id=table["image_id"] + ".jpg"))
    cohort = open_cohort(DataSettings(data=f"ham10000:{root}"))
    assert len(cohort) == len(plain)
    assert cohort.read(cohort.table["sample_id"].iloc[0]).shape


@pytest.mark.parametrize("prefix", ["", "CheXpert-v1.0/", "CheXpert-v1.0-small/"])
def test_chexpert_with_or_without_its_prefix(tmp_path, prefix):
    path = make_chexpert(tmp_path) / "train.csv"
    table = pd.read_csv(path, dtype="str")
    table["Path"] = prefix + table["Path"].str.removeprefix("CheXpert-v1.0-small/")
    table.to_csv(path, index=False)
    cohort = open_cohort(DataSettings(data=f"chexpert:{tmp_path}"))
    assert cohort.table["sample_id"].str.startswith("train/patient").all()


def test_levels_of_published_data_are_merged(tmp_path):
    root = make_ham10000(tmp_path / "ham")
    plain = open_cohort(DataSettings(data=f"ham10000:{root}"))
    first, second, third = plain.levels["localization"][:3]
    cohort = open_cohort(
        DataSettings(
            data=f"ham10000:{root}",
            merge=(f"localization=here,{first},{second}",),
            unknown_value=(f"localization={third}",),
        )
    )
    before, after = (each.table["attr_localization"].value_counts() for each in (plain, cohort))
    assert after["here"] == before[first] + before[second]
    assert after["unknown"] == before["unknown"] + before[third]
    assert third not in cohort.levels["localization"]


def test_spellings_of_published_data_are_refused_where_they_are_asked_for(tmp_path):
    root = make_ham10000(tmp_path / "ham")
    table = read_metadata(root)
    place = table["localization"].iloc[0]
    table.loc[0, "localization"] = place.upper()
    write_metadata(root, table)
    open_cohort(DataSettings(data=f"ham10000:{root}"))
    with pytest.raises(EvenhandError, match="--merge localization="):
        open_cohort(DataSettings(data=f"ham10000:{root}", attribute=("localization",)))


def test_ages_that_nobody_has_are_unknown_and_noted(tmp_path):
    root = make_ham10000(tmp_path / "ham")
    table = read_metadata(root)
    table.loc[[0, 1], "age"] = ["-1", "999"]
    write_metadata(root, table)
    cohort = open_cohort(DataSettings(data=f"ham10000:{root}"))
    assert cohort.table["attr_age"].tolist()[:2] == ["unknown", "unknown"]
    assert "rows 2, 3 of " in cohort.source.notes[-1]
    assert "-1, 999, which no person has" in cohort.source.notes[-1]
