"""`evenhand audit` and `evenhand compare` as users call them, on tables made elsewhere."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from tests.command import evenhand

from evenhand.files import read_json
from evenhand.metrics import CONTRASTS, FAIRNESS, METRICS, SUMMARIES

NAMES = {
    "sample_id": "image id",
    "patient_id": "person",
    "split": "fold",
    "label": "y_true",
    "score": "p(mel)",
}
MAP = [word for name, inputs in NAMES.items() for word in ("--map", f"{name}={inputs}")]
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


def only_row(rows, **where):
    result = rows[np.logical_and.reduce([rows[name] == is_ for name, is_ in where.items()])]
    assert len(result) == 1
    return result.iloc[0]


def test_mapped_columns_bins_and_intersections(path, tmp_path):
    words = ("--attribute", "sex", "--attribute", "sex*age", "--bins", "age=60")
    rows, ended = run("audit", tmp_path / "out", path, *MAP, *words)
    assert "sex*age: female*under 60" in ended.out
    mine = table().query("fold == 'test' and sex == 'female' and age < 60")
    assert only_row(rows, group="female*under 60", metric="auc", split="test")["n"] == len(mine)


def test_an_attribute_without_a_known_value_gives_no_gap_and_no_curves(tmp_path):
    file = tmp_path / "mine.csv"
    table().assign(sex="NA").to_csv(file, index=False)
    rows, _ = run("audit", tmp_path / "out", file, *MAP, "--attribute", "sex")
    assert (
        "two are needed"
        in only_row(rows, attribute="sex", metric="auc_gap", split="test").undefined
    )


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
    words = (path, other, *MAP, "--attribute", "sex", "--conflict", "sex=keep")
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
    assert only_row(rows, attribute="sex", metric="ppv_ratio", split="test")["group"] == "female"
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
        (
            ("--numbers", "equal"),
            "selection_rate",
            "demographic_parity_difference",
            "the same in every group",
        ),
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
    cut = only_row(rows, group="female", metric="sensitivity", split="test")["threshold"]
    val = table().query("fold == 'val'")
    result = (val.query("y_true == 1")["p(mel)"] >= cut).mean()
    if "0.3" in words:
        assert cut == 0.3
    if "sensitivity=0.9" in words:
        assert result >= 0.9
    if "--threshold-by" in words:
        assert cut != only_row(rows, group="male", metric="sensitivity", split="test")["threshold"]


def test_another_split_and_bca(path, tmp_path):
    words = ("--attribute", "sex", "--split", "val", "--interval", "bca")
    rows, ended = run("audit", tmp_path / "out", path, *MAP, *words)
    text = rows[rows["metric"] == "auc"].set_index(["split", "group"])["low"]
    assert text["val"].notna().all()
    assert text["test"].isna().all()
    auc = rows[(rows["metric"] == "auc") & (rows["split"] == "val") & (rows["group"] == "*")]
    assert auc["interval_method"].iloc[0].startswith(("bca", "percentile (BCa breaks down)"))
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "of the validation split" in page
    assert "chosen on the reported rows" in page
    assert f"{text['val', 'female']:.3f}" in ended.out


def test_tests_of_no_difference_with_holm(path, tmp_path):
    words = ("--attribute", "sex", "--attribute", "age", "--bins", "age=60", "--permutations", 49)
    rows, ended = run("audit", tmp_path / "out", path, *MAP, *words, "--metric", "auc")
    p = rows[rows["p"].notna()]
    assert set(p["attribute"]) == {"sex", "age"}
    assert (p["p_adjusted"] >= p["p"]).all()
    assert "corrected p" in ended.out
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert rows["p_method"].dropna().str.contains("Holm over 2").sum() == 2
    assert page.count("corrected p = ") >= 2


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
    pair = only_row(rows, against="other", metric="auc", attribute="*", split="test")
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


def test_a_model_card(path, tmp_path):
    out, card = tmp_path / "out", tmp_path / "card.md"
    run("audit", out, path, *MAP, "--attribute", "sex")
    ended = evenhand("report", out, "--card", card)
    assert ended.status == 0, ended.err
    assert ended.out.endswith(f"card: {card}\n")
    text = card.read_text(encoding="utf-8")
    assert "| sex: female |" in text.split("## Results by group")[1]
    ended = evenhand("report", out, "--card", card, "--model", "min")
    assert "Did you mean 'mine'?" in ended.err


def test_a_card_replaces_an_earlier_card_and_no_other_file(path, tmp_path):
    out = tmp_path / "out"
    run("audit", out, path, *MAP, "--attribute", "sex")
    for file in (out / "run.json", path):
        before = file.read_bytes()
        ended = evenhand("report", out, "--card", file)
        assert ended.status == 2
        assert "no model card of Evenhand" in ended.err
        assert file.read_bytes() == before
    for _ in range(2):
        assert evenhand("report", out, "--card", tmp_path / "card.md").status == 0


def test_an_operating_point_of_ones_own(path, tmp_path):
    name = "sensitivity_at_specificity[0.8]"
    rows, _ = run("audit", tmp_path / "out", path, *MAP, "--attribute", "sex", "--metric", name)
    assert only_row(rows, metric=f"{name}_gap", split="test")["value"] >= 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Sensitivity at specificity 0.8" in page


@pytest.mark.parametrize(
    ("change", "words", "message"),
    [
        (lambda t: t.drop(columns="p(mel)"), (), "has no column 'p(mel)'"),
        (lambda t: t.rename(columns={"age": "sex"}), (), "the column sex twice"),
        (lambda t: t.assign(y_true="icu"), (), "label must be a whole number from 0, not icu"),
        (lambda t: t.assign(y_true=np.arange(len(t)) % 3), (), "labels must be 0 … 1"),
        (lambda t: t.assign(y_true=t["y_true"] + 1), (), "--positive 1 or --positive 2"),
        (lambda t: t.assign(**{"p(mel)": np.nan}), (), "score must be a finite number"),
        (lambda t: t.assign(**{"p(mel)": np.inf}), (), "score must be a finite number"),
        (lambda t: t.assign(**{"p(mel)": 7.5}), (), "for logits, give --logits"),
        (lambda t: t.assign(**{"image id": "same"}), (), "sample ids must be unique"),
        (lambda t: t.assign(person="everybody"), (), "a patient must be in one split only"),
        (lambda t: t.assign(fold="dev"), (), "split must be one of train, val, test"),
        (lambda t: t.assign(fold="test"), ("--threshold", "f1"), "needs rows of the split 'val'"),
        (lambda t: t.assign(fold="val"), (), "Give --split one of: val"),
        (lambda t: t.iloc[:0], (), "holds no rows"),
        (lambda t: t, ("--attribute", "age"), "--bins age=60"),
        (lambda t: t, ("--bins", "agee=60"), "no attribute to give --bins for 'agee'"),
        (lambda t: t, ("--attribute", "skin"), "no column 'attr_skin' or 'skin'"),
        (lambda t: t, ("--metric", "aux"), "Did you mean 'auc'?"),
        (lambda t: t, ("--across", "gab"), "Did you mean 'gap'?"),
        (lambda t: t, ("--reference", "sex=mail"), "Did you mean 'male'?"),
        (lambda t: t, ("--reference", "sex"), "write ATTRIBUTE=LEVEL"),
        (lambda t: t, ("--reference", "sex=male", "--reference", "sex=female"), "2 references"),
        (lambda t: t, ("--threshold", "best"), "'best' is no threshold policy"),
        (lambda t: t, ("--threshold", ".3", "--threshold-by", "sex"), "the same for every group"),
        (lambda t: t, ("--condition", "ward"), "'attr_ward' or 'ward'"),
        (lambda t: t, ("--decision", "punitive"), "--decision and --share go together"),
        (lambda t: t, ("--map", "label"), "as in label=y_true"),
        (lambda t: t, ("--interval", "exact"), "should be 'auto', 'percentile' or 'bca'"),
    ],
)
def test_mistakes(tmp_path, change, words, message):
    path, out = tmp_path / "mine.csv", tmp_path / "out"
    change(table()).to_csv(path, index=False)
    ended = evenhand("audit", path, *MAP, "--attribute", "sex", *words, "--out", out)
    assert ended.status == 2
    assert ended.err.startswith("evenhand: ")
    assert message in ended.err
    assert not out.exists()


@pytest.mark.parametrize("name", ["empty.csv", "picture.csv", "damaged.parquet", "table.xlsx"])
def test_files_of_another_kind(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"" if name == "empty.csv" else b"\x89PNG\r\n\x1a\n\x00\xff\xfe")
    ended = evenhand("audit", path, "--attribute", "sex", "--out", tmp_path / "out")
    assert (ended.status, ended.err[:10]) == (2, "evenhand: ")
    assert name in ended.err


def test_no_attribute_at_all(path, tmp_path):
    ended = evenhand("audit", path, *MAP, "--out", tmp_path / "out")
    assert ended.status == 2
    assert "Name the attributes to audit, as in --attribute sex" in ended.err


def test_an_attribute_with_one_level_and_a_group_without_positives(tmp_path):
    path = tmp_path / "mine.csv"
    never = lambda t: t["y_true"].where(t["sex"] == "male", 0)  # noqa: E731
    table().assign(y_true=never, site="here").to_csv(path, index=False)
    words = (*MAP, "--attribute", "sex", "--attribute", "site")
    rows, ended = run("audit", tmp_path / "out", path, *words)
    assert (
        "no positives among"
        in only_row(rows, group="female", metric="auc", split="test")["undefined"]
    )
    gap = only_row(rows, attribute="site", metric="auc_gap", split="test")
    assert gap["undefined"] == "1 group to compare; two are needed"
    assert "undefined: group 'female': no positives" in ended.out


def test_hostile_and_many_group_names(tmp_path):
    path, out = tmp_path / "mine.csv", tmp_path / "out"
    evil = ["<script>alert(1)</script>", 'a, "b"\nc', "x|y", "\x1b[31mred"]
    names = np.resize([*evil, *(f"level {n:03d}" for n in range(296))], 600)
    rows = pd.concat([table(), table(1).assign(**{"image id": lambda t: "z" + t["image id"]})])
    rows["person"] = np.arange(len(rows)) // 2
    rows.assign(fold="test", site=names).to_csv(path, index=False)
    result, ended = run("audit", out, path, *MAP, "--attribute", "site", "--metric", "accuracy")
    assert result.loc[result["attribute"] == "site", "group"].nunique() >= 300
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page
    assert "\x1b" not in ended.out
    assert len(page) < 3e6


def test_overwrite_spares_the_inputs(path, tmp_path):
    out = tmp_path / "out"
    run("audit", out, path, *MAP, "--attribute", "sex")
    mine = out / "mine.csv"
    mine.write_bytes(path.read_bytes())
    other = path.rename(tmp_path / "other.csv")
    before = sorted(out.rglob("*"))
    for words in (("audit", out), ("audit", mine, *MAP), ("compare", other, mine, *MAP)):
        ended = evenhand(*words, "--attribute", "sex", "--overwrite", "--out", out)
        assert "is read by this run" in ended.err
    assert sorted(out.rglob("*")) == before
