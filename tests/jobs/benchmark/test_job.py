"""`evenhand benchmark` as users call it, on small phantoms."""

from __future__ import annotations

import json
from dataclasses import replace

import pandas as pd
import pytest
from tests.command import PHANTOMS, changed, evenhand, training

from evenhand.jobs.benchmark import fitting
from evenhand.jobs.benchmark.plan import hash_of
from evenhand.tables.predictions import read_predictions

RECIPE = (
    *("benchmark", PHANTOMS, "--epochs", 1, "--trials", 2, "--folds", 2, "--seeds", 2),
    *("--lr-min", "1e-3", "--lr-max", "1e-2"),
)
WORDS = (
    *(*RECIPE, "--strategy", "head"),
    *("--method", "group-balance", "--method", "thresholds", "--method", "dfr"),
    *("--strategy", "fairtune", "--strategy", "fairtune:both", "--pruning", "beta=0.5,limit=20"),
    *("--start", "ssl:simclr", "--pretrain-epochs", 1),
)
ENTRIES = [
    *("erm", "group-balance", "thresholds", "dfr", "head", "fairtune", "fairtune-both"),
    *("start-ssl-simclr", "prune-beta-0.5-limit-20"),
]
FEW = ("--strategy", "head", "--method", "dfr", "--pruning", "beta=0.5,limit=20")
FEW_NAMES = ("erm", "head", "dfr", "prune-beta-0.5-limit-20")
FITS = 6 * 2 * 2  # trained entries, folds, seeds


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def command(cache):
    return (*WORDS, *training(cache))


@pytest.fixture(scope="module")
def run(command, tmp_path_factory):
    out = tmp_path_factory.mktemp("benchmark") / "run"
    outcome = evenhand(*command, "--out", out)
    assert outcome.status == 0, outcome.err
    assert f"{2 * FITS} fits of at most 1 epoch" in outcome.out
    assert "jtt a fifth more" not in outcome.out  # it is no entry
    assert "Not counted: pre-training in each fold and pruning." in outcome.out
    return out


def read(path):
    return json.loads(path.read_text())


def test_every_patient_is_tested_once_by_every_entry_and_seed(run):
    tested = []
    for name in ENTRIES:
        for seed in (0, 1):
            table = read_predictions(run / "models" / name / "seeds" / f"{seed}.parquet").table
            assert set(table["split"]) == {"test"}
            tested.append(table["sample_id"].tolist())
    assert all(sorted(item) == sorted(set(item)) and item == tested[0] for item in tested)
    assert len(tested[0]) == 160


def test_no_patient_of_a_fold_is_in_its_test_and_elsewhere_and_all_entries_share_validation(run):
    folds = pd.read_csv(run / "folds.csv", dtype=str)
    assert folds.groupby("patient_id")["fold"].nunique().max() == 1
    for fold in ("1", "2"):
        seen = []
        for fit in sorted(run.glob(f"fits/*/fold{fold}-seed*/predictions.parquet")):
            predictions = read_predictions(fit)
            test = predictions.of_split("test").table["sample_id"]
            assert set(test) == set(folds.loc[folds["fold"] == fold, "sample_id"])
            seen.append(tuple(predictions.of_split("val").table["sample_id"]))
        assert len(seen) == 2 * (len(ENTRIES) - 1)  # thresholds keep erm's predictions
        assert len(set(seen)) == 1


def test_the_plan_has_its_hash_and_the_entries(run):
    record = read(run / "benchmark.json")
    assert record["hash"] == hash_of(record["plan"])
    assert [item["name"] for item in record["plan"]["entries"]] == ENTRIES
    assert record["plan"]["primary"] == "auc_worst"
    assert [item["name"] for item in record["entries"]] == [*ENTRIES, "chosen on validation"]


def entry_of(run, name):
    (entry,) = (item for item in read(run / "benchmark.json")["entries"] if item["name"] == name)
    return entry


def test_entries_that_move_decisions_are_judged_apart_by_equalised_odds_and_rates(run):
    thresholds, dfr = entry_of(run, "thresholds"), entry_of(run, "dfr")
    bases = {threshold["base"] for threshold in thresholds["differences"]}
    assert bases == {"equalized_odds_difference", "sensitivity", "specificity"}
    (change,) = (threshold for threshold in thresholds["differences"]
                 if threshold["base"] == "equalized_odds_difference")  # fmt: skip
    assert change["value"] != 0
    assert not {"sensitivity", "specificity"} & {item["base"] for item in dfr["differences"]}
    subjects = {item["about"] for item in read(run / "verdicts.json")["verdicts"]}
    assert "thresholds: decisions" in subjects
    assert "dfr: decisions" not in subjects
    assert "Entries that change only decisions" in (run / "report.html").read_text()


