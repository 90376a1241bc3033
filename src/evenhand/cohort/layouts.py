"""The files of a data set's published layout: what is there, and what is not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

import pandas as pd

from evenhand.cohort.registry import DataSet, Entry
from evenhand.cohort.tables import rows_text, some
from evenhand.errors import EvenhandError

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar")


def check_layout(root: Path, data_set: DataSet) -> None:
    """Check that a folder holds what a data set's layout requires.

    Raises
    ------
    EvenhandError
        It is no folder, or lacks something; the message says what was looked for, what was found
        instead, and where it may lie.
    """
    if root.is_file():
        what = "an archive: unpack it, and give" if root.name.endswith(ARCHIVES) else "a file: give"
        raise EvenhandError(f"{root} is {what} the folder of {data_set.title}.")
    if not root.is_dir():
        raise EvenhandError(f"there is no folder {root}.")
    absent = missing(root, data_set)
    if absent:
        for _ in walk(root, root):  # finds links that lead outside
            pass
        lacks = "; ".join(f"{entry.name} ({entry.what})" for entry in absent)
        held = some(sorted(path.name for path in root.iterdir())) or "nothing"
        raise EvenhandError(
            f"{root} is not {data_set.title} as published. Missing: {lacks}. The folder holds: "
            f"{held}.{_hint(root, data_set, absent)}"
        )


def missing(root: Path, data_set: DataSet) -> list[Entry]:
    """Return what a folder lacks of the files and folders that a layout requires."""
    return [entry for entry in data_set.layout if entry.required and not found(root, entry)]


def found(root: Path, entry: Entry) -> Path | None:
    """Return a file or folder of that name, archives aside."""
    return next((path for path in root.glob(entry.name) if not _is_archive(path)), None)


def find_entry(root: Path, entry: Entry) -> Path:
    """Return the file or folder that a layout requires, once the layout has been checked."""
    path = found(root, entry)
    if path is None:
        raise EvenhandError(f"{root} has no {entry.name} ({entry.what}) any more.")
    return path


def files_by_name(
    names: pd.Series,
    root: Path,
    folders: str,
    suffixes: tuple[str, ...],
    key: Callable[[str], str] = str,
) -> pd.Series:
    """Return the path of the file of each name, wherever it lies below some folders.

    Parameters
    ----------
    names
        File names without suffix; a name of which there is no file gets a path that is not there.
    root, folders
        The data set, and the pattern of the folders in it that hold the files.
    suffixes
        How the names of such files end, in lower case; other files do not matter.
    key
        From a file's name without that ending to the name that it goes by.

    Raises
    ------
    EvenhandError
        Two files have the same name, or a folder is a link that leads outside the root.
    """
    paths: dict[str, str] = {}
    for folder in sorted(path for path in root.glob(folders) if path.is_dir()):
        for path in walk(folder, root):
            ending = next((end for end in suffixes if path.lower().endswith(end)), None)
            if ending is None:
                continue
            name = key(os.path.basename(path)[: -len(ending)])  # noqa: PTH119
            if name in paths:
                raise EvenhandError(f"{paths[name]} and {path} have the same name: keep one.")
            paths[name] = path
    absent = f"{root}{os.sep}{folders}{os.sep}"
    found = [paths.get(name) or f"{absent}{name}{suffixes[0]}" for name in names]
    return pd.Series(found, names.index, dtype=object)


def folders_by_name(names: pd.Series, root: Path, folders: str) -> pd.Series:
    """Return the path of the folder of each name, out of those that match a pattern."""
    paths = {path.name: str(path) for path in sorted(root.glob(folders)) if path.is_dir()}
    found = [paths.get(name) or f"{root}{os.sep}{folders}{os.sep}{name}" for name in names]
    return pd.Series(found, names.index, dtype=object)


def walk(folder: Path, root: Path) -> Iterator[str]:
    """Yield every file below a folder, in order; strings, since there may be 400,000."""
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in folders:
            path = os.path.join(place, name)  # noqa: PTH118
            if os.path.islink(path):  # noqa: PTH114
                _refuse_outside([path], root, str(folder))
        yield from (os.path.join(place, name) for name in sorted(files))  # noqa: PTH118


def present(files: pd.Series, table: Path, *, skip: bool) -> tuple[pd.Series, tuple[str, ...]]:
    """Mark the files (or folders of slices) that are there, and say what is wrong with the others.

    Parameters
    ----------
    files
        Paths, indexed by the row of the table that names them.
    table
        The table.
    skip
        Whether the user leaves out what cannot be read.

    Raises
    ------
    EvenhandError
        Files are absent, and ``skip`` is false.
    """
    there = pd.Series([os.path.exists(path) for path in files], files.index, bool)  # noqa: PTH110
    absent = files[~there]
    if len(absent) and not skip:
        raise EvenhandError(
            f"{table}, {rows_text(absent.index)}: {len(absent)} of {len(files)} files "
            f"{'is' if len(absent) == 1 else 'are'} absent: {some(absent)}. Put them there, or "
            "leave them out with --skip-unreadable."
        )
    return there, tuple(f"{path} ({table}, row {row}) is absent" for row, path in absent.items())


def files_below(paths: pd.Series) -> Iterator[Path]:
    """Yield each file once; of a folder of slices, its files."""
    for path in map(Path, paths.unique()):
        yield from path.iterdir() if path.is_dir() else (path,)


def check_inside(files: pd.Series, root: Path, table: Path) -> None:
    """Check that no file, and no folder on the way to it, is a link that leads outside the root.

    Raises
    ------
    EvenhandError
        Some do; the message names the first few, and the rows that name them.
    """
    top = str(root)

    def linked(path: str) -> bool:
        return os.path.islink(path) or behind_link(os.path.dirname(path))  # noqa: PTH114, PTH120

    @cache
    def behind_link(folder: str) -> bool:
        return len(folder) > len(top) and linked(folder)

    suspects = files[[linked(path) for path in files]]
    if len(suspects):
        _refuse_outside(suspects, root, f"{table}, {rows_text(suspects.index)}")


def _refuse_outside(paths: Iterable[str], root: Path, where: str) -> None:
    real = os.path.realpath(root) + os.sep
    leading = [path for path in paths if not os.path.realpath(path).startswith(real)]
    if leading:
        target = os.path.realpath(leading[0])
        lead = "is a link that leads" if len(leading) == 1 else "are links that lead"
        raise EvenhandError(
            f"{where}: {some(leading)} {lead} outside {root} (to {target}). Copy the files in, or "
            "give the folder that they lie in."
        )


def _is_archive(path: Path) -> bool:
    return path.name.lower().endswith(ARCHIVES)


def _hint(root: Path, data_set: DataSet, absent: Sequence[Entry]) -> str:
    """Say where what is missing may lie: in an archive, or one folder further down or up."""
    packed = [path.name for path in sorted(root.iterdir()) if path.is_file() and _is_archive(path)]
    if packed:
        return f" Unpack {some(packed)}."
    near = [*sorted(path for path in root.iterdir() if path.is_dir()), root.absolute().parent]
    for folder in near:
        if len(missing(folder, data_set)) < len(absent):
            return f" Did you mean {folder}?"
    return ""
