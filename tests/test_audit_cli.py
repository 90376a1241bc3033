"""`evenhand audit` and `evenhand compare` as users call them, on tables made elsewhere."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from tests.command import evenhand

from evenhand.files import read_json
from evenhand.measure import CONTRASTS, FAIRNESS, METRICS, SUMMARIES

NAMES = {
    "sample_id": "image id",
    "patient_id": "person",
    "split": "fold",
    "label": "y_true",
    "score": "p(mel)",
}
MAP = [word for name, given in NAMES.items() for word in ("--map", f"{name}={given}")]
FEW = ("--replicates", 50)


def table(seed=0, patients=150):
    """Two images of each patient, scored better where age is below 60."""
    rng = np.random.default_rng(seed)
    fixed = np.random.default_rng(99)
    age = fixed.integers(30, 90, patients)
    label = fixed.integers(2, size=patients)
    sex = fixed.choice(["female", "male"], patients)
    site = fixed.choice(["Lyon, Édouard-Herriot", 'the "old" site'], patients)
    logit = (label - 0.5) * np.where(age < 60, 4, 1.5) + rng.normal(size=patients)
    return pd.DataFrame(
        {
            "image id": [f"i{n}" for n in range(2 * patients)],
            "person": np.repeat([f"p{n}" for n in range(patients)], 2),
            "fold": np.repeat(np.where(np.arange(patients) % 3 == 0, "val", "test"), 2),
            "y_true": np.repeat(label, 2),
            "p(mel)": (1 / (1 + np.exp(-np.repeat(logit, 2) - rng.normal(0, 0.5, 2 * patients)))),
            "sex": np.repeat(sex, 2),
            "age": np.repeat(age, 2),
            "site": np.repeat(site, 2),
        }
    ).round({"p(mel)": 4})


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "mine.csv"
    table().to_csv(path, index=False)
    return path


def run(command, out, *words):
    """Run a command that must end well, and return its metric rows."""
    ended = evenhand(command, *words, *FEW, "--out", out)
    assert ended.status == 0, ended.err
    return pd.DataFrame(read_json(out / "metrics.json")["rows"]), ended


def one(rows, **where):
    found = rows[np.logical_and.reduce([rows[name] == is_ for name, is_ in where.items()])]
    assert len(found) == 1
    return found.iloc[0]


def test_mapped_columns_bins_and_intersections(path, tmp_path):
    words = ("--attribute", "sex", "--attribute", "sex*age", "--bins", "age=60")
    rows, ended = run("audit", tmp_path / "out", path, *MAP, *words)
    assert "sex*age: female*under 60" in ended.out
    mine = table().query("fold == 'test' and sex == 'female' and age < 60")
    assert one(rows, group="female*under 60", metric="auc", split="test")["n"] == len(mine)


@pytest.mark.parametrize("kind", ["semicolons", "parquet"])
def test_other_ways_to_write_the_same_table(path, tmp_path, kind):
    words = (*MAP, "--attribute", "sex", "--attribute", "site")
    expected, _ = run("audit", tmp_path / "expected", path, *words)
    if kind == "parquet":
        other = tmp_path / "parquet" / "mine.parquet"
        other.parent.mkdir()
        table().to_parquet(other)
    else:
        other = tmp_path / "semicolons" / "mine.csv"
        other.parent.mkdir()
        table().to_csv(other, index=False, sep=";", decimal=",", encoding="utf-8-sig")
    rows, _ = run("audit", tmp_path / "out", other, *words)
    pd.testing.assert_frame_equal(rows, expected)


def test_several_inputs_with_mapped_columns(path, tmp_path):
    other = tmp_path / "other.csv"
    table(1).assign(person=lambda t: "elsewhere " + t["person"]).to_csv(other, index=False)
    rows, ended = run("audit", tmp_path / "out", path, other, *MAP, "--attribute", "sex")
    assert set(rows["model"]) == {"mine", "other"}
    assert rows["against"].isna().all()
    assert "evenhand compare gives paired differences" in ended.out


def test_a_group_that_only_one_of_the_inputs_has(path, tmp_path):
    other = tmp_path / "other.csv"
    table(1).assign(sex=lambda t: t["sex"].where(t.index > 40, "diverse")).to_csv(
        other, index=False
    )
    words = (path, other, *MAP, "--attribute", "sex")
    rows, _ = run("audit", tmp_path / "out", *words, "--exclude-group", "sex=diverse")
    gaps = rows[(rows["metric"] == "auc_gap") & (rows["split"] == "test")]
    assert gaps["value"].notna().all()
    ended = evenhand("audit", *words, "--exclude-group", "sex=divers", "--out", tmp_path / "no")
    assert "Did you mean 'diverse'?" in ended.err


def test_what_is_asked_of_the_measurement(path, tmp_path):
    words = ("--attribute", "sex", "--condition", "site", "--reference", "sex=male")
    more = ("--metric", "ppv", "--metric", "brier", "--across", "ratio", "--minimum", 60)
    rows, _ = run("audit", tmp_path / "out", path, *MAP, *words, *more, "--level", 0.9)
    assert set(rows["metric"]) == {"ppv", "brier", "ppv_ratio", "brier_ratio"}
    assert set(rows["attribute"]) == {
        "*", "sex", "sex|site=Lyon, Édouard-Herriot", 'sex|site=the "old" site',
    }  # fmt: skip
    assert one(rows, attribute="sex", metric="ppv_ratio", split="test")["group"] == "female"
    assert set(rows["level"].dropna()) == {0.9}
    small = rows[rows["n"].lt(60) & rows["attribute"].ne("*")]
    assert len(small)
    assert small["undefined"].str.contains("fewer than the 60").all()


def test_everything_can_be_asked_for(path, tmp_path):
    words = ("--attribute", "sex", "--metric", "all", "--across", "all", "--minimum", 10)
    rows, _ = run("audit", tmp_path / "out", path, *MAP, *words)
    whole = set(rows["metric"])
    assert {*METRICS, *FAIRNESS} <= whole
    assert {f"auc_{name}" for name in (*SUMMARIES, *CONTRASTS, "detectable")} <= whole


@pytest.mark.parametrize(
    ("words", "metric", "across", "why"),
    [
        (("--decision", "punitive", "--share", "small"), "false_discovery_rate", None, "harms"),
        (("--decision", "assistive", "--share", "large"), "false_negative_rate", None, "a miss"),
        (("--numbers", "proportional"), "selection_rate", "disparate_impact", "in proportion"),
        (("--numbers", "equal"), "selection_rate", "demographic_parity_difference", "same share"),
    ],
)
def test_a_decision_picks_the_metric_and_says_why(path, tmp_path, words, metric, across, why):
    out = tmp_path / "out"
    rows, ended = run("audit", out, path, *MAP, "--attribute", "sex", *words)
    assert rows["metric"].iloc[0] == metric
    assert (across or f"{metric}_ratio") in set(rows["metric"])
    assert why in ended.out
    assert why in (out / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "Youden"),
        (("--threshold", "0.3"), "fixed at 0.3"),
        (("--threshold", "f1"), "the best F1"),
        (("--threshold", "sensitivity=0.9"), "a sensitivity of at least 0.9"),
        (("--threshold-by", "sex"), "for each group of sex"),
    ],
)
def test_threshold_policies(path, tmp_path, words, says):
    out = tmp_path / "out"
    rows, _ = run("audit", out, path, *MAP, "--attribute", "sex", *words)
    assert says in (out / "report.html").read_text(encoding="utf-8")
    cut = one(rows, group="female", metric="sensitivity", split="test")["threshold"]
    val = table().query("fold == 'val'")
    found = (val.query("y_true == 1")["p(mel)"] >= cut).mean()
    if "0.3" in words:
        assert cut == 0.3
    if "sensitivity=0.9" in words:
        assert found >= 0.9
    if "--threshold-by" in words:
        assert cut != one(rows, group="male", metric="sensitivity", split="test")["threshold"]


def test_another_split_and_bca(path, tmp_path):
    words = ("--attribute", "sex", "--split", "val", "--interval", "bca")
    rows, ended = run("audit", tmp_path / "out", path, *MAP, *words)
    told = rows[rows["metric"] == "auc"].set_index(["split", "group"])["low"]
    assert told["val"].notna().all()
    assert told["test"].isna().all()
    auc = rows[(rows["metric"] == "auc") & (rows["split"] == "val") & (rows["group"] == "*")]
    assert auc["method"].iloc[0].endswith(("bca", "(BCa breaks down)"))
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "of the validation split" in page
    assert "chosen on the rows that are reported" in page
    assert f"{told['val', 'female']:.3f}" in ended.out


def test_tests_of_no_difference_with_holm(path, tmp_path):
    words = ("--attribute", "sex", "--attribute", "age", "--bins", "age=60", "--permutations", 49)
    rows, ended = run("audit", tmp_path / "out", path, *MAP, *words, "--metric", "auc")
    p = rows[rows["p"].notna()]
    assert set(p["attribute"]) == {"sex", "age"}
    assert (p["p_adjusted"] >= p["p"]).all()
    assert "p (Holm)" in ended.out
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("after Holm&#39;s adjustment") == 2


def test_a_list_of_metrics_needs_nothing_else():
    ended = evenhand("audit", "--list-metrics")
    assert ended.status == 0
    for name in (*METRICS, *FAIRNESS, *SUMMARIES, *CONTRASTS):
        assert f"\n  {name} " in ended.out
    assert "higher is better, ideal 1; from scores; Hanley & McNeil" in ended.out


def test_a_comparison_says_what_it_matched(path, tmp_path):
    other = tmp_path / "other.csv"
    second = table(1).iloc[20:]
    second["fold"] = second["fold"].mask(second["person"] == "p100", "train")
    second.to_csv(other, index=False)
    out = tmp_path / "out"
    rows, ended = run("compare", out, path, other, *MAP, "--attribute", "sex")
    first = table().query("fold == 'test'")
    shared = first[first["image id"].isin(second.query("fold == 'test'")["image id"])]
    assert f"Compared on the {len(shared)} samples of {len(shared) // 2} patients" in ended.out
    pair = one(rows, against="other", metric="auc", attribute="*", split="test")
    assert pair["n"] == len(shared)
    alone = rows[rows["against"].isna() & rows["split"].eq("test") & rows["attribute"].eq("*")]
    auc = alone[alone["metric"] == "auc"].set_index("model")["value"]
    assert pair["value"] == pytest.approx(auc["mine"] - auc["other"], abs=1e-12)
    matched = read_json(out / "run.json")["matched"]
    assert matched["samples"] == len(shared)
    assert matched["unmatched"] == {"mine": len(first) - len(shared), "other": 0}
    left = pd.read_csv(out / "unmatched.csv")
    assert len(left) == len(first) - len(shared)
    assert set(left["why"]) == {"not in other", "in the split train of other"}
    assert "mine − other" in ended.out
    assert "mine − other" in (out / "report.html").read_text(encoding="utf-8")


def test_three_models_make_three_pairs(path, tmp_path):
    paths = [path]
    for seed in (1, 2):
        paths.append(tmp_path / f"m{seed}.csv")
        table(seed).to_csv(paths[-1], index=False)
    rows, _ = run("compare", tmp_path / "out", *paths, *MAP, "--attribute", "sex")
    pairs = rows[["model", "against"]].dropna().drop_duplicates().to_numpy().tolist()
    assert pairs == [["mine", "m1"], ["mine", "m2"], ["m1", "m2"]]

    again = ("compare", tmp_path / "out", "--model", "m2", "--model", "mine")
    rows, _ = run(*again[:1], tmp_path / "again", *again[1:])
    assert set(rows["model"]) == {"m2", "mine"}
