"""Stage 5 by choice: the same metrics, thresholds and references as in `evenhand audit`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tests.command import evenhand

from evenhand.files import read_json
from evenhand.jobs.assess.answers import answers
from evenhand.jobs.assess.claims import make_claims
from evenhand.jobs.assess.evaluation import Evaluation, RowCounts
from evenhand.metrics.guide import guide_errors, guide_representation
from evenhand.metrics.parity import ParityNumbers
from evenhand.metrics.rows import Key
from evenhand.metrics.scored import as_scored

DATA = "series_phantom:patients=160,steps=12,seed=1"
CHOICE = (
    *("--decision", "assistive", "--share", "large", "--numbers", "equal"),
    *("--metric", "specificity", "--reference", "group=minority", "--threshold", 0.3),
)
MODEL = "frozen3-seed0"


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    grid = ("--cell", "frozen3", "--epochs", 2, "--pretrain-epochs", 1, "--seeds", 1)
    words = ("assess", DATA, *grid, "--attribute", "group", "--device", "cpu", "--cache", cache)
    return lambda out, *more: evenhand(*words, *more, "--out", out)


@pytest.fixture(scope="module")
def run(command, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "assessed"
    ended = command(out, *CHOICE)
    assert ended.status == 0, ended.err
    return out


@pytest.fixture(scope="module")
def rows(run):
    return pd.DataFrame(read_json(run / "metrics.json")["rows"])


def test_every_chosen_number_is_that_of_an_audit(run, rows, tmp_path):
    predictions = run / "models" / MODEL / "predictions.parquet"
    shown = ("--metric", "auprc", "--metric", "sensitivity", "--metric", "false_positive_rate")
    more = ("--metric", "squared_calibration_error", "--replicates", 20)
    across = ("--across", "gap", "--across", "difference")
    odds = ("--across", "average_absolute_odds_difference")
    words = ("audit", predictions, "--attribute", "group", *CHOICE, *shown, *more, *across, *odds)
    ended = evenhand(*words, "--out", tmp_path / "audit")
    assert ended.status == 0, ended.err
    audited = pd.DataFrame(read_json(tmp_path / "audit" / "metrics.json")["rows"])
    audited = audited[audited["split"] == "test"]
    ours = rows[(rows["model"] == "frozen3") & rows["against"].isna()]
    both = ours.merge(audited, on=["attribute", "group", "base", "aggregate"])
    assert {
        *("false_negative_rate", "selection_rate", "specificity", "sensitivity"),
        *("false_positive_rate", "squared_calibration_error", "auprc"),
    } <= set(both["base"])
    assert {"gap", "difference"} <= set(both["aggregate"].dropna())
    assert both["value_x"].to_list() == pytest.approx(both["value_y"].to_list(), nan_ok=True)
    assert set(ours.loc[ours["aggregate"] == "difference", "reference"]) == {"minority"}
    (aaod,) = ours.loc[ours["base"] == "average_absolute_odds_difference", "value"]
    named = audited["base"] == "average_absolute_odds_difference"
    assert aaod == pytest.approx(audited.loc[named, "value"].iloc[0])


def test_the_guide_s_reasoning_is_on_the_page(run):
    page = (run / "report.html").read_text(encoding="utf-8")
    assert guide_errors("assistive", "large").why in page
    assert guide_representation("equal").why in page
    assert "ratios and odds differences: minority (group)" in page
    assert "the threshold that --threshold 0.3 gives" in page


def test_picked_metrics_are_judged_in_the_family_of_the_page(run, rows):
    pair = rows[rows["against"] == "supervised"]
    judged = pair[pair["p_adjusted"].notna() | pair["p"].notna()]
    assert {"false_negative_rate", "selection_rate", "specificity"} <= set(judged["base"])
    assert "auprc" not in set(pair["base"])
    assert not (pair["base"].eq("selection_rate") & pair["aggregate"].isna()).any()
    count = len(pair[pair["base"] != "relative_reduction_of_deviation"])
    assert f"Holm over the {count} differences" in (run / "report.html").read_text("utf-8")


def judged(gap: float, of_women: float) -> ParityNumbers:
    """A model with a gap in the false negative rate, and that rate of women."""
    stray = 0.01 * np.r_[0, np.linspace(-1, 1, 99)]
    auc, deviation = 0.8 + stray, {"sex": 0.3 + stray}
    numbers = {GAP: gap + stray, WOMEN: of_women + stray}
    by_group = {("sex", "f"): auc}
    return ParityNumbers(auc, by_group, deviation, deviation, {"sex": True}, numbers)


GAP = Key("sex", "*", "false_negative_rate", "gap")
WOMEN = Key("sex", "f", "false_negative_rate")
SIZES = dict.fromkeys([("*", "*"), ("sex", "*"), ("sex", "f")], RowCounts(400, 400, 200, 200))


@pytest.mark.parametrize(
    ("ssl", "text"),
    [
        (judged(0.1, 0.2), "certain for f"),
        (judged(0.3, 0.4), "not certain. The change within groups is certain for no group"),
        (judged(0.5, 0.4), "larger. The change within groups is certain for no group"),
    ],
)
def test_a_picked_metric_has_a_verdict_of_its_own(ssl, text):
    models = {"frozen1m": (ssl,), "supervised": (judged(0.3, 0.4),)}
    evaluation = Evaluation(1.0, "frozen1m", models, {}, {}, SIZES, picked_keys=(GAP, WOMEN))
    (answer,) = answers(make_claims([evaluation])[0])
    (row,) = (row for row in answer.verdicts if row.about.startswith("gap in "))
    assert text in row.text
    assert row.text in answer.answer.details
    assert row.claim == ("not certain." not in text)


def test_the_interval_of_auc_over_two_seeds_ends_at_its_limits():
    poor, good = judged(0.1, 0.2), judged(0.1, 0.2)
    poor, good = (replace(model, auc=model.auc + by) for model, by in ((poor, -0.3), (good, 0.15)))
    models = {"supervised": (poor, good)}
    value = Evaluation(1.0, "supervised", models, {}, {}, SIZES).auc_over_seeds("supervised")
    assert (value.low, value.high) == (0.0, 1.0)


def test_odds_differences_stand_beside_deviations(run):
    page = (run / "report.html").read_text(encoding="utf-8")
    for text in ("Average absolute odds difference, group", "Deviation, group", "AAOD, group"):
        assert text in page
    assert "By group, frozen3" in page


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--metric", "nonsense"), "no metric 'nonsense'"),
        (("--reference", "group=nobody"), "no level of group 'nobody'"),
        (("--threshold", "often"), "often"),
        (("--decision", "punitive"), "--decision and --share go together"),
    ],
)
def test_a_choice_that_cannot_be_measured_is_refused_before_any_work(
    command, tmp_path, more, message
):
    ended = command(tmp_path / "out", *more)
    assert ended.status == 2
    assert message in ended.err
    assert not (tmp_path / "out").exists()


def test_sizes_count_patients_of_the_rarer_class_not_their_images():
    patients = np.array([*range(60), *[60] * 10, *[61] * 10])
    labels = (patients >= 60).astype(int)
    rows = as_scored(labels, np.linspace(0, 1, 80), patients=patients)
    assert RowCounts.of(rows) == RowCounts(80, 62, 20, 2)
