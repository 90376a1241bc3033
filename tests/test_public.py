"""The public face: complete, documented, and light until it is used."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
from pydantic import BaseModel

import evenhand

JOBS = ("audit", "finetune", "pretrain", "prune", "tune")


@pytest.mark.parametrize("name", evenhand.__all__)
def test_every_name_is_there_and_documented(name):
    assert getattr(evenhand, name).__doc__


def test_names_are_sorted_and_listed():
    assert list(evenhand.__all__) == sorted(
        evenhand.__all__, key=lambda name: (not name[0].isupper(), name)
    )
    assert set(evenhand.__all__) <= set(dir(evenhand))


def test_no_name_is_a_package_too():
    for name in evenhand.__all__:
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(f"evenhand.{name}")


@pytest.mark.parametrize("job", JOBS)
def test_jobs_of_the_packages_name(job):
    package = importlib.import_module(f"evenhand.{job}")
    importlib.import_module(f"evenhand.{job}.job")
    assert callable(getattr(package, job))
    settings = f"{job.title()}Settings"
    assert issubclass(getattr(package, settings), BaseModel)
    assert getattr(evenhand, settings) is getattr(package, settings)


@pytest.mark.parametrize("package", ["evenhand", *(f"evenhand.{job}" for job in JOBS)])
def test_a_name_that_is_not_there(package):
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        _ = importlib.import_module(package).nothing


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
