"""Numbers by group from arrays: those of the audit, of scikit-learn and of fairlearn."""

from __future__ import annotations

import json
import re
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from fairlearn import metrics as fl
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from tests.conftest import ROOT

import evenhand
from evenhand import EvenhandError, measure_groups
from evenhand.metrics import COLUMNS

N = 240


def planted(seed=0, n=N):
    """Scores that rank men well and women badly, three of four patients with several rows."""
    rng = np.random.default_rng(seed)
    patients = rng.integers(0, n // 2, n)
    table = pd.DataFrame(
        {
            "patient": [f"p{k:03d}" for k in patients],
            "sex": rng.choice(["female", "male"], n)[patients],
            "site": rng.choice(["A", "B"], n)[patients],
            "y": rng.integers(0, 2, n),
        }
    )
    table.loc[patients % 30 == 0, "site"] = None
    strength = np.where(table["sex"] == "male", 3.0, 0.3)
    logit = rng.normal(size=n) + strength * (table["y"] - 0.5)
    table["score"] = (1 / (1 + np.exp(-logit))).round(3)
    table["other"] = np.clip(table["score"] + rng.normal(0, 0.2, n), 0, 1).round(3)
    return table


TABLE = planted()
ATTRIBUTES = TABLE[["sex", "site"]]


@pytest.fixture(scope="module")
def measured():
    return measure_groups(TABLE.y, TABLE.score, ATTRIBUTES, patients=TABLE.patient)


@pytest.fixture(scope="module")
def pair():
    return measure_groups(
        TABLE.y, TABLE.score, TABLE.sex, patients=TABLE.patient, against=TABLE.other,
        metrics=("auc", "sensitivity"),
    )  # fmt: skip


def rows_of(table, **wanted):
    frame = table.frame
    for name, value in wanted.items():
        frame = frame[frame[name] == value]
    return frame


def value(table, **wanted):
    (row,) = rows_of(table, **wanted).to_dict("records")
    return row["value"]


def written(folder, score):
    """Write the table as predictions for the audit."""
    path = folder / f"{score}.csv"
    named = {"patient": "patient_id", "y": "label", score: "score"}
    table = TABLE[[*named, "sex", "site"]].rename(columns=named).fillna("unknown")
    table.insert(0, "sample_id", [f"s{k:03d}" for k in range(len(table))])
    table.rename(columns={"sex": "attr_sex", "site": "attr_site"}).to_csv(path, index=False)
    return path


def test_numbers_intervals_and_tests_are_those_of_the_audit(measured, tmp_path):
    request = {"metric": ("auc",), "across": ("worst", "gap", "detectable"), "threshold": "0.5"}
    evenhand.audit(inputs=written(tmp_path, "score"), out=tmp_path / "run", **request)
    rows = json.loads((tmp_path / "run" / "metrics.json").read_text())["rows"]
    frame = measured.frame.astype(object).where(measured.frame.notna(), None)
    assert tuple(frame.columns) == COLUMNS
    key = ["attribute", "group", "metric"]
    ours, theirs = (
        pd.DataFrame(item).astype(object).drop(columns="model").set_index(key).sort_index()
        for item in (frame.to_dict("records"), rows)
    )
    pd.testing.assert_frame_equal(ours, theirs[ours.columns], check_dtype=False)


def test_paired_differences_are_those_of_the_comparison(tmp_path):
    request = {"metric": ("auc",), "across": ("worst", "gap", "detectable"), "attribute": ("sex",)}
    files = tuple(written(tmp_path, score) for score in ("score", "other"))
    evenhand.compare(inputs=files, out=tmp_path / "run", threshold="0.5", **request)
    rows = json.loads((tmp_path / "run" / "metrics.json").read_text())["rows"]
    table = measure_groups(
        TABLE.y, TABLE.score, TABLE.sex, patients=TABLE.patient, against=TABLE.other
    )
    theirs = {
        (row["attribute"], row["group"], row["metric"]): row for row in rows if row["against"]
    }
    ours = table.frame[table.frame["against"].notna()].to_dict("records")
    assert len(ours) == 8  # with what would be found
    for row in ours:
        other = theirs[row["attribute"], row["group"], row["metric"]]
        for name in ("value", "low", "high"):
            assert other[name] is None if np.isnan(row[name]) else row[name] == other[name], name


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.2, 0.8))
def test_values_are_those_of_scikit_learn_and_fairlearn(seed, threshold):
    table = planted(seed)
    measured = measure_groups(
        table.y, table.score, table.sex, metrics=("auc", "sensitivity", "selection_rate"),
        aggregates=("gap", "equalized_odds_difference", "demographic_parity_difference"),
        threshold=threshold, replicates=19,
    )  # fmt: skip
    decided = (table.score >= threshold).astype(int)
    frame = fl.MetricFrame(
        metrics={"sensitivity": sk.recall_score, "selection_rate": fl.selection_rate},
        y_true=table.y, y_pred=decided, sensitive_features=table.sex,
    )  # fmt: skip
    auc = fl.MetricFrame(
        metrics=sk.roc_auc_score, y_true=table.y, y_pred=table.score, sensitive_features=table.sex
    )
    for group in ("female", "male"):
        own = {row.metric: row.value for row in rows_of(measured, group=group).itertuples()}
        assert own["auc"] == pytest.approx(auc.by_group[group])
        assert own["sensitivity"] == pytest.approx(frame.by_group["sensitivity"][group])
        assert own["selection_rate"] == pytest.approx(frame.by_group["selection_rate"][group])
    assert value(measured, metric="auc_gap") == pytest.approx(auc.difference())
    sensitive = {"sensitive_features": table.sex}
    for name in ("equalized_odds_difference", "demographic_parity_difference"):
        expected = getattr(fl, name)(table.y, decided, **sensitive)
        assert value(measured, metric=name) == pytest.approx(expected)


