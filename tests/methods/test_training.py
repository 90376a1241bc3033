"""Each training method does what it says, on worlds whose wrong is known."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from evenhand.errors import EvenhandError
from evenhand.methods.base import TrainingMethod
from evenhand.methods.in_training.cdann import Cdann
from evenhand.methods.in_training.coral import Coral, conditional_coral
from evenhand.methods.in_training.domain_independent import DomainIndependent
from evenhand.methods.in_training.group_balance import GroupBalance
from evenhand.methods.in_training.group_dro import GroupDRO
from evenhand.methods.in_training.jtt import Jtt, wrong_rows
from evenhand.methods.in_training.minimax import Minimax
from evenhand.methods.in_training.soft_eodds import SoftEodds
from evenhand.methods.in_training.swad import Swad
from evenhand.testing.worlds import Linear, Summed, gaps, train, weights_of, world

TRAINING, TEST = world(8000, 0.6, 0), world(40000, 0.0, 1)
REPAIRS = {
    "balance by sampling": lambda: GroupBalance("sampling"),
    "balance by weights": lambda: GroupBalance("weights"),
    "balance by subsampling": lambda: GroupBalance("subsampling"),
    "group-dro": lambda: GroupDRO(0.05),
    "minimax": lambda: Minimax(0.5, by="label*attribute"),
    "soft-eodds": lambda: SoftEodds(10.0),
    "soft-eodds constrained": lambda: SoftEodds(5.0, tolerance=0.01),
    "coral": lambda: Coral(3.0),
    "cdann": lambda: Cdann(10.0, lr=1e-2),
    "domain-independent": DomainIndependent,
}


@pytest.fixture(scope="module")
def erm():
    method = TrainingMethod()
    return gaps(method, train(method, TRAINING), TEST)


def test_plain_training_learns_the_tilt(erm):
    assert min(erm) > 0.2


@pytest.mark.parametrize("name", REPAIRS)
def test_a_tilt_is_repaired(name, erm):
    method = REPAIRS[name]()
    # Behind features that are matched, a free head could scale one of them up again.
    network = Summed if method.needs_features else Linear
    model = train(method, TRAINING, network=network)
    after = gaps(method, model, TEST)
    assert max(map(abs, after)) <= max(erm) / 3
    disease, _ = weights_of(method, model)
    assert disease > 1


def test_balancing_by_attribute_alone_repairs_nothing(erm):
    method = GroupBalance("weights", by="attribute")
    after = gaps(method, train(method, TRAINING), TEST)
    assert after == pytest.approx(erm, abs=0.02)


@pytest.mark.parametrize(
    "method", [SoftEodds(0.0), Coral(0.0), Cdann(0.0), Jtt(1.0, wrong=np.zeros(8000, bool)), Swad()]
)
def test_without_strength_it_is_plain_training_bit_for_bit(method):
    plain = train(TrainingMethod(), TRAINING, epochs=2)
    same = train(method, TRAINING, epochs=2)
    for parameter, other in zip(plain.parameters(), same.parameters(), strict=True):
        assert torch.equal(parameter, other)


@pytest.mark.parametrize(
    ("weak", "strong"),
    [
        (lambda: GroupDRO(0.01), lambda: GroupDRO(0.5)),
        (lambda: GroupDRO(0.1), lambda: GroupDRO(0.1, adjustment=50.0)),
        (lambda: Minimax(0.1), lambda: Minimax(2.0)),
        (lambda: SoftEodds(1.0), lambda: SoftEodds(2.0)),
        (lambda: SoftEodds(1.0, tolerance=0.0), lambda: SoftEodds(1.0, tolerance=0.1)),
        (lambda: SoftEodds(1.0), lambda: SoftEodds(1.0, labels="positive")),
        (lambda: SoftEodds(1.0), lambda: SoftEodds(1.0, memory=0.9)),
        (lambda: Coral(1.0), lambda: Coral(2.0)),
        (lambda: Cdann(1.0), lambda: Cdann(2.0)),
        (lambda: Cdann(1.0), lambda: Cdann(1.0, penalty=10.0)),
        (lambda: Cdann(1.0), lambda: Cdann(1.0, ramp=5)),
        (lambda: Cdann(1.0), lambda: Cdann(1.0, steps=3)),
        (lambda: Cdann(1.0), lambda: Cdann(1.0, width=8)),
        (lambda: Cdann(1.0), lambda: Cdann(1.0, lr=1e-2)),
        (lambda: GroupBalance("weights"), lambda: GroupBalance("weights", by="attribute")),
        (lambda: GroupBalance("sampling"), lambda: GroupBalance("subsampling")),
    ],
)
def test_each_hyper_parameter_changes_the_weights(weak, strong):
    uneven = world(500, 0.6, 5, minority=0.2)
    first, second = (train(make(), uneven, epochs=2, batch=100) for make in (weak, strong))
    assert not torch.equal(first.head.weight, second.head.weight)


def test_weights_of_a_balance_add_up_alike():
    uneven = world(2000, 0.6, 3, minority=0.2)
    method = GroupBalance("weights")
    method.sampler(uneven.labels, uneven.groups)
    logits = torch.zeros(2000, 2, requires_grad=True)
    losses = method.loss(logits, None, uneven.labels, uneven.levels)
    losses.backward()
    size = logits.grad.abs().sum(dim=1)  # of equal logits, every row's gradient is its weight
    numbers = method.training_groups().numbers(uneven.labels, uneven.levels)
    sums = torch.stack([size[numbers == group].sum() for group in range(4)])
    torch.testing.assert_close(sums, sums[:1].expand(4))
    corr = np.cov(uneven.labels, uneven.levels, aweights=size.numpy())[0, 1]
    assert corr == pytest.approx(0, abs=1e-6)


def test_sampling_and_weights_have_the_same_gradient_in_expectation():
    uneven = world(400, 0.6, 3, minority=0.3)
    logits = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))

    def gradient(method, rows):
        raw = logits.clone().requires_grad_()
        method.loss(raw[rows], None, uneven.labels[rows], uneven.levels[rows]).backward()
        return raw.grad

    weighted = GroupBalance("weights")
    weighted.sampler(uneven.labels, uneven.groups)
    sampled = GroupBalance("sampling")
    order = sampled.sampler(uneven.labels, uneven.groups)
    mean = sum(gradient(sampled, torch.tensor(list(order))) for _ in range(1500)) / 1500
    torch.testing.assert_close(mean, gradient(weighted, torch.arange(400)), atol=5e-4, rtol=0.2)


def test_one_step_of_dro_by_hand():
    dro = GroupDRO(0.1, by="attribute")
    dro.sampler([0, 1], ["a", "b"])
    dro.move(torch.tensor([1.0, 0.5]), torch.tensor([True, True]))
    torch.testing.assert_close(dro.weights, torch.tensor([0.512497, 0.487503]))


def test_an_absent_group_keeps_its_weight():
    dro = GroupDRO(0.01, by="attribute")
    dro.sampler([0, 1, 1], ["a", "b", "a"])
    for _ in range(100):
        dro.loss(torch.randn(8, 2), None, torch.tensor([0, 1] * 4), torch.zeros(8, dtype=int))
    torch.testing.assert_close(dro.weights, torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize("make", [lambda: GroupDRO(0.05, by="attribute"), lambda: Minimax(0.5)])
def test_a_saddle_point_is_reached(make):
    """Losses θ² + .2 and (θ − 1)²: θ = .4, weights .6 and .4, both risks .36."""
    method = make()
    method.sampler([0, 1], ["a", "b"])
    theta = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([theta], lr=0.02)
    method.row_losses = lambda logits, labels: torch.cat([theta**2 + 0.2, (theta - 1) ** 2])
    trail = []
    for _ in range(3000):
        loss = method.loss(torch.zeros(2, 2), None, torch.tensor([0, 1]), torch.tensor([0, 1]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_epoch()
        trail.append([*method.weights.tolist(), theta.item()])
    a, b, reached = np.mean(trail[-1500:], axis=0)
    assert (a, b, reached) == pytest.approx((0.6, 0.4, 0.4), abs=0.01)


def test_minimax_moves_by_the_mean_loss_of_a_group_s_rows_however_they_are_batched():
    losses = torch.tensor([5.0, *[1.0] * 10, 1.0, 2.0])
    groups = torch.tensor([0] * 11 + [1] * 2)

    def weights(*batches):
        method = Minimax(0.5)
        method.sampler([0, 1], ["a", "b"])
        method.row_losses = lambda logits, labels: losses[labels]
        for batch in map(torch.tensor, batches):
            method.loss(torch.zeros(len(batch), 2), None, batch, groups[batch])
        method.after_epoch()
        return method.weights

    risks = torch.tensor([15 / 11, 1.5])  # a single row with a loss of 5, and ten of 1
    wanted = torch.softmax(0.5 * risks, dim=0)
    rows = list(range(13))
    torch.testing.assert_close(weights([0, 11, 12], rows[1:11]), wanted)
    torch.testing.assert_close(weights(rows), wanted)


def test_dro_follows_wrong_labels_and_says_so():
    noisy = world(8000, 0.0, 3, minority=0.2, flip=0.3)
    method = GroupDRO(0.05, by="attribute")
    harmed = train(method, noisy)
    plain = train(TrainingMethod(), noisy)
    assert float(method.weights[1]) > 0.9
    assert "b holds" in (method.warning() or "")
    truth = TEST.truth

    def log_loss(model):
        with torch.no_grad():
            return float(nn.functional.cross_entropy(model(TEST.features)[0], truth))

    assert log_loss(harmed) > log_loss(plain) + 0.05


@pytest.mark.parametrize("tolerance", [None, 0.02])
def test_the_penalty_is_differentiable(tolerance):
    data = world(60, 0.6, 0)
    method = SoftEodds(1.0, tolerance, memory=0.0)
    method.sampler(data.labels, data.groups)
    rng = torch.Generator().manual_seed(0)  # means must differ by more than the tolerance
    logits = torch.randn(60, 2, dtype=torch.float64, generator=rng).requires_grad_()

    def penalty(raw):
        return method.penalty(raw, data.labels, data.levels)

    assert torch.autograd.gradcheck(penalty, (logits,))
    assert float(torch.autograd.grad(penalty(logits), logits)[0].norm()) > 0


def test_constant_scores_have_no_penalty():
    data = world(60, 0.6, 0)
    method = SoftEodds(1.0)
    method.sampler(data.labels, data.groups)
    assert float(method.penalty(torch.ones(60, 2), data.labels, data.levels)) == pytest.approx(0)


def test_coral_by_hand_and_by_gradient():
    torch.manual_seed(0)
    features = torch.randn(40, 3, dtype=torch.float64, requires_grad=True)
    labels, groups = torch.arange(40) % 2, torch.arange(40) // 2 % 2
    assert torch.autograd.gradcheck(lambda z: conditional_coral(z, labels, groups), (features,))
    z = features.detach() / features.detach().var(dim=0).mean().sqrt()
    expected = 0.0
    for y in (0, 1):
        u, v = (z[(labels == y) & (groups == g)].numpy() for g in (0, 1))
        expected += ((u.mean(0) - v.mean(0)) ** 2).mean() / 2
        expected += ((np.cov(u.T) - np.cov(v.T)) ** 2).mean() / 2
    value = conditional_coral(features.detach(), labels, groups)
    assert float(value) == pytest.approx(expected)


def test_coral_cannot_be_lowered_by_shrinking_and_passes_over_lone_rows():
    features = torch.randn(20, 3)
    labels, groups = torch.zeros(20, dtype=int), (torch.arange(20) > 18).int()
    assert float(conditional_coral(features, labels, groups)) == 0.0
    groups = torch.arange(20) % 2
    value = conditional_coral(features, labels, groups)
    torch.testing.assert_close(conditional_coral(features * 0.01, labels, groups), value)


def test_the_adversarys_gradient_is_that_of_the_reversed_loss():
    data = world(50, 0.6, 0)
    method = Cdann(1.0, ramp=1, steps=1)
    method.sampler(data.labels, data.groups)
    features = torch.randn(50, 2, requires_grad=True)
    logits = torch.zeros(50, 2)
    method.loss(logits, features, data.labels, data.levels)
    method.steps = 0  # the discriminator stands still from here
    loss = method.loss(logits, features, data.labels, data.levels)
    (gradient,) = torch.autograd.grad(loss, features)
    step = torch.zeros_like(features)
    step[3, 1] = 1e-2
    with torch.no_grad():
        up, down = (
            method.loss(logits, features + sign * step, data.labels, data.levels)
            for sign in (1, -1)
        )
    assert float(gradient[3, 1]) == pytest.approx(float(up - down) / 2e-2, abs=2e-5)
    assert float(gradient.norm()) > 0


def test_intercepts_of_separate_heads():
    """Heads on the disease alone get the groups' priors, −/+ log 4, which cancel in the mean."""
    blind = world(8000, 0.6, 0)
    blind.features[:, 1] = 0.0
    method = DomainIndependent()
    model = train(method, blind)
    bias = model.head.bias.detach().view(2, 2) + method.priors
    odds = bias[:, 1] - bias[:, 0]
    assert odds.tolist() == pytest.approx([-np.log(4), np.log(4)], abs=0.15)
    test = world(40000, 0.0, 1)
    test.features[:, 1] = 0.0
    assert max(map(abs, gaps(method, model, test))) < 0.03


