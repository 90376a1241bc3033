"""What every test may lean on."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from evenhand.workers import Engine, WorkerSettings, open_engine

ROOT = Path(__file__).parents[1]

# Processes that tests start find modules compiled, whatever the shell says.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# No test waits for a clock: a loaded machine is no failure.
settings.register_profile("evenhand", deadline=None)
settings.load_profile("evenhand")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data: ``$EVENHAND_DATA``, or ``shared/data`` beside the project."""
    folder = Path(os.environ.get("EVENHAND_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is absent (set EVENHAND_DATA)")
    return folder


@pytest.fixture(scope="session")
def ray_of_two_cpus() -> Iterator[None]:
    """A Ray of this machine, with two CPUs and little memory."""
    import ray

    ray.init(
        num_cpus=2, object_store_memory=80_000_000, include_dashboard=False, log_to_driver=False,
        logging_level="error",
    )  # fmt: skip
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def importable_tests() -> Iterator[None]:
    """Let workers, which are told of their driver's path, import what the tests have them do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        yield


@pytest.fixture(scope="module")
def serial_engine() -> Iterator[Engine]:
    """An engine whose worker is this process."""
    with open_engine(WorkerSettings()) as engine:
        yield engine


@pytest.fixture(scope="module", params=["local", pytest.param("ray", marks=pytest.mark.slow)])
def parallel_engine(request: pytest.FixtureRequest, importable_tests: None) -> Iterator[Engine]:
    """An engine of two workers in other processes; the dead are replaced from test to test."""
    if request.param == "ray":
        request.getfixturevalue("ray_of_two_cpus")
    with open_engine(WorkerSettings(workers=2, engine=request.param)) as engine:
        yield engine
