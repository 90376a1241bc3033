"""Batches out of a sample store."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evenhand.cohort import Cohort, store_samples
from evenhand.cohort.batches import BatchSource

DEVICES = [
    torch.device("cpu"),
    pytest.param(
        torch.device("cuda"),
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    ),
]


@pytest.fixture
def part(tmp_path, phantoms: Cohort) -> Cohort:
    """A cohort that holds some of the store's samples, in another order."""
    rows = np.random.default_rng(0).permutation(len(phantoms))[:50]
    return store_samples(phantoms.select(rows), 16, tmp_path)


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("fits", [True, False])
def test_a_batch_holds_what_its_positions_name(part, device, fits, monkeypatch):
    if not fits:
        monkeypatch.setattr(BatchSource, "_fits", lambda self, rows: False)
    source = BatchSource(part, device)
    positions = np.array([40, 3, 3, 0])
    batch = source.take(positions)
    assert len(source) == 50
    assert batch.inputs.shape == (4, 3, 16, 16)
    assert batch.inputs.dtype == torch.uint8
    assert batch.inputs.device.type == device.type
    assert batch.labels.tolist() == part.labels[positions].tolist()
    for image, position in zip(batch.inputs, positions, strict=True):
        wanted = part.read(part.table["sample_id"][position])
        assert np.array_equal(image.permute(1, 2, 0).cpu().numpy(), wanted)


def test_batches_are_copies(part):
    source = BatchSource(part, torch.device("cpu"))
    before = source.take(np.array([0])).inputs.clone()
    source.take(np.array([0])).inputs.zero_()
    assert torch.equal(source.take(np.array([0])).inputs, before)


def test_a_cohort_without_store(phantoms):
    with pytest.raises(TypeError, match="store_samples"):
        BatchSource(phantoms, torch.device("cpu"))