def test_jtt_finds_the_rows_that_go_against_the_tilt():
    first = train(TrainingMethod(), TRAINING, epochs=4)
    with torch.no_grad():
        wrong = wrong_rows(first(TRAINING.features)[0], TRAINING.labels)
    against = (TRAINING.labels != TRAINING.levels).numpy()
    assert against[wrong].mean() >= 0.6 > 0.25 > against.mean()
    attribute = []
    for weight in (1.0, 3.0, 30.0):
        method = Jtt(weight, wrong=wrong)
        attribute.append(weights_of(method, train(method, TRAINING))[1])
    assert attribute[0] > attribute[1] > 0 > attribute[2]  # too large a weight turns it around


def test_swad_averages_weights_between_the_first_low_and_the_rise():
    method, module = Swad(start=2, end=1, tolerance=1.5), nn.Linear(1, 1, bias=False)
    values = iter(range(1, 100))
    for loss in (1.0, 0.5, 0.6, 0.55, 2.0, 0.1):
        for _ in range(2):
            nn.init.constant_(module.weight, float(next(values)))
            method.after_step(module)
        method.after_validation(loss)
    # Evaluations 2 to 4 count: weights 3 to 8.
    assert float(method.final_weights()["weight"]) == pytest.approx(np.mean(range(3, 9)))
    assert method.closed


