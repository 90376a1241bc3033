"""From settings to splits."""

from __future__ import annotations

import numpy as np
import pytest
from tests.data.ham10000 import make_ham10000
from tests.data.pictures import truncate

from evenhand.cohort.prepare import prepare_splits
from evenhand.cohort.settings import SplitSettings
from evenhand.cohort.splits import write_splits
from evenhand.cohort.store.samples import SampleStore
from evenhand.errors import EvenhandError

PHANTOMS = "phantom:patients=60,images=2,size=16"


def patients(splits) -> set[str]:
    return {name for _, part in splits.items() for name in part.table["patient_id"]}


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_samples_come_from_one_store(tmp_path):
    settings = SplitSettings(data=PHANTOMS, attribute=("group",), cache=tmp_path)
    splits = prepare_splits(settings, 8, seeded())
    assert isinstance(splits.train.read, SampleStore)
    assert splits.test.read is splits.train.read
    assert len(patients(splits)) == 60


def test_a_share_for_pre_training_and_the_rest_for_the_task(tmp_path):
    settings = SplitSettings(
        data=PHANTOMS, attribute=("group",), cache=tmp_path / "cache", patient_share=0.3
    )
    first = prepare_splits(settings, 8, seeded())
    write_splits(tmp_path / "pre" / "splits.csv", first)
    rest = settings.model_copy(
        update={"patient_share": 1.0, "exclude_patients": (tmp_path / "pre",)}
    )
    second = prepare_splits(rest, 8, seeded())
    assert len(patients(first)) == pytest.approx(18, abs=1)
    assert patients(first).isdisjoint(patients(second))
    assert len(patients(first) | patients(second)) == 60


def test_what_is_left_must_be_usable(tmp_path):
    settings = SplitSettings(
        data=PHANTOMS, cache=tmp_path, exclude_patients=(tmp_path / "sick.txt",)
    )
    splits = prepare_splits(settings.model_copy(update={"exclude_patients": ()}), 8, seeded())
    sick = {
        name
        for _, part in splits.items()
        for name in part.table["patient_id"][part.table["label"] == 1]
    }
    (tmp_path / "sick.txt").write_text("\n".join(sick), encoding="utf-8")
    with pytest.raises(EvenhandError, match="every sample has the label 'benign'"):
        prepare_splits(settings, 8, seeded())


def test_unreadable_samples_are_left_out_by_request(tmp_path):
    root = make_ham10000(tmp_path / "ham", lesions=30)
    truncate(next(root.glob("*/*.jpg")))
    settings = SplitSettings(data=f"ham10000:{root}", cache=tmp_path / "cache")
    with pytest.raises(EvenhandError, match="1 of 45 samples cannot be read"):
        prepare_splits(settings, 8, seeded())
    splits = prepare_splits(settings.model_copy(update={"skip_unreadable": True}), 8, seeded())
    assert sum(len(part) for _, part in splits.items()) == 44
    assert len(splits.train.source.left_out) == 1
