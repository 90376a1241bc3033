"""The recipes of docs/guides/own.md run as they stand."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score
from tests.conftest import ROOT
from tests.own.networks import NETWORKS
from torch import nn

RECIPES = re.findall(
    r"```python\n(.*?)```",
    (ROOT / "docs/guides/own.md").read_text().partition("## Recipes")[2].partition("\n## ")[0],
    re.S,
)


def planted(seed, n=200):
    """Inputs that show the class, and of which one number shows the sex."""
    rng = np.random.default_rng(seed)
    labels, sex = rng.integers(0, 2, n), rng.choice(["f", "m"], n, p=[0.2, 0.8])
    inputs = rng.normal(size=(n, 4)) + labels[:, None] + np.eye(4)[0] * 3 * (sex == "f")[:, None]
    return inputs.astype("float32"), labels, sex


def test_a_plain_loop():
    torch.manual_seed(0)
    sets = [(torch.tensor(x), torch.tensor(y), sex) for x, y, sex in map(planted, (0, 1))]
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    scope = {"train": sets[0], "test": sets[1], "network": network}
    exec(RECIPES[0], scope)
    assert_measured(scope, sets[1])
    drawn = pd.Series(sex_of(scope["order"], sets[0][2])).value_counts(normalize=True)
    assert 0.4 < drawn["f"] < 0.6


@pytest.mark.filterwarnings("ignore")
def test_lightning():
    pytest.importorskip("lightning")
    torch.manual_seed(0)
    sets = [(torch.tensor(x), torch.tensor(y), sex) for x, y, sex in map(planted, (0, 1))]
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    scope = {"train": sets[0], "test": sets[1], "network": network}
    exec(RECIPES[1], scope)
    changed = {
        name for name, value in network.state_dict().items() if not value.equal(before[name])
    }
    assert changed == {"2.weight", "2.bias", "3.weight", "3.bias"}
    assert_measured(scope, sets[1])


@pytest.mark.filterwarnings("ignore")
def test_the_trainer_of_transformers(tmp_path):
    own = NETWORKS["transformers ViT"]
    network, sex = own.make(), np.repeat(["f", "m"], 30)
    sets = [(own.inputs(60, seed), torch.tensor([0, 1] * 30), sex) for seed in (0, 1)]
    before = network.classifier.weight.clone()
    scope = {"train": sets[0], "test": sets[1], "network": network, "folder": str(tmp_path)}
    exec(RECIPES[2], scope)
    assert not network.classifier.weight.equal(before)
    assert not torch.allclose(scope["method"].weights, torch.full((4,), 0.25), atol=1e-4)
    assert_measured(scope, sets[1])


def assert_measured(scope, rows):
    """The table has the AUC of the women among the rows."""
    _, labels, sex = rows
    women = torch.tensor(sex == "f")
    expected = roc_auc_score(labels[women], scope["score"][women, 1])
    measured = scope["table"].frame.set_index(["group", "metric"])
    assert measured.loc[("f", "auc"), "value"] == pytest.approx(expected)


def sex_of(order, sex):
    return [sex[row] for row in order]


def test_scikit_learn_on_stored_features():
    features, labels, sex = planted(0, 400)
    scope = {"features": features, "y": labels, "sex": sex, "rows": np.arange(400) < 200}
    exec(RECIPES[3], scope)
    assert {"f", "m"} < set(scope["table"].frame["group"])
    assert scope["leak"].finds
