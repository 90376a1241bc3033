"""The sample store: decoded once, whole or not at all."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.ExifTags
import PIL.Image
import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.folders import make_folders
from tests.data.ham10000 import make_ham10000
from tests.data.pictures import truncate
from tests.data.series_table import make_series_table

from evenhand.cohort.cohort import Cohort, UnreadableError
from evenhand.cohort.images.decoding import ImageFiles
from evenhand.cohort.readers import open_cohort
from evenhand.cohort.settings import DataSettings
from evenhand.cohort.store import samples as store
from evenhand.cohort.store.building import DATA, INDEX, StoreIndex, new_store
from evenhand.cohort.store.samples import default_cache, store_samples
from evenhand.errors import EvenhandError

SIZE = 8


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    root = make_ham10000(tmp_path / "ham", lesions=10)
    return open_cohort(DataSettings(data=f"ham10000:{root}"))


@pytest.fixture
def decoded(monkeypatch) -> Counter[str]:
    """Counts how often each file is decoded."""
    times: Counter[str] = Counter()
    read = ImageFiles.__call__

    def counted(self: ImageFiles, sample_id: str):
        times[sample_id] += 1
        return read(self, sample_id)

    monkeypatch.setattr(ImageFiles, "__call__", counted)
    return times


def listed(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "samples").iterdir())


def test_samples_are_squashed_colour_images(tmp_path, cohort):
    stored = store_samples(cohort, SIZE, tmp_path / "cache")
    for sample_id in cohort.table["sample_id"]:
        wanted = PIL.Image.fromarray(cohort.read(sample_id)).resize((SIZE, SIZE))
        content = stored.read(sample_id)
        assert content.shape == (SIZE, SIZE, 3)
        assert content.dtype == np.uint8
        # A JPEG is decoded at a smaller scale, which is not exactly a resize of the whole.
        assert np.abs(content.astype(int) - np.asarray(wanted)).mean() < 4


def test_each_sample_is_decoded_once(tmp_path, cohort, decoded):
    cache = tmp_path / "cache"
    few = cohort.select(np.array([3, 1]))
    first = store_samples(few, SIZE, cache)
    second = store_samples(cohort, SIZE, cache)
    assert set(decoded.values()) == {1}
    assert len(decoded) == len(cohort)
    assert len(listed(cache)) == 1
    for sample_id in few.table["sample_id"]:
        assert np.array_equal(first.read(sample_id), second.read(sample_id))
    assert store_samples(cohort, 2 * SIZE, cache).read(sample_id).shape == (16, 16, 3)


def test_a_stored_cohort_is_stored_in_another_size_from_its_files(tmp_path, cohort):
    small = store_samples(cohort, 2, tmp_path / "one")
    again = store_samples(small, SIZE, tmp_path / "one")
    fresh = store_samples(cohort, SIZE, tmp_path / "two")
    assert np.array_equal(again.read.samples, fresh.read.samples)


def test_a_changed_file_makes_another_store(tmp_path, cohort):
    path = next(iter(cohort.read.files.values()))
    os.utime(path, (1, 1))
    changed = open_cohort(DataSettings(data=f"ham10000:{cohort.source.path}"))
    for each in (cohort, changed):
        store_samples(each, SIZE, tmp_path / "cache")
    assert len(listed(tmp_path / "cache")) == 2


@settings(max_examples=20)
@given(st.data())
def test_rows_are_found_in_any_order(tmp_path_factory, phantoms, data):
    cache = tmp_path_factory.getbasetemp() / "phantoms"
    rows = data.draw(st.lists(st.integers(0, len(phantoms) - 1), min_size=1, unique=True))
    part = store_samples(phantoms.select(np.array(rows)), 16, cache)
    ids = part.table["sample_id"]
    result = part.read.samples[part.read.rows(ids)]
    assert np.array_equal(result, np.stack([phantoms.read(sample_id) for sample_id in ids]))


def test_a_store_of_another_format_is_left_alone(tmp_path, cohort, monkeypatch):
    monkeypatch.setattr(store, "FORMAT", store.FORMAT - 1)
    store_samples(cohort, SIZE, tmp_path)
    (old,) = listed(tmp_path)
    (tmp_path / "samples" / old / INDEX).write_text('{"ids": []}')
    monkeypatch.undo()
    sample_id = cohort.table["sample_id"][0]
    assert store_samples(cohort, SIZE, tmp_path).read(sample_id).shape == (SIZE, SIZE, 3)
    assert len(listed(tmp_path)) == 2


def test_files_that_are_read_from_another_folder_have_other_names(tmp_path):
    root = make_folders(tmp_path / "data" / "train", 6)
    (root / "metadata.csv").unlink()
    for folder in (root, root.parent):
        cohort = open_cohort(DataSettings(data=f"folders:{folder}"))
        stored = store_samples(cohort, SIZE, tmp_path / "cache")
        assert len(stored.read.rows(stored.table["sample_id"])) == 12


def test_files_that_were_taken_for_images_are_read_as_series(tmp_path):
    table = make_series_table(tmp_path, patients=10)
    columns = {"data": str(table), "label": "finding", "patient": "person"}
    images = open_cohort(DataSettings(image_column="signal", **columns))
    with pytest.raises(UnreadableError, match="20 of 20"):
        store_samples(images, None, tmp_path / "cache")
    series = open_cohort(DataSettings(series_column="signal", **columns))
    assert len(store_samples(series, None, tmp_path / "cache")) == 20


def test_a_sample_that_the_store_lacks(tmp_path, phantoms):
    store = store_samples(phantoms, 16, tmp_path).read
    with pytest.raises(KeyError, match="Q"):
        store.rows(["P00001-1", "Q"])


class TestUnreadable:
    """Files that are damaged."""

    @pytest.fixture
    def damaged(self, cohort) -> Cohort:
        for path in list(cohort.read.files.values())[3:5]:
            truncate(Path(path))
        return open_cohort(DataSettings(data=f"ham10000:{cohort.source.path}"))

    def test_all_are_reported_with_path_and_row(self, tmp_path, damaged):
        with pytest.raises(UnreadableError) as error:
            store_samples(damaged, SIZE, tmp_path / "cache")
        text = str(error.value)
        assert text.startswith(f"2 of {len(damaged)} samples cannot be read.")
        assert "--skip-unreadable" in text
        for sample_id, row in (("ISIC_0024309", 5), ("ISIC_0024310", 6)):
            assert f"{sample_id}.jpg ({damaged.read.table}, row {row}) cannot be read" in text

    def test_they_are_left_out_by_request_and_recorded(self, tmp_path, damaged, decoded):
        stored = store_samples(damaged, SIZE, tmp_path / "cache", skip_unreadable=True)
        assert len(stored) == len(damaged) - 2
        assert [text.split("/")[-1][:12] for text in stored.source.left_out] != []
        assert all("row" in text for text in stored.source.left_out)
        assert set(damaged.table["sample_id"]) - set(stored.table["sample_id"]) == {
            "ISIC_0024309",
            "ISIC_0024310",
        }
        assert set(decoded.values()) == {1}

    def test_they_alone_are_tried_again_when_the_cause_may_have_passed(
        self, tmp_path, cohort, decoded, monkeypatch
    ):
        closed = list(cohort.read.files)[2:9]
        picture = ImageFiles._picture

        def refused(self, sample_id):
            if sample_id in closed:
                raise PermissionError
            return picture(self, sample_id)

        monkeypatch.setattr(ImageFiles, "_picture", refused)
        monkeypatch.setattr("evenhand.cohort.store.building.CHUNK", 3)
        before = store_samples(cohort, SIZE, tmp_path, skip_unreadable=True)
        held = before.read.samples.copy()
        (folder,) = (tmp_path / "samples").iterdir()
        with (folder / "samples.bin").open("ab") as data:
            data.write(b"what a killed try has left")
        decoded.clear()
        del closed[1:]
        with pytest.raises(UnreadableError, match=f"1 of {len(cohort)} samples"):
            store_samples(cohort, SIZE, tmp_path)
        closed.clear()
        after = store_samples(cohort, SIZE, tmp_path)
        assert sorted(decoded.values()) == [1] * 6 + [2]
        assert np.array_equal(before.read.samples, held)  # whoever has it open sees no change
        wanted = store_samples(cohort, SIZE, tmp_path / "other")
        for sample_id in cohort.table["sample_id"]:
            assert np.array_equal(after.read(sample_id), wanted.read(sample_id))

    def test_a_store_that_may_not_be_written_is_taken_as_it_is(
        self, tmp_path, damaged, decoded, monkeypatch
    ):
        store_samples(damaged, SIZE, tmp_path, skip_unreadable=True)
        monkeypatch.setattr("os.access", lambda *_: False)
        assert len(store_samples(damaged, SIZE, tmp_path, skip_unreadable=True)) > 0
        assert set(decoded.values()) == {1}

    def test_those_outside_the_cohort_do_not_matter(self, tmp_path, damaged):
        whole = damaged.select(np.arange(3))
        assert len(store_samples(whole, SIZE, tmp_path / "cache")) == 3

    @pytest.mark.parametrize("content", [b"", b"not an image"])
    def test_files_that_are_no_images(self, tmp_path, cohort, content):
        path = Path(next(iter(cohort.read.files.values())))
        path.write_bytes(content)
        with pytest.raises(UnreadableError, match="row 2"):
            store_samples(cohort, SIZE, tmp_path / "cache")

    def test_sixteen_bits_are_refused_instead_of_clipped(self, tmp_path):
        path = tmp_path / "deep.png"
        PIL.Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(path)
        read = ImageFiles({"deep": path}, {"deep": 2}, tmp_path / "table.csv")
        with pytest.raises(UnreadableError, match=r"16 bits per channel.*Give --bit-depth"):
            read("deep")

    @pytest.mark.parametrize("size", [None, 8])
    def test_a_photograph_stands_the_way_up_that_its_exif_says(self, tmp_path, size):
        path = tmp_path / "turned.jpg"
        turned = PIL.Image.new("RGB", (16, 32))
        turned.paste((255, 255, 255), (0, 16, 16, 32))  # the lower half, on the left when upright
        exif = PIL.Image.Exif()
        exif[PIL.ExifTags.Base.Orientation] = 6
        turned.save(path, exif=exif)
        read = ImageFiles({"turned": path}, {"turned": 2}, tmp_path / "table.csv", size)
        image = read("turned")
        assert image.shape == ((16, 32, 3) if size is None else (8, 8, 3))
        half = image.shape[1] // 2
        assert image[:, :half].mean() > 250
        assert image[:, half:].mean() < 5

    @pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
    def test_other_modes_become_colour(self, tmp_path, mode):
        path = tmp_path / "image.png"
        PIL.Image.new("RGB", (6, 4), (200, 200, 200)).convert(mode).save(path)
        read = ImageFiles({"image": path}, {"image": 2}, tmp_path / "table.csv")
        assert read("image").shape == (4, 6, 3)
        assert read.resized(5)("image").shape == (5, 5, 3)


class TestBuilding:
    """A build is whole or not at all."""

    def test_a_killed_build_is_gone_on_with(self, tmp_path, cohort, monkeypatch, decoded):
        cache, wanted = tmp_path / "cache", store_samples(cohort, SIZE, tmp_path / "other")
        monkeypatch.setattr("evenhand.cohort.store.building.CHUNK", 4)
        decoded.clear()
        last = cohort.table["sample_id"][9]  # in the third chunk
        read = ImageFiles.__call__

        def killed(self, sample_id):
            if sample_id == last:
                raise KeyboardInterrupt
            return read(self, sample_id)

        with monkeypatch.context() as patch:
            patch.setattr(ImageFiles, "__call__", killed)
            with pytest.raises(KeyboardInterrupt):
                store_samples(cohort, SIZE, cache)
        (part,) = (cache / "samples").iterdir()
        with (part / "samples.bin").open("ab") as data, (part / "journal.jsonl").open("a") as lines:
            data.write(b"half a sample")
            lines.write('{"stored": {"ISIC')
        finished = cohort.table["sample_id"][:8]
        decoded.clear()
        result = store_samples(cohort, SIZE, cache).read
        assert np.array_equal(result.samples, wanted.read.samples)
        assert result.index.equals(wanted.read.index)
        assert set(decoded) == set(cohort.table["sample_id"]) - set(finished)
        assert len(listed(cache)) == 1

    def test_a_journal_that_says_more_than_there_is_starts_again(
        self, tmp_path, cohort, monkeypatch
    ):
        cache, wanted = tmp_path / "cache", store_samples(cohort, SIZE, tmp_path / "other")
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                store_samples(cohort, SIZE, cache)
        (part,) = (cache / "samples").iterdir()
        (part / "samples.bin").write_bytes(b"short")
        result = store_samples(cohort, SIZE, cache).read.samples
        assert np.array_equal(result, wanted.read.samples)

    def test_an_error_leaves_nothing(self, tmp_path, cohort, monkeypatch):
        def broken(self, sample_id):
            raise RuntimeError

        monkeypatch.setattr(ImageFiles, "__call__", broken)
        with pytest.raises(RuntimeError):
            store_samples(cohort, SIZE, tmp_path / "cache")
        assert listed(tmp_path / "cache") == []

    def test_while_another_builds_it_has_a_folder_of_its_own(self, tmp_path, cohort):
        folder = tmp_path / "samples" / "store"
        with new_store(folder) as first:
            with new_store(folder) as second:
                assert first != second
                (second / "who").write_text("second")
            assert (folder / "who").read_text() == "second"
        assert listed(tmp_path) == ["store"]

    def test_of_two_builds_at_once_the_first_to_end_serves_both(
        self, tmp_path, cohort, monkeypatch
    ):
        cache = tmp_path / "cache"
        wanted = store_samples(cohort, SIZE, tmp_path / "other").read.samples
        rename = Path.rename

        def late(self, target):
            shutil.copytree(self, target)
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", late)
        assert np.array_equal(store_samples(cohort, SIZE, cache).read.samples, wanted)
        assert len(listed(cache)) == 1

    def test_what_killed_builds_left_is_removed_after_a_day(self, tmp_path, cohort):
        folder = tmp_path / "cache" / "samples"
        for name, age in ((".part-old", 25 * 3600), (".part-new", 60), (".part-live", 25 * 3600)):
            (folder / name).mkdir(parents=True)
            (folder / name / "samples.bin").touch()
            for path in (folder / name / "samples.bin", folder / name):
                os.utime(path, (time.time() - age,) * 2)
        locks = tmp_path / "cache" / "locks"
        locks.mkdir()
        with FileLock(locks / "live"):  # as the process holds it that builds there
            store_samples(cohort, SIZE, tmp_path / "cache")
        assert not (folder / ".part-old").exists()
        assert (folder / ".part-new").exists()
        assert (folder / ".part-live").exists()

    def test_what_nobody_goes_on_with_is_removed_at_once_when_its_build_is_dead(
        self, tmp_path, cohort
    ):
        folder, locks = tmp_path / "cache" / "samples", tmp_path / "cache" / "locks"
        for place in (folder / ".part-x-alone-1", folder / ".part-x-alone-2", locks):
            place.mkdir(parents=True)
        with FileLock(locks / "x-alone-2"):
            store_samples(cohort, SIZE, tmp_path / "cache")
        assert not (folder / ".part-x-alone-1").exists()
        assert (folder / ".part-x-alone-2").exists()

    @pytest.mark.parametrize(
        ("file", "text"), [("index.json", ""), ("index.json", "[]"), ("samples.bin", "short")]
    )
    def test_a_damaged_store_is_named(self, tmp_path, cohort, file, text):
        cache = tmp_path / "cache"
        store_samples(cohort, SIZE, cache)
        (name,) = listed(cache)
        store = cache / "samples" / name
        (store / file).write_text(text)
        with pytest.raises(EvenhandError, match=rf"index\.json is damaged.*Remove {store}"):
            store_samples(cohort, SIZE, cache)

    def test_a_cache_that_cannot_be_written(self, tmp_path, cohort):
        (tmp_path / "file").write_text("")
        with pytest.raises(EvenhandError, match=r"cannot be written to .*--cache"):
            store_samples(cohort, SIZE, tmp_path / "file")


def test_a_source_without_readable_samples(tmp_path, cohort):
    for path in cohort.read.files.values():
        Path(path).write_bytes(b"")
    stored = store_samples(cohort, SIZE, tmp_path / "cache", skip_unreadable=True)
    assert len(stored) == 0


def test_the_environment_names_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("EVENHAND_CACHE", str(tmp_path / "mine"))
    assert default_cache() == tmp_path / "mine"
    monkeypatch.delenv("EVENHAND_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == tmp_path / "xdg" / "evenhand"


def test_the_default_cache_is_used(monkeypatch, tmp_path, phantoms):
    monkeypatch.setenv("EVENHAND_CACHE", str(tmp_path))
    stored = store_samples(replace(phantoms), 16)
    assert len(listed(tmp_path)) == 1
    assert len(stored.read.ids) == len(phantoms)


def test_the_index_of_a_store_keeps_every_field(tmp_path):
    built = StoreIndex(
        {"a": 1}, {"b": "it is cut off"}, {"a": "a localizer was left out"}, (4,), "uint8"
    )
    (tmp_path / DATA).write_bytes(bytes(4))
    built.write(tmp_path)
    assert StoreIndex.of(tmp_path) == built