@pytest.mark.parametrize(
    "make",
    [
        lambda: GroupDRO(0.1),
        lambda: Minimax(0.5),
        lambda: SoftEodds(1.0, tolerance=0.01),
        lambda: Cdann(1.0),
    ],
)
def test_a_resumed_training_goes_on_as_an_unbroken_one(make):
    data = world(400, 0.6, 0)
    batches = torch.arange(400).split(100)

    def steps(method, model, optimizer, rows):
        for batch in rows:
            logits, features = model(data.features[batch])
            optimizer.zero_grad()
            method.loss(logits, features, data.labels[batch], data.levels[batch]).backward()
            optimizer.step()
        method.after_epoch()

    def fresh():
        method, model = make(), Linear()
        method.sampler(data.labels, data.groups)
        return method, model, torch.optim.SGD(model.parameters(), lr=0.1)

    unbroken = fresh()
    steps(*unbroken, batches)
    state = copy.deepcopy(unbroken[0].state_dict())
    second = make()
    second.sampler(data.labels, data.groups)
    second.load_state_dict(state)
    model = copy.deepcopy(unbroken[1])
    steps(second, model, torch.optim.SGD(model.parameters(), lr=0.1), batches)
    steps(*unbroken, batches)
    for parameter, other in zip(unbroken[1].parameters(), model.parameters(), strict=True):
        assert torch.equal(parameter, other)