def test_every_kind_of_groups_gives_the_same_numbers():
    sex = TABLE.sex
    kinds = [sex, {"sex": sex.tolist()}, pd.DataFrame({"sex": sex.astype("category")})]
    tables = [measure_groups(TABLE.y, TABLE.score, kind, replicates=19) for kind in kinds]
    scores = torch.tensor(TABLE.score.to_numpy(), requires_grad=True)
    tables.append(
        measure_groups(torch.tensor(TABLE.y.to_numpy()), scores, {"sex": sex}, replicates=19)
    )
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table.frame, tables[0].frame)


def test_several_classes_take_the_class_of_the_highest_score():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 3, N), rng.dirichlet(np.ones(3), N)
    table = measure_groups(labels, scores, TABLE.sex, metrics="accuracy", replicates=19)
    women = (TABLE.sex == "female").to_numpy()
    expected = sk.accuracy_score(labels[women], scores[women].argmax(1))
    assert value(table, group="female", metric="accuracy") == pytest.approx(expected)


def test_patients_are_the_unit(measured):
    alone = measure_groups(TABLE.y, TABLE.score, ATTRIBUTES)
    row, own = (rows_of(table, group="male", metric="auc").iloc[0] for table in (measured, alone))
    assert row["value"] == own["value"]
    assert row["patients"] == TABLE.patient[TABLE.sex == "male"].nunique() < own["patients"]
    assert (row["low"], row["high"]) != (own["low"], own["high"])


def test_the_planted_gap_is_claimed_and_unknown_is_not_compared(measured):
    of_sex, of_site = (
        rows_of(measured, attribute=name, metric="auc_gap").iloc[0] for name in ("sex", "site")
    )
    assert of_sex["p_adjusted"] < 0.05 < of_site["p_adjusted"]
    assert of_site["n"] == TABLE.site.notna().sum() < len(TABLE)


