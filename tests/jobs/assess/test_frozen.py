"""What frozen encoders make of the samples is computed once for all cells, shares and splits."""

from __future__ import annotations

import numpy as np
import pytest

from evenhand.experiments.runs import begin_run
from evenhand.experiments.task import prepare_task
from evenhand.jobs.assess.grid import fit_cell, grid_cells, pretrain_encoder
from evenhand.jobs.assess.settings import AssessSettings
from evenhand.jobs.assess.starts import encoder_starts
from evenhand.networks.encoders.conv1d import Conv1dEncoder
from evenhand.runs import run_scope
from evenhand.tables.predictions import read_predictions


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("frozen")


@pytest.fixture(scope="module")
def settings(folder):
    return AssessSettings(
        data="series_phantom:patients=120,steps=12,seed=1",
        attribute=("group",),
        cell=("frozen3",),
        label_share=(1.0, 0.5, 0.2),
        seeds=1,
        epochs=3,
        pretrain_epochs=1,
        device="cpu",
        cache=folder / "cache",
    )


def fitted(settings, out, monkeypatch):
    """Fit the frozen cells; return their scores, and how many samples the encoder read for them."""
    task = prepare_task(settings)
    with run_scope():
        run = begin_run(out, "assess", settings, fingerprint="", reads=())
    pretrain_encoder(task, settings, run, encoder_starts(settings)[0], settings.seed)
    read, forward = [], Conv1dEncoder.forward

    def counting(encoder, series):
        read.append(len(series))
        return forward(encoder, series)

    monkeypatch.setattr(Conv1dEncoder, "forward", counting)
    cells = [cell for cell in grid_cells(settings) if cell.strategy == "frozen3"]
    for cell in cells:
        fit_cell(task, settings, run, cell)
    monkeypatch.undo()
    tables = [read_predictions(run.predictions_file(cell.name)).table for cell in cells]
    samples = sum(len(part) for _, part in task.splits.items())
    return np.concatenate([table["score"] for table in tables]), sum(read), samples


def test_the_encoder_reads_each_sample_once_for_all_shares(settings, folder, monkeypatch):
    cached, read, samples = fitted(settings, folder / "kept", monkeypatch)
    tried = 2 * 3 * 2 * len(settings.label_share)  # a cut is tried on two samples, twice a fit
    assert samples <= read <= samples + tried
    uncached = settings.model_copy(update={"prefix_memory": 0})
    expected, without, _ = fitted(uncached, folder / "anew", monkeypatch)
    assert without > 3 * read
    assert np.allclose(cached, expected, atol=1e-5)
