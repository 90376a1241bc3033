"""Saliency by group of anybody's network, against autograd and against the losses' definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.own.networks import ECG, NETWORKS
from tests.own.test_units import Tied, assert_same, state
from torch import nn
from torch.nn import functional as F  # noqa: N812

from evenhand import EvenhandError, UnknownNameError, group_saliency
from evenhand.networks.calling import logits_of
from evenhand.pruning.saliency import GroupSaliency

LABELS = torch.tensor([0, 1] * 6)
SEX = ["f", "m", "f", "m", "m", "f", "f", "m", "f", "m", "m", "f"]
ROLES = {"unprivileged": "f", "betas": {"m": 0.4}}


@pytest.fixture(params=NETWORKS)
def own(request):
    return NETWORKS[request.param]


def by_autograd(module, inputs, names, directions):
    """½ θ² times the mean over samples of squared gradients, summed over directions of a sample."""
    parameters = [module.get_parameter(name) for name in names]
    total = [torch.zeros_like(p) for p in parameters]
    for place in range(len(inputs)):
        logits = logits_of(module, inputs[place : place + 1])
        for direction in directions(logits.detach(), place):
            result = torch.autograd.grad(logits, parameters, direction, retain_graph=True)
            total = [item + g.square() for item, g in zip(total, result, strict=True)]
    halves = zip(names, parameters, total, strict=True)
    return {name: p.detach() ** 2 * t / len(inputs) / 2 for name, p, t in halves}


def softmax_root(logits, _):
    """For two classes the second derivative is p q (1, -1)ᵀ(1, -1)."""
    p, q = logits.softmax(1)[0]
    return [(p * q).sqrt() * torch.tensor([[1.0, -1.0]])]


def test_saliency_equals_autograd_on_networks_of_all_kinds(own):
    module, inputs = own.make(), own.inputs()
    before = state(module)
    batches = [(inputs[:5], LABELS[:5], SEX[:5]), (inputs[5:], LABELS[5:], SEX[5:])]
    result = group_saliency(module, batches, estimator="ggn", **ROLES)
    assert_same(before, module)
    assert len(str(result).splitlines()) == 1 + len(result)
    assert str(result).startswith(f"Saliency of {len(result)} parameters, groups f, m")
    assert not any(name.startswith(f"{own.head}.") for name in result)
    module.eval()
    rows = {sex: [k for k, item in enumerate(SEX) if item == sex] for sex in "fm"}
    exact = {
        sex: by_autograd(module, inputs[own], list(result), softmax_root)
        for sex, own in rows.items()
    }
    for name, values in result.items():
        expected = exact["f"][name] - 0.4 * exact["m"][name]
        scale = float(exact["f"][name].max())
        torch.testing.assert_close(values, expected, rtol=1e-3, atol=2e-4 * scale, msg=name)
        torch.testing.assert_close(
            result.by_group["m"][name], exact["m"][name], rtol=1e-3, atol=2e-4 * scale
        )


class CrossAttention(nn.Module):
    """Attention of other shapes: between two series, with masks, time first."""

    def __init__(self, *, kdim: int | None) -> None:
        super().__init__()
        self.first = nn.MultiheadAttention(8, 2, kdim=kdim, vdim=kdim)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        time = x.transpose(0, 1)
        keys = time[:, :, : self.first.kdim]
        bars = torch.triu(torch.ones(5, 5, dtype=torch.bool), 1)
        padding = torch.zeros(len(x), 5, dtype=torch.bool)
        padding[:, 4] = True
        out, weights = self.first(time, keys, keys, attn_mask=bars, key_padding_mask=padding)
        return self.head(out.mean(0) + weights.mean())


@pytest.mark.parametrize("kdim", [None, 6])
def test_attention_of_any_shape_equals_autograd(kdim):
    torch.manual_seed(0)
    module, inputs = CrossAttention(kdim=kdim).eval(), torch.randn(4, 5, 8)
    names = [name for name, _ in module.named_parameters()]
    batch = (inputs, LABELS[:4], ["f"] * 4)
    result = group_saliency(
        module, [batch], unprivileged="f", betas={}, estimator="ggn", parameters=names
    )
    for name, expected in by_autograd(module, inputs, names, softmax_root).items():
        torch.testing.assert_close(result[name], expected, rtol=1e-4, atol=1e-9, msg=name)


def one_logit(module):
    """A network with the logit of class 1 less that of class 0."""
    single = nn.Linear(16, 1)
    with torch.no_grad():
        single.weight.copy_(module[9].weight[1:] - module[9].weight[:1])
        single.bias.copy_(module[9].bias[1:] - module[9].bias[:1])
    return nn.Sequential(*list(module)[:9], single)


@pytest.mark.parametrize("estimator", ["ggn", "fisher"])
def test_one_logit_with_binary_cross_entropy_is_two_logits_with_cross_entropy(estimator):
    module, inputs = NETWORKS["plain CNN"].make(), NETWORKS["plain CNN"].inputs()
    two = group_saliency(module, [(inputs, LABELS, SEX)], estimator=estimator, **ROLES)
    for labels in (LABELS, LABELS.float()[:, None]):
        loss = "binary-cross-entropy"
        batch = (inputs, labels, SEX)
        item = group_saliency(one_logit(module), [batch], estimator=estimator, loss=loss, **ROLES)
        for name, values in two.items():
            torch.testing.assert_close(item[name], values, rtol=1e-4, atol=1e-9)


def test_several_labels_with_weights_equal_autograd():
    module, inputs = NETWORKS["plain CNN"].make(classes=3).eval(), NETWORKS["plain CNN"].inputs()
    labels = torch.stack([LABELS, 1 - LABELS, LABELS], 1)
    weights = torch.tensor([1.0, 3.0, 0.5])
    loss = nn.BCEWithLogitsLoss(pos_weight=weights)
    batch = (inputs, labels, ["f"] * 12)
    roles = {"unprivileged": "f", "betas": {}}
    result = group_saliency(module, [batch], loss=loss, estimator="ggn", **roles)

    def roots(logits, place):
        p, y = logits.sigmoid()[0], labels[place]
        share = (weights * y + 1 - y) * p * (1 - p) / 3
        return [row[None] for row in share.sqrt().diag()]

    for name, expected in by_autograd(module, inputs, list(result), roots).items():
        torch.testing.assert_close(result[name], expected, rtol=1e-4, atol=1e-9)
    drawn = group_saliency(module, [batch], loss=loss, draws=400, **roles)
    for name, values in result.items():
        assert float((drawn[name] - values).abs().sum() / values.sum()) < 0.15, name


def test_a_callable_loss():
    module, inputs = NETWORKS["plain CNN"].make(), NETWORKS["plain CNN"].inputs()
    batch = [(inputs, LABELS, SEX)]

    def own(logits, labels):
        return F.cross_entropy(logits, labels, reduction="none")

    for estimator in ("fisher", "hutchinson"):
        mine = group_saliency(module, batch, estimator=estimator, loss=own, **ROLES)
        theirs = group_saliency(module, batch, estimator=estimator, **ROLES)
        for name, values in theirs.items():
            torch.testing.assert_close(mine[name], values)
    with pytest.raises(EvenhandError, match=r"not for a function\. Take the estimator hutchinson"):
        group_saliency(module, batch, loss=own, **ROLES)
    with pytest.raises(EvenhandError, match=r"returns \(\) for 12 samples.*reduction='none'"):
        group_saliency(module, batch, loss=lambda z, y: z.sum(), estimator="fisher", **ROLES)


def test_inputs_by_keyword_and_a_forward_of_ones_own():
    own = NETWORKS["transformers ViT"]
    module, inputs = own.make(), own.inputs()
    plain = group_saliency(module, [(inputs, LABELS, SEX)], **ROLES)
    named = group_saliency(module, [({"pixel_values": inputs}, LABELS, SEX)], **ROLES)
    forward = group_saliency(
        module,
        [({"x": inputs, "site": "A"}, LABELS, {"sex": SEX})],
        forward=lambda network, batch: network(batch["x"]).logits,
        **ROLES,
    )
    for name, values in plain.items():
        assert torch.equal(named[name], values)
        assert torch.equal(forward[name], values)


def test_a_batch_may_lack_a_group_and_others_take_no_part():
    module, inputs = NETWORKS["plain CNN"].make(), NETWORKS["plain CNN"].inputs()
    others = ["x" if k == 3 else item for k, item in enumerate(SEX)]
    rows = [k for k in range(12) if k != 3]
    whole = [(inputs[rows], LABELS[rows], [SEX[k] for k in rows])]
    parts = [(inputs[k : k + 1], LABELS[k : k + 1], others[k : k + 1]) for k in range(12)]
    item = group_saliency(module, whole, estimator="ggn", **ROLES)
    for name, values in group_saliency(module, iter(parts), estimator="ggn", **ROLES).items():
        torch.testing.assert_close(values, item[name], rtol=1e-3, atol=1e-7)


def test_hooks_of_ones_own_stay_and_count():
    module, inputs = NETWORKS["plain CNN"].make().eval(), NETWORKS["plain CNN"].inputs()
    module[4].register_forward_hook(lambda layer, arguments, output: 3 * output)
    before = state(module)
    batch = (inputs, LABELS, ["f"] * 12)
    result = group_saliency(module, [batch], unprivileged="f", betas={}, estimator="ggn")
    assert_same(before, module)
    for name, expected in by_autograd(module, inputs, list(result), softmax_root).items():
        torch.testing.assert_close(result[name], expected, rtol=1e-3, atol=1e-9)


class Twice(nn.Module):
    """A layer that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.layer(self.layer(x).tanh()))