def test_seeds_are_kept():
    frames = [
        measure_groups(TABLE.y, TABLE.score, TABLE.sex, seed=seed).frame for seed in (0, 0, 1)
    ]
    pd.testing.assert_frame_equal(frames[0], frames[1])
    assert not frames[0].equals(frames[2])


def test_a_terminal_shows_every_number(measured, pair):
    text = repr(measured)
    lines = text.splitlines()
    table = lines[1 : lines.index("")]
    assert len(table) == (measured.frame["aggregate"] != "detectable").sum()
    assert "95 % interval" in lines[0]
    row = rows_of(measured, group="male", metric="auc").iloc[0]
    assert f"{row['value']:.3f}  {row['low']:.3f} to {row['high']:.3f}" in text
    (claim,) = (line for line in lines if "differ by more than chance explains" in line)
    assert ", by sex: Where sex is female, " in claim  # with the values, not the claim alone
    assert "model − reference" in repr(pair)


def test_a_notebook_shows_values_intervals_and_counts(measured, pair):
    html = measured._repr_html_()
    row = rows_of(measured, group="male", metric="auc").iloc[0]
    assert f"{row['value']:.3f}<small>{row['low']:.3f} to {row['high']:.3f}</small>" in html
    assert f'<td class="num">{row["patients"]}</td>' in html
    assert "unknown" in html
    assert "#" not in html.partition("<style>")[2].partition("</style>")[0], "a colour of its own"
    both = pair._repr_html_()
    assert "everyone" in both.partition("sex: model − reference")[2]
    difference = rows_of(pair, against="reference", group="male", metric="sensitivity").iloc[0]
    assert f"{100 * difference['value']:+.1f}".replace("-", "−") in both


def test_names_of_groups_are_no_markup():
    table = measure_groups([0, 1] * 20, [0.2, 0.7] * 20, {"<i>": ["<b>", "m"] * 20}, replicates=19)
    assert "<b>" not in table._repr_html_()


def test_axes_hold_the_values_of_the_frame(measured, pair):
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot as plt

    axes = plt.subplots()[1]
    assert measured.plot("auc", axes) is axes
    marks = [
        line.get_xdata()[0]
        for line in axes.lines
        if line.get_marker() not in ("None", "") and len(line.get_xdata()) == 1
    ]
    expected = measured.frame[measured.frame["metric"] == "auc"]["value"]
    np.testing.assert_allclose(marks, expected)
    names = [label.get_text().partition("\n")[0] for label in axes.get_yticklabels()]
    assert names == ["everyone", "sex", "female", "male", "site", "A", "B", "unknown"]
    assert axes.get_title("left") == "AUC"
    assert len(pair.plot("sensitivity", model="reference").texts) == 3
    with pytest.raises(EvenhandError, match="no metric in this table 'ece'"):
        measured.plot("ece")
    with pytest.raises(EvenhandError, match="no model 'other'"):
        measured.plot("auc", model="other")
    plt.close("all")


