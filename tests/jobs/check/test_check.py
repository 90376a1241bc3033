from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.command import evenhand
from tests.data.chexpert import make_chexpert
from tests.data.folders import make_folders
from tests.data.ham10000 import make_ham10000

from evenhand.cohort.cohort import UnreadableError
from evenhand.cohort.phantoms.series import SeriesPhantomSettings, make_series_phantoms
from evenhand.cohort.series.recordings import Recordings, Series
from evenhand.cohort.splits import Splits
from evenhand.cohort.store.samples import store_samples
from evenhand.jobs.check.job import Requirements, check, measure_data
from evenhand.jobs.check.requirements import unreadable_finding
from evenhand.jobs.check.settings import CheckSettings
from evenhand.metrics import auc_error, detectable_gap
from evenhand.reporting.check_record import Finding

LARGE = "phantom:patients=900,size=16,minority=0.4"
SMALL = "phantom:patients=400,size=16,minority=0.4"


def finding_of(record: Requirements, requirement: str, about: str = "*") -> Finding:
    (finding,) = (f for f in record.findings if (f.requirement, f.about) == (requirement, about))
    return finding


def checked(data: str, cache: Path, **settings: object) -> Requirements:
    return measure_data(CheckSettings(data=data, cache=cache, **settings))


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def phantoms(cache) -> Requirements:
    return checked(LARGE, cache)


def own_table(root: Path, change: dict[str, object] | None = None) -> tuple[str, dict[str, object]]:
    """Write a user's table: sites of which one has all the positives, and some are unknown."""
    make_ham10000(root, lesions=60)
    table = pd.read_csv(root / "HAM10000_metadata.csv", encoding="utf-8-sig")
    images = {path.stem: str(path.relative_to(root)) for path in root.glob("*/*.jpg")}
    number = table["lesion_id"].str[4:].astype(int)
    frame = pd.DataFrame(
        {
            "file": table["image_id"].map(images),
            "sick": (number % 2).where(number % 3 > 0, 0),
            "who": table["lesion_id"],
            "site": (number % 3).map({0: "north", 1: "south", 2: ""}),
            **(change or {}),
        }
    )
    frame.to_csv(root / "own.csv", index=False)
    columns = {"image_column": "file", "label": "sick", "patient": "who", "attribute": ("site",)}
    return str(root / "own.csv"), columns


def test_a_data_set_that_has_what_it_takes(phantoms):
    assert finding_of(phantoms, "attributes").value == 3  # without --attribute all there are
    unknown = finding_of(phantoms, "unknown", "group")
    assert unknown.value == 0
    assert re.fullmatch(
        r"0.0% unknown \(0 of \d+ patients\)(; |, )(.+ \d+ patients)+", unknown.measured
    )
    assert finding_of(phantoms, "patients", "group").status == "pass"
    assert finding_of(phantoms, "cases", "sex").status == "pass"
    assert finding_of(phantoms, "base_rate", "sex").status == "pass"
    assert (
        finding_of(phantoms, "leakage").status
        == finding_of(phantoms, "unreadable").status
        == "pass"
    )
    assert finding_of(phantoms, "duplicates", "exact").value == 0


def test_counts_add_up(phantoms):
    counts = phantoms.counts
    samples = counts.groupby("attribute")["samples"].sum().to_dict()
    assert samples == {"group": 900, "sex": 900, "sticker": 900}
    assert counts[counts["attribute"] == "group"]["positives"].sum() == 360
    fewest = counts[["samples", "positives"]].assign(other=counts["samples"] - counts["positives"])
    assert (counts["fewest"] == fewest[["positives", "other"]].min(axis=1)).all()


def test_the_smallest_gap_is_that_of_the_test_counts(phantoms):
    rows = phantoms.counts.query("attribute == 'group' and split == 'test'")
    errors = [
        auc_error(0.85, row["positives"], row["samples"] - row["positives"])
        for _, row in rows.iterrows()
    ]
    expected = detectable_gap(float(sum(error**2 for error in errors) ** 0.5))
    assert finding_of(phantoms, "detectable", "group").value == pytest.approx(expected)


