"""The recipes of docs/guides/own.md run as they stand."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score
from tests.conftest import ROOT
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
    inputs = {"train": sets[0], "test": sets[1], "network": network}
    exec(RECIPES[0], inputs)
    _, labels, sex = sets[1]
    rows = inputs["table"].frame.set_index(["group", "metric"])
    women = torch.tensor(sex == "f")
    expected = roc_auc_score(labels[women], inputs["score"][women, 1])
    assert rows.loc[("f", "auc"), "value"] == pytest.approx(expected)
    drawn = pd.Series(sex_of(inputs["order"], sets[0][2])).value_counts(normalize=True)
    assert 0.4 < drawn["f"] < 0.6


def sex_of(order, sex):
    return [sex[row] for row in order]


def test_scikit_learn_on_stored_features():
    features, labels, sex = planted(0, 400)
    inputs = {"features": features, "y": labels, "sex": sex, "rows": np.arange(400) < 200}
    exec(RECIPES[1], inputs)
    assert {"f", "m"} < set(inputs["table"].frame["group"])
    assert inputs["leak"].finds
