"""Bad input, the same for every reader of a folder: one clear error each, nothing left behind."""

from __future__ import annotations

import gzip
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from tests.data import tiny
from tests.data.pictures import truncate

from evenhand.cohort import registry
from evenhand.cohort.cohort import Cohort, UnreadableError
from evenhand.cohort.images.decoding import ImageFiles
from evenhand.cohort.images.volumes import Hdf5Images
from evenhand.cohort.listing import verify
from evenhand.cohort.readers import open_cohort
from evenhand.cohort.registry import LayoutEntry
from evenhand.cohort.settings import DataSettings
from evenhand.cohort.store.samples import store_samples
from evenhand.errors import EvenhandError

READERS = sorted(name for name, reader in registry.READERS.items() if reader.about.layout)
LAYOUTS = [*READERS, "chexpert_full"]
UNUSED = ("valid.csv", "PATIENTS.csv", "ADMISSIONS.csv.gz")
"""Tables that are there, and that no reader opens: the last two have demographics beside them."""


@pytest.fixture(scope="module", params=LAYOUTS)
def whole(request, tmp_path_factory) -> DataSettings:
    """Tiny data of each reader, which no test changes."""
    return tiny(request.param, tmp_path_factory.mktemp("whole") / "data")


@pytest.fixture
def settings(whole, tmp_path) -> DataSettings:
    """Return a copy that a test may damage."""
    name, _, path = whole.data.partition(":")
    shutil.copytree(path, tmp_path / "data")
    return whole.model_copy(update={"data": f"{name}:{tmp_path / 'data'}"})


def root_of(settings: DataSettings) -> Path:
    return Path(settings.data.partition(":")[2])


def layout_of(settings: DataSettings):
    return registry.READERS[settings.data.partition(":")[0]].about.layout


def first_file(cohort: Cohort) -> Path:
    """Return the file of the first sample."""
    sample = cohort.table["sample_id"][0]
    if isinstance(cohort.read, Hdf5Images):
        pytest.skip("the samples lie in one file")
    if isinstance(cohort.read, ImageFiles):
        return Path(cohort.read.files[sample])
    own = next(Path(cohort.source.path).rglob(sample), None)
    return own or pytest.skip("the samples lie in tables")


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def refusal(settings: DataSettings) -> str:
    with pytest.raises(EvenhandError) as error:
        open_cohort(settings)
    return str(error.value)


def test_a_folder_that_is_not_the_data_set(whole, tmp_path):
    (tmp_path / "notes.txt").touch()
    name = whole.data.partition(":")[0]
    text = refusal(whole.model_copy(update={"data": f"{name}:{tmp_path}"}))
    for entry in layout_of(whole):
        assert (f"{entry} ({entry.what})" in text) == entry.required
    assert "The folder holds: notes.txt" in text


def test_the_folder_above_is_told(settings):
    root = root_of(settings)
    above = settings.model_copy(update={"data": settings.data[: -len("/data")]})
    if all(entry.name.startswith("**/") for entry in layout_of(settings)):
        assert open_cohort(above).table.equals(open_cohort(settings).table)
    else:
        assert f"Did you mean {root}?" in refusal(above)


def test_no_folder_at_all(whole, tmp_path):
    name = whole.data.partition(":")[0]
    text = refusal(whole.model_copy(update={"data": f"{name}:{tmp_path / 'absent'}"}))
    assert f"there is no folder {tmp_path / 'absent'}" in text


def test_an_archive_instead_of_its_folder(whole, tmp_path):
    name = whole.data.partition(":")[0]
    (tmp_path / "data.zip").touch()
    text = refusal(whole.model_copy(update={"data": f"{name}:{tmp_path / 'data.zip'}"}))
    assert "is an archive: unpack it" in text
    text = refusal(whole.model_copy(update={"data": f"{name}:{tmp_path}"}))
    assert "Unpack data.zip" in text


def test_an_archive_beside_what_was_unpacked(tmp_path):
    settings = tiny("covid_ct_md", tmp_path)
    (tmp_path / "Cap Cases").rename(tmp_path / "elsewhere")
    for name in ("Cap Cases.zip", "Normal Cases.ZIP"):
        (tmp_path / name).touch()
    message = r"18 of 54 files are absent: .* Unpack Cap Cases\.zip\.$"
    assert re.search(message, refusal(settings))
    with pytest.raises(EvenhandError, match=message):
        verify(settings.data)