def test_unknown_rows_enter_the_plain_mean():
    data = world(200, 0.6, 0)
    method = GroupDRO(0.1)
    method.sampler(data.labels, data.groups)
    logits = torch.randn(10, 2)
    nobody = torch.full((10,), -1)
    torch.testing.assert_close(
        method.loss(logits, None, data.labels[:10], nobody),
        method.plain_loss(logits, data.labels[:10]),
    )


@pytest.mark.parametrize(
    ("method", "labels", "groups", "text"),
    [
        (GroupDRO(), [0, 1, 0], ["a", "a", "b"], "none in b, class 1"),
        (GroupBalance(), [0, 1, 0], ["a", "a", "b"], "none in b, class 1"),
        (SoftEodds(), [0, 1, 0], ["a", "a", "b"], "b has 0 rows of class 1"),
        (SoftEodds(), [0, 1, 2], ["a", "a", "a"], "two classes; there are 3"),
        (DomainIndependent(), [0, 1, 0], ["a", "a", "b"], "b has 0 rows of class 1"),
        (Cdann(), [0, 1, 0], ["a", "a", "b"], "b has 0 rows of class 1"),
        (Coral(), [0, 1, 0, 1], ["a", "a", "b", "b"], "a has 1 row of class 0"),
        (TrainingMethod(), [0, 1, 0], ["a", "unknown", "unknown"], "67% of 3 rows is unknown"),
    ],
)
def test_rows_that_a_method_cannot_work_with_are_refused(method, labels, groups, text):
    with pytest.raises(EvenhandError, match=text):
        method.sampler(labels, groups)


