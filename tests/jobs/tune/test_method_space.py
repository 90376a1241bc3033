"""The space of methods: what it reaches, how a choice is written, and what methods declare."""

from __future__ import annotations

import math
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.samplers import RandomSampler
from optuna.study import create_study
from optuna.trial import FixedTrial

from evenhand.errors import EvenhandError
from evenhand.methods.base import TrainingMethod
from evenhand.methods.ranges import Between, OneOf
from evenhand.methods.registry import OWN, methods, register_method, training_method
from evenhand.search.spaces import (
    Choice,
    Rates,
    SearchedMethod,
    by_method,
    fixed_method,
    method_params,
    rate_space,
    searched_method,
    with_methods,
)

RATES = Rates(1e-4, 1e-2, seed=7)
MASK = frozenset({"a"})
PLAIN = Choice(MASK, 1e-3, 7)
ALL = tuple(map(searched_method, methods("training")))
RANGED = [(method.name, setting) for method in ALL for setting in method.ranges]


def ends(allowed):
    return allowed.values if isinstance(allowed, OneOf) else (allowed.low, allowed.high)


@pytest.mark.parametrize(("name", "setting"), RANGED)
def test_a_method_takes_both_ends_of_each_range_that_it_declares(name, setting):
    more = {"wrong": [False]} if name == "jtt" else {}
    for value in ends(searched_method(name).ranges[setting]):
        assert getattr(training_method(name, **{setting: value}, **more), setting) == value


def test_every_method_with_a_strength_lets_a_search_choose_it():
    assert dict(RANGED).keys() == {
        *("cdann", "coral", "group-balance", "group-dro", "jtt", "minimax", "soft-eodds", "swad")
    }


@given(st.integers(0, 2**32 - 1))
def test_every_choice_is_written_in_one_way(seed):
    space = with_methods(rate_space(MASK, RATES), ALL)
    trial = create_study(sampler=RandomSampler(seed=seed)).ask()
    choice = space.suggest(trial)
    assert {"lr": choice.lr, **method_params(choice, ALL)} == trial.params
    first = {"one": choice}
    ((_, params),) = with_methods(rate_space(MASK, RATES, first), ALL, first.values()).first
    assert space.suggest(FixedTrial(dict(params))) == choice
    allowed = searched_method(choice.method).ranges
    for setting, value in choice.method_settings:
        assert value in allowed[setting]


def test_what_is_given_is_not_searched():
    method = searched_method("group-dro:rate=0.2,adjustment=1")
    space = with_methods(rate_space(MASK, RATES), [method])
    choice = space.suggest(FixedTrial({"lr": 1e-3}))
    assert choice == by_method(PLAIN, "group-dro", {"adjustment": 1.0, "rate": 0.2})
    assert method.params(by_method(PLAIN, "group-dro", {"rate": 0.2})) is None


def test_defaults_lie_in_the_space():
    for method in ALL:
        default = method.set(PLAIN)
        assert method.params(default) is not None
        assert method.by_default.params(default) == {}
        assert (
            with_methods(rate_space(MASK, RATES), [method.by_default]).suggest(
                FixedTrial({"lr": 1e-3})
            )
            == default
        )


@pytest.mark.parametrize(
    ("texts", "size"),
    [
        (("erm", "domain-independent"), 2),
        (("erm", "group-balance"), 4),
        (("erm", "coral"), math.inf),
        (("group-balance:how=weights",), 1),
    ],
)
def test_the_size_counts_methods_and_their_settings(texts, size):
    one_rate = Rates(1e-3, 1e-3, seed=0)
    assert with_methods(rate_space(MASK, one_rate), [*map(searched_method, texts)]).size == size


def test_a_space_of_one_method_asks_nothing_more():
    assert with_methods(rate_space(MASK, RATES), [fixed_method("swad")]).suggest(
        FixedTrial({"lr": 1e-3})
    ) == by_method(PLAIN, "swad", {})


def test_methods_of_others_bring_their_own_ranges():
    @register_method("pull")
    class Pull(TrainingMethod):
        """Pulls."""

        ranges = MappingProxyType({"force": Between(1.0, 2.0)})

        def __init__(self, force: float = 1.5) -> None:
            super().__init__()

    @register_method("push")
    class Push(Pull):
        """Pushes, with a default that no search can try."""

        def __init__(self, force: float = 3.0) -> None:
            super().__init__()

    try:
        assert searched_method("pull") == SearchedMethod(
            "pull", {}, {"force": Between(1.0, 2.0)}, {"force": 1.5}
        )
        with pytest.raises(EvenhandError, match=r"default of force, 3\.0, lies outside"):
            searched_method("push")
    finally:
        OWN.remove("pull")
        OWN.remove("push")