@pytest.mark.parametrize(
    ("settings", "requirement", "about", "status"),
    [
        ({"patients": (500, 100)}, "patients", "group", "fail"),
        ({"patients": (100, 5)}, "patients", "group", "warn"),
        ({"cases": (80, 2)}, "cases", "group", "warn"),
        ({"detectable": (0.01, 0.02)}, "detectable", "sex", "fail"),
        ({"modalities": 1}, "modalities", "*", "pass"),
        ({"near": 0.5}, "duplicates", "near", "fail"),
    ],
)
def test_thresholds_are_settings(cache, settings, requirement, about, status):
    assert finding_of(checked(SMALL, cache, **settings), requirement, about).status == status


def test_a_table_of_ones_own(tmp_path, cache):
    data, columns = own_table(tmp_path / "data")
    result = checked(data, cache, **columns)
    unknown = finding_of(result, "unknown", "site")
    assert unknown.value == pytest.approx(1 / 3)
    assert unknown.status == "fail"
    rate = finding_of(result, "base_rate", "site")
    assert rate.status == "warn"
    assert abs(rate.value) > 0.4
    assert finding_of(result, "cases", "site").status == "fail"
    power = finding_of(result, "detectable", "site")
    assert (power.value, power.status) == (None, "fail")
    assert power.measured == "a class is missing in north"
    assert finding_of(result, "licence").status == "note"


def rated(tmp_path, cache, rates, size, **settings):
    """Check a table of two groups, whose rates of the positive class are given."""
    data, columns = own_table(tmp_path / "data")
    table = pd.concat([pd.read_csv(data)] * 40, ignore_index=True).iloc[: 2 * size]
    sick = np.zeros(2 * size, int)
    for group, rate in enumerate(rates):
        sick[group * size : group * size + round(rate * size)] = 1
    images = tmp_path / "data" / "many"
    images.mkdir()
    names = []
    for row, file in enumerate(table["file"]):
        names.append(f"many/{row}.jpg")
        (tmp_path / "data" / names[-1]).symlink_to(tmp_path / "data" / file)
    table = table.assign(
        file=names, sick=sick, who=np.arange(2 * size), site=np.repeat(["north", "south"], size)
    )
    table.to_csv(data, index=False)
    return finding_of(checked(data, cache, **columns | settings), "base_rate", "site")


def test_a_base_rate_of_17_percent_beside_10_is_worth_a_look(tmp_path, cache):
    result = rated(tmp_path, cache, (0.10, 0.17), 600)
    assert result.status == "warn"  # as a ratio; their difference is below .1
    assert abs(result.value) == pytest.approx(0.07)
    assert result.p_adjusted < 0.05
    assert "difference" in result.measured
    assert re.search(r"ratio 0\.59 \(0\.4\d to 0\.\d\d\)|ratio 1\.70 \(1\.\d\d to", result.measured)


@pytest.mark.parametrize(
    ("rates", "size", "settings"),
    [
        ((0.10, 0.17), 60, {}),  # chance may make this
        ((0.50, 0.60), 600, {"base_rate": 0.15}),  # a ratio of 1.2
        ((0.10, 0.17), 600, {"base_rate_ratio": 2}),
    ],
)
def test_base_rates_pass_where_chance_explains_them_or_both_limits_are_met(
    tmp_path, cache, rates, size, settings
):
    assert rated(tmp_path, cache, rates, size, **settings).status == "pass"


def test_verdicts_are_written_beside_the_page(cache, tmp_path):
    evenhand("check", SMALL, "--cache", cache, "--out", tmp_path / "c")
    result = json.loads((tmp_path / "c" / "check.json").read_text())["findings"]
    verdicts = json.loads((tmp_path / "c" / "verdicts.json").read_text())["verdicts"]
    assert [verdict["claim"] for verdict in verdicts] == [
        item["status"] in ("warn", "fail") for item in result
    ]
    assert {verdict["p_adjusted"] for verdict in verdicts if "base_rate" in verdict["about"]} >= {
        item["p_adjusted"] for item in result if item["requirement"] == "base_rate"
    }


