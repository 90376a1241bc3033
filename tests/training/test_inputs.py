"""The scale of series: from training patients only, and of what was observed there."""

from __future__ import annotations

import numpy as np
import pytest

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.phantoms.series import SeriesPhantomSettings, make_series_phantoms
from evenhand.cohort.series.recordings import Recordings, Series
from evenhand.cohort.splits import split_patients
from evenhand.cohort.store.samples import store_samples
from evenhand.errors import EvenhandError
from evenhand.networks.inputs import SeriesInputs
from evenhand.networks.model import build_model
from evenhand.training.inputs import check_fits, input_notes, model_inputs


def changed(cohort: Cohort, change) -> Cohort:
    """The cohort with recordings put through a function of name and values."""
    read = cohort.read
    load = Recordings(read.recordings.ids, lambda name: change(name, read.recordings(name).copy()))
    return Cohort(
        cohort.table,
        Series(load, read.windows, read.steps),
        cohort.attributes,
        cohort.classes,
        cohort.source,
        cohort.channels,
    )


def scale_of(cohort: Cohort, cache) -> SeriesInputs:
    stored = store_samples(cohort, None, cache)
    splits = split_patients(stored, ["group"], (0.6, 0.2, 0.2), np.random.default_rng(0))
    return model_inputs(splits.train)


@pytest.fixture
def cohort() -> Cohort:
    return make_series_phantoms(SeriesPhantomSettings(patients=50, windows=2, steps=8))


def test_validation_and_test_patients_have_no_say(cohort, tmp_path):
    before = scale_of(cohort, tmp_path / "before")
    splits = split_patients(cohort, ["group"], (0.6, 0.2, 0.2), np.random.default_rng(0))
    train = set(splits.train.table["patient_id"])
    others = changed(cohort, lambda name, values: values if name in train else values + 1000)
    assert scale_of(others, tmp_path / "after") == before


def test_the_scale_is_that_of_observed_values_each_counted_once(cohort, tmp_path):
    stored = store_samples(cohort, None, tmp_path)
    inputs = model_inputs(stored)
    values = np.concatenate([cohort.read.recordings(name) for name in cohort.read.recordings.ids])
    for channel, (mean, std) in enumerate(zip(inputs.mean, inputs.std, strict=True)):
        seen = values[:, channel][~np.isnan(values[:, channel])].astype(float)
        seen = seen.clip(*np.percentile(seen, (0.1, 99.9)))
        assert (mean, std) == pytest.approx((seen.mean(), seen.std()))
    assert list(input_notes(inputs, "none")) == []


def test_channels_that_say_nothing_are_named(cohort, tmp_path):
    def mute(name, values):
        values[:, 1], values[:, 2] = np.nan, 5.0
        return values

    inputs = scale_of(changed(cohort, mute), tmp_path)
    assert inputs.std[1:3] == (0.0, 0.0)
    (note,) = input_notes(inputs, "none")
    assert "pressure, temperature" in note


def test_a_model_of_other_channels_does_not_fit(cohort):
    inputs = SeriesInputs(steps=8, channels=("pulse", "ph"), mean=(0, 0), std=(1, 1))
    model = build_model("conv1d", "none", inputs, ("well", "sick"), 0)
    with pytest.raises(EvenhandError, match=r"takes series of 2 channels \(pulse, ph\)"):
        check_fits(cohort, model)
    with pytest.raises(EvenhandError, match="takes images"):
        check_fits(cohort, build_model("test_vit", "none", 32, ("well", "sick"), 0))