def test_a_loss_before_the_rows_is_refused():
    with pytest.raises(EvenhandError, match="call sampler"):
        GroupDRO().loss(torch.zeros(1, 2), None, torch.zeros(1, dtype=int), torch.zeros(1))


@pytest.mark.parametrize(
    ("losses", "counted"),
    [
        ((1.0, 1.1, 9.0, 9.0), (1, 2)),  # the rise itself is left out
        ((1.0, 1.1, 9.0, 1.2, 9.0, 9.0), (1, 2, 3, 4)),  # one bad evaluation is no rise
        ((1.0, 1.1, 9.0), (1, 2)),  # training ends within a rise
    ],
)
def test_swad_leaves_out_the_rise_of_the_loss(losses, counted):
    method, module = Swad(start=2, end=2, tolerance=1.5), nn.Linear(1, 1, bias=False)
    for value, loss in enumerate(losses, start=1):
        nn.init.constant_(module.weight, float(value))
        method.after_step(module)
        method.after_validation(loss)
    assert float(method.final_weights()["weight"]) == pytest.approx(np.mean(counted))


def test_soft_eodds_changes_its_means_in_training_only():
    method = SoftEodds(1.0)
    method.sampler([0, 1, 0, 1], ["a", "a", "b", "b"])
    labels, levels = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
    with torch.no_grad():
        method.loss(torch.randn(4, 2), None, labels, levels)
    assert not method.observed.any()
    method.loss(torch.randn(4, 2, requires_grad=True), None, labels, levels)
    assert method.observed.all()


@pytest.mark.parametrize("memory", [-0.1, 1.0])
def test_soft_eodds_refuses_a_memory_that_lets_nothing_in(memory):
    with pytest.raises(EvenhandError, match=f"memory is {memory}; give 0 or more"):
        SoftEodds(1.0, memory=memory)


def test_a_restored_cdann_can_be_saved_before_its_first_step():
    method = Cdann(1.0)
    method.sampler([0, 1, 0, 1], ["a", "a", "b", "b"])
    labels, levels = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
    method.loss(torch.randn(4, 2, requires_grad=True), torch.randn(4, 3), labels, levels)
    restored = Cdann(1.0)
    restored.load_state_dict(method.state_dict())
    assert restored.state_dict().keys() == method.state_dict().keys()


@pytest.mark.parametrize(("make", "name"), [(GroupDRO, "group-dro"), (Minimax, "minimax")])
def test_a_method_calls_itself_by_its_own_name(make, name):
    with pytest.raises(EvenhandError, match=f"{name} needs training rows in every group"):
        make(by="label*attribute").sampler([0, 1, 1], ["a", "a", "b"])


READS_GROUPS = {
    "cdann": Cdann,
    "coral": Coral,
    "domain-independent": DomainIndependent,
    "group-balance": lambda: GroupBalance("weights"),
    "group-dro": GroupDRO,
    "minimax": Minimax,
    "soft-eodds": SoftEodds,
}


