from __future__ import annotations

import io
import tracemalloc
from dataclasses import replace

import numpy as np
import pandas as pd
import PIL.Image
import pytest

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.duplicates import find_duplicates
from evenhand.cohort.images.decoding import ImageArray
from evenhand.cohort.phantoms.images import PhantomSettings, make_phantoms

SETTINGS = PhantomSettings(patients=120, size=32, seed=2)


def with_copies(copies: dict[int, np.ndarray]) -> Cohort:
    """Return phantoms of which some have another one's picture, or what became of it."""
    cohort = make_phantoms(SETTINGS)
    ids = cohort.table["sample_id"]
    images = np.stack([cohort.read(item) for item in ids])
    for row, image in copies.items():
        images[row] = image
    return replace(cohort, read=ImageArray(images, {item: row for row, item in enumerate(ids)}))


def picture(row: int) -> np.ndarray:
    cohort = make_phantoms(SETTINGS)
    return cohort.read(cohort.table["sample_id"][row])


def mailed(image: np.ndarray) -> np.ndarray:
    """Make it brighter, smaller and a JPEG, and large again."""
    small = PIL.Image.fromarray((image * 0.8 + 30).astype(np.uint8)).resize((24, 24))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=70)
    return np.asarray(PIL.Image.open(file).resize((32, 32), PIL.Image.Resampling.BICUBIC))


def test_phantoms_are_all_different():
    assert find_duplicates(make_phantoms(SETTINGS)).empty


def test_the_same_picture_and_one_that_was_sent_by_mail():
    cohort = with_copies({5: picture(3), 90: picture(3), 17: mailed(picture(60))})
    result = find_duplicates(cohort, near=0.9)
    assert {frozenset(pair) for pair in result[["first", "second"]].to_numpy()} >= {
        frozenset((3, 5)),
        frozenset((17, 60)),
    }
    exact = result[result["exact"]]
    assert set(exact[["first", "second"]].to_numpy().ravel()) == {3, 5, 90}
    assert exact["correlation"].to_numpy() == pytest.approx(1)
    assert list(result["exact"]) == sorted(result["exact"], reverse=True)


def test_pictures_of_one_patient_may_be_alike():
    cohort = with_copies({5: picture(3)})
    same = cohort.table.assign(patient_id="P")
    assert find_duplicates(replace(cohort, table=same)).empty


def test_flat_pictures_are_the_same_only_where_they_are():
    flat = np.full((32, 32, 3), 100, np.uint8)
    result = find_duplicates(with_copies({1: flat, 2: flat, 3: flat + 1}))
    assert result[["first", "second"]].to_numpy().tolist() == [[1, 2]]


def test_alike_samples_of_one_patient_take_no_memory_but_their_sketches():
    rng, ids = np.random.default_rng(0), [str(row) for row in range(8000)]
    images = rng.integers(0, 200, (16, 16, 3)) + rng.integers(0, 20, (len(ids), 16, 16, 3))
    table = pd.DataFrame({"sample_id": ids, "patient_id": "P", "label": 0})
    read = ImageArray(images.astype(np.uint8), {item: row for row, item in enumerate(ids)})
    cohort = replace(make_phantoms(SETTINGS), table=table, read=read)
    tracemalloc.start()
    assert find_duplicates(cohort).empty
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    sketches = len(ids) * 2 * 16 * 15 * 4  # bytes
    assert peak < 2 * sketches


class Noise:
    """Series of noise, with gaps; the last is nearly the first."""

    ids = tuple(map(str, range(60)))

    def __call__(self, sample_id: str) -> np.ndarray:
        row = int(sample_id)
        rng = np.random.default_rng(row % 59)
        values = rng.standard_normal((48, 6)).astype(np.float32) * [1, 10, 100, 1, 1, 0]
        values[rng.random((48, 6)) < 0.4] = np.nan
        return (values * (1.001 if row == 59 else 1)).astype(np.float32)


def test_series_with_gaps():
    names = list(Noise.ids)
    table = pd.DataFrame({"sample_id": names, "patient_id": names, "label": 0})
    cohort = replace(make_phantoms(SETTINGS), table=table, read=Noise(), channels=tuple("abcdef"))
    result = find_duplicates(cohort)
    assert result[["first", "second"]].to_numpy().tolist() == [[0, 59]]
    assert not result["exact"][0]