def test_each_part_that_is_missing_is_named(settings, tmp_path):
    root, aside = root_of(settings), tmp_path / "aside"
    aside.mkdir()
    for entry in layout_of(settings):
        paths = [path for name in entry.names for path in root.glob(name)]
        assert paths, f"the tiny data lack {entry.name}"
        for number, path in enumerate(paths):
            path.rename(aside / str(number))
        if entry.required:
            assert f"Missing: {entry} ({entry.what})" in refusal(settings)
        else:
            open_cohort(settings.model_copy(update={"attribute": ()}))
        for attribute in brought(settings, entry):
            text = refusal(settings.model_copy(update={"attribute": (attribute,)}))
            assert f"{root} lacks {entry.name} ({entry.what})" in text
            assert f"the attribute {attribute!r} is read from" in text
        for number, path in enumerate(paths):
            (aside / str(number)).rename(path)


def brought(settings: DataSettings, entry: LayoutEntry) -> list[str]:
    """Return the attributes that are read from a part of the layout and from no other."""
    about = registry.READERS[settings.data.partition(":")[0]].about
    others = {name for other in about.layout if other != entry for name in other.columns}
    columns = {*entry.columns} - others
    rules = {rule.name: rule.column for rule in about.attributes} | {**about.open_attributes}
    return [name for name, column in rules.items() if column in columns]


def tables(root: Path) -> Iterator[Path]:
    for pattern in ("*.csv", "*.csv.gz", "*.xlsx", "Outcomes-*.txt"):
        result = root.rglob(pattern)
        yield from sorted(path for path in result if not path.name.endswith("timeseries.csv"))


def renamed(path: Path) -> Iterator[str]:
    """Rename each column of a table in turn, and put the table back afterwards."""
    content = path.read_bytes()
    excel = path.suffix == ".xlsx"
    sep = ";" if b";" in content and path.suffix == ".csv" else ","
    frame = pd.read_excel(path, dtype=object) if excel else pd.read_csv(path, sep=sep, dtype=object)
    for column in frame.columns:
        changed = frame.rename(columns={column: "renamed"})
        changed.to_excel(path, index=False) if excel else changed.to_csv(path, sep=sep, index=False)
        yield column
    path.write_bytes(content)


@pytest.mark.slow
def test_each_column_that_is_renamed_is_named_or_not_needed(settings):
    wanted = open_cohort(settings)
    named = set()
    for path in tables(root_of(settings)):
        for column in renamed(path):
            try:
                assert open_cohort(settings).table.equals(wanted.table), column
            except EvenhandError as error:
                named.add(column)
                text = str(error)
                message = column in text or column.startswith("Unnamed")
                assert message and (path.name in text or path.parent.name in text), text  # noqa: PT018
    assert named


def test_a_sample_that_is_listed_but_absent(settings):
    cohort = open_cohort(settings)
    gone = first_file(cohort)
    remove(gone)
    text = refusal(settings)
    assert re.search(r", row .*: 1 of \d+ files is absent: ", text)
    readable = open_cohort(settings.model_copy(update={"skip_unreadable": True}))
    assert len(readable) < len(cohort)
    assert len(readable.source.left_out) == 1


def unused(settings: DataSettings) -> int:
    """Return how many files are there that no sample uses, as ``verify`` counts them."""
    match = re.search(r"(\d+) files? that no sample uses", verify(settings.data))
    return int(match[1]) if match else 0


def test_a_sample_that_is_present_but_unlisted(settings):
    cohort = open_cohort(settings)
    before, listed = unused(settings), first_file(cohort)
    if cohort.channels:
        pytest.skip("a file of a series is named by the table alone")
    extra = listed.with_name(f"extra{listed.name}")
    shutil.copytree(listed, extra) if listed.is_dir() else shutil.copy(listed, extra)
    again = open_cohort(settings)
    assert again.table.equals(cohort.table)
    assert unused(settings) > before
    if cohort.source.reader not in ("chexpert", "mimic_cxr"):  # whose tables name the whole path
        assert "1 of the files below the folder" in again.source.notes[0]
        assert str(extra) in again.source.notes[0]


def test_a_file_that_changes_makes_other_data(settings):
    cohort = open_cohort(settings)
    first = first_file(cohort)
    os.utime(min(first.iterdir()) if first.is_dir() else first, (1, 1))
    assert open_cohort(settings).source.fingerprint != cohort.source.fingerprint


