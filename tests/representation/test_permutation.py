from __future__ import annotations

import numpy as np
import pytest

from evenhand.representation import GroupSamples, Layer, cka, group_test, rbf_layer
from evenhand.representation.permutation import permute_members

N = 120


def models(
    rng: np.random.Generator, member: np.ndarray, planted: float, labels: np.ndarray
) -> tuple[list[Layer], list[Layer]]:
    """Two models of two layers each; in the group, the last layers share what others do not."""
    shared = rng.standard_normal((len(member), 4)) + 2 * labels[:, None]
    own = rng.standard_normal((2, len(member), 4))
    share = np.where(member, planted, 0.0)[:, None]

    def model(mine: np.ndarray) -> list[Layer]:
        early = shared + rng.standard_normal((len(member), 4))
        late = np.sqrt(share) * shared + np.sqrt(1 - share) * mine + labels[:, None]
        return [Layer(early), Layer(late)]

    return model(own[0]), model(own[1])


def drawn(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return membership and labels; positives are three times as frequent in the group."""
    member = np.arange(N) < N // 3
    return member, (rng.random(N) < np.where(member, 0.6, 0.2)).astype(np.intp)


def test_it_finds_the_layer_that_holds_the_group_apart():
    rng = np.random.default_rng(0)
    member, labels = drawn(rng)
    layers = models(rng, member, 0.95, labels)
    result = group_test(GroupSamples(layers, np.arange(N), member, labels), 499, rng)
    assert result.p == pytest.approx(1 / 500)
    assert result.p_adjusted[1, 1] == result.p
    assert result.p_adjusted[0, 0] > 0.05
    assert result.difference[1, 1] > 0.3


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_its_difference_is_that_of_the_two_groups_alone(kernel):
    rng = np.random.default_rng(0)
    member, labels = drawn(rng)
    layers = models(rng, member, 0.5, labels)
    if kernel == "rbf":
        layers = tuple([rbf_layer(item.features, 0.7, rng) for item in side] for side in layers)
    result = group_test(GroupSamples(layers, np.arange(N), member, labels), 9, rng)
    inside, rest = (cka(*layers, np.flatnonzero(which)[None]).value for which in (member, ~member))
    np.testing.assert_allclose(result.difference, inside - rest, atol=1e-9)


def test_membership_is_permuted_among_like_labels():
    rng = np.random.default_rng(0)
    member, labels = drawn(rng)
    columns = permute_members(GroupSamples(([], []), np.arange(N), member, labels), 50, rng)
    assert (columns[:, 0] == member).all()
    for label in (0, 1):
        counts = columns[labels == label].sum(axis=0)
        assert (counts == counts[0]).all()
    assert not (columns[:, 1:] == member[:, None]).all(axis=0).any()


def test_a_group_that_cannot_be_permuted_proves_nothing():
    rng = np.random.default_rng(0)
    member = np.arange(N) < N // 3
    layers = models(rng, member, 0.9, np.zeros(N, np.intp))
    assert (
        group_test(GroupSamples(layers, np.arange(N), member, member.astype(np.intp)), 99, rng).p
        == 1
    )


@pytest.mark.slow
def test_size_without_and_power_with_a_planted_difference():
    """Other prevalence in the group is no difference in representation."""
    rng = np.random.default_rng(0)

    def rejected(planted: float, times: int) -> float:
        result = []
        for _ in range(times):
            member, labels = drawn(rng)
            layers = models(rng, member, planted, labels)
            result.append(
                group_test(GroupSamples(layers, np.arange(N), member, labels), 99, rng).p <= 0.05
            )
        return float(np.mean(result))

    assert rejected(0.0, 400) <= 0.08
    assert rejected(0.6, 60) >= 0.8
