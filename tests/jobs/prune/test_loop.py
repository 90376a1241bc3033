"""The loop in this process: every setting matters, and bad input is told before work begins."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from tests.command import changed, evenhand, training, without
from torch import nn

from evenhand.cohort.prepare import reopen
from evenhand.errors import EvenhandError
from evenhand.jobs.prune.loop import curve_row, initial_state, pruning_steps, stop_reason
from evenhand.jobs.prune.settings import PruneSettings
from evenhand.jobs.prune.task import group_batches, group_positions, make_prune_task
from evenhand.pruning.channels import remover
from evenhand.pruning.curvature.layers import RULES


@pytest.fixture(scope="module")
def settings(trained, cache):
    return PruneSettings(
        run=trained,
        attribute=("group",),
        cache=cache,
        device="cpu",
        batches=2,
        share=40,
        budget=None,
    )


def curve(settings):
    """Return every step but its time, and why the loop ended."""
    task = make_prune_task(settings)
    first = curve_row(0, initial_state(task), task.before, 0.0)
    rows = [first]
    for step in pruning_steps(task, initial_state(task), [first], remover(settings.structure)):
        rows.append(step.row)
    shown = [{name: value for name, value in row.items() if name != "seconds"} for row in rows]
    return shown, stop_reason(task, rows), task.roles


@pytest.fixture(scope="module")
def plain(settings):
    return curve(settings)


def test_the_same_settings_give_the_same_curve(settings, plain):
    assert curve(settings) == plain
    assert plain[1] == "the sparsity limit of 60 % was reached"
    assert [row["step"] for row in plain[0]] == [0, 1, 2]
    assert plain[0][2]["sparsity"] == pytest.approx(0.6, abs=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"beta": 0.0},
        {"group_beta": ("majority=3",)},
        {"estimator": "fisher"},
        {"estimator": "hutchinson"},
        {"draws": 3},
        {"prunable": ("conv", "linear", "head", "bias", "norm")},
        {"share": 30},
        {"limit": 50},
        {"unprivileged": "majority"},
        {"batches": 1},
        {"batch_size": 8},
        {"seed": 1},
        {"target": "auc_gap=0.9"},
        {"budget": 0.0, "budget_metric": "accuracy"},
    ],
    ids=str,
)
def test_each_setting_has_an_effect(settings, plain, change):
    assert curve(settings.model_copy(update=change)) != plain


def test_batches_hold_so_many_of_each_group_and_come_round(settings):
    task = make_prune_task(settings)
    batches = list(group_batches(task.source, task.positions, 40, 8, np.random.default_rng(0)))
    labels = task.splits.train.labels
    for group, positions in task.positions.items():
        values = np.concatenate([b.labels[b.rows[group]].numpy() for b in batches])
        assert len(values) == 320
        share = labels[positions].mean()
        assert values.mean() == pytest.approx(share, abs=0.05)
    assert group_positions(task.splits.train, "group", ["majority"])["majority"].tolist() == [
        place
        for place, level in enumerate(task.splits.train.table["attr_group"])
        if level == "majority"
    ]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--attribute", "skin"), "no attribute 'skin'; there are: group, sex"),
        (("--beta", -0.1), "--beta: Input should be greater than or equal to 0"),
        (("--budget", -1), "--budget: Input should be greater than or equal to 0"),
        (("--budget-metric", "aux"), "Did you mean 'auc'?"),
        (("--budget-metric", "prevalence"), "only describes"),
        (("--rank-by", "prevalence"), "only describes"),
        (("--target", "auc_gap:sex"), "pruning is for the groups of the first --attribute, group"),
        (("--objective", "auc_gab"), "Did you mean 'auc_gap'?"),
        (("--target", "auc_gap=low"), "is not a finite number; write NAME=NUMBER"),
        (("--target", "auc_gap=nan"), "is not a finite number; write NAME=NUMBER"),
        (("--target", "auc_gap=inf"), "is not a finite number; write NAME=NUMBER"),
        (
            ("--target", "auc_gap=0.1", "--objective", "auc_gap"),
            "--objective is the earlier name of",
        ),
        (("--beta", "inf"), "--beta: Input should be a finite number"),
        (("--lr", "inf"), "--lr: Input should be a finite number"),
        (("--budget", "nan"), "--budget: Input should be a finite number"),
        (("--estimator", "fischer"), "Did you mean 'fisher'?"),
        (("--prunable", "embedding"), "no kind of parameter 'embedding'"),
        (("--prunable", "other"), "the model has no parameter of these kinds"),
        (("--structure", "channel", "--prunable", "conv"), "Leave one of the two out"),
        (("--model", "ful"), "no model 'ful'; there are: full. Did you mean 'full'?"),
        (("--unprivileged", "nobody"), "no group of group 'nobody'"),
        (("--unprivileged", "minority", "--privileged", "minority"), "at once"),
        (("--privileged", "minority", "--privileged", "majority"), "every group is named"),
        (("--group-beta", "majority=-1"), "give a finite number of at least 0"),
        (("--group-beta", "x"), "write it as GROUP=NUMBER"),
        (("--group-beta", "minority=1"), "no privileged group 'minority'"),
        (("--exclude-group", "group=minority"), "there is one group, 'majority'"),
        (("--data", "phantom:patients=40,size=32"), "no sample of that name"),
    ],
)
def test_bad_settings(words, tmp_path, flags, message):
    out = tmp_path / "out"
    inputs = without(words, "--attribute") if flags[0] == "--attribute" else words
    if flags[0] == "--target" and len(flags) == 2:
        inputs = without(inputs, "--objective")
    ended = evenhand(*changed(inputs, *flags), "--out", out)
    assert ended.status == 2
    assert message in ended.err
    assert not out.exists()


@pytest.mark.parametrize("structure", ["weight", "channel"])
def test_layers_that_the_estimator_cannot_handle(words, tmp_path, monkeypatch, structure):
    expected = {kind: rules for kind, rules in RULES.items() if kind is not nn.Conv2d}
    monkeypatch.setattr("evenhand.pruning.curvature.taps.RULES", expected)
    ended = evenhand(*words, "--structure", structure, "--out", tmp_path / "out")
    assert ended.status == 2
    assert "backbone.conv1.0.weight (in a Conv2d)" in ended.err
    assert "--estimator hutchinson" in ended.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("folder", [".", "models", "pruned/first"])
def test_the_run_itself_is_refused(words, trained, folder):
    ended = evenhand(*words, "--overwrite", "--out", trained / folder)
    assert ended.status == 2
    assert "the run that is pruned" in ended.err
    assert not (trained / "pruned").exists()


def test_a_run_without_a_model(trained, cache, tmp_path):
    audit, out = tmp_path / "audit", tmp_path / "out"
    predictions = trained / "models" / "full" / "predictions.parquet"
    assert evenhand("audit", predictions, "--out", audit).status == 0
    for run, message in [
        (audit, "holds no model"),
        (tmp_path, "is no run directory"),
    ]:
        ended = evenhand("prune", run, "--attribute", "group", "--cache", cache, "--out", out)
        assert (ended.status, out.exists()) == (2, False)
        assert message in ended.err


def test_an_undefined_target(cache, tmp_path):
    run, out = tmp_path / "run", tmp_path / "out"
    rare = "phantom:patients=60,size=32,minority=0.1,prevalence=0.2,seed=3"
    assert evenhand("finetune", rare, *training(cache, "--epochs", 1), "--out", run).status == 0
    ended = evenhand("prune", run, "--attribute", "group", "--cache", cache, "--out", out)
    assert ended.status == 2
    assert "--target auc_gap is undefined for this model on validation" in ended.err
    assert "group 'minority': no positives among 1 sample" in ended.err
    assert not out.exists()


def test_a_share_of_less_than_one_number_takes_one(settings):
    task = make_prune_task(settings.model_copy(update={"share": 1e-9}))
    whole = initial_state(task)
    first = curve_row(0, whole, task.before, 0.0)
    for left in (whole.left, whole.left - 7):
        assert stop_reason(task, [{**first, "left": left}]) is None
    assert next(pruning_steps(task, whole, [first], remover("weight"))).state.left == whole.left - 1


def test_a_value_that_is_undefined_ends_the_pruning_by_its_own_name(settings):
    task = make_prune_task(settings.model_copy(update={"target": "auc_gap=0.02", "budget": 1.0}))
    first = curve_row(0, initial_state(task), task.before, 0.0)
    for name in ("auc", "auc_gap"):
        rows = [first, {**first, "step": 1, "left": first["left"] - 9, name: math.nan}]
        assert stop_reason(task, rows) == f"{name} became undefined on validation"
        assert task.judge.best_step(rows) == 0
    target = task.judge.target
    assert not target.is_reached(math.nan)
    assert [target.is_reached(value) for value in (0.01, 0.02, 0.03)] == [1, 1, 0]


def test_a_group_without_training_patients_is_named(settings, monkeypatch):
    opened = reopen

    def without_minority(*arguments):
        splits = opened(*arguments)
        places = np.flatnonzero(splits.train.table["attr_group"] == "majority")
        return replace(splits, train=splits.train.select(places))

    monkeypatch.setattr("evenhand.jobs.prune.task.reopen", without_minority)
    with pytest.raises(EvenhandError, match="no training patient is of 'minority'"):
        make_prune_task(settings)
