"""A table's model on another table."""

from __future__ import annotations

import pandas as pd
import pytest
from tests.command import evenhand, training, without
from tests.data.table import make_table

from evenhand.files import read_json

COLUMNS = ("--image-column", "photo", "--patient", "person", "--label", "finding")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    words = (*COLUMNS, "--attribute", "years", "--bins", "years=35", "--split", 0.4, 0.3, 0.3)
    table, more = make_table(folder), without(training(folder / "cache"), "--attribute")
    ended = evenhand("finetune", table, *words, *more, "--out", folder / "run")
    assert ended.status == 0, ended.err
    return folder / "run"


def other(run, **changes):
    """Return another table of the same pictures, under another name."""
    path = run.parent / f"{'-'.join(['other', *changes])}.csv"
    pd.read_csv(run.parent / "cohort.csv", dtype="str").assign(**changes).to_csv(path, index=False)
    return path


def test_columns_bins_and_attributes_are_as_in_the_run(run, tmp_path):
    words = ("predict", run, other(run), "--cache", run.parent / "cache")
    ended = evenhand(*words, "--out", tmp_path / "found")
    assert ended.status == 0, ended.err
    parquet = pd.read_parquet(tmp_path / "found" / "models" / "full" / "predictions.parquet")
    assert len(parquet) == 60
    assert set(parquet["attr_years"]) == {"under 35", "35+"}


def test_classes_by_other_names_are_refused_with_what_to_do(run, tmp_path):
    coded = other(run, finding=["1", "0"] * 30)
    words = ("predict", run, coded, "--cache", run.parent / "cache")
    ended = evenhand(*words, "--out", tmp_path / "found")
    assert ended.status == 2
    assert "has the classes 0, 1; the model has the classes healthy, sick" in ended.err
    assert "use the model's class names in the label column" in ended.err


def predicted(run, table, out, *more):
    return evenhand("predict", run, table, "--cache", run.parent / "cache", *more, "--out", out)


def test_twins_are_named_by_a_column_of_the_table(run, tmp_path):
    shown_twice = other(run, scene=[f"scene {number // 2}" for number in range(60)])
    ended = predicted(run, shown_twice, tmp_path / "new", "--pair-column", "scene")
    assert ended.status == 0, ended.err
    rows = read_json(tmp_path / "new" / "twins.json")["rows"]
    assert rows[0]["pairs"] == 30
    table = pd.read_parquet(tmp_path / "new" / "models" / "full" / "predictions.parquet")
    apart = table["score"].to_numpy().reshape(30, 2) @ [1, -1]
    assert rows[0]["value"] == pytest.approx(abs(apart).mean())


def test_columns_that_are_called_otherwise_are_mapped(run, tmp_path):
    columns = {"finding": "diagnosis", "years": "age_at_visit", "person": "subject", "photo": "png"}
    renamed = run.parent / "renamed.csv"
    pd.read_csv(run.parent / "cohort.csv", dtype="str").rename(columns=columns).to_csv(
        renamed, index=False
    )
    names = ("label=diagnosis", "years=age_at_visit", "patient_id=subject", "photo=png")
    words = [word for name in names for word in ("--map", name)]
    assert predicted(run, renamed, tmp_path / "mapped", *words).status == 0
    assert predicted(run, other(run), tmp_path / "found").status == 0
    mapped, result = (
        pd.read_parquet(tmp_path / name / "models" / "full" / "predictions.parquet")
        for name in ("mapped", "found")
    )
    pd.testing.assert_frame_equal(mapped, result)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("age=years", "no --map name 'age'"),
        ("years", "--map 'years': write it as NAME=COLUMN"),
        ("years=nowhere", "has no column 'nowhere'"),
    ],
)
def test_what_cannot_be_mapped_is_refused(run, tmp_path, text, message):
    ended = predicted(run, other(run), tmp_path / "out", "--map", text)
    assert ended.status == 2
    assert message in ended.err
    assert not (tmp_path / "out").exists()


