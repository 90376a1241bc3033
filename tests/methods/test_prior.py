"""Balancing changes how frequent each class is; scores get the prevalence back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.command import evenhand, training

from evenhand.experiments.runs import open_run
from evenhand.methods.in_training.group_balance import GroupBalance
from evenhand.tables.predictions import read_predictions
from evenhand.training.heads import ShiftedHead

LABELS = np.array([1] * 8 + [0] * 32 + [1] * 2 + [0] * 18)
GROUPS = np.array(["a"] * 40 + ["b"] * 20)


def test_the_shift_is_the_log_of_the_share_over_the_balanced_share():
    method = GroupBalance()
    method.sampler(LABELS, GROUPS)
    assert method.prior_shift()[1] == pytest.approx(np.log((10 / 60) / (50 / 60)))
    method = GroupBalance(by="attribute")
    method.sampler(LABELS, GROUPS)
    balanced = (8 / 40 + 2 / 20) / 2
    expected = np.log((10 / 50) / (balanced / (1 - balanced)))
    assert method.prior_shift()[1] == pytest.approx(expected)


@pytest.mark.parametrize("by", ["attribute", "label*attribute"])
def test_the_log_odds_of_balanced_rows_are_those_of_all_rows_after_the_shift(by):
    """A predictor that knows nothing: its log-odds are those of the classes in its rows."""
    method = GroupBalance("sampling", by=by)
    order = method.sampler(LABELS, GROUPS, seed=0)
    drawn = LABELS[np.concatenate([list(order) for _ in range(400)])].mean()
    outputs = torch.tensor([[0.0, float(np.log(drawn / (1 - drawn)))]])
    score = method.scored(outputs).softmax(dim=1)[0, 1]
    assert float(score) == pytest.approx(LABELS.mean(), abs=0.01)


def test_a_head_is_raised_when_it_scores_and_joins_into_one_layer():
    torch.manual_seed(0)
    head = ShiftedHead(torch.nn.Linear(3, 2), torch.tensor([0.0, -1.5]))
    features = torch.randn(4, 3)
    trained, scored = head.train()(features), head.eval()(features)
    torch.testing.assert_close(scored - trained, torch.tensor([[0.0, -1.5]]).expand(4, 2))
    torch.testing.assert_close(head.joined()(features), scored)


def test_a_balanced_training_has_the_prevalence_of_its_data_and_says_so(tmp_path):
    """One in five is ill; without the shift the mean score would be near a half."""
    data = "phantom:patients=300,size=32,prevalence=0.2,harder=0,shortcut=0"
    words = training(tmp_path / "cache", "--epochs", 2, "--lr", 0.002)
    out = tmp_path / "run"
    ended = evenhand("finetune", data, *words, "--method", "group-balance", "--out", out)
    assert ended.status == 0, ended.err
    assert "shifted back to the prevalence of the training rows" in ended.out
    (name,) = open_run(out).models
    scores = read_predictions(out / f"models/{name}/predictions.parquet").scores
    assert 0.1 < scores.mean() < 0.32
