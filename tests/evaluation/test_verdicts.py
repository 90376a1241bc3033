"""What the pages of audits and comparisons claim, in words and in ``verdicts.json``."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evenhand import AuditSettings, CompareSettings
from evenhand.experiments.records import SourceRecord
from evenhand.experiments.runs import begin_run
from evenhand.files import read_json
from evenhand.jobs.audit.job import audit
from evenhand.jobs.compare import compare
from evenhand.jobs.evaluate import evaluate
from evenhand.jobs.prune.settings import PruneSettings
from evenhand.jobs.report import write_card
from evenhand.metrics import as_table
from evenhand.reporting.terminal import print_verdicts
from evenhand.reporting.verdicts import Verdict, read_verdicts
from evenhand.runs import run_scope
from evenhand.tables.predictions import read_predictions, write_predictions

GAP = "a gap in sensitivity, AUC and specificity"


def table(seed=0, *, patients=300, attributes=2, steep=(2.5, 2.5), split=None):
    """Patients with one to three rows; how steeply scores follow labels may differ by ``a0``."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    label = (rng.random(patients) < 0.4).astype(int)[patient]
    levels = {f"a{k}": rng.integers(2, size=patients)[patient] for k in range(attributes)}
    slope = np.choose(levels["a0"], steep)
    score = 1 / (1 + np.exp(-slope * (label - 0.5) - rng.normal(size=len(patient))))
    names = {name: np.where(level == 1, "y", "x") for name, level in levels.items()}
    frame = pd.DataFrame(
        {"patient_id": [f"p{i}" for i in patient], "label": label, "score": score, **names}
    )
    frame.insert(0, "sample_id", [f"s{i}" for i in range(len(frame))])
    if split is not None:
        frame["split"] = np.where(patient % 2, "val", "test")
    return frame


@pytest.fixture
def audited(tmp_path):
    def run(frame, **more):
        path = tmp_path / "model.csv"
        frame.to_csv(path, index=False)
        names = tuple(name for name in frame if name.startswith("a"))
        settings = AuditSettings(inputs=(path,), attribute=names, replicates=400, **more)
        return audit(settings, tmp_path / "audit", overwrite=True)

    return run


@pytest.fixture
def compared(tmp_path):
    def run(new, old, **more):
        for name, frame in (("new", new), ("old", old)):
            frame.to_csv(tmp_path / f"{name}.csv", index=False)
        paths = (tmp_path / "new.csv", tmp_path / "old.csv")
        settings = CompareSettings(inputs=paths, attribute=("a0", "a1"), replicates=400, **more)
        return compare(settings, tmp_path / "compare", overwrite=True)

    return run


def verdicts_of(run):
    return read_verdicts(run.root / "verdicts.json")


def words_of(run):
    page = (run.root / "report.html").read_text(encoding="utf-8")
    return re.sub(r"\s+", " ", html.unescape(re.sub("<[^>]+>", " ", page))).replace("\xa0", " ")


def chips_of(run):
    page = (run.root / "report.html").read_text(encoding="utf-8")
    return re.findall(r'<span class="chip">([^<]+)</span>', page)


def test_five_attributes_without_a_difference_claim_nothing(audited):
    """Where each interval speaks for itself, more than half of such audits claim a gap."""
    claims = 0
    for seed in range(6):
        run = audited(table(seed, attributes=5))
        has_claim = any(verdict.claim for verdict in verdicts_of(run))
        assert has_claim == any(chip.startswith("a gap in ") for chip in chips_of(run))
        claims += has_claim
    assert claims <= 2  # more come in 2 of 1,000 runs


def test_a_planted_gap_is_claimed_on_page_card_and_terminal_alike(audited, tmp_path):
    run = audited(table(steep=(4.0, 1.0), patients=500))
    verdicts = verdicts_of(run)
    claimed = [verdict for verdict in verdicts if verdict.claim]
    assert {verdict.attribute for verdict in claimed} == {"a0"}
    assert claimed[0].about == "sensitivity gap of model"
    assert claimed[0].p_adjusted <= 0.05
    text = words_of(run)
    assert all(verdict.text.replace("\xa0", " ") in text for verdict in verdicts)
    assert sorted(chips_of(run)) == [GAP, "cannot tell"]
    write_card(run, None, tmp_path / "card.md")
    card = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert f"**A0: {GAP}.**" in card
    assert "**A1: cannot tell.**" in card
    assert print_verdicts(verdicts).count("\n") + 1 == len(claimed)
    rows = json.loads((run.root / "metrics.json").read_text(encoding="utf-8"))["rows"]
    p = {(row["attribute"], row["metric"]): row["p_adjusted"] for row in rows}
    assert p["a0", "sensitivity_gap"] == claimed[0].p_adjusted