class TwiceConvolved(nn.Module):
    """A convolution that runs twice."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Conv1d(1, 1, 3, padding=1), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.layer(self.layer(x[:, None]).tanh())[:, 0])


def once():
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))


def noisy(module):
    module.register_forward_hook(lambda layer, inputs, output: output + torch.randn_like(output))
    return module


SMALL = (torch.randn(12, 4), LABELS, SEX)


@pytest.mark.parametrize(
    ("build", "batches", "more", "text"),
    [
        (TwiceConvolved, [SMALL], {}, r"layer \(2 times\).*Take the estimator hutchinson"),
        (Tied, [SMALL], {}, r"layers share: into\.weight = out\.weight"),
        (lambda: noisy(Twice()), [SMALL], {}, "different outputs for the same samples"),
        (Twice, [], {}, "batches= gave nothing. A generator can be read only once"),
        (once, [(*SMALL[:2], ["f"] * 12)], {}, r"of the group 'm'; their groups are: 'f' \(12\)"),
        (Twice, [(*SMALL[:2], SEX[:5])], {}, "12 inputs, 12 labels, 5 groups"),
        (Twice, [SMALL[:2]], {}, r"batch 1 is 2 parts; give batches \(inputs, labels, groups\)"),
        (once, [(SMALL[0], LABELS + 1, SEX)], {}, "labels run from 1 to 2; with 2 logits"),
        (once, [(SMALL[0], LABELS.float(), SEX)], {}, "takes labels .* of whole numbers"),
        (once, [SMALL], {"loss": "binary-cross-entropy"}, "one label for each logit"),
        (Twice, [SMALL], {"parameters": ["layer.wight"]}, "no parameter 'layer.wight'; near it"),
        (Twice, [SMALL], {"parameters": []}, "parameters= is empty"),
        (Twice, [SMALL], {"estimator": "ggnmc"}, "no estimator 'ggnmc'"),
        (Twice, [SMALL], {"betas": {"m": -1}}, "weight of 'm' is no number ≥ 0"),
        (Twice, [SMALL], {"betas": {"f": 1}}, "'f' cannot be privileged and unprivileged"),
        (Twice, [SMALL], {"loss": 3}, "loss=3: give 'cross-entropy'"),
        (ECG, [(torch.randn(2, 2, 24), [0, 1], ["f", "m"])],
         {"forward": lambda network, x: [network(x)]}, "gives a list, not logits"),
    ],
)  # fmt: skip
def test_refusals_leave_the_network_as_it_was(build, batches, more, text):
    module = build()
    before = state(module)
    with pytest.raises(EvenhandError, match=rf"(?s){text}"):
        group_saliency(module, batches, **{**ROLES, **more})
    assert_same(before, module)


def test_the_figure_shows_each_number_by_group():
    pytest.importorskip("matplotlib").use("Agg")
    module, inputs = NETWORKS["plain CNN"].make(), NETWORKS["plain CNN"].inputs()
    result = group_saliency(module, [(inputs, LABELS, SEX)], **ROLES)
    axes = result.plot("4.weight")
    drawn = {line.get_label(): line.get_ydata() for line in axes.lines}
    order = result.by_group["f"]["4.weight"].flatten().argsort(stable=True)
    for sex in "fm":
        assert drawn[sex].tolist() == result.by_group[sex]["4.weight"].flatten()[order].tolist()
    assert result.plot("4", axes) is axes  # by its module, on axes that are there
    most = max(result, key=lambda name: float(result.by_group["f"][name].sum()))
    assert result.plot().get_title(loc="left") == most
    with pytest.raises(UnknownNameError, match="no parameter '5'"):
        result.plot("5")


def test_a_sample_is_even_in_the_order_of_the_unprivileged_group():
    own = torch.tensor([[5.0, 1, 4], [2, 0, 3]])
    saliency = GroupSaliency({"a.weight": own}, {"f": {"a.weight": own}, 1: {"a.weight": -own}})
    table = saliency.sample("a", most=3)
    assert table["change:f"].tolist() == [0, 2, 5]
    assert table["place"].tolist() == [4, 3, 0]
    assert table["rank"].tolist() == [0, 0.4, 1]
    assert table["change:1"].tolist() == [0, -2, -5]
    assert len(saliency.sample("a.weight")) == 6


def small():
    return nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Tanh(), nn.Linear(4, 2)).train()


@pytest.mark.parametrize("estimator", ["ggn", "ggn-mc", "fisher", "hutchinson"])
def test_inputs_that_are_not_finite_are_refused(estimator):
    module, inputs = small(), torch.randn(12, 3)
    inputs[0, 0] = torch.nan
    before = state(module)
    with pytest.raises(EvenhandError, match=r"not (all )?finite"):
        group_saliency(module, [(inputs, LABELS, SEX)], estimator=estimator, **ROLES)
    assert_same(before, module)


def test_a_caller_without_gradients_gets_the_same():
    module, batches = small(), [(torch.randn(12, 3), LABELS, SEX)]
    expected = group_saliency(module, batches, **ROLES)
    with torch.no_grad():
        result = group_saliency(module, batches, **ROLES)
    assert torch.equal(result["0.weight"], expected["0.weight"])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"batches": None}, "batches= is NoneType"),
        ({"labels": ["a"] * 12}, "labels of batch 1"),
        ({"labels": None}, "labels of batch 1"),
        ({"groups": None}, "0 groups"),
        ({"groups": [["f"]] * 12}, "groups of batch 1"),
        ({"betas": ["m"]}, "give a mapping"),
        ({"betas": {"m": "much"}}, "no number ≥ 0"),
        ({"draws": 1.5}, "draws=1.5"),
    ],
)
def test_wrong_kinds_of_arguments_are_refused_by_name(change, text):
    module = small()
    labels, groups = change.pop("labels", LABELS), change.pop("groups", SEX)
    batches = change.pop("batches", [(torch.randn(12, 3), labels, groups)])
    before = state(module)
    with pytest.raises(EvenhandError, match=text):
        group_saliency(module, batches, **(ROLES | change))
    assert_same(before, module)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.uint8])
def test_labels_of_any_whole_type(dtype):
    module, inputs = once(), torch.randn(12, 4)
    expected = group_saliency(module, [(inputs, LABELS, SEX)], **ROLES)
    saliency = group_saliency(module, [(inputs, LABELS.to(dtype), SEX)], **ROLES)
    for name, values in expected.items():
        torch.testing.assert_close(saliency[name], values)


def test_groups_that_are_a_list_of_numpy_text_or_of_tensors():
    module, inputs = once(), torch.randn(12, 4)
    texts = [np.str_(level) for level in SEX]
    with pytest.raises(EvenhandError, match=r"their groups are: 'f' \(6\), 'm' \(6\)"):
        group_saliency(module, [(inputs, LABELS, texts)], unprivileged="x", betas={"m": 0.4})
    codes = [torch.tensor(level == "f") for level in SEX]
    group_saliency(module, [(inputs, LABELS, codes)], unprivileged=True, betas={False: 0.4})


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("estimator", ["ggn-mc", "ggn", "fisher", "hutchinson"])
def test_a_compiled_network_has_the_saliency_of_the_original(estimator):
    module, inputs = once(), torch.randn(12, 4)
    settings = {**ROLES, "estimator": estimator, "draws": 2}
    expected = group_saliency(module, [(inputs, LABELS, SEX)], **settings)
    compiled = torch.compile(module, backend="eager")
    compiled(inputs)
    saliency = group_saliency(compiled, [(inputs, LABELS, SEX)], **settings)
    assert list(saliency) == [f"_orig_mod.{name}" for name in expected]
    for name, values in expected.items():
        torch.testing.assert_close(saliency[f"_orig_mod.{name}"], values)