def test_the_page_says_what_differs_between_the_entries(run):
    page = (run / "report.html").read_text()
    for text in (
        "its trials search masks, methods and learning rates",
        "starts from simclr without labels, at most 1 epochs on the fold",
        "FairPrune of erm&#39;s models (beta=0.5,limit=20)",
    ):
        assert text in page


def test_pruned_models_have_lost_weights_and_keep_the_rate_of_erm(run):
    for fold, seed in ((1, 0), (2, 1)):
        fits = {name: read(run / "fits" / name / f"fold{fold}-seed{seed}" / "fit.json")
                for name in ("erm", "prune-beta-0.5-limit-20")}  # fmt: skip
        pruned = fits["prune-beta-0.5-limit-20"]
        assert pruned["lr"] == fits["erm"]["lr"]
        assert 0 <= pruned["sparsity"] <= 0.2
        assert len(pruned["values"]) > 1
        assert pruned["value"] >= fits["erm"]["value"]  # the untouched network may win, too


def test_a_start_without_labels_changes_the_scores_and_leaves_no_encoder(run):
    erm, ssl = (read_predictions(run / "models" / name / "predictions.parquet").table["score"]
                for name in ("erm", "start-ssl-simclr"))  # fmt: skip
    assert (erm != ssl).any()
    assert not list(run.glob("fits/*/*/encoder"))


def test_both_masks_and_methods_are_searched(run):
    masks, both = (read(run / "fits" / name / "fold1-seed0" / "fit.json")
                   for name in ("fairtune", "fairtune-both"))  # fmt: skip
    assert masks["values"][0] == both["values"][0]  # the first trial: all tuned, no method
    assert masks["values"][1] != both["values"][1]


def test_fairtune_draws_masks_and_has_as_many_trials_as_the_others(run):
    for fold, seed in ((1, 0), (2, 1)):
        fits = {name: read(run / "fits" / name / f"fold{fold}-seed{seed}" / "fit.json")
                for name in ("erm", "fairtune")}  # fmt: skip
        assert len(fits["fairtune"]["values"]) == len(fits["erm"]["values"]) == 2
        assert all(1e-3 <= fit["lr"] <= 1e-2 for fit in fits.values())
    assert fits["fairtune"]["values"] != fits["erm"]["values"]


def test_the_verdict_says_how_large_a_difference_would_have_shown(run):
    first = read(run / "verdicts.json")["verdicts"][0]
    assert first["about"] == "auc_worst against erm"
    assert "None was shown to be better. A difference of" in first["text"]
    assert "would have shown with power .8" in first["text"]
    assert "None was shown to be better" in (run / "report.html").read_text()


def test_report_writes_the_same_again(run):
    before = {name: (run / name).read_bytes() for name in ("metrics.json", "verdicts.json")}
    assert evenhand("report", run).status == 0
    assert before == {name: (run / name).read_bytes() for name in before}


def test_report_refuses_a_plan_that_was_changed_afterwards(run, tmp_path):
    import shutil

    copy = shutil.copytree(run, tmp_path / "copy")
    record = read(copy / "benchmark.json")
    record["plan"]["primary"] = "auc"
    (copy / "benchmark.json").write_text(json.dumps(record))
    outcome = evenhand("report", copy)
    assert outcome.status == 2
    assert "does not match its hash" in outcome.err


def test_a_killed_run_goes_on_and_repeats_no_finished_trial(cache, run, tmp_path, monkeypatch):
    trained, out = [], tmp_path / "killed"
    command = (*RECIPE, *FEW, *training(cache), "--out", out)
    real_train, real_write = fitting.train_model, fitting.write_predictions

    def killed_at_second(*arguments, **more):
        if trained:
            raise KeyboardInterrupt
        return train(*arguments, **more)

    def train(task, model, schedule, settings, **more):
        trained.append((task.settings.strategy, settings.lr))
        return real_train(task, model, schedule, settings, **more)

    def killed_at_third(path, predictions):
        if len(list(path.parents[2].glob("*/*/predictions.parquet"))) == 2:
            raise KeyboardInterrupt
        real_write(path, predictions)

    monkeypatch.setattr(fitting, "train_model", killed_at_second)
    assert evenhand(*command).status == 130
    assert (out / "benchmark.json").exists()
    assert len(read(out / "fits/erm/fold1-seed0/trials.json")["values"]) == 1
    monkeypatch.setattr(fitting, "train_model", train)
    monkeypatch.setattr(fitting, "write_predictions", killed_at_third)
    assert evenhand(*command).status == 130
    assert len(trained) == 2  # of erm; its last layer was fitted anew, its pruning was under way
    monkeypatch.setattr(fitting, "write_predictions", real_write)
    assert evenhand(*command).status == 0
    assert len(trained) == 2 * len(("erm", "head")) * 2 * 2
    for name in FEW_NAMES:
        file = f"models/{name}/predictions.parquet"
        assert (out / file).read_bytes() == (run / file).read_bytes()