def test_the_same_image_in_two_splits_leaks(tmp_path, cache):
    root = tmp_path / "data"
    data, columns = own_table(root)
    table = pd.read_csv(data)
    table["split"] = ["train" if int(who[4:]) < 40 else "val" for who in table["who"]]
    table.loc[table["who"].str[4:].astype(int) > 50, "split"] = "test"
    table.to_csv(data, index=False)
    first, last = (root / table["file"].iloc[place] for place in (0, -1))
    shutil.copy(first, last)
    result = checked(data, cache, **columns)
    exact = finding_of(result, "duplicates", "exact")
    assert (exact.value, exact.status) == (1, "fail")
    pair = result.pairs.iloc[0]
    assert {pair["sample"], pair["other_sample"]} == set(table["file"].iloc[[0, -1]])
    assert {pair["split"], pair["other_split"]} == {"train", "test"}


@pytest.mark.parametrize("share", [1, 0.5])
def test_what_cannot_be_read_is_counted_of_all(tmp_path, cache, share):
    root = tmp_path / "data"
    data, columns = own_table(root)
    broken = root / pd.read_csv(data)["file"][0]
    broken.write_bytes(broken.read_bytes()[:100])
    finding = finding_of(checked(data, cache, **columns, patient_share=share), "unreadable")
    assert finding.value == pytest.approx(1 / 90)
    assert finding.status == "fail"
    assert broken.name in finding.measured
    assert "--skip-unreadable" in finding.measured


def test_each_window_of_a_recording_that_cannot_be_read_counts(cache):
    phantoms = make_series_phantoms(SeriesPhantomSettings(patients=40, steps=16))

    def load(name):
        if name == "r3":
            raise UnreadableError("r3 is damaged")
        return np.zeros((32, len(phantoms.channels)), np.float32)

    names = [f"r{number}" for number in range(20)]
    windows = pd.DataFrame({"recording": np.repeat(names, 2), "offset": [0, 16] * 20})
    windows.index = pd.Index(phantoms.table["sample_id"])
    read = Series(Recordings(names, load), windows, 16)
    source = replace(phantoms.source, fingerprint="windows", left_out=("r20 is absent",))
    cohort = replace(phantoms, read=read, source=source)
    stored = store_samples(cohort, None, cache, skip_unreadable=True)
    finding = unreadable_finding(Splits(stored, stored, stored), CheckSettings(data="phantom:"))
    assert finding.measured.startswith("3 of 41 samples cannot be read: r20 is absent; ")


def test_data_without_attributes_can_be_checked(tmp_path, cache):
    data, columns = own_table(tmp_path / "data")
    result = checked(data, cache, **columns | {"attribute": ()})
    assert finding_of(result, "attributes").status == "fail"
    assert result.counts.empty
    words = ("--image-column", "file", "--label", "sick", "--patient", "who", "--cache", cache)
    out = tmp_path / "out"
    assert evenhand("check", data, *words, "--out", out).status == 1
    assert "Protected attributes" in (out / "report.html").read_text()


def test_without_attribute_those_that_cannot_be_told_are_named(tmp_path, cache):
    root = make_chexpert(tmp_path / "chexpert")
    (root / "CHEXPERT DEMO.xlsx").unlink()
    result = finding_of(checked(f"chexpert:{root}", cache), "attributes")
    assert result.measured == "3: sex, age, view; without two known levels: race, race_white"


def test_a_tree_of_ones_own_has_no_licence_on_record(tmp_path, cache):
    result = checked(f"folders:{make_folders(tmp_path / 'tree')}", cache, patient="person")
    assert finding_of(result, "licence").status == finding_of(result, "access").status == "note"
    assert finding_of(result, "licence").measured == "not recorded: the data are your own"


def test_more_than_two_classes(tmp_path, cache):
    make_ham10000(tmp_path / "ham", lesions=80)
    data = f"ham10000:{tmp_path / 'ham'}"
    result = checked(data, cache, label="diagnosis", attribute=("sex", "sex*age"))
    assert result.counts["positives"].isna().all()
    assert finding_of(result, "base_rate", "sex").measured.startswith("share of samples with ")


