"""Series: windows of recordings, stored once, served as they are; series phantoms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from evenhand.cohort.cohort import Cohort, UnreadableError
from evenhand.cohort.phantoms.series import SeriesPhantomSettings, make_series_phantoms
from evenhand.cohort.series.recordings import Recordings, whole_recordings
from evenhand.cohort.store.batches import BatchSource
from evenhand.cohort.store.samples import store_samples
from evenhand.errors import EvenhandError


@pytest.fixture(scope="module")
def overlapping() -> Cohort:
    """20 patients with 3 windows of 8 steps each, which overlap by half."""
    return make_series_phantoms(SeriesPhantomSettings(patients=20, windows=3, steps=8))


@pytest.fixture(scope="module")
def stored(overlapping, tmp_path_factory) -> Cohort:
    return store_samples(overlapping, None, tmp_path_factory.mktemp("cache"))


def test_windows_overlap(overlapping):
    first, second = (overlapping.read(f"P00001-{number}") for number in (1, 2))
    assert first.shape == (8, 4)
    assert np.array_equal(first[4:], second[:4], equal_nan=True)


def test_the_store_holds_each_recording_once(overlapping, stored):
    assert stored.read.samples.shape == (20 * 16, 4)  # not 20 × 3 × 8
    assert stored.read.samples.dtype == np.float32
    for sample_id in overlapping.table["sample_id"]:
        content = stored.read(sample_id)
        assert np.array_equal(content, overlapping.read(sample_id), equal_nan=True)
        assert np.shares_memory(content, stored.read.samples)


@settings(max_examples=20)
@given(st.lists(st.integers(0, 59), min_size=1, max_size=9))
def test_a_batch_holds_what_its_positions_name(stored, overlapping, positions):
    batch = BatchSource(stored, torch.device("cpu")).take(np.array(positions))
    assert batch.inputs.shape == (len(positions), 4, 8)
    for series, position in zip(batch.inputs, positions, strict=True):
        wanted = overlapping.read(overlapping.table["sample_id"][position])
        assert np.array_equal(series.T.numpy(), wanted, equal_nan=True)


def test_series_have_no_image_size(overlapping, tmp_path):
    with pytest.raises(EvenhandError, match=r"--image-size 32 pixels: the samples are series"):
        store_samples(overlapping, 32, tmp_path)


def test_recordings_may_differ_in_length(tmp_path, overlapping):
    lengths = {f"P{number:05d}": 16 + number for number in range(1, 21)}
    read = overlapping.read
    longer = Recordings(tuple(lengths), lambda name: np.full((lengths[name], 4), 1.0, np.float32))
    cohort = _with(overlapping, type(read)(longer, read.windows, read.steps))
    stored = store_samples(cohort, None, tmp_path)
    assert len(stored.read.samples) == sum(lengths.values())
    assert stored.read("P00020-3").shape == (8, 4)


def test_a_recording_that_cannot_be_read_takes_its_windows_along(tmp_path, overlapping):
    torn = ["P00002"]

    def load(name: str):
        if name in torn:
            raise UnreadableError(f"{name} is torn")
        return overlapping.read.recordings(name)

    read = overlapping.read
    damaged = Recordings(read.recordings.ids, load)
    cohort = _with(overlapping, type(read)(damaged, read.windows, read.steps))
    with pytest.raises(UnreadableError, match="3 of 60 samples cannot be read"):
        store_samples(cohort, None, tmp_path)
    stored = store_samples(cohort, None, tmp_path, skip_unreadable=True)
    assert len(stored) == 57
    assert stored.source.left_out == ("P00002 is torn",)
    torn.clear()
    mended = store_samples(cohort, None, tmp_path)
    assert len(mended) == 60
    for sample_id in ("P00002-2", "P00003-2"):
        wanted = overlapping.read(sample_id)
        assert np.array_equal(mended.read(sample_id), wanted, equal_nan=True)
    assert np.array_equal(stored.read("P00003-2"), wanted, equal_nan=True)


@pytest.mark.parametrize(("rows", "channels"), [(15, 4), (16, 3)])
def test_stored_series_of_another_form_are_refused(tmp_path, overlapping, rows, channels):
    read = overlapping.read
    other = Recordings(read.recordings.ids, lambda name: np.ones((rows, channels), np.float32))
    cohort = _with(overlapping, type(read)(other, read.windows, read.steps))
    with pytest.raises(EvenhandError, match="another form than 8 steps of 4 channels"):
        store_samples(cohort, None, tmp_path)


def test_whole_recordings_are_windows_of_their_own():
    read = whole_recordings(["a", "b"], lambda name: np.full((5, 2), ord(name), np.float32), 5)
    assert read.ids == ("a", "b")
    assert read("b").shape == (5, 2)
    assert (read("b") == ord("b")).all()


def _with(cohort: Cohort, read) -> Cohort:
    return Cohort(
        cohort.table, read, cohort.attributes, cohort.classes, cohort.source, cohort.channels
    )


def _auc(cohort: Cohort, group: str) -> float:
    """AUC in one group of a logistic regression on means, trained on everybody."""
    values = np.stack([cohort.read(sample_id) for sample_id in cohort.table["sample_id"]])
    late = np.nanmean(values[:, 24:, :2], axis=1) - np.nanmean(values[:, :24, :2], axis=1)
    means = np.nan_to_num(np.hstack([late, np.nanmean(values[:, :, :2], axis=1)]))
    scaled = (means - means.mean(0)) / means.std(0)
    score = LogisticRegression().fit(scaled, cohort.labels).decision_function(scaled)
    rows = (cohort.table["attr_group"] == group).to_numpy()
    return float(roc_auc_score(cohort.labels[rows], score[rows]))


def test_the_minority_is_harder_where_that_is_planted():
    fair, biased = (
        make_series_phantoms(SeriesPhantomSettings(patients=1500, harder=harder))
        for harder in (0.0, 0.8)
    )
    assert abs(_auc(fair, "majority") - _auc(fair, "minority")) < 0.06
    assert _auc(biased, "majority") - _auc(biased, "minority") > 0.15


def test_the_same_settings_give_the_same_series():
    first, same, other = (
        make_series_phantoms(SeriesPhantomSettings(patients=12, seed=seed)).source.fingerprint
        for seed in (1, 1, 2)
    )
    assert first == same != other
