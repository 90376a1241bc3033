"""Batches out of a sample store."""

from __future__ import annotations

from dataclasses import replace
from weakref import ref

import numpy as np
import pytest
import torch

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.store import batches
from evenhand.cohort.store.batches import BatchSource
from evenhand.cohort.store.samples import store_samples

CPU = torch.device("cpu")
DEVICES = [
    CPU,
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
    source = BatchSource(part, CPU)
    before = source.take(np.array([0])).inputs.clone()
    source.take(np.array([0])).inputs.zero_()
    assert torch.equal(source.take(np.array([0])).inputs, before)


def uploaded(cohort: Cohort) -> BatchSource:
    """Return a source that has uploaded its samples, as it does to a CUDA device."""
    source = BatchSource(cohort, CPU)
    source._upload(cohort.read)
    return source


def test_what_is_uploaded_serves_every_source_of_the_same_samples(part, monkeypatch):
    monkeypatch.setattr(BatchSource, "_fits", lambda self, rows: True)
    first, again = uploaded(part), uploaded(part.select(np.arange(50)[::-1]))
    assert again._resident is first._resident
    assert torch.equal(again.take(np.array([49, 3])).inputs, first.take(np.array([0, 46])).inputs)
    assert len(uploaded(part.select(np.arange(10)))._resident) == 10


def test_what_is_uploaded_goes_with_its_store(part, monkeypatch):
    monkeypatch.setattr(BatchSource, "_fits", lambda self, rows: True)
    opened = replace(part, read=replace(part.read))
    resident = ref(uploaded(opened)._resident)
    assert resident() is not None
    del opened
    assert resident() is None


@pytest.mark.parametrize(("free", "reserved", "most"), [(8, 0, 3), (6, 2, 3), (2, 2, 1), (0, 0, 0)])
def test_half_of_the_memory_may_be_taken(part, free, reserved, most, monkeypatch):
    """Two rows lie there already; what torch holds in reserve is free, but for what is in use."""
    row, in_use = 16 * 16 * 3, 3
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free * row, 99 * row))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: (in_use + reserved) * row)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: in_use * row)
    uploaded = {part.read: {(CPU, b""): torch.zeros(2 * row, dtype=torch.uint8)}}
    monkeypatch.setattr(batches, "_uploaded", uploaded)
    source = BatchSource(part, CPU)
    assert source._fits(most) == (most > 0)
    assert not source._fits(most + 1)


def test_a_cohort_without_store(phantoms):
    with pytest.raises(TypeError, match="store_samples"):
        BatchSource(phantoms, CPU)
