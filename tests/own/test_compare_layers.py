"""Layers of anybody's networks compared by group, and probes for an attribute."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score
from tests.own.networks import NETWORKS
from tests.own.test_units import assert_same, state
from torch import nn

from evenhand import EvenhandError, compare_layers, probe
from evenhand.networks.layers import record_activations

N = 60
SEX = pd.Series(["f", "m"] * (N // 2), name="sex")


@pytest.fixture(params=NETWORKS)
def own(request):
    return NETWORKS[request.param]


def loader(inputs, size=16):
    labels = torch.arange(len(inputs)) // 2 % 2
    return [(inputs[k : k + size], labels[k : k + size]) for k in range(0, len(inputs), size)]


def test_a_network_is_like_itself_in_every_group(own):
    module, inputs = own.make(), own.inputs(N)
    before = state(module)
    table = compare_layers(module, module, loader(inputs), SEX, permutations=19)
    assert_same(before, module)
    assert set(table.frame["group"]) == {"*", "f", "m"}
    same = table.frame[table.frame["first"] == table.frame["second"]]
    np.testing.assert_allclose(same["value"], 1, atol=1e-5)
    matrix = table.matrix("sex", "f")
    assert list(matrix.index) == list(matrix.columns)
    assert len(matrix) >= 2
    layers = table.layers()
    assert list(layers["first"]) == list(layers["second"]) == list(matrix.index)
    assert list(layers.columns) == ["first", "second", "best", "everybody", "sex=f", "sex=m"]
    np.testing.assert_allclose(layers[["everybody", "sex=f", "sex=m"]], 1, atol=1e-5)


def test_the_table_shows_where_groups_differ_layer_by_layer():
    """The planted difference is in one layer, and for men alone."""

    class Layers(nn.Module):
        def __init__(self, disturbed: bool) -> None:
            super().__init__()
            self.early, self.late, self.disturbed = nn.Identity(), nn.Identity(), disturbed
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x):
            early, man = self.early(x[:, 1:]) * self.scale, x[:, :1]
            return self.late(torch.where((man > 0) & self.disturbed, early.roll(1, 0), early))

    inputs = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    inputs[:, 0] = torch.arange(200) % 2
    sex = pd.Series(np.where(inputs[:, 0] > 0, "m", "f"), name="sex")
    first, second = Layers(disturbed=False), Layers(disturbed=True)
    table = compare_layers(first, second, [inputs], sex, layers=["early", "late"])
    layers = table.layers().set_index("first")
    assert layers.loc["early", "sex=m"] == pytest.approx(1)
    assert layers.loc["late", "sex=m"] < 0.3 < 0.95 < layers.loc["late", "sex=f"]
    title, header, early, late, mark, *_ = str(table).splitlines()
    assert title.startswith("CKA of each layer with its counterpart")
    assert header.split() == ["first", "second", "best", "everybody", "sex=f", "sex=m"]
    assert "*" not in early
    assert late.rstrip().endswith("*")
    assert mark.startswith("* the group differs from all other patients")
    assert "early" in table._repr_html_()


def test_more_groups_that_are_tested_need_smaller_p_values():
    own = NETWORKS["plain CNN"]
    first, second, inputs = own.make(), own.make(), own.inputs(N)
    age = pd.Series(["old", "old", "young"] * (N // 3), name="age")
    alone, both = (
        compare_layers(first, second, loader(inputs), groups, permutations=99).frame
        for groups in (pd.DataFrame({"sex": SEX}), pd.DataFrame({"sex": SEX, "age": age}))
    )
    p = alone.loc[alone["attribute"] == "sex", "p_adjusted"]
    assert (p < 1).any()
    doubled = np.minimum(1, 2 * p)  # four groups instead of two
    seen = both.loc[both["attribute"] == "sex", "p_adjusted"]
    np.testing.assert_allclose(seen[p < 1], doubled[p < 1])


def test_layers_of_networks_of_other_depths_meet_at_the_same_depth():
    own = NETWORKS["plain CNN"]
    module, inputs = own.make(), own.inputs(N)
    table = compare_layers(
        module, module, [inputs], SEX, layers=(["0", "2", "4"], ["0", "4"]), permutations=19
    )
    pairs = table.layers()[["first", "second", "best"]].to_numpy().tolist()
    assert [pair[:2] for pair in pairs] == [["0", "0"], ["2", "0"], ["4", "4"]]
    assert pairs[0][2] == "0"
    assert pairs[2][2] == "4"


def test_a_group_of_few_patients_is_said_to_be_undefined():
    own = NETWORKS["plain CNN"]
    sex = pd.Series(["f"] * 5 + ["m"] * (N - 5), name="sex")
    table = compare_layers(
        own.make(), own.make(seed=1), [own.inputs(N)], sex, layers=["4"], permutations=19
    )
    assert "undefined" in str(table).splitlines()[2]
    assert str(table).splitlines()[-1].startswith("sex=f: 5 patients; 20 are needed")
    assert table.frame["high"].max() <= 1


def constant_layer(seed):
    """Two layers; the second is constant."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    nn.init.zeros_(network[1].weight)
    return network


