"""Where a label goes with a group, the search chooses a method that repairs it."""

from __future__ import annotations

import pytest

from evenhand.experiments.study_storage import open_storage
from evenhand.experiments.trials import search
from evenhand.methods.registry import training_method
from evenhand.search.spaces import Rates, rate_space, searched_method, with_methods
from evenhand.search.study import open_study
from evenhand.testing.worlds import gaps, train, world
from evenhand.workers.engine import Inline

TRIALS = 12
METHODS = ("erm", "group-balance:how=weights", "group-dro", "soft-eodds", "jtt")
TILTED, VALIDATION, UNTILTED = world(800, 0.6, 0), world(4000, 0.6, 1), world(4000, 0.0, 2)


def fitted(choice):
    """Train a linear model by a choice; return its method and itself."""
    settings = dict(choice.method_settings)
    if choice.method == "jtt":  # the attribute alone is wrong on the rows that go against it
        settings["wrong"] = (TILTED.labels != TILTED.levels).numpy()
    method = training_method(choice.method, **settings)
    return method, train(method, TILTED, epochs=15, batch=200, lr=choice.lr)


def difference(choice, data):
    """Return the equalised-odds difference of a choice."""
    return max(map(abs, gaps(*fitted(choice), data)))


def searched(tmp_path, *texts):
    """Search methods and the learning rate; return what was chosen."""
    storage = open_storage(f"sqlite:///{tmp_path / 'study.db'}")
    study = open_study(storage, "run/one", ["minimize"], "", prune_until=0)
    space = with_methods(
        rate_space(frozenset(), Rates(0.01, 0.1, seed=0)), [*map(searched_method, texts)]
    )

    def score(choice, report):
        value = difference(choice, VALIDATION)
        report(1, (value,))
        return (value,)

    search(study, space, score, TRIALS, 0, Inline())
    return space.suggest(study.best_trial)


def test_a_method_is_chosen_that_repairs_what_erm_does_whatever_its_learning_rate(tmp_path):
    (tmp_path / "erm").mkdir()
    chosen, plain = searched(tmp_path, *METHODS), searched(tmp_path / "erm", "erm")
    assert chosen.method != "erm"
    before, after = difference(plain, UNTILTED), difference(chosen, UNTILTED)
    assert before > 0.15
    assert after <= before / 3
    assert before == pytest.approx(0.3, abs=0.1)  # as in closed form, with any learning rate
