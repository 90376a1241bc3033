"""The script of docs/guides/own.md, run on networks of six kinds."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import torch
from tests.conftest import ROOT
from tests.own.networks import NETWORKS
from torch.nn import functional as F  # noqa: N812

from evenhand.networks.calling import logits_of

SCRIPT = re.search(r"```python\n(.*?)```", (ROOT / "docs/guides/own.md").read_text(), re.S).group(1)
BODY = [line for line in SCRIPT.splitlines()[1:] if line.strip()]


def test_the_script_has_less_than_fifteen_lines():
    assert len(BODY) < 15


@pytest.mark.parametrize("name", NETWORKS)
def test_the_script_runs_on(name):
    own = NETWORKS[name]
    inputs, labels = own.inputs(40), torch.tensor([0, 1] * 20)
    sex = pd.Series(np.repeat(["f", "m"], 20), name="sex")

    def fit_one_epoch(network, optimizer):
        optimizer.zero_grad()
        F.cross_entropy(logits_of(network, inputs), labels).backward()
        optimizer.step()

    def scores(network):
        with torch.no_grad():
            return logits_of(network, inputs).softmax(1)

    def make(seed):
        torch.manual_seed(seed)
        return own.make()

    arguments = {
        "torch": torch,
        "make": make,
        "network": own.make(),
        "batches": [(inputs[:30], labels[:30], sex.tolist()[:30])],
        "validation": [(inputs, labels)],
        "y": labels,
        "sex": sex,
        "fit_one_epoch": fit_one_epoch,
        "scores": scores,
        "evaluate": lambda network: float((scores(network).argmax(1) == labels).float().mean()),
    }
    exec(SCRIPT, arguments)
    search, pruned, table = arguments["search"], arguments["pruned"], arguments["table"]
    assert search.choice.mask <= {unit.name for unit in arguments["units"]}
    assert arguments["saliency"].keys() == pruned.mask.keys()
    assert pruned.sparsity == pytest.approx(0.3, abs=0.001)
    assert {"f", "m", "*"} == set(table.frame["group"])
    zeroed = own.make()
    with torch.no_grad():
        for parameter, is_kept in pruned.mask.items():
            zeroed.get_parameter(parameter).mul_(is_kept)
        assert torch.equal(scores(pruned.module.eval()), scores(zeroed.eval()))