def test_where_nothing_is_claimed_the_page_says_what_would_have_shown(audited):
    run = audited(table())
    assert not any(verdict.claim for verdict in verdicts_of(run))
    for verdict in verdicts_of(run):
        assert re.search(
            r"(do not show|No gap is shown) .*; a difference of [\d.]+( points)? would usually",
            verdict.text,
        )
    assert print_verdicts(verdicts_of(run)) == "These data do not show any difference."
    assert print_verdicts(()) == ""
    everybody = Verdict(
        "chance: full", "*", False, "full cannot be told from chance.", warning=True
    )
    printed = print_verdicts([everybody])
    assert printed.startswith("full cannot be told from chance.\n")
    assert printed.endswith("No groups were compared.")


def test_page_terminal_and_card_warn_of_a_model_that_is_no_better_than_chance(audited, tmp_path):
    random = table().assign(score=np.random.default_rng(5).random(len(table())))
    run = audited(random)
    (warning,) = (verdict for verdict in verdicts_of(run) if verdict.warning)
    text = warning.text.replace("\xa0", " ")
    assert "is not shown to be better than chance" in text
    assert text in words_of(run)
    assert text in print_verdicts(verdicts_of(run))
    write_card(run, None, tmp_path / "card.md")
    card = (tmp_path / "card.md").read_text(encoding="utf-8").replace("\xa0", " ")
    assert f"**{text}**" in card
    assert not any(verdict.warning for verdict in verdicts_of(audited(table())))


@pytest.mark.parametrize(("permutations", "few"), [(39, True), (299, False)])
def test_a_page_says_that_permutations_are_too_few(audited, permutations, few):
    run = audited(table(steep=(4.0, 1.0), patients=300), permutations=permutations)
    warned = f"{permutations} permutations cannot show any difference" in words_of(run)
    assert warned == few
    assert any(verdict.claim for verdict in verdicts_of(run)) != few


def test_the_terminal_says_where_nothing_was_tested():
    untested = Verdict("ece gap of a", "sex", False, "Without a test nobody can tell.")
    assert print_verdicts([untested]).startswith("No difference was tested")
    chance = Verdict("chance: a", "*", False, "No better than chance.", 0.4, warning=True)
    assert print_verdicts([untested, chance]).splitlines()[1].startswith("No difference was tested")
    tested = Verdict("auc gap of a", "sex", False, "Cannot tell.", 0.7)
    assert print_verdicts([untested, tested]) == "These data do not show any difference."


def test_the_terminal_prints_no_break_blanks_as_blanks_and_no_line_breaks_of_names():
    verdict = Verdict("gap of a\nb", "sex", True, "95\N{NO-BREAK SPACE}% interval")
    printed = print_verdicts([verdict])
    assert printed == "gap of a\N{REPLACEMENT CHARACTER}b, by sex: 95 % interval"


def harmed(frame, level, seed=3):
    """Return the predictions with noise in the rows of a group."""
    rng = np.random.default_rng(seed)
    noisy = np.clip(0.3 * frame["score"] + 0.7 * rng.random(len(frame)), 0, 1)
    return frame.assign(score=frame["score"].where(frame["a0"] != level, noisy))


def test_a_model_that_only_takes_away_is_said_to_level_down(compared):
    old = table(patients=600, steep=(4.0, 1.5), split=True)
    run = compared(harmed(old, "x"), old)  # x is served best
    assert "levelled down" in chips_of(run)
    terminal = print_verdicts(verdicts_of(run))
    claimed = [verdict for verdict in verdicts_of(run) if verdict.claim]
    assert any("95\xa0%" in verdict.text for verdict in claimed)
    assert all(verdict.text.replace("\xa0", " ") in terminal for verdict in claimed)
    of_a0 = {item.about: item for item in verdicts_of(run) if item.attribute == "a0"}
    levelled = of_a0["levelling down: new against old"]
    assert levelled.claim
    assert "where a0 is x" in levelled.text
    assert "serves worst on validation (a0 is y)" in levelled.text
    assert "these two models" in words_of(run)