def test_figures_without_matplotlib_say_how_to_install_it(measured, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(EvenhandError, match=r"pip install 'evenhand\[plot\]'"):
        measured.plot("auc")


def test_the_page_is_written(measured, pair, tmp_path):
    page = measured.report(tmp_path / "page.html").read_text()
    assert "Where sex is female, the model scores a positive case above another case" in page
    assert "Explore the threshold" in page
    assert "model or reference, by sex?" in pair.report(str(tmp_path / "two.html")).read_text()
    with pytest.raises(EvenhandError, match=r"name ends in \.html"):
        measured.report(tmp_path / "page.csv")
    with pytest.raises(EvenhandError, match="there is no folder"):
        measured.report(tmp_path / "none" / "page.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "two.html"]


LABELS, SCORES, SEX = np.array([0, 1] * 20), np.array([0.2, 0.7] * 20), ["f", "m", "m", "f"] * 10


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"y_true": LABELS[:9]}, "y_true has 9, scores has 40 rows"),
        ({"groups": SEX[:9]}, r"groups of 'group': \(9,\) values for 40 rows"),
        ({"groups": {}}, "groups= has no column"),
        ({"patients": [1, 2]}, "y_true has 40, scores has 40, patients has 2 rows"),
        ({"against": SCORES[:9]}, "y_true has 40, scores has 9 rows"),
        (
            {"y_score": SCORES * 6 - 2},
            r"is not a probability \(0 … 1\); turn logits into probabilities",
        ),
        ({"y_score": np.where(LABELS, np.nan, 0.5)}, "score nan at position 1 is not a finite"),
        ({"y_score": SCORES[:, None]}, r"they have \(40, 1\)"),
        ({"y_true": np.where(LABELS, np.nan, 0)}, "label nan at position 1 is missing"),
        ({"y_true": pd.array([0, None] * 20, dtype="Int64")}, "label nan at position 1 is missing"),
        ({"y_true": np.where(LABELS, 2, 0)}, r"labels must be 0 … 1"),
        ({"y_true": np.where(LABELS, 1, -1)}, "labels run from -1 to 1"),
        ({"y_true": ["benign", "malignant"] * 20}, "Number the classes first"),
        ({"y_true": [], "y_score": [], "groups": []}, "there are no samples to measure"),
        ({"groups": [f"g{k}" for k in range(40)]}, "each of the 40 groups of 'group' .* has one"),
        ({"groups": SEX, "patients": SEX}, "each of the 2 groups of 'group' .* has one patient"),
        ({"groups": {"age": range(40)}}, r"groups\['age'\] holds numbers or dates, 40 "),
        ({"metrics": ("auk",)}, "no metric 'auk'.* Did you mean 'auc'"),
        ({"aggregates": ("wurst",)}, "Did you mean 'worst'"),
        ({"threshold": 50}, "threshold=50: give a number from 0 to 1"),
        ({"threshold": "youden"}, "threshold='youden': give a number from 0 to 1"),
        ({"groups": {"*": SEX}}, "'\\*' stands for all samples"),
        ({"level": 95}, "give a coverage between 0 and 1"),
        ({"names": ("a", "a")}, "two different names"),
        ({"metrics": ()}, "metrics is empty: name one metric at least"),
        ({"seed": "a"}, "seed='a': give a whole number"),
        ({"seed": 1.5}, "seed=1.5: give a whole number"),
        ({"seed": -1}, "seed=-1: give a whole number"),
        ({"y_score": SCORES + 0j}, "complex numbers are not taken"),
        ({"y_score": np.ma.masked_array(SCORES, SCORES > 0.5)}, "masked arrays are not taken"),
        ({"patients": np.ma.masked_array(LABELS, LABELS == 1)}, "masked arrays are not taken"),
    ],
)
def test_bad_input_has_one_clear_error(more, text):
    inputs = {"y_true": LABELS, "y_score": SCORES, "groups": SEX, **more}
    arrays = [inputs.pop(name) for name in ("y_true", "y_score", "groups")]
    with pytest.raises(EvenhandError, match=text):
        measure_groups(*arrays, **inputs)


def test_a_missing_value_in_a_list_of_groups_is_unknown():
    groups = [np.nan, None, *SEX[2:]]
    table = measure_groups(LABELS, SCORES, {"sex": groups}, replicates=19)
    counts = table.frame.query("attribute == 'sex' and metric == 'auc'").set_index("group")["n"]
    assert counts["unknown"] == 2
    assert set(counts.index) == {"f", "m", "unknown"}