def test_only_the_network_of_the_best_trial_is_saved(cache, tmp_path, monkeypatch):
    """The first, second and third learning rate reach .6, .8 and .7; a fourth diverges."""
    real_train, real_finish = fitting.train_model, fitting._finish
    saved, rates, reached = [], [], (0.6, 0.8, 0.7, float("nan"))

    def train(task, model, schedule, settings, **more):
        rates.append(settings.lr)
        value = reached[(len(rates) - 1) % 4]
        return replace(real_train(task, model, schedule, settings, **more), values=(value,))

    def finish(context, task, fit, model):
        saved.append({path.name for path in fit.folder(context.run).iterdir()} - {"model"})
        real_finish(context, task, fit, model)

    monkeypatch.setattr(fitting, "train_model", train)
    monkeypatch.setattr(fitting, "_finish", finish)
    words = (*changed(RECIPE, "--trials", 4, "--seeds", 1), "--these-models", "--strategy", "head")
    assert evenhand(*words, *training(cache), "--out", tmp_path / "run").status == 0
    assert saved == 4 * [{"fit.json", "trial1", "trials.json"}]
    fit = read(tmp_path / "run/fits/head/fold2-seed0/fit.json")
    assert (fit["lr"], fit["value"]) == (rates[1], 0.8)
    assert fit["values"] == [0.6, 0.8, 0.7, None]
    left = (tmp_path / "run/fits/head/fold2-seed0").iterdir()
    assert sorted(path.name for path in left) == ["fit.json", "predictions.parquet"]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([0.6, 0.7, 0.8], "it has 3 trials, and a fit has 2"),
        ([0.6], "the network of its best trial"),
        ([True], "values"),
        (None, "values"),
    ],
)
def test_damaged_trials_are_refused_by_name(values, says, cache, tmp_path, monkeypatch):
    command = (*RECIPE, "--strategy", "head", *training(cache), "--out", tmp_path / "run")

    def killed(*arguments, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patches:
        patches.setattr(fitting, "train_model", killed)
        assert evenhand(*command).status == 130
    file = tmp_path / "run/fits/erm/fold1-seed0/trials.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({} if values is None else {"values": values}))
    outcome = evenhand(*command)
    assert outcome.status == 2
    assert f"{file} is damaged" in outcome.err
    assert says in outcome.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--method", "nothing"), "nothing"),
        (("--method", "erm"), "entry erm is given twice"),
        (("--strategy", "full"), "entry erm is given twice"),
        (("--primary", "accuracy", "--method", "group-dro"), "--primary accuracy"),
        (("--primary", "auc_gap:sex", "--method", "group-dro"), "auc_gap:sex"),
        (("--primary", "auc:group", "--method", "group-dro"), "auc:group"),
        (("--seeds", 1, "--method", "group-dro"), "--seeds 1: one seed allows no claim"),
        (("--these-models", "--method", "group-dro"), "--seeds 2: one seed allows no claim"),
        (("--add", "--method", "group-dro"), "holds no benchmark"),
        (("--method", "cdann:nothing=1"), "nothing"),
        (("--method", "thresholds:at_test=inferred"), "entry thresholds-at_test-inferred: "),
        ((), "name at least one --method, --strategy, --start or --pruning"),
        (("--start", "none"), "entry erm is given twice"),
        (("--start", "ssl:nothing"), "nothing"),
        (("--start", "no/such/run"), "entry start-no-such-run: "),
        (("--pruning", "gamma=1"), "--pruning gamma=1: gamma"),
        (("--pruning", "beta=-1"), "--pruning beta=-1: beta"),
        (("--pruning", "estimator=nothing"), "nothing"),
    ],
)
def test_senseless_entries_are_refused_and_nothing_is_written(words, says, cache, tmp_path):
    out = tmp_path / "run"
    outcome = evenhand("benchmark", PHANTOMS, *training(cache), *words, "--out", out)
    assert outcome.status == 2
    assert says in outcome.err
    assert not out.exists()


