"""What no engine can work with: one clear error each, and the network stays as it was."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from tests.own.test_group_saliency import ROLES, SEX, Twice, TwiceConvolved, noisy, once
from tests.own.test_units import Tied, assert_same, state
from torch import nn

import evenhand
from evenhand import EvenhandError

LABELS = torch.tensor([0, 1] * 6)
INPUTS = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
ROWS, GROUPS = 40, ["f", "m"] * 20
CLASSES = np.array([0, 0, 1, 1] * 10)
SCORES = np.random.default_rng(0).random(ROWS)
MANY = torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(1))


def saliency(module, batches=((INPUTS, LABELS, SEX),), **more):
    return evenhand.group_saliency(module, batches, **{**ROLES, **more})


def pruning(module, batches=((INPUTS, LABELS, SEX),), evaluate=lambda network: 1.0, **more):
    settings = {"budget": 0, "limit": 20, **ROLES, **more}
    return evenhand.prune_module(module, batches, evaluate, **settings)


def by_channel(module, **more):
    return pruning(module, structure="channel", example=INPUTS[:1], **more)


def comparison(module, loader=(MANY,), groups=GROUPS, **more):
    return evenhand.compare_layers(module, module, loader, groups, permutations=9, **more)


def tuning(module, units=(), **more):
    with evenhand.tune_only(module, units, **more):
        pass


def cut(module, **more):
    return evenhand.units_of(module, **more)


def everything(module):
    tuning(module, cut(module))


def tupled():
    """A network one of whose hooks makes a tuple of what the next layer reads."""
    module = once()
    module[0].register_forward_hook(lambda layer, inputs, output: (output,))
    return module


class Exhausted:
    """A loader that can be read once, though it is no iterator."""

    def __init__(self):
        self.left = [(INPUTS, LABELS, SEX)]

    def __iter__(self):
        while self.left:
            yield self.left.pop()


FAILS = r"fails on a batch of .* with \w+Error: .*forward="
CASES = {
    "a module in use twice": [
        (TwiceConvolved, saliency, {}, r"layer \(2 times\)"),
        (TwiceConvolved, pruning, {}, r"layer \(2 times\)"),
        (Twice, by_channel, {}, "Twice can be removed"),
    ],
    "shared weights": [
        (Tied, saliency, {}, r"into\.weight = out\.weight"),
        (Tied, pruning, {}, r"into\.weight = out\.weight"),
        (Tied, by_channel, {"estimator": "hutchinson"}, "Tied can be removed"),
        (Tied, cut, {}, "share the weight"),
        (Tied, everything, {}, "share the weight"),
    ],
    "outputs that hooks change at random": [
        (lambda: noisy(once()), saliency, {}, "different outputs for the same"),
        (lambda: noisy(once()), saliency, {"estimator": "hutchinson"}, "different outputs"),
        (lambda: noisy(once()), pruning, {}, "different outputs"),
        (lambda: noisy(once()), by_channel, {}, "different outputs"),
    ],
    "hooks that break the network": [
        (tupled, work, more, FAILS)
        for work, more in (
            (saliency, {}),
            (saliency, {"estimator": "hutchinson"}),
            (pruning, {}),
            (by_channel, {}),
            (comparison, {}),
        )
    ],
    "inputs of another width, kind or name": [
        (once, saliency, {"batches": [(INPUTS[:, :3], LABELS, SEX)]}, FAILS),
        (once, saliency, {"batches": [(INPUTS.double(), LABELS, SEX)]}, r"\(2, 4\) float64"),
        (once, saliency, {"batches": [({"x": INPUTS}, LABELS, SEX)]}, r"x \(2, 4\) float32"),
        (once, pruning, {"batches": [(INPUTS[:, :3], LABELS, SEX)]}, FAILS),
        (once, comparison, {"loader": [MANY[:, :3]]}, FAILS),
        (once, comparison, {"loader": [MANY * torch.nan]}, "layer 0 gives values that are not fin"),
    ],
    "batches without one of the groups": [
        (once, saliency, {"batches": [(INPUTS, LABELS, ["f"] * 12)]}, "no sample .* group 'm'"),
        (once, pruning, {"batches": [(INPUTS, LABELS, ["f"] * 12)]}, "no sample .* group 'm'"),
    ],
    "groups of another length": [
        (once, saliency, {"batches": [(INPUTS, LABELS, SEX[:5])]}, "12 inputs, 12 labels, 5 gr"),
        (once, pruning, {"batches": [(INPUTS, LABELS, SEX[:5])]}, "12 inputs, 12 labels, 5 groups"),
        (once, comparison, {"groups": GROUPS[:5]}, r"\(5,\) values for 40 rows"),
    ],
    "labels of another kind": [
        (once, saliency, {"batches": [(INPUTS, ["a"] * 12, SEX)]}, "labels of batch 1 are no numb"),
        (once, saliency, {"batches": [(INPUTS, LABELS + 5, SEX)]}, "labels run from 5 to"),
        (once, saliency, {"batches": [(INPUTS, torch.eye(2)[LABELS], SEX)]}, "of whole numbers"),
        (once, pruning, {"batches": [(INPUTS, LABELS + 5, SEX)]}, "labels run from 5 to"),
        (once, comparison, {"loader": [(MANY, torch.rand(40, 8, 8))]}, "the labels of a batch"),
        (once, comparison, {"loader": [(MANY, LABELS)]}, "12 labels for 40 rows"),
    ],
    "a loader that is exhausted": [
        (once, saliency, {"batches": iter([])}, "gave nothing. A generator can be read only once"),
        (once, pruning, {"batches": iter([(INPUTS, LABELS, SEX)])}, "can be read only once"),
        (once, pruning, {"batches": Exhausted()}, "gave nothing"),
        (once, comparison, {"loader": iter([])}, "loader= is empty"),
    ],
    "a mask over no unit": [
        (
            lambda: nn.Sequential(nn.Linear(4, 4), nn.Tanh()),
            tuning,
            {"head": ()},
            "nothing is left",
        ),
        (once, cut, {"by": lambda name: None}, "no unit is left"),
        (once, cut, {"by": lambda name: 3}, "by= returns 3 for"),
        (once, cut, {"by": "x"}, "no rule for units 'x'"),
        (once, tuning, {"units": "nope"}, r"no unit 'nope'\. units_of"),
        (once, tuning, {"units": [3]}, "units= contains 3"),
        (once, saliency, {"parameters": []}, "parameters= is empty"),
    ],
    "functions that are none": [
        (once, pruning, {"evaluate": None}, "evaluate=None is no function"),
        (once, pruning, {"recover": 3}, "recover=3 is no function"),
    ],
}
LISTED = [
    pytest.param(*case, id=f"{kind}: {case[1].__name__} {number}")
    for kind, cases in CASES.items()
    for number, case in enumerate(cases)
]


@pytest.mark.parametrize(("build", "work", "more", "text"), LISTED)
def test_one_clear_error_and_the_network_as_it_was(build, work, more, text):
    module = build().train()
    module.get_parameter(next(iter(dict(module.named_parameters())))).requires_grad_(False)
    before = state(module)
    with pytest.raises(EvenhandError, match=rf"(?s){text}") as refused:
        work(module, **more)
    assert len(str(refused.value).splitlines()) <= 2
    assert_same(before, module)


@pytest.mark.parametrize("work", [saliency, pruning, comparison, tuning, cut])
def test_what_is_no_network(work):
    with pytest.raises(EvenhandError, match=r"=3 is no network; give a torch\.nn\.Module"):
        work(3)
    with pytest.raises(EvenhandError, match="is a Tanh without parameters"):
        work(nn.Tanh())


def search(scores, **more):
    def train(choice):
        yield scores

    units = evenhand.units_of(once())
    settings = {"y_true": CLASSES, "groups": GROUPS, "trials": 2, "confirm": 0, **more}
    return evenhand.search_masks(settings.pop("train", train), settings.pop("units", units),
                                 **settings)  # fmt: skip


def measured(scores=SCORES, **more):
    settings = {"y_true": CLASSES, "groups": GROUPS, **more}
    return evenhand.measure_groups(settings["y_true"], scores, settings["groups"])


def probed(features=MANY, attribute=GROUPS, **more):
    return evenhand.probe(features, attribute, **more)


def adjusted(scores=SCORES, y=CLASSES, groups=GROUPS):
    return evenhand.mitigate(scores, y, groups, "thresholds")


ONE_CLASS = np.array([0, 1] * 10 + [0] * 20)
HALVES = ["f"] * 20 + ["m"] * 20
ON_ARRAYS = [
    (search, {"scores": SCORES, "units": []}, "units= is empty"),
    (search, {"scores": SCORES, "units": ["0"]}, "units= holds '0'"),
    (search, {"scores": SCORES, "y_true": ONE_CLASS, "groups": HALVES}, "'auc_worst' is undefined"),
    (search, {"scores": SCORES * 9 - 4}, "they must be probabilities"),
    (search, {"scores": SCORES * 0 + 1.001}, "they must be probabilities"),
    (search, {"scores": SCORES[:5]}, r"scores \(5,\) after epoch 1"),
    (search, {"scores": ["a"] * ROWS}, "after epoch 1: list holds no numbers"),
    (search, {"scores": None}, r"scores \(\) after epoch 1"),
    (search, {"scores": SCORES, "train": None}, "train=None is no function"),
    (search, {"scores": SCORES, "train": lambda choice: None}, "train returns NoneType"),
    (search, {"scores": SCORES, "train": lambda choice: ()}, "train yields nothing"),
    (search, {"scores": SCORES, "y_true": ["a"] * ROWS}, "classes .* as whole numbers"),
    (search, {"scores": SCORES, "groups": GROUPS[:4]}, r"\(4,\) values for 40 rows"),
    (search, {"scores": SCORES, "target": "auc_wrst"}, "no target 'auc_wrst'"),
    (search, {"scores": SCORES, "trials": 1.5}, "'trials': 1.5"),
    (search, {"scores": SCORES, "lr": 1e-3}, r"lr=0\.001: give the lowest and the highest"),
    (measured, {"scores": None}, "y_score=None"),
    (measured, {"scores": SCORES * 9 - 4}, "is no probability"),
    (measured, {"scores": (score for score in SCORES)}, "scores must be numbers"),
    (measured, {"y_true": ["a", "b"] * 20}, "labels must be whole numbers"),
    (measured, {"y_true": CLASSES + 1}, "labels run from 1 to 2"),
    (measured, {"groups": GROUPS[:5]}, r"\(5,\) values for 40 rows"),
    (measured, {"groups": None}, r"\(\) values for 40 rows"),
    (probed, {"features": [["a"]] * ROWS}, "features: list holds no numbers"),
    (probed, {"features": (row for row in MANY)}, "features: generator holds no numbers"),
    (probed, {"features": MANY * torch.nan}, "give finite numbers"),
    (probed, {"attribute": GROUPS[:5]}, r"\(5,\) values for 40 rows"),
    (probed, {"attribute": ["f"] * ROWS}, "a probe needs two"),
    (probed, {"attribute": {"sex": GROUPS, "age": GROUPS}}, r"2 columns \(sex, age\)"),
    (probed, {"level": 95}, "level=95"),
    (probed, {"given": [None, *"ab" * 19, "a"]}, r"given: row 0 has no value \(1 row in all\)"),
    (probed, {"patients": [1.0, np.nan] * 20}, r"patients: row 1 has no value \(20 rows in all\)"),
    (adjusted, {"groups": GROUPS[:4]}, "4 groups for 40 rows"),
    (adjusted, {"scores": SCORES * 9 - 4}, "scores are probabilities"),
    (adjusted, {"y": ["a"] * ROWS}, "labels must be integers"),
]


def test_a_probe_takes_values_of_several_types():
    mixed = probed(given=[1, 1, "a", "a"] * 10)
    assert mixed.value == probed(given=["1", "1", "a", "a"] * 10).value


@pytest.mark.parametrize(("work", "more", "text"), ON_ARRAYS)
def test_arrays_that_do_not_fit_are_refused(work, more, text):
    with pytest.raises(EvenhandError, match=rf"(?s){text}"):
        work(**more)


@pytest.mark.parametrize(
    "work",
    [
        lambda: evenhand.open_run(3),
        lambda: evenhand.report(3),
        lambda: evenhand.export(3, out="model.onnx"),
        lambda: evenhand.audit("predictions.csv", out=3),
        lambda: evenhand.finetune("phantom:patients=40", attribute="group", out=3),
        lambda: measured().report(3),
    ],
)
def test_what_is_no_path(work, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EvenhandError, match=r"3 is no path; give one as text or as a Path"):
        work()
    assert not [*tmp_path.iterdir()]


def test_a_registered_metric_that_fails_is_named():
    from evenhand.metrics.registry import METRICS

    @evenhand.register_metric("lower", ideal=0.0, needs="score", source="here", classes="two")
    def broken(over):
        """Fails on any rows."""
        return over(lambda labels, scores, decisions: scores["nothing"])

    try:
        with pytest.raises(EvenhandError, match="'broken'") as refused:
            evenhand.measure_groups(CLASSES, SCORES, GROUPS, metrics=["broken"])
    finally:
        METRICS.remove("broken")
    expected = rf"of the module {__name__} fails with IndexError: .*line \d+ of .*bad_input\.py"
    assert re.search(expected, str(refused.value))
