"""The readers, one file each, and the functions that open DATA with them.

A new reader needs only a new file in this folder.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from evenhand.cohort.cohort import Cohort, check_usable
from evenhand.cohort.images.decoding import ImageFiles, any_deep, open_picture
from evenhand.cohort.images.kinds import KINDS, Decoding, MixedFiles
from evenhand.cohort.layouts import ARCHIVES
from evenhand.cohort.registry import READERS, Reader
from evenhand.cohort.settings import MAX_PIXELS, DataSettings
from evenhand.errors import EvenhandError

__all__ = ["open_cohort", "read_cohort", "reader_of", "with_decoding"]


def open_cohort(settings: DataSettings) -> Cohort:
    """Return the cohort that the settings name, with all patients; no sample is read.

    Raises
    ------
    EvenhandError
        If there is no such reader or file; if the content is refused (the message names file and
        row); if the samples have only one class or level; or if the positive class is unknown.
    """
    cohort = read_cohort(settings)
    check_usable(cohort, settings.attribute)
    return cohort


def read_cohort(settings: DataSettings) -> Cohort:
    """Open a cohort without the check that it has two classes, and each attribute two levels.

    Raises
    ------
    EvenhandError
        If `open_cohort` would refuse the data for a reason other than missing classes and levels.
    """
    reader, path = reader_of(settings.data)
    return with_decoding(reader.open(path, settings), settings)


def with_decoding(cohort: Cohort, settings: DataSettings) -> Cohort:
    """Return a cohort whose images are decoded by the settings.

    Raises
    ------
    EvenhandError
        If a setting applies to files of another kind than those of the samples.
    """
    read = cohort.read
    how = Decoding(settings.bit_depth, settings.page, settings.window, settings.value_range)
    if not isinstance(read, ImageFiles):
        more = ["max_pixels"] if settings.max_pixels != MAX_PIXELS else []
        if how.given or more:
            raise _unused(cohort, [*how.given, *more], "no image files")
        return cohort
    read = replace(read, max_pixels=settings.max_pixels)
    if not how.given:
        return replace(cohort, read=read)
    if isinstance(read, MixedFiles):
        _refuse_without_effect(read, how)
        read = replace(read, how=how)
    else:
        read = _with_plain_decoding(cohort, read, how)
    mark = "-".join(f"{name}={value}" for name, value in how.given.items())
    source = replace(
        cohort.source,
        fingerprint=f"{cohort.source.fingerprint}-{mark}",
        window=how.window or cohort.source.window,
    )
    return replace(cohort, read=read, source=source)


def _with_plain_decoding(cohort: Cohort, read: ImageFiles, how: Decoding) -> ImageFiles:
    """Return the reader of the plain images of a published data set, with the user's settings."""
    of_other_files = [name for name in how.given if name in ("window", "value_range")]
    if of_other_files:
        raise EvenhandError(
            f"{_flags(of_other_files)}: {cohort.source.reader} defines itself which values are "
            "black and white; this is for a table of your own. Leave it out."
        )
    if read.open is not open_picture:
        raise _unused(cohort, how.given, "no plain image files")
    if how.bit_depth is not None and not any_deep(read.files.values()):
        raise _no_depth(how.bit_depth)
    return replace(read, open=partial(open_picture, bit_depth=how.bit_depth, page=how.page))


def _refuse_without_effect(read: MixedFiles, how: Decoding) -> None:
    """Refuse a setting that applies to none of the files."""
    for name, value in how.given.items():
        if read.uses(name):
            continue
        if name == "bit_depth":
            raise _no_depth(value)
        kinds = " or ".join(kind.name for kind in KINDS if name in kind.takes)
        raise EvenhandError(
            f"{_flags([name])}: none of the files is {kinds}; it applies only to such files (but "
            "not to arrays of 8 bits). Leave it out."
        )


def _no_depth(bit_depth: object) -> EvenhandError:
    return EvenhandError(
        f"--bit-depth {bit_depth}: none of the images has 16 bits per channel; it applies only to "
        "such images. Leave it out."
    )


def _unused(cohort: Cohort, settings: Iterable[str], read: str) -> EvenhandError:
    return EvenhandError(
        f"{_flags(settings)}: {cohort.source.reader} reads {read}, so this does not apply. Leave "
        "it out."
    )


def _flags(settings: Iterable[str]) -> str:
    return " and ".join(f"--{name.replace('_', '-')}" for name in settings)


def reader_of(data: str) -> tuple[Reader, str]:
    """Return the reader that DATA names, and the path after it; a path alone is a table's.

    Raises
    ------
    EvenhandError
        If DATA names neither a reader nor a table.
    """
    name, colon, path = data.partition(":")
    if name in READERS:
        return READERS[name], path
    if Path(data).suffix.lower() in (".csv", ".parquet", ".xlsx"):
        return READERS["table"], data
    if not colon and Path(data).is_file() and data.lower().endswith(ARCHIVES):
        raise EvenhandError(f"{data} is an archive: unpack it, and give READER:FOLDER or a table.")
    if colon:
        return READERS.find(name), path
    raise EvenhandError(
        f"{data!r} names no data: give READER:PATH with one of the readers "
        f"{', '.join(sorted(READERS))}, or a table that ends in .csv, .parquet or .xlsx."
    )
