"""Negative controls: where nothing can be repaired, the report says "levelled down", or warns."""

from __future__ import annotations

import pandas as pd
import pytest
from tests.command import evenhand

from evenhand.files import read_json
from evenhand.methods.base import TrainingMethod
from evenhand.methods.in_training.group_balance import GroupBalance
from evenhand.methods.in_training.group_dro import GroupDRO
from evenhand.methods.in_training.soft_eodds import SoftEodds
from evenhand.testing.worlds import World, scores, train, world

HARDER = world(8000, 0.0, 0, harder=True), world(6000, 0.0, 1, harder=True)
NOISY = world(8000, 0.0, 0, minority=0.2, flip=0.3), world(6000, 0.0, 1, minority=0.2)


def table(path, method: TrainingMethod, data: tuple[World, World]) -> TrainingMethod:
    """Train by a method, and write what it scores: half of the second world is validation."""
    training, rest = data
    score = scores(method, train(method, training), rest)
    frame = pd.DataFrame(
        {
            "sample_id": [f"S{k}" for k in range(len(score))],
            "patient_id": [f"P{k}" for k in range(len(score))],
            "split": ["val"] * 3000 + ["test"] * 3000,
            "label": rest.truth.numpy(),
            "score": score,
            "attr_group": rest.groups,
        }
    )
    frame.to_csv(path, index=False)
    return method


def compared(folder, method: TrainingMethod, data: tuple[World, World]):
    """Compare a method with plain training as users do; return the verdicts and the numbers."""
    table(folder / "method.csv", method, data)
    table(folder / "erm.csv", TrainingMethod(), data)
    words = (folder / "method.csv", folder / "erm.csv", "--out", folder / "run")
    ended = evenhand("compare", *words)
    assert ended.status == 0, ended.err
    rows = pd.DataFrame(read_json(folder / "run" / "metrics.json")["rows"])
    rows = rows[(rows["split"] == "test") & (rows["attribute"] == "group")]
    verdicts = read_json(folder / "run" / "verdicts.json")["verdicts"]
    return " ".join(verdict["text"] for verdict in verdicts), rows


def test_a_smaller_gap_of_a_group_with_less_information_is_levelling_down(tmp_path):
    verdicts, rows = compared(tmp_path, SoftEodds(30.0), HARDER)
    gap = rows[(rows["metric"] == "equalized_odds_difference") & rows["against"].isna()]
    gap = gap.set_index("model")["value"]
    assert gap["method"] < gap["erm"] / 2
    assert "levelled down" in verdicts.lower()


def test_a_method_that_costs_nobody_is_not_called_levelling_down(tmp_path):
    verdicts, _ = compared(tmp_path, GroupBalance("weights"), HARDER)
    assert "levelled down" not in verdicts.lower()


@pytest.mark.parametrize("by", ["attribute", "label*attribute"])
def test_wrong_labels_in_a_group_are_warned_of_and_never_called_better(tmp_path, by):
    method = GroupDRO(0.05, by=by)
    _, rows = compared(tmp_path, method, NOISY)
    better = rows[(rows["metric"] == "auc") & (rows["against"] == "erm") & (rows["value"] > 0)]
    assert not (better["p_adjusted"] <= 0.05).any()
    assert by != "attribute" or "its labels may be wrong" in (method.warning() or "")
