"""The search loop, on scores that are made up instead of trained."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenhand.errors import EvenhandError
from evenhand.experiments.runs import begin_run
from evenhand.experiments.study_storage import open_run_storage, open_storage
from evenhand.experiments.trials import search
from evenhand.jobs.tune.searching import study_table
from evenhand.jobs.tune.settings import TuneSettings
from evenhand.masks.units import Family, families
from evenhand.metrics import find_target
from evenhand.networks.backbones import create_by_name
from evenhand.runs import run_scope
from evenhand.search.spaces import SPACES, Choice, Rates
from evenhand.search.study import open_study, originals, stopping_floor
from evenhand.workers.engine import Inline

UNITS = families(create_by_name("test_vit"))["norm-attn-mlp"].units


def space_of(count, *, low=1e-4, high=1e-2, kind="flat"):
    rates = Rates(low, high, 0)
    first = {"head": Choice(frozenset(), rates.middle, 0)}
    return SPACES[kind](Family("some", UNITS[:count]), rates, first)


def study_of(path, *directions, prune_until=2, prune_from=1):
    storage = open_storage(f"sqlite:///{path / 'study.db'}")
    epochs = {"prune_until": prune_until, "prune_from": prune_from}
    return open_study(storage, "run/one", directions, "", **epochs)


class Trained:
    """Scores a mask by its size, and remembers what it was asked to train."""

    def __init__(self, killed_at=None):
        self.choices = []
        self.killed_at = killed_at

    def __call__(self, choice, report):
        if len(self.choices) == self.killed_at:
            raise KeyboardInterrupt
        self.choices.append(choice)
        value = len(choice.mask) / 10
        for epoch in (1, 2):
            report(epoch, (value * epoch / 2,))
        return (value,)


@pytest.mark.parametrize("kind", SPACES)
def test_no_setting_is_trained_twice_and_a_finite_space_is_tried_out(tmp_path, kind):
    study, trained = study_of(tmp_path, "maximize", prune_until=0), Trained()
    search(
        study,
        space_of(3, low=1e-3, high=1e-3, kind=kind),
        trained,
        trials=20,
        seed=1,
        engine=Inline(),
    )
    assert len(trained.choices) == len(set(trained.choices)) == 8
    repeated = [trial for trial in study.trials if "repeats" in trial.user_attrs]
    assert len(study.trials) == 8 + len(repeated)
    for trial in repeated:
        assert trial.value == study.trials[trial.user_attrs["repeats"]].value


def test_repeats_do_not_count_as_trials(tmp_path):
    study, trained = study_of(tmp_path, "maximize"), Trained()
    search(study, space_of(3, low=1e-3, high=1e-3), trained, trials=6, seed=0, engine=Inline())
    assert len(trained.choices) == 6
    assert len(originals(study)) == 6


def test_a_killed_search_ends_as_one_that_was_not(tmp_path):
    def run(folder, *kills):
        folder.mkdir()
        study = study_of(folder, "maximize")
        for killed_at in (*kills, None):
            trained = Trained(killed_at)
            try:
                search(
                    study,
                    space_of(3, low=1e-3, high=1e-3),
                    trained,
                    trials=7,
                    seed=3,
                    engine=Inline(),
                )
            except KeyboardInterrupt:
                continue
        text = ("origin", "epochs", "repeats")
        return [
            (t.params, t.value, t.state, [t.user_attrs.get(name) for name in text])
            for t in study.trials
        ]

    assert run(tmp_path / "killed", 2, 0, 1) == run(tmp_path / "unbroken")


def test_the_seconds_of_a_trial_leave_out_how_long_its_search_stood_still(tmp_path):
    study, space = study_of(tmp_path, "maximize"), space_of(3)
    space.suggest(study.ask())
    with contextlib.closing(sqlite3.connect(tmp_path / "study.db")) as base, base:
        base.execute("UPDATE trials SET datetime_start = '2020-01-01 00:00:00'")
    search(study, space, Trained(), trials=1, seed=0, engine=Inline())
    trial = study.trials[0]
    assert trial.duration.days > 365
    table = study_table(study, space, [find_target("auc_worst")])
    assert 0 <= table["seconds"][0] < 3600


@pytest.mark.parametrize(("epochs", "states"), [(2, {"COMPLETE"}), (3, {"COMPLETE", "PRUNED"})])
def test_a_trial_that_falls_behind_in_its_last_epoch_is_complete(tmp_path, epochs, states):
    def score(choice, report):
        report(1, (0.5,))
        report(2, (choice.lr,))
        return (choice.lr,)

    study = study_of(tmp_path, "maximize", prune_until=epochs)
    search(study, space_of(3), score, trials=6, seed=0, engine=Inline())
    assert {trial.state.name for trial in study.trials} == states
    assert {trial.user_attrs["epochs"] for trial in study.trials} == {2}


def test_no_trial_is_stopped_before_the_floor(tmp_path):
    def score(choice, report):
        for epoch in range(1, 9):
            report(epoch, (1 - choice.lr,))
        return (1 - choice.lr,)

    study = study_of(tmp_path, "maximize", prune_until=8, prune_from=3)
    search(study, space_of(4), score, trials=8, seed=0, engine=Inline())
    stopped = {t.last_step for t in study.trials if t.state.name == "PRUNED"}
    assert stopped <= {3, 6}
    assert min(stopped) == 3


@given(st.integers(1, 200), st.floats(0, 0.99))
def test_the_floor_is_a_quarter_of_the_epochs_and_a_whole_epoch_past_the_warm_up(epochs, warmup):
    floor = stopping_floor(epochs, warmup)
    assert floor >= epochs / 4
    assert floor - 1 >= epochs * warmup
    assert floor - 1 < epochs / 4 or floor - 2 < epochs * warmup  # and no more than that


def test_several_objectives_train_every_trial_to_its_end(tmp_path):
    def score(choice, report):
        for epoch in (1, 2):
            report(epoch, (len(choice.mask), -len(choice.mask)))
        return len(choice.mask), len(choice.mask) / 2

    study = study_of(tmp_path, "maximize", "minimize")
    search(study, space_of(4), score, trials=12, seed=0, engine=Inline())
    assert {trial.state.name for trial in study.trials} == {"COMPLETE"}
    assert {trial.user_attrs["epochs"] for trial in study.trials} == {2}


def test_known_masks_come_first(tmp_path):
    study, trained = study_of(tmp_path, "maximize"), Trained()
    search(study, space_of(3), trained, trials=3, seed=0, engine=Inline())
    assert trained.choices[0].mask == frozenset()
    assert study.trials[0].user_attrs["origin"] == "head"
    assert "origin" not in study.trials[1].user_attrs


def test_a_study_of_other_settings_is_refused(tmp_path):
    open_study(
        f"sqlite:///{tmp_path / 'study.db'}", "run/one", ["maximize"], "these", prune_until=2
    )
    with pytest.raises(EvenhandError, match=r"other settings or data\. Name another folder"):
        open_study(
            f"sqlite:///{tmp_path / 'study.db'}", "run/one", ["maximize"], "others", prune_until=2
        )


@pytest.mark.parametrize(
    "name", ["a?b", "a#b", "50%", "a b", "{x}", "a%2Fb", "x&mode=memory", "a:b@c", "ü"]
)
def test_a_study_lies_in_its_run_directory_whatever_that_is_called(tmp_path, name):
    root = tmp_path / name
    for _ in range(2):  # it is found again, too
        with run_scope():
            run = begin_run(root, "tune", TuneSettings(data="phantom:"), fingerprint="f")
            open_study(open_run_storage(run), "run/one", ["maximize"], "", prune_until=2)
    assert {path.name for path in root.iterdir()} == {"run.json", "study.db"}
    assert [path.name for path in tmp_path.iterdir()] == [name]
    (root / "study.db").unlink()
    with (
        pytest.raises(EvenhandError, match=r"study\.db is damaged: there is no such file"),
        run_scope(),
    ):
        open_run_storage(begin_run(root, "tune", TuneSettings(data="phantom:"), fingerprint="f"))
