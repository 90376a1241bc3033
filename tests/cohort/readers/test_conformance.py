"""What every reader owes: the same laws for all. A new reader needs a module in ``tests/data``."""

from __future__ import annotations

import numpy as np
import pytest
from tests.data import tiny

from evenhand.cohort import registry
from evenhand.cohort.cohort import Cohort
from evenhand.cohort.prepare import prepare_splits
from evenhand.cohort.readers import open_cohort
from evenhand.cohort.settings import DataSettings, SplitSettings
from evenhand.cohort.store.samples import store_samples
from evenhand.tables.attributes import UNKNOWN

SIZE = 16
READERS = sorted(registry.READERS)


def size_of(cohort: Cohort) -> int | None:
    """What the samples are stored at: series have no size."""
    return None if cohort.channels else SIZE


@pytest.fixture(scope="module", params=[*READERS, "chexpert_full", "series_table", "real ham10000"])
def settings(request, tmp_path_factory) -> DataSettings:
    folder = tmp_path_factory.mktemp("cohort")
    if request.param == "real ham10000":
        root = request.getfixturevalue("shared_data") / "ham10000"
        data_settings = DataSettings(data=f"ham10000:{root}", attribute=("sex", "age"))
    else:
        data_settings = tiny(request.param, folder / "data")
    return data_settings.model_copy(update={"cache": folder / "cache"})


@pytest.fixture(scope="module")
def cohort(settings) -> Cohort:
    return open_cohort(settings)


@pytest.mark.parametrize("name", READERS)
def test_every_reader_says_what_it_reads(name):
    about = registry.READERS[name].about
    assert about.title
    assert about.task
    assert about.modality
    assert about.licence
    assert about.access
    assert about.layout or name in ("folders", "phantom", "series_phantom", "table")
    assert len({rule.name for rule in about.attributes}) == len(about.attributes)


def test_ids_are_text_and_those_of_samples_unique(cohort):
    for column in ("sample_id", "patient_id"):
        assert all(isinstance(name, str) and name for name in cohort.table[column])
    assert cohort.table["sample_id"].is_unique
    patients = cohort.table["patient_id"].cat.categories
    assert patients.tolist() == sorted(set(cohort.table["patient_id"]))
    assert cohort.table.index.tolist() == list(range(len(cohort)))


def test_labels_count_from_zero(cohort):
    assert cohort.table["label"].dtype == np.int64
    assert set(cohort.labels) == set(range(len(cohort.classes)))
    assert len(set(cohort.classes)) == len(cohort.classes)


@pytest.mark.parametrize("name", READERS)
def test_every_convention_of_the_label_can_be_had(name, tmp_path):
    built = tiny(name, tmp_path)
    for label in [*registry.READERS[name].about.labels][:8]:
        cohort = open_cohort(built.model_copy(update={"label": label}))
        assert set(cohort.labels) <= set(range(len(cohort.classes)))
        assert cohort.source.label.startswith(f"{label}: ")


def test_levels_are_declared_and_unknown_is_explicit(cohort):
    columns = {column for column in cohort.table.columns if column.startswith("attr_")}
    assert columns == {f"attr_{name}" for name in cohort.attributes}
    for name, attribute in cohort.attributes.items():
        assert attribute.name == name
        assert UNKNOWN not in attribute.levels
        assert len(set(attribute.levels)) == len(attribute.levels)
        levels = cohort.table[f"attr_{name}"].cat.categories
        assert levels.tolist() == [*attribute.levels, UNKNOWN]


def test_every_declared_attribute_has_groups_to_compare(cohort):
    for name in cohort.attributes:
        assert len(set(cohort.table[f"attr_{name}"]) - {UNKNOWN}) >= 2, name


def test_the_source_says_what_it_is(cohort, settings):
    source = cohort.source
    assert settings.data.endswith(source.path) or source.path.startswith(settings.data)
    assert source.reader in registry.READERS
    assert source.unit in ("patient", "lesion", "stay", "image")
    assert all(name in source.label for name in cohort.classes[1:]) or "each" in source.label
    assert all(isinstance(text, str) for text in source.left_out)


def test_opening_again_gives_the_same(cohort, settings):
    again = open_cohort(settings)
    assert again.table.equals(cohort.table)
    assert again.source == cohort.source


def test_samples_are_colour_images_or_series(cohort):
    for sample_id in cohort.table["sample_id"][:3]:
        image = cohort.read(sample_id)
        if cohort.channels:
            assert image.dtype == np.float32
            assert image.shape == (cohort.read.steps, len(cohort.channels))
            continue
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3
        assert image.std() > 0
        assert cohort.read.resized(SIZE)(sample_id).shape == (SIZE, SIZE, 3)


def test_the_store_gives_each_sample_back(cohort, settings):
    stored = store_samples(cohort, size_of(cohort), settings.cache)
    assert stored.table.equals(cohort.table)
    assert set(stored.read.ids) == set(cohort.read.ids) == set(cohort.table["sample_id"])
    resized = cohort.read.resized(size_of(cohort))
    for sample_id in cohort.table["sample_id"].sample(20, random_state=0):
        result, wanted = stored.read(sample_id), resized(sample_id)
        assert np.array_equal(result, wanted, equal_nan=bool(cohort.channels))


def test_splits_are_by_patient_and_lose_nobody(cohort, settings):
    whole = SplitSettings(**settings.model_dump())
    splits = prepare_splits(whole, size_of(cohort), np.random.default_rng(0))
    parts = [set(part.table["patient_id"]) for _, part in splits.items()]
    assert sum(map(len, parts)) == len(set().union(*parts)) == cohort.table["patient_id"].nunique()
    assert sum(len(part) for _, part in splits.items()) == len(cohort)
    for _, part in splits.items():
        assert set(part.labels) == set(cohort.labels)


def test_settings_go_to_text_and_back(settings):
    assert DataSettings.model_validate_json(settings.model_dump_json()) == settings
