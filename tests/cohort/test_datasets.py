"""Cohorts from datasets of Python code, by themselves and in jobs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import PIL.Image
import pytest
import torch

import evenhand
from evenhand import Cohort, EvenhandError
from evenhand.cohort.cohort import UnreadableError
from evenhand.cohort.datasets import as_picture, store_in_process
from evenhand.cohort.store.samples import store_samples
from evenhand.jobs.tune import fitting
from evenhand.networks.inputs import ImageForm

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
        Cohort.from_dataset(item, FRAME, version=version, **COLUMNS).source.fingerprint
        for item, version in ((PIXELS, None), (changed, None), (PIXELS, "a"), (changed, "a"))
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
    assert store_in_process(again) == run.record.settings.data, "a run that was killed is continued"
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
        (Augmented(), FRAME, {}, "another image at each access"),
        ([{"x": p} for p in PIXELS], FRAME, {}, "item 0 of the dataset: it has 'x' and none of"),
        (PIXELS[..., 0].astype("float32") - 128, FRAME, {}, "without normalisation"),
        (np.zeros((N, 100, 12)).tolist(), FRAME, {"image": lambda item: item[0]}, "is no image"),
        (PIXELS, FRAME, {"label": "dy"}, "dy"),
        (PIXELS, FRAME, {"attribute": "age", "bins": ()}, "'age' is a number with 60 values"),
        (PIXELS, FRAME.assign(dx=[None, *FRAME.dx[1:]]), {}, "row 0.*dx"),
    ],
)
def test_bad_input_has_one_clear_error(dataset, frame, more, text):
    with pytest.raises(EvenhandError, match=text):
        Cohort.from_dataset(dataset, frame, **{**COLUMNS, **more})


class Features(list):
    """A dataset as those of Hugging Face: mappings, and features that say what columns are."""

    def __init__(self, items, **features):
        super().__init__(items)
        self.features = {name: type(kind, (), {})() for name, kind in features.items()}


def test_the_column_that_features_call_an_image_is_taken():
    items = [{"dx": 0, "scan": PIL.Image.fromarray(p)} for p in PIXELS]
    cohort = Cohort.from_dataset(Features(items, dx="Value", scan="Image"), FRAME, **COLUMNS)
    np.testing.assert_array_equal(cohort.read("5"), PIXELS[5])
    two = Features([{**item, "mask": item["scan"]} for item in items], scan="Image", mask="Image")
    with pytest.raises(EvenhandError, match=r"2 columns of images \(scan, mask\).*item\['scan'\]"):
        Cohort.from_dataset(two, FRAME, **COLUMNS)


def test_a_dataset_of_hugging_face_is_a_cohort(tmp_path):
    library = pytest.importorskip("datasets")
    for k, pixels in enumerate(PIXELS):
        PIL.Image.fromarray(pixels).save(tmp_path / f"{k}.png")
    columns = {"scan": [str(tmp_path / f"{k}.png") for k in range(N)], "dx": list(FRAME.dx)}
    dataset = library.Dataset.from_dict(columns).cast_column("scan", library.Image())
    cohort = Cohort.from_dataset(dataset, FRAME, **COLUMNS)
    np.testing.assert_array_equal(cohort.read("5"), PIXELS[5])
    with pytest.raises(EvenhandError, match="DatasetDict of 'train' holds several datasets"):
        Cohort.from_dataset(library.DatasetDict(train=dataset), FRAME, **COLUMNS)


def test_splits_by_name_are_no_dataset():
    with pytest.raises(EvenhandError, match="a dict of 'train', 'test' holds several datasets"):
        Cohort.from_dataset({"train": PIXELS, "test": PIXELS}, FRAME, **COLUMNS)


SERIES = np.random.default_rng(1).normal(size=(N, 9, 2)).astype(np.float32)
SERIES[::2] += 1
SERIES[3, 4:, 0] = np.nan
VARIABLES = {"variables": ("pulse", "lactate")}
SERIES_KINDS = {
    "arrays": SERIES,
    "tensors with labels": [(torch.tensor(item), 0) for item in SERIES],
    "mappings": [{"series": item.tolist(), "label": 0} for item in SERIES],
    "data frames": [pd.DataFrame(item) for item in SERIES],
}


@pytest.mark.parametrize("kind", SERIES_KINDS)
def test_arrays_of_time_and_variables_are_series(kind):
    cohort = Cohort.from_dataset(SERIES_KINDS[kind], FRAME, **COLUMNS, **VARIABLES)
    assert cohort.channels == ("pulse", "lactate")
    for row, sample in enumerate(cohort.table["sample_id"]):
        np.testing.assert_array_equal(cohort.read(sample), SERIES[row])
    plain = Cohort.from_dataset(SERIES, FRAME, **COLUMNS, **VARIABLES)
    assert cohort.source.fingerprint == plain.source.fingerprint


def replaced(value, *place):
    changed = SERIES.copy()
    changed[place] = value
    return changed


@pytest.mark.parametrize(
    ("dataset", "more", "text"),
    [
        (SERIES[..., :1], {}, r"item 0 .* \(9, 1\) is no series of 2 variables \(pulse, lactate"),
        (replaced(np.inf, 0, 2, 1), {}, "item 0 .*'lactate' is infinite at step 2"),
        (replaced(np.nan, 0), {}, "item 0 .*nothing was observed"),
        ([{"y": item} for item in SERIES], {}, "it has 'y' and none of series"),
        ([["a", "b"]] * N, {}, "item 0 of the dataset: could not convert"),
        (SERIES, {"image": lambda item: item}, "image= is for images"),
        (SERIES, {"variables": ("a", "a")}, "give each a different name"),
        (SERIES, {"variables": (), "series": lambda item: item}, "series= needs variables="),
    ],
)
def test_bad_series_have_one_clear_error(dataset, more, text):
    with pytest.raises(EvenhandError, match=text):
        Cohort.from_dataset(dataset, FRAME, **{**COLUMNS, **VARIABLES, **more})


def test_a_series_of_another_length_is_named_when_it_is_read(tmp_path):
    items = [*SERIES[:-1], SERIES[-1, :5]]
    cohort = Cohort.from_dataset(items, FRAME, **COLUMNS, **VARIABLES)
    with pytest.raises(UnreadableError, match="item 59 of the dataset has 5 time steps, not 9 as"):
        store_samples(cohort, None, tmp_path)
    assert len(store_samples(cohort, None, tmp_path, skip_unreadable=True)) == N - 1


def test_a_search_on_series_is_stopped_and_continued(tmp_path, monkeypatch):
    more = {
        "attribute": "sex", "backbone": "conv1d", "weights": "none", "epochs": 1, "trials": 3,
        "device": "cpu", "cache": tmp_path / "cache", "out": tmp_path / "run", "confirm": 1,
        "target": "auc",
    }  # fmt: skip
    trained = []

    def train(*arguments, **keywords):
        trained.append(1)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return before(*arguments, **keywords)

    before = fitting.train_model
    monkeypatch.setattr(fitting, "train_model", train)
    with pytest.raises(KeyboardInterrupt):
        evenhand.tune(Cohort.from_dataset(SERIES, FRAME, **COLUMNS, **VARIABLES), **more)
    run = evenhand.tune(Cohort.from_dataset(SERIES, FRAME, **COLUMNS, **VARIABLES), **more)
    assert run.record.source.reader == "dataset"
    assert run.record.source.stored.shape == (9, 2)
    stopped = len(trained)
    evenhand.tune(Cohort.from_dataset(SERIES, FRAME, **COLUMNS, **VARIABLES),
                  **more | {"out": tmp_path / "whole"})  # fmt: skip
    assert len(trained) - stopped == stopped - 1, "only what was stopped is trained again"
    tables = [(tmp_path / name / "trials.csv").read_text() for name in ("run", "whole")]
    assert tables[0].count("complete") == tables[1].count("complete")


@pytest.mark.parametrize("more", [{"workers": 2}, {"engine": "ray", "workers": 2}])
def test_workers_are_refused_before_any_work(tmp_path, more):
    cohort = Cohort.from_dataset(SERIES, FRAME, **COLUMNS, **VARIABLES)
    with pytest.raises(EvenhandError, match=r"exists in this process only.*register_reader"):
        evenhand.tune(cohort, attribute="sex", out=tmp_path / "run", trials=2, **more)
    assert not (tmp_path / "run").exists()


def test_channels_and_proportions_of_a_dataset_are_as_asked(tmp_path):
    five = np.random.default_rng(2).integers(0, 256, (N, 5, 12, 10), dtype=np.uint8)
    for dataset, form in ((five, ImageForm(8, 6, 5)), (PIXELS, ImageForm(8, 6, 1))):
        cohort = Cohort.from_dataset(dataset, FRAME, **COLUMNS)
        stored = store_samples(cohort, form, tmp_path)
        assert stored.read("0").shape == (8, 6, form.channels)
    with pytest.raises(UnreadableError, match=r"60 of 60 samples .*\n.*Give --channels 5"):
        store_samples(Cohort.from_dataset(five, FRAME, **COLUMNS), 8, tmp_path)


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 1), (1, 6, 4), (3, 6, 4), (6, 4, 3)])
def test_images_of_every_shape(shape):
    assert as_picture(np.zeros(shape, np.uint8)).size == (4, 6)
    assert as_picture(torch.ones(shape)).getpixel((0, 0)) == (255, 255, 255)
