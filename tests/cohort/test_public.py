"""The public face of the package."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import evenhand.cohort as cohort
from evenhand.cohort import _HOMES


def test_the_list_of_names_is_complete():
    assert sorted(cohort.__all__) == sorted(" ".join(_HOMES.values()).split())
    assert len(set(cohort.__all__)) == len(cohort.__all__)


@pytest.mark.parametrize("name", cohort.__all__)
def test_every_name_is_there_and_documented(name):
    value = getattr(cohort, name)
    assert (not inspect.isfunction(value) and not inspect.isclass(value)) or value.__doc__


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="no attribute 'cohorts'"):
        cohort.__getattr__("cohorts")


def test_settings_load_no_heavy_library():
    code = (
        "import sys; from evenhand.cohort import DataSettings; "
        "print({'pandas', 'numpy', 'torch', 'PIL'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
