"""A trained run that tests of this folder prune."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.command import evenhand, training

PHANTOMS = "phantom:patients=240,size=32,harder=0.9,seed=1"


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def trained(cache, tmp_path_factory) -> Path:
    """A small network with convolutions and normalisation, better for the majority."""
    out = tmp_path_factory.mktemp("trained") / "run"
    words = training(cache, "--backbone", "test_resnet", "--epochs", 4, "--lr", 3e-3)
    ended = evenhand("finetune", PHANTOMS, *words, "--out", out)
    assert ended.status == 0, ended.err
    return out


@pytest.fixture
def words(trained, cache) -> tuple[object, ...]:
    """A quick pruning of that run."""
    flags = ("--attribute", "group", "--cache", cache, "--device", "cpu", "--batches", 2)
    goal = ("--share", 25, "--budget", 60, "--objective", "log_loss_gap")
    return ("prune", trained, *flags, *goal)
