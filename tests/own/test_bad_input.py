"""What no engine can work with: one clear error each, and the network stays as it was."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from tests.own.test_group_saliency import ROLES, SEX, Twice, TwiceConvolved, noisy, once
from tests.own.test_units import Tied, assert_same, state
from torch import nn

import evenhand
from evenhand import EvenhandError
from evenhand.methods.base import level_codes

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
    settings = {"permutations": 9, **more}
    return evenhand.compare_layers(module, module, loader, groups, **settings)


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
        (TwiceConvolved, comparison, {"layers": ["layer"]}, "layer layer of .* more than once"),
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


@pytest.mark.parametrize("work", [saliency, pruning, by_channel])
def test_inference_mode_changes_no_saliency(work):
    module = once()
    expected = work(module)
    with torch.inference_mode():
        result = work(module)
        created = once()
    if work is not saliency:
        assert not any(p.is_inference() for p in result.module.parameters())
        result, expected = (dict(pruned.module.named_parameters()) for pruned in (result, expected))
    torch.testing.assert_close(dict(result), dict(expected))
    for engine in (work, tuning):
        with pytest.raises(EvenhandError, match=r"was created in torch\.inference_mode\(\)"):
            engine(created)


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
    settings = {"y_true": CLASSES, "groups": GROUPS, "replicates": 20, **more}
    y_true, groups = settings.pop("y_true"), settings.pop("groups")
    return evenhand.measure_groups(y_true, scores, groups, **settings)


def probed(features=MANY, attribute=GROUPS, **more):
    return evenhand.probe(features, attribute, **more)


def adjusted(scores=SCORES, y=CLASSES, groups=GROUPS, method="thresholds"):
    return evenhand.mitigate(scores, y, groups, method)


def rescored(**more):
    return adjusted(method="recalibrate").decisions(SCORES, GROUPS, **more)


def compared(**more):
    return comparison(once(), **more)


def sampled(name="group-dro", labels=CLASSES, groups=GROUPS, **more):
    return evenhand.training_method(name).sampler(labels, groups, **more)


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
    (measured, {"scores": SCORES * 9 - 4}, "is not a probability"),
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
    (adjusted, {"method": 3}, "method=3: give a name"),
    (adjusted, {"groups": {" ": GROUPS}}, "columns of groups: ' ' is no name"),
    (rescored, {"threshold": np.nan}, "threshold=nan: give a number from 0 to 1"),
    (rescored, {"threshold": "a"}, "threshold='a': give a number from 0 to 1"),
    *((measured, {"metrics": value}, "metrics=.*: give a name") for value in (None, [3], [""])),
    *((measured, {"aggregates": value}, "aggregates=.*: give a name") for value in (None, 3)),
    *((measured, {"level": value}, "level=.*: give a cover") for value in (None, "a", 0, 95, True)),
    *(
        (measured, {"replicates": value}, "replicates=.*: give a whole number from 1 to 1,000,000")
        for value in ("a", None, 1.5, 0, 2**40, True)
    ),
    *(
        (measured, {"names": value}, "names=.*: give")
        for value in (None, "ab", ("a", "b", "c"), (1, 2), ("", "b"), ("a", "a"))
    ),
    (measured, {"seed": "a"}, "seed='a': give a whole number"),
    (measured, {"groups": {"s": GROUPS, "": GROUPS}}, "columns of groups: '' is no name"),
    (measured, {"groups": pd.DataFrame([GROUPS] * 2, ["a", "a"]).T}, "'a' occurs twice"),
    (adjusted, {"groups": pd.DataFrame([GROUPS] * 2, ["a", "a"]).T}, "'a' occurs twice"),
    (measured, {"groups": [{"a": 1}] * ROWS}, "there are lists or records"),
    (measured, {"groups": ["f" * 201, "m"] * 20}, "more than 200 characters"),
    (measured, {"groups": [None, *range(39)]}, "holds numbers or dates, 39 different"),
    (measured, {"groups": pd.Series(pd.date_range("2020", periods=ROWS))}, "40 different ones"),
    (probed, {"features": MANY[:, :0]}, "give finite numbers"),
    (probed, {"features": MANY.double() * 1e200}, r"features reach .*e\+200"),
    (probed, {"seed": 2**40}, "give a whole number below"),
    *((compared, {"layers": value}, "layers=.*: give names") for value in ([], 3, [""])),
    *((compared, {"loader": value}, "loader= is .*; give a list") for value in (None, 3)),
    *((compared, {"batch": value}, "batch=.*: give a whole number from 4") for value in (3, "a")),
    (compared, {"permutations": 0}, "permutations=0"),
    (compared, {"minimum": None}, "minimum=None"),
    (compared, {"seed": -1}, "seed=-1"),
    (compared, {"level": 2}, "level=2"),
    (compared, {"pool": "max"}, "pool='max': give 'mean' or 'flat'"),
    (compared, {"patients": [None] * ROWS}, "patients: row 0 has no value"),
    (sampled, {"name": 3}, "name=3: give a name"),
    *((sampled, {"labels": value}, "labels must be") for value in ([], ["a"] * ROWS, None)),
    (sampled, {"labels": CLASSES * np.nan}, "labels must be"),
    *((sampled, {"classes": value}, "classes=.*: give") for value in (0, 1, -1, 2.5, "a")),
    *((sampled, {"seed": value}, "seed=.*: give") for value in ("a", -1, 1.5)),
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


def test_categories_without_rows_are_no_groups():
    cohort = pd.Categorical(GROUPS, categories=["x", "m", "f"])
    frame = evenhand.measure_groups(CLASSES, SCORES, {"sex": cohort}, replicates=20).frame
    assert [*dict.fromkeys(frame.loc[frame["attribute"] == "sex", "group"])][:2] == ["m", "f"]
    assert "x" not in {*frame["group"]}
    np.testing.assert_array_equal(
        evenhand.probe(MANY, cohort).value, evenhand.probe(MANY, GROUPS).value
    )


SPELT = ["M", "m", "f", "f"] * 10
ZEROS = ["1", "01", "2", "2"] * 10


@pytest.mark.parametrize(("groups", "pair"), [(SPELT, "{'m': 'M'}"), (ZEROS, "{'1': '01'}")])
@pytest.mark.parametrize(
    "work",
    [
        lambda groups: measured(groups=groups),
        lambda groups: measured(groups=pd.Categorical(groups)),
        lambda groups: adjusted(groups={"sex": groups}),
        lambda groups: evenhand.mitigate(MANY, CLASSES, np.array(groups), "dfr"),
        lambda groups: evenhand.training_method("group-dro").sampler(CLASSES, groups),
        lambda groups: probed(attribute=groups),
        lambda groups: comparison(once(), groups=groups),
        lambda groups: search(SCORES, groups=groups),
        lambda groups: saliency(
            once(),
            [(INPUTS, LABELS, groups[:12])],
            unprivileged=groups[2],
            betas={groups[0]: 0.3},
        ),
    ],
)
def test_one_group_in_several_spellings_is_refused(work, groups, pair):
    with pytest.raises(EvenhandError, match=r"several spellings") as refused:
        work(groups)
    assert str(refused.value).endswith(f"merge them: pandas.Series(groups).replace({pair})")


def test_samples_of_unknown_groups_may_have_several_spellings():
    groups = [*"fmfmfmfm", "Unknown", "unknown", "?", "not known"]
    roles = {"unprivileged": "f", "betas": {"m": 0.3}}
    assert saliency(once(), [(INPUTS, LABELS, groups)], **roles)


def test_new_rows_agree_with_the_spelling_of_the_fit():
    fitted = adjusted(groups={"sex": ["M", "F"] * 20})
    assert len(fitted.decisions(SCORES, {"sex": ["M", "X"] * 20})) == ROWS
    with pytest.raises(EvenhandError, match=r"replace\(\{'m': 'M'\}\)$"):
        fitted.decisions(SCORES, {"sex": ["m", "F"] * 20})
    assert level_codes(["M", "X"], ("F", "M")).tolist() == [1, -1]
    with pytest.raises(EvenhandError, match=r"replace\(\{'m': 'M'\}\)$"):
        level_codes(["m", "X"], ("F", "M"))


@pytest.mark.parametrize(
    "groups",
    [["1.0", "2.00"], [1, 2], torch.tensor([1, 2]), list(torch.tensor([1, 2])), [1.0, 2.0]],
)
def test_codes_of_the_groups_that_a_sampler_has_read(groups):
    method = evenhand.training_method("erm")
    method.sampler([0, 1], groups)
    assert method.training_groups().levels == ("1", "2")
    assert level_codes(groups, ("1", "2")).tolist() == [0, 1]


HALF = ["\ud800", "m"] * 20
META = torch.zeros(ROWS, device="meta")


@pytest.mark.parametrize(
    ("work", "text"),
    [
        (lambda: measured(groups=HALF), "no valid text"),
        (lambda: measured(groups={"s\ud800": GROUPS}), "no valid text"),
        (lambda: measured(names=("\ud800", "b")), "no valid text"),
        (lambda: adjusted(groups=HALF), "no valid text"),
        (lambda: adjusted(groups={"s\ud800": GROUPS}), "no valid text"),
        (lambda: probed(attribute=HALF), "no valid text"),
        (lambda: comparison(once(), groups=HALF), "no valid text"),
        (lambda: measured(META), "'meta' has no values"),
        (lambda: measured(y_true=META), "'meta' has no values"),
        (lambda: measured(groups=META), "'meta' has no values"),
        (lambda: adjusted(META), "'meta' has no values"),
        (lambda: probed(MANY.to("meta")), "'meta' has no values"),
        (lambda: comparison(once(), [MANY.to("meta")]), "'meta' has no values"),
        (lambda: comparison(once().to("meta")), "'meta' and has no weights"),
        (lambda: saliency(once(), [(INPUTS.to("meta"), LABELS, SEX)]), "'meta' has no values"),
        (lambda: saliency(once(), [(INPUTS, LABELS.to("meta"), SEX)]), "'meta' has no values"),
        (lambda: saliency(once(), [(INPUTS.to_sparse(), LABELS, SEX)]), "sparse inputs"),
        (lambda: saliency(once(), [(INPUTS.numpy().astype(str), LABELS, SEX)]), "give a tensor"),
        (lambda: comparison(once(), [MANY.numpy().astype(object)]), "give a tensor"),
    ],
)
def test_what_has_no_values_is_refused(work, text):
    with pytest.raises(EvenhandError, match=text) as refused:
        work()
    assert len(str(refused.value).splitlines()) == 1


def test_nullable_and_sparse_features_are_read_as_numbers():
    frame = pd.DataFrame(MANY.double().numpy())
    expected = evenhand.mitigate(frame, CLASSES, GROUPS, "dfr").scores(frame)
    nullable = [frame.astype("Float64"), frame.convert_dtypes(), sparse.csr_matrix(frame)]
    for features in (*nullable, MANY.double().to_sparse()):
        assert probed(features).value == probed(frame).value
        fit = evenhand.mitigate(features, CLASSES, GROUPS, "dfr")
        np.testing.assert_array_equal(fit.scores(features), expected)
    one_less = frame.astype("Float64")
    one_less.iloc[2, 1] = pd.NA
    for work in (probed, lambda rows: evenhand.mitigate(rows, CLASSES, GROUPS, "dfr")):
        with pytest.raises(EvenhandError, match="finite numbers"):
            work(one_less)
    network, inputs = once().double(), frame.astype("Float64")
    pd.testing.assert_frame_equal(
        comparison(network, [inputs]).frame, comparison(network, [MANY.double()]).frame
    )


def test_nullable_and_sparse_scores_and_labels_are_read_as_numbers():
    table, fit = measured().frame, adjusted().fit
    for score in (pd.Series(SCORES, dtype="Float64"), torch.tensor(SCORES).to_sparse()):
        labels = (pd.Series(CLASSES, dtype="Int64"), pd.Series(CLASSES == 1, dtype="boolean"))
        for label in (*labels, CLASSES * 1.0):
            pd.testing.assert_frame_equal(measured(score, y_true=label).frame, table)
            assert adjusted(score, label).fit == fit
