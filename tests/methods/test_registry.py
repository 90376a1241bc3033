from __future__ import annotations

import subprocess
import sys

import pytest
from tests.command import evenhand

from evenhand.errors import EvenhandError
from evenhand.methods.registry import find_method, methods, register_method, training_method

TRAINING = {
    *("erm", "group-balance", "group-dro", "minimax", "soft-eodds", "cdann", "coral"),
    *("domain-independent", "jtt", "swad"),
}
AFTERWARDS = {"dfr", "thresholds", "recalibrate", "multicalibrate"}


def test_every_method_has_a_name_a_title_and_can_be_loaded():
    assert set(methods("training")) >= TRAINING
    assert set(methods("afterwards")) >= AFTERWARDS
    for name in TRAINING | AFTERWARDS:
        method = find_method(name)
        assert method.title.endswith(".")
        assert method.load().__doc__


def test_listing_the_methods_imports_nothing_heavy():
    code = (
        "import sys; from evenhand.methods.registry import methods; methods(); "
        "print({'torch', 'numpy', 'sklearn'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("name", "settings", "text"),
    [
        ("dro", {}, "no method 'dro'.*Did you mean 'erm'|no method 'dro'"),
        ("dfr", {}, "no method 'dfr'"),
        ("group-dro", {"lam": 1}, "group-dro has no setting 'lam'; it has: rate, adjustment, by"),
        ("group-dro", {"rat": 1}, "Did you mean 'rate'?"),
        ("jtt", {}, "jtt needs wrong"),
    ],
)
def test_bad_names_and_settings(name, settings, text):
    with pytest.raises(EvenhandError, match=text):
        training_method(name, **settings)


def test_a_name_can_be_taken_once():
    with pytest.raises(EvenhandError, match="there is a method 'erm' already"):
        register_method("erm", "mine", title="Mine.")


def test_the_command_line_lists_every_method_with_its_settings():
    listed = evenhand("methods").out
    for name in TRAINING | AFTERWARDS:
        assert f"  {name} " in listed
    assert "rate=0.05" in listed
    assert "Training needs the attribute." in " ".join(listed.split())


@pytest.mark.parametrize("rate", ["fast", -1.0, None, float("nan")])
def test_settings_by_keyword_have_their_types_and_ranges(rate):
    with pytest.raises(EvenhandError, match="rate="):
        training_method("group-dro", rate=rate)
