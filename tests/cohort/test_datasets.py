"""Cohorts from datasets of Python code, by themselves and in jobs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import PIL.Image
import pytest
import torch

import evenhand
from evenhand import Cohort, EvenhandError
from evenhand.cohort.datasets import as_picture, hand_over

N = 60
FRAME = pd.DataFrame(
    {
        "dx": ["benign", "malignant"] * (N // 2),
        "pid": [f"p{k // 2}" for k in range(N)],
        "sex": pd.Series(np.repeat(["f", "m", None], [28, 28, 4])).astype("category"),
        "age": np.linspace(20, 90, N).round(),
    }
)
PIXELS = np.random.default_rng(0).integers(0, 256, (N, 12, 10, 3), dtype=np.uint8)
COLUMNS = {"label": "dx", "patient": "pid", "attribute": ("sex", "age"), "bins": "age=60"}


class Torch(torch.utils.data.Dataset):
    """A torch dataset: a float tensor with channels first, and the label."""

    def __len__(self):
        return N

    def __getitem__(self, k):
        if k >= N:
            raise IndexError
        return torch.tensor(PIXELS[k]).permute(2, 0, 1) / 255, k % 2


KINDS = {
    "torch": Torch(),
    "mappings, as of Hugging Face": [{"image": PIL.Image.fromarray(p), "label": 0} for p in PIXELS],
    "arrays": PIXELS,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_cohort(kind):
    cohort = Cohort.from_dataset(KINDS[kind], FRAME, **COLUMNS)
    assert len(cohort) == N
    assert cohort.classes == ("benign", "malignant")
    assert cohort.labels.tolist() == [0, 1] * (N // 2)
    assert cohort.levels == {"sex": ("f", "m"), "age": ("under 60", "60+")}
    assert (cohort.table["attr_sex"] == "unknown").sum() == 4
    assert (cohort.table["attr_age"] == "60+").tolist() == (FRAME.age >= 60).tolist()
    for row, sample in enumerate(cohort.table["sample_id"]):
        np.testing.assert_array_equal(cohort.read(sample), PIXELS[row])
    assert cohort.read.resized(8)("3").shape == (8, 8, 3)
    assert (
        cohort.source.fingerprint
        == Cohort.from_dataset(PIXELS, FRAME, **COLUMNS).source.fingerprint
    )


def test_another_pixel_is_another_fingerprint_unless_a_version_is_named():
    changed = PIXELS.copy()
    changed[-1, 0, 0, 0] ^= 1
    marks = [
        Cohort.from_dataset(one, FRAME, version=version, **COLUMNS).source.fingerprint
        for one, version in ((PIXELS, None), (changed, None), (PIXELS, "a"), (changed, "a"))
    ]
    assert marks[0] != marks[1]
    assert marks[2] == marks[3] != marks[0]


def test_the_frame_goes_by_places_and_not_by_its_index():
    shuffled = FRAME.set_axis(np.random.default_rng(0).permutation(N))
    cohort = Cohort.from_dataset(PIXELS, shuffled, **COLUMNS)
    assert cohort.labels.tolist() == [0, 1] * (N // 2)


def test_a_job_trains_on_it(tmp_path):
    cohort = Cohort.from_dataset(Torch(), FRAME, **COLUMNS)
    more = {
        "attribute": "sex", "backbone": "test_vit", "weights": "none", "image_size": 32,
        "epochs": 1, "device": "cpu", "cache": tmp_path / "cache", "out": tmp_path / "run",
    }  # fmt: skip
    run = evenhand.finetune(cohort, **more)
    table = run.predictions().table
    assert set(table["sample_id"]) == {str(k) for k in range(N)}
    assert (table["label"] == table["sample_id"].astype(int) % 2).all()
    assert table.groupby("patient_id")["split"].nunique().eq(1).all()
    assert run.record.source.reader == "dataset"
    again = Cohort.from_dataset(Torch(), FRAME, **COLUMNS)
    assert hand_over(again) == run.record.settings.data, "a run that was killed is continued"
    with pytest.raises(EvenhandError, match="no attribute 'site'"):
        evenhand.finetune(cohort, **{**more, "attribute": "site", "out": tmp_path / "b"})
    with pytest.raises(EvenhandError, match="--label cannot be given with dataset"):
        evenhand.finetune(cohort, label="dx", **{**more, "out": tmp_path / "b"})
    with pytest.raises(EvenhandError, match=r"in another process.*--import"):
        evenhand.finetune("dataset:0123", **{**more, "out": tmp_path / "b"})
    assert not (tmp_path / "b").exists()


class Augmented:
    """A dataset that draws its image anew each time."""

    rng = np.random.default_rng(0)

    def __len__(self):
        return N

    def __getitem__(self, k):
        return self.rng.integers(0, 256, (8, 8), dtype=np.uint8)


@pytest.mark.parametrize(
    ("dataset", "frame", "more", "text"),
    [
        (PIXELS[:9], FRAME, {}, "the dataset has 9 items and the frame 60 rows"),
        (iter(PIXELS), FRAME, {}, "has no len"),
        (Augmented(), FRAME, {}, "another image each time"),
        ([{"x": p} for p in PIXELS], FRAME, {}, "item 0 of the dataset: it has 'x' and none of"),
        (PIXELS[..., 0].astype("float32") - 128, FRAME, {}, "before any normalisation"),
        (np.zeros((N, 100, 12)).tolist(), FRAME, {"image": lambda item: item[0]}, "is no image"),
        (PIXELS, FRAME, {"label": "dy"}, "dy"),
        (PIXELS, FRAME, {"attribute": "age", "bins": ()}, "'age' is a number with 60 values"),
        (PIXELS, FRAME.assign(dx=[None, *FRAME.dx[1:]]), {}, "row 0.*dx"),
    ],
)
def test_bad_input_has_one_clear_error(dataset, frame, more, text):
    with pytest.raises(EvenhandError, match=text):
        Cohort.from_dataset(dataset, frame, **{**COLUMNS, **more})


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 1), (1, 6, 4), (3, 6, 4), (6, 4, 3)])
def test_images_of_every_shape(shape):
    assert as_picture(np.zeros(shape, np.uint8)).size == (4, 6)
    assert as_picture(torch.ones(shape)).getpixel((0, 0)) == (255, 255, 255)