@pytest.mark.parametrize("name", READS_GROUPS)
@pytest.mark.parametrize(
    ("groups", "text"),
    [
        (np.array(["a", "a", "b", "b"]), "groups: ndarray <U1"),
        (np.array([0, 0, 1, 1]), "groups: ndarray int64"),
        (["a", "a", "b", "b"], "groups: list"),
        (None, "groups: NoneType"),
        (torch.tensor([0.0, 0, 1, 1]), "groups: Tensor torch.float32"),
        (torch.tensor([0, 1]), r"groups: shape \(2,\) for 4 labels"),
        (torch.tensor([0, 0, 1, 2]), "groups: a code is 2, but there are 2 levels"),
    ],
)
def test_groups_of_a_batch_that_are_no_codes_are_refused(name, groups, text):
    method = READS_GROUPS[name]()
    labels = torch.tensor([0, 1, 0, 1])
    method.sampler([0, 1] * 4, [*"aaaabbbb"])
    logits = torch.randn(4, method.head_outputs(2), requires_grad=True)
    with pytest.raises(
        EvenhandError, match=rf"{text}.*; give a tensor \(B,\) of codes.*level_codes"
    ):
        method.loss(logits, torch.randn(4, 3), labels, groups)
    method.loss(logits, torch.randn(4, 3), labels, torch.tensor([0, 0, 1, -1], dtype=torch.int16))


def test_labels_that_are_no_tensor_are_refused():
    with pytest.raises(EvenhandError, match="labels: ndarray, for 2 rows of logits; give a tensor"):
        TrainingMethod().loss(torch.randn(2, 2), None, np.array([0, 1]), None)


def test_domain_independent_says_how_many_outputs_its_head_needs():
    method = DomainIndependent()
    method.sampler([0, 1] * 4, [*"aaaabbbb"])
    codes = torch.tensor([0, 1])
    for work in (method.scored, lambda logits: method.loss(logits, None, codes, codes)):
        with pytest.raises(EvenhandError, match=r"shape \(2, 2\); give 2 × 2 columns"):
            work(torch.randn(2, 2))


def batch_of(name):
    """Return a method with training rows, and a batch (logits, features, labels, groups) for it."""
    others = {"erm": TrainingMethod, "jtt": lambda: Jtt(wrong=[False] * 8), "swad": Swad}
    method = {**READS_GROUPS, **others}[name]()
    method.sampler([0, 1] * 4, [*"aaaabbbb"])
    outputs = method.head_outputs(2)
    return method, [
        torch.randn(4, outputs, generator=torch.Generator().manual_seed(0)),
        torch.randn(4, 3, generator=torch.Generator().manual_seed(1)),
        torch.tensor([0, 1, 0, 1]),
        torch.tensor([0, 0, 1, 1]),
    ]


LOGITS, FEATURES, BATCH_LABELS, CODES = range(4)
NO_LOGITS = (
    *(torch.ones(4, 2, dtype=torch.int64), torch.randn(4, 2, dtype=torch.complex64)),
    *(torch.randn(4, 1), torch.randn(4), torch.randn(0, 2), torch.randn(4, 2, 2)),
    *(torch.randn(4, 2, device="meta"), torch.randn(4, 2).to_sparse()),
    *(torch.randn(4, 4).to_sparse(), torch.ones(4, 4, dtype=torch.int64), torch.randn(0, 4)),
    *(np.zeros((4, 2)), [[0.0, 1.0]] * 4, None),
)
NO_LABELS = (
    torch.tensor([0, 1, 0, 2]),
    torch.tensor([0, 1, 0, -1]),
    torch.tensor([0, 1, 0, -100]),  # which torch leaves out of the mean
    torch.tensor([0.0, 1.0, 0.0, 1.0]),
    torch.tensor([[0, 1]] * 4),
    torch.tensor([0, 1, 0]),
    torch.tensor([0, 1, 0, 1], device="meta"),
    torch.tensor([0, 1, 0, 1]).to_sparse(),
    [0, 1, 0, 1],
    None,
)


@pytest.mark.parametrize("name", ["erm", *READS_GROUPS, "jtt", "swad"])
@pytest.mark.parametrize(("place", "values"), [(LOGITS, NO_LOGITS), (BATCH_LABELS, NO_LABELS)])
def test_batches_that_do_not_fit_are_refused(name, place, values):
    for value in values:
        method, batch = batch_of(name)
        batch[place] = value
        with pytest.raises(EvenhandError, match="labels: " if place else r"logits(:| of shape) "):
            method.loss(*batch)