def test_an_absent_column_is_refused_with_the_flag_that_names_it(run, tmp_path):
    path = run.parent / "without-years.csv"
    table = pd.read_csv(run.parent / "cohort.csv", dtype="str").rename(columns={"years": "age"})
    table.to_csv(path, index=False)
    ended = predicted(run, path, tmp_path / "out")
    assert ended.status == 2
    assert "has no column years, which the model's run names; it has: " in ended.err
    assert "--map years=COLUMN" in ended.err
    assert not (tmp_path / "out").exists()


def test_two_columns_for_one_name_are_refused(run, tmp_path):
    words = ("--map", "label=finding", "--map", "finding=years")  # the run's label is `finding`
    ended = predicted(run, other(run), tmp_path / "out", *words)
    assert ended.status == 2
    assert "--map names two columns for 'finding': 'finding' and 'years'" in ended.err
    assert not (tmp_path / "out").exists()


@pytest.fixture(params=["absent", "blank"])
def unlabelled(run, request):
    table = pd.read_csv(run.parent / "cohort.csv", dtype="str")
    bare = table.drop(columns="finding") if request.param == "absent" else table.assign(finding="")
    path = run.parent / f"{request.param}.csv"
    bare.to_csv(path, index=False)
    return path


def test_without_labels_samples_are_scored_and_counted_by_group(run, unlabelled, tmp_path):
    out = tmp_path / "out"
    ended = predicted(run, unlabelled, out)
    assert ended.status == 0, ended.err
    assert "nothing is measured" in ended.out
    assert predicted(run, other(run), tmp_path / "labelled").status == 0
    bare, whole = (
        pd.read_parquet(path / "models" / "full" / "predictions.parquet")
        for path in (out, tmp_path / "labelled")
    )
    pd.testing.assert_frame_equal(bare, whole.drop(columns="label"))
    counts = pd.read_csv(out / "groups.csv").set_index(["attribute", "group"])
    for (attribute, group), row in counts.iterrows():
        rows = bare if attribute == "*" else bare[bare[f"attr_{attribute}"] == group]
        assert (row["n"], row["patients"]) == (len(rows), rows["patient_id"].nunique())
    assert counts["n"].iloc[1:].sum() == counts["n"].iloc[0] == 60
    assert counts["flagged"].iloc[1:].sum() == counts["flagged"].iloc[0]
    assert not (out / "metrics.json").exists()
    page = (out / "report.html").read_text()
    (out / "report.html").unlink()
    assert evenhand("report", out).status == 0
    assert (out / "report.html").read_text() == page
    assert "years: under 35" in page
    ended = evenhand("report", out, "--card", tmp_path / "card.md")
    assert ended.status == 2
    assert "nothing was measured" in ended.err
    assert "no column 'label'" in evenhand("audit", out, "--out", tmp_path / "audited").err


def test_a_label_that_is_named_has_to_be_there(run, unlabelled, tmp_path):
    ended = predicted(run, unlabelled, tmp_path / "out", "--label", "finding")
    assert ended.status == 2
    assert "finding" in ended.err


def test_on_positives_alone_sensitivity_is_defined_and_auc_says_why_it_is_not(run, tmp_path):
    table = pd.read_csv(other(run), dtype="str")
    sick = run.parent / "sick.csv"
    table[table["finding"] == "sick"].to_csv(sick, index=False)
    ended = predicted(run, sick, tmp_path / "out")
    assert ended.status == 0, ended.err
    rows = pd.DataFrame(read_json(tmp_path / "out" / "metrics.json")["rows"])
    everybody = rows[rows["attribute"] == "*"].set_index("metric")
    scores = pd.read_parquet(tmp_path / "out" / "models" / "full" / "predictions.parquet")
    assert (scores["label"] == 1).all()
    flagged = scores["score"] >= everybody["threshold"]["sensitivity"]
    assert everybody["value"]["sensitivity"] == pytest.approx(flagged.mean())
    assert everybody["undefined"]["auc"] == f"no negatives among {len(scores)} samples"
    assert (tmp_path / "out" / "report.html").exists()