def test_a_layer_without_variation_has_no_best_and_a_layer_given_twice_counts_once():
    network, rows = constant_layer(0), torch.randn(40, 4)
    table = compare_layers(network, network, [rows], ["f", "m"] * 20, layers=["0", "1", "0"])
    assert table.layers()["first"].tolist() == ["0", "1"]
    assert table.layers()["best"].fillna("").tolist() == ["0", ""]
    assert "undefined undefined" in repr(table)


def test_a_layer_without_variation_is_undefined_and_leaves_the_other_layers_as_they_are():
    rows = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    networks, groups = [constant_layer(0), constant_layer(1)], ["f", "f", "m", "m", "m"] * 8
    alone, both = (
        compare_layers(*networks, [rows], groups, layers=layers, minimum=10)
        for layers in (["0"], ["0", "1"])
    )
    defined = (both.frame["first"] == "0") & (both.frame["second"] == "0")
    numbers = ["value", "low", "high", "p_adjusted"]
    np.testing.assert_array_equal(both.frame.loc[defined, numbers], alone.frame[numbers])
    assert alone.frame["p_adjusted"].min() < 1
    assert set(both.frame.loc[~defined, "undefined"]) == {
        "one of the two layers does not vary among these patients"
    }
    assert both.frame.loc[~defined, numbers].isna().all(axis=None)
    reason = str(both).splitlines()[-1]
    assert reason.startswith("everybody, group=f, group=m: one of the two layers does not vary")
    only = compare_layers(*networks, [rows], groups, layers=["1"], minimum=10)
    assert only.frame["undefined"].notna().all()


def test_groups_of_attributes_with_equals_signs_have_columns_of_their_own():
    rows = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    groups = {"a": ["b=c", "d"] * 20, "a=b": ["c"] * 20 + ["d"] * 20, "'a=b'": ["c"] * 40}
    network = nn.Sequential(nn.Linear(4, 4))
    table = compare_layers(network, network, [rows], groups, layers=["0"], permutations=19)
    names = ["a=b=c", "a=d", "'a=b'=c", "'a=b'=d", "\"'a=b'\"=c"]
    assert table.layers().columns[3:].tolist() == ["everybody", *names]
    with pytest.raises(EvenhandError, match=r"no values of 'a=b'=e. Groups: .*a=b=c"):
        table.matrix("a=b", "e")


def test_values_are_those_of_the_published_estimator():
    """The unbiased linear CKA, written out."""
    own = NETWORKS["plain CNN"]
    first, other, inputs = own.make(), own.make(seed=1), own.inputs(N)
    table = compare_layers(first, other, [inputs], SEX, layers=["4"], permutations=19)

    def gram(module):
        rows = module.eval()[:5](inputs).mean((2, 3)).detach().double()
        k = rows @ rows.T
        return k.fill_diagonal_(0)

    def hsic(k, m):
        n = len(k)
        ones = torch.ones(n, dtype=torch.double)
        last = (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2))
        return (torch.trace(k @ m) + last - 2 / (n - 2) * (ones @ k @ m @ ones)) / (n * (n - 3))

    k, m = gram(first), gram(other)
    expected = float(hsic(k, m) / (hsic(k, k) * hsic(m, m)).sqrt())
    row = table.frame[table.frame["group"] == "*"].iloc[0]
    assert row["value"] == pytest.approx(expected, abs=1e-4)
    assert row["low"] < row["value"] < row["high"]