@pytest.mark.parametrize("damage", [truncate, lambda path: path.write_bytes(b"garbage")])
def test_a_file_that_cannot_be_read(settings, tmp_path, damage):
    cohort = open_cohort(settings)
    path = first_file(cohort)
    for part in path.glob("*") if path.is_dir() else [path]:
        damage(part)
    cohort, cache = open_cohort(settings), tmp_path / "cache"
    size = None if cohort.channels else 8
    with pytest.raises(UnreadableError) as error:
        store_samples(cohort, size, cache)
    assert re.search(re.escape(str(path)) + r" \(.*\d\)", str(error.value))
    assert not list(cache.rglob(".part*"))
    stored = store_samples(cohort, size, cache, skip_unreadable=True)
    assert 0 < len(stored) < len(cohort)


def test_a_link_that_leads_outside(settings, tmp_path):
    path = first_file(open_cohort(settings))
    path.rename(tmp_path / "outside")
    path.symlink_to(tmp_path / "outside", target_is_directory=(tmp_path / "outside").is_dir())
    text = refusal(settings)
    assert f"{path} is a link" in text
    assert f"leads outside {root_of(settings)} (to {tmp_path / 'outside'})" in text


def test_a_table_that_is_a_link_which_leads_outside(settings, tmp_path):
    outside = tmp_path / "outside"
    for path in tables(root_of(settings)):
        if path.name in UNUSED:
            continue
        path.rename(outside)
        path.symlink_to(outside)
        text = refusal(settings)
        assert f"{path} is a link that leads outside {root_of(settings)} (to {outside})" in text
        path.unlink()
        outside.rename(path)


def test_a_root_that_is_a_link_is_followed(settings, tmp_path):
    name, _, path = settings.data.partition(":")
    (tmp_path / "link").symlink_to(path, target_is_directory=True)
    linked = settings.model_copy(update={"data": f"{name}:{tmp_path / 'link'}"})
    assert open_cohort(linked).table.equals(open_cohort(settings).table)


def flip(path: Path) -> None:
    """Change some bytes in the middle of a file."""
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 3, len(content) // 3 + 16):
        content[place] ^= 0x5A
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip])
def test_a_table_that_is_damaged(settings, damage):
    for path in tables(root_of(settings)):
        if path.name in UNUSED:
            continue
        content = path.read_bytes()
        damage(path)
        if path.suffix in (".gz", ".xlsx"):
            text = refusal(settings)
            assert f"{path} cannot be read as a table: " in text
        else:  # what is left may be a table, of fewer rows or of other values
            with suppress(EvenhandError):
                open_cohort(settings)
        path.write_bytes(content)


def test_a_table_with_a_row_that_is_cut_short(settings):
    for path in tables(root_of(settings)):
        if path.suffix == ".xlsx" or path.name in UNUSED:
            continue
        content = path.read_bytes()
        text = gzip.decompress(content) if path.suffix == ".gz" else content
        rows = text.splitlines(keepends=True)
        rows[2] = re.split(b"[,;]", rows[2])[0] + b"\n"
        cut = b"".join(rows)
        path.write_bytes(gzip.compress(cut) if path.suffix == ".gz" else cut)
        assert f"{path}, row 3: fewer cells than the" in refusal(settings)
        path.write_bytes(content)


def test_a_table_without_rows(settings):
    for path in tables(root_of(settings)):
        if path.name in UNUSED:
            continue
        content = path.read_bytes()
        if path.suffix == ".xlsx":
            pd.read_excel(path).head(0).to_excel(path, index=False)
        else:
            text = gzip.decompress(content) if path.suffix == ".gz" else content
            header = text[: text.index(b"\n") + 1]
            path.write_bytes(gzip.compress(header) if path.suffix == ".gz" else header)
        assert f"{path} holds no rows" in refusal(settings)
        path.write_bytes(content)


def test_a_folder_that_is_a_link_which_leads_outside(settings, tmp_path):
    folder = first_file(open_cohort(settings)).parent
    folder.rename(tmp_path / "outside")
    folder.symlink_to(tmp_path / "outside", target_is_directory=True)
    assert re.search(f"leads? outside {re.escape(str(root_of(settings)))}", refusal(settings))


def test_a_link_inside_the_root_is_followed(settings):
    cohort = open_cohort(settings)
    path = first_file(cohort)
    aside = root_of(settings) / "aside.bin"
    path.rename(aside)
    path.symlink_to(aside, target_is_directory=aside.is_dir())
    assert open_cohort(settings).table.equals(cohort.table)