def test_a_loss_beside_a_gain_of_the_worst_served_is_a_trade(compared):
    best = table(patients=600, steep=(4.0, 4.0), split=True)
    run = compared(harmed(best, "x"), harmed(best, "y"))  # y was harmed, now x is
    of_a0 = {item.about: item for item in verdicts_of(run) if item.attribute == "a0"}
    verdict = of_a0["levelling down: new against old"]
    assert not verdict.claim
    assert verdict.text.endswith("is served better, this is a trade-off, not levelling down.")
    assert "levelled down" not in chips_of(run)


def test_every_group_gains_or_loses_in_a_table(compared):
    old = table(patients=400)
    run = compared(harmed(old, "x"), old)
    page = (run.root / "report.html").read_text(encoding="utf-8")
    region = page.split("Gains and losses of each group: AUC: new − old")[1].split("</table>")[0]
    names = re.findall(r'<th scope="row">([^<]+)', region)
    assert names == ["everyone", "a0: x", "a0: y", "a1: x", "a1: y"]
    assert region.count("worse</td>") >= 2
    assert region.count("not tested</td>") == 1  # a0: y has the same scores under both


def test_the_same_model_by_other_patients_shares_no_resamples(audited, tmp_path):
    first, other = table(1), table(2)
    other["patient_id"] = "q" + other["patient_id"]
    paths = []
    for name, frame in (("one", first), ("other", other)):
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
        paths.append(tmp_path / f"{name}.csv")
    both = audit(AuditSettings(inputs=tuple(paths), attribute=("a0",)), tmp_path / "both")
    alone = audit(AuditSettings(inputs=tuple(paths[:1]), attribute=("a0",)), tmp_path / "alone")
    p = [verdicts_of(run)[0].p_adjusted for run in (both, alone)]
    assert p[0] == pytest.approx(min(1, 2 * p[1]))


def test_a_pruning_and_a_comparison_of_it_subtract_in_the_same_direction(tmp_path):
    """Each model less the one that it was made of."""
    with run_scope():
        settings = PruneSettings(run=Path("trained"), attribute=("a0",))
        run = begin_run(tmp_path / "pruned", "prune", settings, fingerprint="none")
    frame = table(split=True).rename(columns={"a0": "attr_a0", "a1": "attr_a1"})
    for k, name in enumerate(("before", "pruned", "finetuned")):
        rng = np.random.default_rng(k)
        path = tmp_path / f"{name}.csv"
        moved = frame.assign(
            score=np.clip(frame["score"] + 0.1 * rng.normal(size=len(frame)), 0, 1)
        )
        moved.to_csv(path, index=False)
        write_predictions(run.predictions_file(name), read_predictions(path))
    run.note(
        models=["before", "pruned", "finetuned"],
        source=SourceRecord(reader="predictions", path="here"),
    )
    own = as_table(evaluate(run, chosen="finetuned"))
    run.finish(chosen="finetuned")
    settings = CompareSettings(inputs=(run.root,), model=("all",), attribute=("a0",))
    again = compare(settings, tmp_path / "compared")
    rows = pd.DataFrame(read_json(again.root / "metrics.json")["rows"])

    def paired(table):
        text = table[table["against"].notna() & (table["metric"] == "auc")]
        return text.set_index(["model", "against", "attribute", "group"])["value"].to_dict()

    assert paired(own).items() <= paired(rows).items()
    assert ("pruned", "before", "*", "*") in paired(rows)


def test_all_metrics_have_the_usual_headline(audited):
    """Not the first by name, the ECE, whose gaps nobody can test."""
    run = audited(table(steep=(0.0, 6.0)), metric=("all",))
    first = next(verdict for verdict in verdicts_of(run) if verdict.attribute == "a0")
    assert first.about == "sensitivity gap of model"
    assert first.p_adjusted is not None


def test_permutations_too_few_to_claim_anything_are_noted(audited):
    """Holm multiplies the smallest p-value, 1/20, by the number of tests."""
    frame = table(steep=(4.0, 1.0), patients=100)
    (note,) = [text for text in audited(frame, permutations=19).record.notes if "permut" in text]
    assert "19 permutations cannot show" in note
    assert "--permutations 199 at least" in note  # two attributes, five metrics
    enough = audited(frame, permutations=199).record.notes
    assert not any("permut" in text for text in enough)