class TimeFirst(nn.Module):
    """A transformer whose first axis is time."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Linear(3, 3)

    def forward(self, x):
        return self.block(x.transpose(0, 1)).mean(0)


def test_what_is_averaged_is_places_and_never_samples():
    inputs = torch.randn(5, 7, 3)
    module = TimeFirst()
    with record_activations(module, ["block"], "mean", 5) as now, torch.no_grad():
        module(inputs)
    torch.testing.assert_close(now["block"], module.block(inputs).mean(1).detach())
    own = NETWORKS["ECG transformer"]
    module = own.make().eval()
    with (
        record_activations(module, ["patches", "encoder.layers.0"], "mean", 4) as now,
        torch.no_grad(),
    ):
        module(own.inputs(4))
    assert [tuple(item.shape) for item in now.values()] == [(4, 16), (4, 16)]


def test_one_row_of_each_patient_counts_and_small_groups_are_named():
    own = NETWORKS["plain CNN"]
    inputs = own.inputs(N)
    groups = pd.DataFrame({"sex": SEX, "site": ["A"] * (N - 4) + ["B"] * 4})
    table = compare_layers(
        own.make(), own.make(seed=1), [inputs], groups, patients=np.arange(N) // 2, layers=["4"],
        minimum=10, permutations=19,
    )  # fmt: skip
    rows = table.frame.set_index(["attribute", "group"])
    assert rows.loc[("*", "*"), "patients"] == N // 2
    assert "10 are needed" in rows.loc[("site", "B"), "undefined"]


def compare(labels):
    """Compare two networks on one batch with labels."""
    own = NETWORKS["plain CNN"]
    modules = own.make(), own.make(seed=1)
    batch = own.inputs(N) if labels is ... else (own.inputs(N), labels)
    return compare_layers(*modules, [batch], SEX, layers=["4"], permutations=19).frame


def test_labels_are_not_needed():
    pd.testing.assert_frame_equal(compare(None), compare(...))


@pytest.mark.parametrize(
    "name", [lambda k: ("benign", "malign")[k], bool, float, lambda k: ["x", None][k],
             lambda k: [k], lambda k: [k, 1 - k]]
)  # fmt: skip
def test_labels_of_any_kind_are_classes(name):
    classes = [k // 2 % 2 for k in range(N)]
    pd.testing.assert_frame_equal(compare([name(k) for k in classes]), compare(classes))


@pytest.mark.parametrize(
    "labels", [np.linspace(0, 1, N), np.zeros((N, 2, 2)), [{"boxes": 1}] * N, {"boxes": 1}, [], 3,
               [[1]] * (N - 1) + [[1, 2]]]
)  # fmt: skip
def test_labels_that_are_no_classes_are_refused_by_the_name_of_the_loader(labels):
    with pytest.raises(EvenhandError, match=r"loader=: the labels .* give None instead"):
        compare(labels)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"layers": ["nine"]}, "has no layer 'nine'. Some of its layers: "),
        ({"loader": []}, "loader= is empty"),
        ({"groups": ["f"] * 3}, r"groups of 'group': \(3,\) values for 60 rows"),
        ({"patients": [1] * N}, "there are 1 patients; a comparison needs 20"),
    ],
)
def test_refusals_of_a_comparison(more, text):
    own = NETWORKS["plain CNN"]
    module = own.make()
    before = state(module)
    inputs = {"loader": loader(own.inputs(N)), "groups": SEX, **more}
    with pytest.raises(EvenhandError, match=text):
        compare_layers(module, module, inputs.pop("loader"), inputs.pop("groups"), **inputs)
    assert_same(before, module)


def planted(seed, shift, n=300):
    """Features that tell sex so well, beside a label that sex goes with."""
    rng = np.random.default_rng(seed)
    sex = rng.random(n) < 0.5
    label = rng.random(n) < np.where(sex, 0.8, 0.2)
    features = rng.normal(size=(n, 4))
    features[:, 0] += 2 * label
    features[:, 1] += shift * sex
    return features, np.where(sex, "m", "f"), label


def test_a_probe_finds_what_is_planted_and_not_what_the_label_explains():
    features, sex, label = planted(0, 0.0)
    assert probe(features, sex).finds
    assert not probe(features, sex, given=label).finds
    features, sex, label = planted(0, 1.5)
    result = probe(features, sex, given=label)
    assert result.finds
    assert result.levels["f"] == pytest.approx(result.levels["m"])


def test_intervals_of_a_probe_cover_chance():
    """Where nothing is planted the interval holds .5 in 95 of 100 draws."""
    held = 0
    for seed in range(60):
        features, sex, label = planted(seed, 0.0, n=120)
        result = probe(features, sex, given=label)
        held += result.low <= 0.5 <= result.high
    assert held >= 51


def test_patients_are_disjoint_and_are_the_unit():
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(40), 5)
    own = rng.normal(size=(40, 30))[patients]
    sex = np.where(rng.random(40) < 0.5, "f", "m")[patients]
    by_rows, by_patients = probe(own, sex), probe(own, sex, patients=patients)
    assert by_rows.value > 0.95
    assert not by_patients.finds
    assert by_patients.patients == 40


def test_one_fold_is_the_auc_of_scikit_learn():
    from evenhand.representation.probe import _placements

    rng = np.random.default_rng(0)
    scores, member = rng.integers(0, 5, 40).astype(float), rng.random(40) < 0.4
    right, pairs = _placements(scores, member)
    assert right.sum() / pairs.sum() == pytest.approx(roc_auc_score(member, scores))
    assert right[member].sum() == pytest.approx(right[~member].sum())


@pytest.mark.parametrize(
    ("features", "attribute", "more", "text"),
    [
        (np.ones(4), ["f", "m"] * 2, {}, r"features are \(4,\)"),
        (np.full((4, 2), np.nan), ["f", "m"] * 2, {}, "give finite numbers"),
        (np.ones((4, 2)), ["f"] * 4, {}, "needs two at least"),
        (np.ones((4, 2)), ["f", "f", "f", "m"], {}, r"have fewer than two patients: 'm' \(1\)"),
        (np.ones((99, 2)), np.arange(99) / 7, {}, r"^99 of 99 .*\(1\) and 94 more; .*bin it"),
        (np.ones((4, 2)), ["f", "m"], {}, "2,. values for 4 rows"),
        (np.ones((4, 2)), ["f", "m"] * 2, {"given": [1]}, "given: "),
    ],
)
def test_refusals_of_a_probe(features, attribute, more, text):
    with pytest.raises(EvenhandError, match=text):
        probe(features, attribute, **more)
