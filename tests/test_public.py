"""The public face: complete, documented, and light until it is used."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import evenhand


@pytest.mark.parametrize("name", evenhand.__all__)
def test_every_name_is_there_and_documented(name):
    assert getattr(evenhand, name).__doc__


def test_names_are_sorted_and_listed():
    assert list(evenhand.__all__) == sorted(
        evenhand.__all__, key=lambda name: (not name[0].isupper(), name)
    )
    assert set(evenhand.__all__) <= set(dir(evenhand))


def test_no_name_is_a_module_too():
    for name in evenhand.__all__:
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(f"evenhand.{name}")


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="No evenhand attribute nothing"):
        _ = evenhand.nothing


@pytest.mark.parametrize(
    "code",
    [
        "import evenhand",
        "from evenhand import DataSettings, EvenhandError, FinetuneSettings, TuneSettings",
        "from evenhand.cli import main; sys.argv = ['evenhand', 'tune', '--help']; main()",
    ],
)
def test_what_is_light_stays_light(code):
    heavy = "{'torch', 'pandas', 'numpy', 'timm', 'optuna', 'matplotlib'}"
    text = f"import atexit, sys\natexit.register(lambda: print({heavy} & set(sys.modules)))\n{code}"
    ended = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "set()"


def test_an_audit_starts_without_what_it_does_not_need():
    """Half of the time of an audit of a thousand rows is imports."""
    slow = "{'torch', 'timm', 'accelerate', 'optuna', 'sklearn', 'scipy.stats', 'scipy.optimize'}"
    code = f"import sys, evenhand.jobs.audit.job; print({slow} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "set()\n"
