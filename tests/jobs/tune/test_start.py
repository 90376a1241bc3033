"""Where FairTune's search starts: tuned baselines, then known strategies."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from optuna.trial import FixedTrial, TrialState, create_trial

from evenhand.experiments.study_storage import open_storage
from evenhand.experiments.trials import search
from evenhand.jobs.tune.contenders import AllowedMethods
from evenhand.jobs.tune.searching import TunedBaseline, fairtune_start
from evenhand.jobs.tune.settings import TuneSettings
from evenhand.masks.strategies import strategy_mask
from evenhand.networks.model import build_model
from evenhand.search.spaces import Choice, searched_method
from evenhand.search.study import ADOPTED, adopt, open_study, originals
from evenhand.workers.engine import Inline

RATES = (2e-4, 5e-3, 1e-3)


def model(backbone="test_vit"):
    return build_model(backbone, "none", 64, ("a", "b"), seed=0)


def settings(**more):
    return TuneSettings(data="phantom:", lr_min=1e-4, lr_max=1e-2, seed=7, **more)


def tuned(name, network, best=5e-3):
    """Return a baseline with three trials, of which the second was stopped."""
    trials = [
        create_trial(
            state=state,
            value=None if state is TrialState.PRUNED else value,
            intermediate_values={1: value / 2, 2: value},
            user_attrs={"epochs": 2},
        )
        for state, value in (
            (TrialState.COMPLETE, 0.7),
            (TrialState.PRUNED, 0.6),
            (TrialState.COMPLETE, 0.8),
        )
    ]
    for number, trial in enumerate(trials):
        trial.number = number
    mask = strategy_mask(name, network)
    return TunedBaseline(name, mask, trials, [Choice(mask, rate, 7) for rate in RATES], best)


def start(*names, backbone="test_vit", methods=("erm",), **more):
    network = model(backbone)
    baselines = [tuned(name, network) for name in names]
    allowed = AllowedMethods(tuple(map(searched_method, methods)), {})
    task = SimpleNamespace(model=lambda: network)
    return fairtune_start(task, settings(**more), allowed, baselines)


def study_of(tmp_path, begun):
    storage = open_storage(f"sqlite:///{tmp_path / 'study.db'}")
    study = open_study(storage, "run/one", ["maximize"], "", prune_until=0)
    adopt(study, begun.adopted)
    return study


@pytest.mark.parametrize("space", ["flat", "staged"])
def test_the_trials_of_a_baseline_in_the_space_are_its_first(tmp_path, space):
    begun = start("head", "attention", space=space)
    study = study_of(tmp_path, begun)
    attention = {f"blocks.{depth}.attn" for depth in range(6)}
    text = [(begun.space.suggest(trial), trial.state.name, trial.value) for trial in study.trials]
    assert text == [
        (Choice(frozenset(mask), lr, 7), state, value)
        for mask in (frozenset(), attention)
        for lr, state, value in zip(
            RATES, ("COMPLETE", "PRUNED", "COMPLETE"), (0.7, None, 0.8), strict=True
        )
    ]
    assert [trial.last_step for trial in study.trials] == [2] * 6
    assert [origin for origin, _ in begun.space.first] == ["layernorm", "full"]


def test_the_family_s_full_mask_is_tried_at_the_rate_that_suited_full():
    begun = start("full")  # of a ViT it tunes the embedding, which no unit of the family holds
    assert begun.adopted == ()
    rates = {origin: params["lr"] for origin, params in begun.space.first}
    assert rates == {
        **dict.fromkeys(("head", "layernorm", "attention"), pytest.approx(1e-3)),
        "full": 5e-3,
    }


def test_the_families_of_a_network_by_stage_hold_full_itself():
    begun = start("full", backbone="test_resnet")
    assert [trial.user_attrs["origin"] for trial in begun.adopted] == ["full"] * 3
    assert "full" not in dict(begun.space.first)


def test_a_mask_that_the_family_cannot_write_is_left_out():
    begun = start("layernorm", family="mlp")
    assert begun.adopted == ()
    assert [origin for origin, _ in begun.space.first] == ["head", "full"]


def test_what_is_always_tuned_is_a_part_of_the_mask():
    begun = start("head", family="attention-parameters")  # which tunes the position embedding
    assert begun.adopted == ()


def test_adopted_trials_come_once_and_count_for_none_of_the_search_s_own(tmp_path):
    begun = start("head")
    study = study_of(tmp_path, begun)
    request = []

    def score(choice, report):
        request.append(choice)
        return (0.5,)

    adopt(study, begun.adopted)  # as the same command does after a kill
    search(study, begun.space, score, trials=4, seed=0, engine=Inline())
    assert [ADOPTED in trial.user_attrs for trial in originals(study)] == [True] * 3 + [False] * 4
    assert len(request) == 4
    assert {choice.mask for choice in request[:3]} >= {begun.space.suggest(study.trials[3]).mask}


def test_a_kill_between_two_adopted_trials_loses_none(tmp_path):
    begun = start("head")
    study = study_of(tmp_path, SimpleNamespace(adopted=begun.adopted[:1]))
    adopt(study, begun.adopted)
    assert [trial.user_attrs[ADOPTED] for trial in study.trials] == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "contained"),
    [
        ("full", True),
        ("head", True),
        ("last-2", True),
        ("random:3", True),
        ("mlp", True),
        ("blocks.0.attn,blocks.1.mlp", True),
        ("scratch", False),
        ("supervised", False),
        ("gradual", False),
        ("gradual:2", False),
        ("lora", False),
    ],
)
def test_strategies_that_are_one_mask_on_the_weights_as_they_are(name, contained):
    assert (strategy_mask(name, model()) is not None) == contained


def test_beside_the_masks_each_method_is_tried_with_its_default_settings(tmp_path):
    begun = start("head", "full", search="both", methods=("group-dro", "erm", "jtt:weight=3"))
    choices = {
        origin: begun.space.suggest(FixedTrial(dict(params)))
        for origin, params in begun.space.first
    }
    methods = {
        origin: (choice.method, choice.method_settings) for origin, choice in choices.items()
    }
    assert methods == {
        **dict.fromkeys(("layernorm", "attention", "full"), ("erm", ())),
        "group-dro": ("group-dro", (("rate", 0.05),)),
        "jtt": ("jtt", (("weight", 3.0),)),
    }
    assert choices["group-dro"].mask == choices["full"].mask
    assert choices["group-dro"].lr == 5e-3  # which suited full
    study = study_of(tmp_path, begun)
    assert [begun.space.suggest(trial).method for trial in study.trials] == ["erm"] * 3
