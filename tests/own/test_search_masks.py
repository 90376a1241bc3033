"""The search of masks with a loop of one's own: planted effects, stopping, resume, refusals."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
import torch
from tests.own.networks import NETWORKS
from torch import nn

from evenhand import EvenhandError, search_masks, tune_only, units_of

LABELS = np.array([0, 1] * 20)
GROUPS = {"sex": np.repeat(["f", "m"], 20)}
UNITS = units_of(nn.Sequential(*(nn.Linear(2, 2) for _ in range(5))))
SETTINGS = {"y_true": LABELS, "groups": GROUPS, "trials": 12, "lr": (1e-3, 1e-1)}


def scores_of_quality(quality, seed):
    """Scores that serve both groups so well, from noise alone to nearly right."""
    noise = np.random.default_rng(seed).normal(size=len(LABELS))
    return 1 / (1 + np.exp(-(quality * (2 * LABELS - 1) + noise)))


class Loop:
    """A training whose best mask is planted: unit 2 helps, every other one harms."""

    def __init__(self, epochs=3):
        self.calls, self.epochs, self.yielded = [], epochs, []

    def __call__(self, choice):
        self.calls.append(choice)
        quality = ("2" in choice.mask) - 0.3 * len(choice.mask - {"2"})
        self.yielded.append(0)
        for epoch in range(self.epochs):
            self.yielded[-1] += 1
            yield scores_of_quality(quality * (epoch + 1) / self.epochs, choice.seed)


def test_the_planted_mask_wins_and_is_confirmed_beside_the_known_strategies():
    loop = Loop()
    masks = search_masks(loop, UNITS, **{**SETTINGS, "trials": 30})
    assert "2" in masks.choice.mask
    assert len(masks.choice.mask) <= 2
    assert masks.choice.units == tuple(unit for unit in UNITS if unit.name in masks.choice.mask)
    table = masks.confirmed.set_index("origin")
    assert {"full", "head"} <= set(table.index)
    assert masks.confirmed["mean"].iloc[0] >= masks.confirmed["mean"].max()
    assert (masks.confirmed["seeds"] == 2).all()
    assert masks.choice.seed in (1, 2)
    assert masks.trials["origin"].tolist()[:2] == ["full", "head"]
    optimism = masks.confirmed["searched"] - masks.confirmed["mean"]
    np.testing.assert_allclose(masks.confirmed["optimism"], optimism)
    assert "auc_worst" in masks._repr_html_()
    lines = str(masks).splitlines()
    assert lines[0] == "Search of 30 trials by auc_worst (higher is better)"
    assert len(lines) == 5 + len(masks.confirmed)
    assert lines[-1].startswith("Two seeds give very wide intervals")
    assert masks.confirmed["low"].min() >= 0
    assert masks.confirmed["high"].max() <= 1


def test_the_choice_has_the_seed_of_the_median_confirmation():
    quality = {0: 1.0, 1: 0.2, 2: 2.0, 3: 0.8}  # of each seed

    def train(choice):
        yield scores_of_quality(quality[choice.seed], 0)

    masks = search_masks(train, UNITS, confirm_seeds=3, **{**SETTINGS, "trials": 3})
    assert masks.choice.seed == 3


def test_a_training_that_ignores_its_seed_is_named():
    def train(choice):
        yield scores_of_quality(1 - 0.3 * len(choice.mask), seed=0)

    masks = search_masks(train, UNITS, **SETTINGS)
    assert str(masks).splitlines()[-1].startswith("Every seed gave the same value")
    assert "torch.manual_seed(choice.seed)" in masks._repr_html_()
    assert "NaN" not in str(masks)


def test_what_falls_behind_is_stopped_and_closed():
    loop = Loop(epochs=12)
    stopped = search_masks(loop, UNITS, confirm=0, **SETTINGS)
    assert (stopped.trials["state"] == "pruned").any()
    assert len(str(stopped).splitlines()) == 4 + len(stopped.confirmed)
    assert min(loop.yielded) < 12
    assert loop.yielded[0] == 12
    whole = search_masks(Loop(epochs=12), UNITS, confirm=0, stopping=False, **SETTINGS)
    assert (whole.trials["state"] == "complete").all()


def test_a_search_in_a_file_is_continued(tmp_path):
    path = tmp_path / "study.db"
    straight = search_masks(Loop(), UNITS, storage=tmp_path / "other.db", **SETTINGS)

    class Killed(Loop):
        def __call__(self, choice):
            if len(self.calls) == 5:
                raise KeyboardInterrupt
            return super().__call__(choice)

    with pytest.raises(KeyboardInterrupt):
        search_masks(Killed(), UNITS, storage=path, **SETTINGS)
    loop = Loop()
    continued = search_masks(loop, UNITS, storage=str(path), **SETTINGS)
    assert continued.trials.equals(straight.trials)
    assert continued.choice.mask == straight.choice.mask
    again = Loop()
    search_masks(again, UNITS, storage=path, **SETTINGS)
    assert again.calls == []
    with pytest.raises(EvenhandError, match="study 'masks' of other settings"):
        search_masks(Loop(), UNITS, storage=path, **{**SETTINGS, "target": "auc_gap"})


def test_methods_and_several_classes():
    labels, seen = np.array([0, 1, 2] * 10), set()

    def train(choice):
        seen.add(choice.method)
        yield np.eye(3)[labels] * 0.8 + 0.2 / 3

    groups = np.repeat(["a", "b"], 15)
    masks = search_masks(
        train,
        UNITS,
        y_true=labels,
        groups=groups,
        trials=8,
        methods=("erm", "group-dro"),
        confirm=1,
    )
    assert seen == {"erm", "group-dro"}
    assert masks.confirmed["mean"].iloc[0] == 1


def test_the_pessimistic_end_is_below_the_value():
    value = search_masks(Loop(), UNITS, confirm=0, **{**SETTINGS, "trials": 1})
    end = search_masks(Loop(), UNITS, confirm=0, pessimistic=True, **{**SETTINGS, "trials": 1})
    assert end.trials["value"].iloc[0] < value.trials["value"].iloc[0]


def test_a_real_loop_tunes_what_the_choice_says():
    own = NETWORKS["plain CNN"]
    inputs, labels = own.inputs(40), torch.tensor(LABELS)
    moved = []

    def train(choice):
        network = own.make()
        tune_only(network, choice.units)
        learner = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], choice.lr)
        for _ in range(2):
            nn.functional.cross_entropy(network.train()(inputs), labels).backward()
            learner.step()
            with torch.no_grad():
                yield network.eval()(inputs).softmax(1)
        fresh = own.make().get_parameter("4.weight")
        moved.append((not torch.equal(network[4].weight, fresh), "4" in choice.mask))

    units = units_of(own.make())
    masks = search_masks(train, units, confirm=1, stopping=False, **{**SETTINGS, "trials": 4})
    assert all(item == other for item, other in moved)
    assert isinstance(masks.study, optuna.Study)


def yields(scores):
    def train(choice):
        yield scores

    return train


@pytest.mark.parametrize(
    ("train", "more", "text"),
    [
        (Loop(), {"units": ()}, "units= is empty, so there is no mask"),
        (Loop(), {"units": (UNITS[0], UNITS[0])}, "holds 0 twice"),
        (Loop(), {"target": "auc_wurst"}, "no target 'auc_wurst'"),
        (Loop(), {"groups": GROUPS["sex"][:5]}, r"groups of 'group': \(5,\) values for 40 rows"),
        (Loop(), {"patients": [1, 2]}, r"patients: \(2,\) values for 40 rows"),
        (Loop(), {"y_true": LABELS / 2}, "y_true is .* give classes"),
        (Loop(), {"groups": np.where(LABELS, "f", "m")}, "undefined on these rows:\n  group 'f'"),
        (Loop(), {"groups": ["f"] * 40}, "1 group left; two are needed"),
        (Loop(), {"lr": (0, 1)}, r"lr=\(0, 1\)"),
        (Loop(), {"trials": 0}, "trials=0"),
        (Loop(), {"baselines": ["attention"]}, "no baseline 'attention'"),
        (yields(3 * LABELS - 1.0), {}, "scores from -1 to 2 after epoch 1.*softmax or sigmoid"),
        (yields(LABELS[:5]), {}, r"yields scores \(5,\) after epoch 1; give \(40,\) or \(40, 2\)"),
        (lambda choice: [], {}, "train yields nothing"),
        (yields(np.full(40, np.nan)), {}, "all 12 trials diverged"),
    ],
)
def test_refusals(train, more, text):
    inputs = {"units": UNITS, **SETTINGS, **more}
    with pytest.raises(EvenhandError, match=f"(?s){text}"):
        search_masks(train, inputs.pop("units"), **inputs)