def test_the_positive_class_is_the_models(tmp_path):
    columns = ("--image-column", "photo", "--patient", "person", "--label", "finding")
    table = make_table(tmp_path)
    rows = pd.read_csv(table, dtype="str").replace({"finding": {"sick": "mel", "healthy": "nv"}})
    rows.to_csv(table, index=False)
    words = (*columns, "--positive", "mel", "--split", 0.4, 0.3, 0.3)
    train = ("finetune", table, *words, *without(training(tmp_path / "cache"), "--attribute"))
    assert evenhand(*train, "--out", tmp_path / "run").status == 0
    rows[rows["finding"] == "nv"].to_csv(tmp_path / "well.csv", index=False)
    words = ("predict", tmp_path / "run", tmp_path / "well.csv", "--cache", tmp_path / "cache")
    ended = evenhand(*words, "--out", tmp_path / "out")
    assert ended.status == 0, ended.err
    ended = evenhand(*words, "--positive", "nv", "--out", tmp_path / "other")
    assert ended.status == 2
    assert "are probabilities of mel" in ended.err
    assert not (tmp_path / "other").exists()


def test_a_group_alone_is_measured_and_compared_with_nobody(run, tmp_path):
    young = other(run, years="30")
    ended = predicted(run, young, tmp_path / "out")
    assert ended.status == 0, ended.err
    rows = pd.DataFrame(read_json(tmp_path / "out" / "metrics.json")["rows"])
    assert set(rows[rows["n"] > 0]["group"]) == {"*", "under 35"}
    gaps = rows[rows["metric"] == "sensitivity_gap"]
    assert gaps["value"].isna().all()
    assert gaps["undefined"].notna().all()


def test_intersections_are_looked_at_and_too_small_ones_named(run, tmp_path):
    words = ("--attribute", "years", "--attribute", "skin", "--intersections", 2)
    ended = predicted(run, other(run), tmp_path / "new", *words)
    assert ended.status == 0, ended.err
    rows = pd.DataFrame(read_json(tmp_path / "new" / "metrics.json")["rows"])
    assert set(rows["attribute"]) == {"*", "years", "skin", "years*skin"}
    record = read_json(tmp_path / "new" / "run.json")["settings"]
    assert all(name.startswith("years*skin=") for name in record["exclude_group"])
    assert len(record["exclude_group"]) == 6  # 30 patients: no combination has 20
    page = (tmp_path / "new" / "report.html").read_text()
    assert "Which intersections are too small to compare?" in page


def test_intersections_of_one_attribute_alone_are_refused(run, tmp_path):
    ended = predicted(run, other(run), tmp_path / "new", "--intersections", 2)
    assert ended.status == 2
    assert "--intersections 2 needs two attributes or more, and there is only years" in ended.err


def test_without_labels_the_samples_of_each_intersection_are_counted(run, unlabelled, tmp_path):
    words = ("--attribute", "years", "--attribute", "skin", "--intersections", 2)
    ended = predicted(run, unlabelled, tmp_path / "new", *words)
    assert ended.status == 0, ended.err
    counts = pd.read_csv(tmp_path / "new" / "groups.csv")
    assert "years*skin" in set(counts["attribute"])


def test_an_incomplete_map_lists_the_columns_of_the_file_alone(run, tmp_path):
    path = run.parent / "foreign.csv"
    table = pd.read_csv(run.parent / "cohort.csv", dtype="str")
    table.rename(columns={"years": "age", "person": "subject"}).to_csv(path, index=False)
    ended = predicted(run, path, tmp_path / "out", "--map", "years=age")
    assert ended.status == 2
    shown = ended.err.split("it has: ")[1].split(". Name")[0].replace("\n", " ").split(", ")
    assert [" ".join(name.split()) for name in shown] == list(pd.read_csv(path).columns)
    assert "--map person=COLUMN" in " ".join(ended.err.split())
    assert "--attribute" not in ended.err
