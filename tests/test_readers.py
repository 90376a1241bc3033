"""Every reader through the jobs that a user would run on it, from the command line."""

from __future__ import annotations

import pytest
from tests.command import SMALL, evenhand
from tests.data import tiny

from evenhand.cohort import registry
from evenhand.cohort.readers import open_cohort
from evenhand.cohort.settings import DataSettings
from evenhand.experiments.runs import open_run

FAST = ("oasis1", "table")
SERIES = ("--backbone", "conv1d", "--weights", "none", "--device", "cpu")
READERS = [
    name if name in FAST else pytest.param(name, marks=pytest.mark.slow)
    for name in sorted(registry.READERS)
]


def flags(settings: DataSettings) -> list[str]:
    """Return the words of the command line that say the same as settings."""
    inputs = settings.model_dump(exclude_defaults=True, exclude={"data"})
    words: list[str] = [settings.data]
    for name, value in inputs.items():
        for item in value if isinstance(value, tuple) else (value,):
            words += [f"--{name.replace('_', '-')}", str(item)]
    return words


@pytest.mark.parametrize("name", READERS)
def test_a_reader_through_check_finetune_and_audit(name, tmp_path):
    settings = tiny(name, tmp_path / "data")
    cohort = open_cohort(settings)
    attributes = settings.attribute or (next(iter(cohort.attributes)),)
    settings = settings.model_copy(update={"attribute": attributes, "cache": tmp_path / "cache"})
    checked = evenhand("check", *flags(settings), "--out", tmp_path / "check")
    assert checked.status in (0, 1), checked.err  # 1: tiny data fail requirements, and are told so
    assert (tmp_path / "check" / "report.html").is_file()
    run = tmp_path / "run"
    small = SERIES if cohort.channels else SMALL
    trained = (*small, "--epochs", 1, "--batch-size", 32, "--objective", "overall_acc")
    done = evenhand("finetune", *flags(settings), *trained, "--out", run)
    assert done.status == 0, done.err
    audited = evenhand("audit", run, "--attribute", attributes[0], "--out", tmp_path / "audit")
    assert audited.status == 0, audited.err
    source = open_run(run).record.source
    assert source.reader == name
    assert source.label == cohort.source.label
    assert source.levels == cohort.levels
    assert (run / "report.html").is_file()