@pytest.mark.parametrize(
    "groups",
    [
        ["", "not reported", "m ", *SEX[3:]],
        np.ma.masked_array(["f", "f", *SEX[2:]], [True, True, *[False] * 38]),
        pd.Categorical(["?", " ", "m\u00a0", *SEX[3:]], ["m\u00a0", "?", "m", " ", "f"]),
        pd.Series([None, "NA", *SEX[2:]], dtype="string"),
    ],
    ids=["list", "masked", "categorical", "nullable"],
)
def test_groups_are_read_as_audit_reads_those_of_a_table(groups, tmp_path):
    table = measure_groups(LABELS, SCORES, {"sex": groups}, replicates=19)
    counts = table.frame.query("attribute == 'sex' and metric == 'auc'").set_index("group")["n"]
    raw = pd.Series(groups).astype("object")
    columns = {"sample_id": range(40), "patient_id": range(40), "label": LABELS, "score": SCORES}
    pd.DataFrame({**columns, "sex": raw}).to_csv(tmp_path / "p.csv", index=False)
    run = evenhand.audit(tmp_path / "p.csv", attribute="sex", out=tmp_path / "run", replicates=19)
    audited = run.metrics.query("attribute == 'sex' and metric == 'auc'").set_index("group")["n"]
    assert counts["unknown"] == 2
    assert counts.to_dict() == audited.to_dict()


def test_groups_are_in_the_order_of_tables():
    groups = ["site 10", "site 2", "9", "10"] * 10
    table = measure_groups(LABELS, SCORES, {"site": groups}, replicates=19)
    shown = table.frame.query("attribute == 'site' and metric == 'auc'")["group"]
    assert shown.tolist() == ["9", "10", "site 2", "site 10"]


def test_whole_numbers_are_the_same_groups_with_missing_ones():
    groups = np.ma.masked_array([0, 1] * 20, [True] + [False] * 39)
    table = measure_groups(LABELS, SCORES, {"site": groups}, replicates=19)
    shown = table.frame.query("attribute == 'site' and metric == 'auc'")["group"]
    assert shown.tolist() == ["0", "1", "unknown"]


def test_a_missing_patient_in_a_list_is_refused():
    patients = [np.nan, *(f"p{row}" for row in range(39))]
    with pytest.raises(EvenhandError, match="patient nan at position 0 is missing"):
        measure_groups(LABELS, SCORES, {"sex": SEX}, patients=patients)


def test_scores_in_bfloat16():
    scores = torch.tensor(SCORES).bfloat16()
    table = measure_groups(LABELS, scores, {"sex": SEX}, replicates=19)
    same = measure_groups(LABELS, scores.double(), {"sex": SEX}, replicates=19)
    pd.testing.assert_frame_equal(table.frame, same.frame)


def test_rows_in_another_order_are_refused():
    shuffled = ATTRIBUTES.sample(frac=1, random_state=0)
    with pytest.raises(EvenhandError, match="the same index in another order"):
        measure_groups(TABLE.y, TABLE.score, shuffled)
    same = measure_groups(TABLE.y, TABLE.score, shuffled.loc[TABLE.index], replicates=19)
    assert len(same.frame)


def test_one_group_and_one_class_are_shown_with_their_reason():
    table = measure_groups(LABELS, SCORES, {"sex": ["f"] * 40}, replicates=19)
    assert rows_of(table, metric="auc_gap")["undefined"].notna().all()
    assert "undefined" in repr(table)
    assert "undefined" in table._repr_html_()
    table = measure_groups(np.zeros(40), SCORES, {"sex": SEX}, replicates=19)
    assert rows_of(table, metric="auc")["value"].isna().all()
    assert "undefined" in repr(table)


def test_the_example_of_the_docs_runs(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib").use("Agg")
    monkeypatch.chdir(tmp_path)
    section = (ROOT / "docs/guides/own.md").read_text().partition("## Numbers by group")[2]
    script = re.search(r"```python\n(.*?)```", section, re.S).group(1)
    df = TABLE[["sex", "patient"]].assign(age_group=TABLE.site)
    inputs = {"y": TABLE.y, "score": TABLE.score, "df": df, "earlier_score": TABLE.other}
    exec(script, inputs)
    assert (tmp_path / "page.html").stat().st_size > 10_000
    assert set(inputs["table"].page.attributes) == {"sex", "age_group"}