@pytest.mark.parametrize("name", sorted({"erm", "jtt", "swad", *READS_GROUPS} - {"cdann", "coral"}))
def test_a_loss_compiles_as_one_graph_and_keeps_its_state(name):
    (method, batch), (other, _) = batch_of(name), batch_of(name)
    compiled = torch.compile(other.loss, fullgraph=True, backend="eager")
    for codes in ([0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 1, -1], [-1, -1, -1, -1]):
        batch[CODES] = torch.tensor(codes)
        assert torch.equal(compiled(*batch), method.loss(*batch))
    assert method.after_epoch() == other.after_epoch()
    assert torch.equal(compiled(*batch), method.loss(*batch))


@pytest.mark.parametrize("name", ["cdann", "coral"])
@pytest.mark.parametrize(
    "features",
    [
        *(torch.randn(3, 3), torch.randn(4), torch.randn(4, 0), torch.randn(4, 3, 1)),
        *(torch.ones(4, 3, dtype=torch.int64), torch.randn(4, 3, device="meta"), None),
        *(torch.randn(4, 3).to_sparse(), np.zeros((4, 3))),
    ],
)
def test_features_that_do_not_fit_are_refused(name, features):
    method, batch = batch_of(name)
    batch[FEATURES] = features
    with pytest.raises(EvenhandError, match=r"features: |needs the features"):
        method.loss(*batch)


def test_features_of_another_layer_are_refused():
    method, batch = batch_of("cdann")
    method.loss(*batch)
    batch[FEATURES] = torch.randn(4, 5)
    with pytest.raises(EvenhandError, match="features: 5 columns, but earlier batches had 3"):
        method.loss(*batch)


@pytest.mark.parametrize("name", READS_GROUPS)
def test_codes_below_unknown_are_refused(name):
    method, batch = batch_of(name)
    batch[CODES] = torch.tensor([0, 0, 1, -2])
    with pytest.raises(EvenhandError, match="groups: a code is -2, but there are 2 levels"):
        method.loss(*batch)


def test_three_logits_are_refused_by_a_method_for_two_classes():
    method, batch = batch_of("soft-eodds")
    batch[LOGITS] = torch.randn(4, 3)
    with pytest.raises(EvenhandError, match="soft-eodds is for two classes: give two columns"):
        method.loss(*batch)


@pytest.mark.parametrize("name", ["erm", *READS_GROUPS])
def test_labels_of_any_whole_type_are_the_same_classes(name):
    losses = []
    for dtype in (torch.int64, torch.bool, torch.uint8, torch.int32):
        method, batch = batch_of(name)
        batch[BATCH_LABELS] = batch[BATCH_LABELS].to(dtype)
        losses.append(method.loss(*batch).item())
    assert len({*losses}) == 1


@pytest.mark.parametrize("wrong", [["True", "False"], [0.5, np.nan], [[True], [False]], 3, None])
def test_wrong_rows_are_true_or_false(wrong):
    with pytest.raises(EvenhandError, match="jtt: wrong"):
        Jtt(wrong=wrong)
    assert Jtt(wrong=torch.tensor([1, 0])).wrong.tolist() == [True, False]


def test_a_state_of_another_method_or_of_other_groups_is_refused():
    def trained(method, levels):
        method.sampler([0, 1] * len(levels), np.repeat(levels, 2))
        return method

    dro, other = trained(GroupDRO(), ["a", "b"]), trained(Minimax(), ["a", "b"])
    with pytest.raises(EvenhandError, match=r"state: no epochs among .*weights.* of Minimax"):
        other.load_state_dict(dro.state_dict())
    three = trained(GroupDRO(), ["a", "b", "c"])
    with pytest.raises(EvenhandError, match=r"weights is shape \(6,\) .* needs the shape \(4,\)"):
        dro.load_state_dict(three.state_dict())
    soft = trained(SoftEodds(1.0), ["a", "b"])
    with pytest.raises(EvenhandError, match="state: no means"):
        soft.load_state_dict({})