def test_command_without_a_folder(cache):
    ended = evenhand("check", LARGE, "--cache", cache, "--detectable", 0.5, 0.6)
    assert ended.status == 0
    assert "detectable" in ended.out
    assert "0 fail" in ended.out
    ended = evenhand("check", SMALL, "--cache", cache, "--patients", 500, 400)
    assert ended.status == 1
    assert "at least 500 (fails below 400)" in ended.out


def test_command_with_a_folder(cache, tmp_path):
    ended = evenhand(
        "check", LARGE, "--cache", cache, "--attribute", "sex", "--out", tmp_path / "c"
    )
    content = json.loads((tmp_path / "c" / "check.json").read_text())
    assert content["schema"] == 1
    assert {row["attribute"] for row in content["counts"]} == {"sex"}
    assert json.loads((tmp_path / "c" / "run.json").read_text())["status"] == "finished"
    page = (tmp_path / "c" / "report.html").read_text()
    assert "Smallest detectable gap" in page
    assert page.count("<tr class=") == len(content["findings"])
    first = content["counts"][0]
    cell = f"{first['patients']:,} patients<small>{first['samples']:,} samples, "
    assert cell in page
    assert str(tmp_path / "c") in ended.out
    assert evenhand("report", tmp_path / "c").status == 0


def test_the_function_returns_the_run(cache, tmp_path):
    run = check(SMALL, attribute="sex", cache=cache, out=tmp_path / "c")
    assert run.finished
    assert run.record.job == "check"
    assert (run.root / "check.json").exists()
    assert "evenhand check" in run._repr_html_()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["phantom:", "--attribute", "skin"], "no attribute 'skin'"),
        (["phantom:", "--near", "2"], "--near"),
        (["nothing:here"], "no reader 'nothing'"),
        (["absent.csv", "--image-column", "a", "--label", "b", "--patient", "c"], "no table"),
    ],
)
def test_mistakes(words, message):
    ended = evenhand("check", *words)
    assert ended.status == 2
    assert message in ended.err


def test_the_request_says_how_many_patients_let_a_gap_be_told(cache, tmp_path):
    """By Hanley and McNeil's error: with so many more patients the gap shows, with fewer not."""
    ended = evenhand(
        *("check", LARGE, "--attribute", "group", "--cache", cache, "--out", tmp_path / "run"),
        *("--detectable", 0.13, 0.3),
    )
    content = json.loads((tmp_path / "run" / "check.json").read_text())
    (request,) = (item for item in content["findings"] if item["requirement"] == "request")
    assert request["status"] == "warn"
    assert request["measured"] in ended.out
    numbers = re.findall(r"([\d,]+) of (?:minority|them)", request["measured"])
    more, rare = (int(text.replace(",", "")) for text in numbers)
    assert request["value"] == more > 0
    counts = pd.DataFrame(content["counts"])
    test = counts[(counts["split"] == "test") & (counts["group"] != "unknown")]
    small, large = (test.sort_values("samples").iloc[place] for place in (0, 1))
    assert 0 < rare < more

    def gap(added: float) -> float:
        errors = [error(small, 1 + added / small["patients"]), error(large, 1)]
        return detectable_gap(float(np.hypot(*errors)))

    def error(part: pd.Series, factor: float) -> float:
        negatives = part["samples"] - part["positives"]
        return auc_error(0.85, factor * part["positives"], factor * negatives, effect(part))

    def effect(part: pd.Series) -> float:
        return 1 + (part["samples"] / part["patients"] - 1) * 0.5

    assert gap(more) <= 0.13 < gap(more - 2)


def test_no_request_where_the_gap_can_be_told_and_of_both_groups_where_one_would_not_do(cache):
    enough = checked(LARGE, cache, detectable=(0.3, 0.4), attribute=("group",))
    assert finding_of(enough, "request", "group").status == "pass"
    assert finding_of(enough, "request", "group").value == 0
    both = finding_of(
        checked(LARGE, cache, detectable=(0.02, 0.03), attribute=("group",)), "request", "group"
    )
    first, second = (
        int(text.replace(",", "")) for text in re.findall(r"([\d,]+) of (?!them)", both.measured)
    )
    assert both.value == first + second
    assert min(first, second) > 0