def test_a_method_that_the_data_do_not_allow_is_named_and_may_be_left_out(
    command, cache, tmp_path, monkeypatch
):
    from evenhand.errors import EvenhandError
    from evenhand.jobs.benchmark import job

    real = job.entry_task

    def no_balance(settings, entry, fold):
        if entry.name == "group-balance":
            raise EvenhandError("group old lacks class 1.")
        return real(settings, entry, fold)

    monkeypatch.setattr(job, "entry_task", no_balance)
    outcome = evenhand(*command, "--out", tmp_path / "run")
    assert outcome.status == 2
    assert "entry group-balance: group old lacks class 1." in outcome.err
    assert not (tmp_path / "run").exists()
    quick = (*changed(command, "--trials", 1, "--seeds", 1), "--these-models")
    outcome = evenhand(*quick, "--skip-refused", "--out", tmp_path / "run")
    assert outcome.status == 0
    assert "Entry group-balance is left out" in outcome.out
    names = [item["name"] for item in read(tmp_path / "run" / "benchmark.json")["plan"]["entries"]]
    assert names == [name for name in ENTRIES if name != "group-balance"]


def test_workers_and_fewer_entries_give_the_same_predictions(cache, run, tmp_path):
    out = tmp_path / "run"
    words = (*RECIPE, *FEW, *training(cache), "--workers", 2, "--worker-cpus", 1)
    assert evenhand(*words, "--out", out).status == 0
    for name in FEW_NAMES:
        file = f"models/{name}/predictions.parquet"
        assert (out / file).read_bytes() == (run / file).read_bytes()


def test_a_plan_of_one_test_leaves_everything_else_exploratory(cache, tmp_path):
    words = (*changed(RECIPE, "--trials", 1), "--strategy", "head", "--method", "thresholds")
    item = ("--decides", "chosen", "--primary", "auc_gap:group")
    out = tmp_path / "run"
    outcome = evenhand(*words, *item, *training(cache), "--out", out)
    assert outcome.status == 0, outcome.err
    record = read(out / "benchmark.json")
    assert (record["plan"]["decides"], record["plan"]["primary"]) == ("chosen", "auc_gap:group")
    planned = [
        (entry["name"], item["base"], item["aggregate"])
        for entry in record["entries"]
        for item in entry["differences"]
        if not item["exploratory"]
    ]
    assert planned == [("chosen on validation", "auc", "gap")]
    (tested, *others) = read(out / "verdicts.json")["verdicts"]
    assert tested["about"] == "auc_gap against erm"
    assert all("exploratory" in other["about"] and not other["claim"] for other in others)
    assert "while all other results are exploratory" in (out / "report.html").read_text()


def test_entries_that_are_added_later_are_exploratory_and_leave_the_plan(cache, run, tmp_path):
    words = (*changed(RECIPE, "--trials", 1), "--strategy", "head", *training(cache))
    out = tmp_path / "run"
    assert evenhand(*words, "--out", out).status == 0
    before = read(out / "benchmark.json")
    fits = {path: path.stat().st_mtime_ns for path in out.glob("fits/*/*/predictions.parquet")}
    new = ("--method", "group-balance", "--method", "thresholds")

    refused = evenhand(*words, *new, "--out", out)
    assert refused.status == 2
    assert "whose plan is locked" in refused.err
    assert "Give --add to add new ones" in refused.err
    other = evenhand(*changed(words, "--epochs", 2), *new, "--add", "--out", out)
    assert other.status == 2
    assert "epochs was 1, is 2" in other.err
    assert read(out / "benchmark.json") == before

    outcome = evenhand(*words, *new, "--add", "--out", out)
    assert outcome.status == 0, outcome.err
    assert "4 fits of at most 1 epoch" in outcome.out  # of the new entry alone
    after = read(out / "benchmark.json")
    assert (after["plan"], after["hash"]) == (before["plan"], before["hash"])
    assert [item["name"] for item in after["added"]] == ["group-balance", "thresholds"]
    assert {path: path.stat().st_mtime_ns for path in fits} == fits
    for name, later in (("head", False), ("group-balance", True), ("thresholds", True)):
        assert {item["exploratory"] for item in entry_of(out, name)["differences"]} == {later}
    assert entry_of(out, "head")["differences"] == [
        item
        for entry in before["entries"]
        if entry["name"] == "head"
        for item in entry["differences"]
    ]
    page = (out / "report.html").read_text()
    assert "Added later, and therefore exploratory: group-balance and thresholds." in page
    assert "group-balance, exploratory" in page
    claims = [item for item in read(out / "verdicts.json")["verdicts"] if item["claim"]]
    assert not [claim for claim in claims if "exploratory" in claim["about"]]

    again = evenhand(*words, *new, "--add", "--out", out)
    assert again.status == 2
    assert "has every entry of this command already" in again.err
