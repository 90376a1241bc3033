"""The readers, one file each: a file that is put here is found, and nothing else has to change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from evenhand.cohort.cohort import Cohort, check_usable
from evenhand.cohort.images.decoding import ImageFiles, any_deep, open_picture
from evenhand.cohort.layouts import ARCHIVES
from evenhand.cohort.registry import READERS, Reader
from evenhand.cohort.settings import MAX_PIXELS, DataSettings
from evenhand.errors import EvenhandError

__all__ = ["decoded_as_set", "open_cohort", "read_cohort", "reader_of"]


def open_cohort(settings: DataSettings) -> Cohort:
    """Return the cohort that the settings name, all of its patients, with no sample read yet.

    Raises
    ------
    EvenhandError
        There is no such reader or file; what it holds is refused, with file and row; or the
        samples have one class or one level only, or it is not known which class is the positive
        one.
    """
    cohort = read_cohort(settings)
    check_usable(cohort, settings.attribute)
    return cohort


def read_cohort(settings: DataSettings) -> Cohort:
    """Open a cohort without checking that it can be trained on and compared.

    Raises
    ------
    EvenhandError
        As `open_cohort`, except for missing classes and levels.
    """
    reader, path = reader_of(settings.data)
    return decoded_as_set(reader.open(path, settings), settings)


def decoded_as_set(cohort: Cohort, settings: DataSettings) -> Cohort:
    """Return a cohort whose images are decoded as the settings say.

    Raises
    ------
    EvenhandError
        A setting applies to other files than those of the samples.
    """
    read = cohort.read
    choices = {"bit_depth": settings.bit_depth, "page": settings.page}
    given = {name: value for name, value in choices.items() if value is not None}
    if given and not (isinstance(read, ImageFiles) and read.open is open_picture):
        raise _unused(cohort, given, "no plain image files")
    if not isinstance(read, ImageFiles):
        if settings.max_pixels != MAX_PIXELS:
            raise _unused(cohort, ["max_pixels"], "no image files")
        return cohort
    if settings.bit_depth is not None and not any_deep(read.files.values()):
        raise EvenhandError(
            f"--bit-depth {settings.bit_depth}: none of the images has 16 bits per channel, to "
            "which alone this applies. Leave it out."
        )
    read = replace(read, max_pixels=settings.max_pixels)
    if not given:
        return replace(cohort, read=read)
    mark = "-".join(f"{name}={value}" for name, value in given.items())
    return replace(
        cohort,
        read=replace(
            read, open=partial(open_picture, bit_depth=settings.bit_depth, page=settings.page)
        ),
        source=replace(cohort.source, fingerprint=f"{cohort.source.fingerprint}-{mark}"),
    )


def _unused(cohort: Cohort, settings: Iterable[str], read: str) -> EvenhandError:
    flags = " and ".join(f"--{name.replace('_', '-')}" for name in settings)
    return EvenhandError(
        f"{flags}: {cohort.source.reader} reads {read}, to which alone this applies. Leave it out."
    )


def reader_of(data: str) -> tuple[Reader, str]:
    """Return the reader that DATA names and the path behind it; a bare path is a table's.

    Raises
    ------
    EvenhandError
        It names no reader, and no table.
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
