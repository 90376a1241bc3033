"""Find the files of a data set's published layout, and report absent ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from stat import S_ISDIR, S_ISLNK, S_ISREG

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.cohort.registry import DataSet, LayoutEntry
from evenhand.errors import EvenhandError, first_few
from evenhand.files import Stamp
from evenhand.tables.spelling import clean
from evenhand.tables.table_checks import rows_text

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar")


def check_layout(root: Path, data_set: DataSet) -> None:
    """Check that a folder holds what a data set's layout requires.

    Raises
    ------
    EvenhandError
        If the path is not a folder, an entry is missing, or an entry is a link that leads outside
        the folder. For a missing entry, the message names the content of the folder, and where the
        entry may lie.
    """
    if root.is_file():
        what = "an archive: unpack it, and give" if root.name.endswith(ARCHIVES) else "a file: give"
        raise EvenhandError(f"{root} is {what} the folder of {data_set.title}.")
    if not root.is_dir():
        raise EvenhandError(f"there is no folder {root}.")
    absent = missing_entries(root, data_set)
    if absent:
        for _ in walk(root, root):  # refuses links that lead outside
            pass
        listed = "; ".join(f"{entry} ({entry.what})" for entry in absent)
        content = first_few(sorted(path.name for path in root.iterdir())) or "nothing"
        raise EvenhandError(
            f"{root} is not {data_set.title} as published. Missing: {listed}. The folder holds: "
            f"{content}.{_hint(root, data_set, absent)}"
        )
    refuse_outside((path for entry in data_set.layout for path in entry_paths(root, entry)), root)


def refuse_outside(paths: Iterable[Path | str], root: Path, where: str = "the data set") -> None:
    """Refuse links that lead outside a root; the message begins with ``where``."""
    real = os.path.join(os.path.realpath(root), "")  # noqa: PTH118
    unique = dict.fromkeys(map(str, paths))  # without repeats: one file may hold many samples
    outside = [path for path in unique if not os.path.realpath(path).startswith(real)]
    if outside:
        target = os.path.realpath(outside[0])
        verb = "is a link that leads" if len(outside) == 1 else "are links that lead"
        raise EvenhandError(
            f"{where}: {first_few(outside)} {verb} outside {root} (to {target}). Copy the files "
            "in, or give the folder that they lie in."
        )


def missing_entries(root: Path, data_set: DataSet) -> list[LayoutEntry]:
    """Return the required entries of a layout that a folder lacks."""
    return [entry for entry in data_set.layout if entry.required and not locate(root, entry)]


def locate(root: Path, entry: LayoutEntry) -> Path | None:
    """Return the first file or folder that matches an entry; ignore archives."""
    return next(entry_paths(root, entry), None)


def find_entry(root: Path, entry: LayoutEntry) -> Path:
    """Return the only file or folder of a required entry; call `check_layout` before.

    Raises
    ------
    EvenhandError
        If the entry no longer exists, or there are several (see `find_optional`).
    """
    path = find_optional(root, entry)
    if path is None:
        raise EvenhandError(
            f"{root} has no {entry} ({entry.what}) any more. Put it back, and start again."
        )
    return path


def find_optional(root: Path, entry: LayoutEntry) -> Path | None:
    """Return the one file or folder of an entry; None if there is none.

    Raises
    ------
    EvenhandError
        If there are several such entries, and nothing shows which one belongs to the data.
    """
    paths = list(dict.fromkeys(entry_paths(root, entry)))
    if len(paths) > 1:
        raise EvenhandError(
            f"{root} has {len(paths)} of {entry} ({entry.what}): "
            f"{first_few(path.relative_to(root) for path in paths)}. Keep the one that belongs to "
            "the data, and move the others out."
        )
    return paths[0] if paths else None


def files_by_name(
    names: pd.Series,
    root: Path,
    folders: str,
    suffixes: tuple[str, ...],
    key: Callable[[str], str] = str,
) -> tuple[pd.Series, tuple[str, ...]]:
    """Return the path of each name's file below some folders, and the files that no name means.

    Parameters
    ----------
    names
        File names, with or without suffix. A name without a file gets a path that does not exist.
    root, folders
        The data set, and the pattern of the folders in it that hold the files.
    suffixes
        Endings of the file names, in lower case; files with other endings are ignored.
    key
        Function from a file's name without its ending to its name in ``names``.

    Raises
    ------
    EvenhandError
        If two files have the same name, or a folder is a link that leads outside the root.
    """
    paths: dict[str, str] = {}
    for folder in sorted(path for path in root.glob(folders) if path.is_dir()):
        for path in walk(folder, root):
            ending = next((end for end in suffixes if path.lower().endswith(end)), None)
            if ending is None:
                continue
            name = key(clean(os.path.basename(path)[: -len(ending)]))  # noqa: PTH119
            if name in paths:
                raise EvenhandError(f"{paths[name]} and {path} have the same name; keep one.")
            paths[name] = path
    stems = names.map(lambda name: _without_suffix(clean(str(name)), suffixes, paths))
    files = [
        paths.get(name) or _expected_path(root, folders, f"{name}{suffixes[0]}") for name in stems
    ]
    return pd.Series(files, names.index, dtype=object), _unnamed(paths, stems)


def folders_by_name(
    names: pd.Series, root: Path, folders: str
) -> tuple[pd.Series, tuple[str, ...]]:
    """Return each name's folder among the matches of a pattern, and folders without a name."""
    matches = (path for path in sorted(root.glob(folders)) if path.is_dir())
    paths = {clean(path.name): str(path) for path in matches}
    clean_names = names.map(lambda name: clean(str(name)))
    by_row = [paths.get(name) or _expected_path(root, folders, name) for name in clean_names]
    return pd.Series(by_row, names.index, dtype=object), _unnamed(paths, clean_names)


def walk(folder: Path, root: Path) -> Iterator[str]:
    """Yield every file below a folder, in order; refuse links to folders outside ``root``.

    Files are yielded as text, because 400,000 `Path` objects are slow.
    """
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for name in folders:
            path = Path(parent, name)
            if path.is_symlink():
                refuse_outside([path], root, str(folder))
        yield from (os.path.join(parent, name) for name in sorted(files))  # noqa: PTH118


@dataclass(frozen=True, eq=False)
class FileStatus:
    """The status of files, or of folders of slices, read once from the disk.

    Parameters
    ----------
    files
        The paths on the disk, indexed by the row of the table that names them.
    size
        ``(n,)`` size in bytes; -1 if the file is absent.
    changed
        ``(n,)`` time of the last change, in nanoseconds.
    root
        The folder of the data set; None if files may lie anywhere.
    folder
        ``(n,)`` whether the path is a folder.
    """

    files: pd.Series
    size: NDArray[np.int64]
    changed: NDArray[np.int64]
    root: Path | None
    folder: NDArray[np.bool_]

    @property
    def exists(self) -> NDArray[np.bool_]:
        """``(n,)`` whether the file exists."""
        return self.size >= 0

    def stamps(self) -> Iterator[Stamp]:
        """Yield path, size and time of change of each existing file, to detect later changes."""
        exists = self.exists
        columns = (self.size[exists].tolist(), self.changed[exists].tolist())
        return zip(self.files.to_numpy(object)[exists], *columns, strict=True)

    def absent(self, table: Path, *, skip: bool) -> tuple[str, ...]:
        """Return a sentence for each absent file, for `Source.left_out`.

        Parameters
        ----------
        table
            The table that names the files.
        skip
            The setting ``--skip-unreadable``.

        Raises
        ------
        EvenhandError
            If files are absent and ``skip`` is false.
        """
        absent = self.files[~self.exists]
        if len(absent) and not skip:
            raise EvenhandError(
                f"{table}, {rows_text(absent.index)}: {len(absent)} of {len(self.files)} files "
                f"{'is' if len(absent) == 1 else 'are'} absent: {first_few(absent)}. Put them "
                f"there, or leave them out with --skip-unreadable.{unpack_hint(self.root)}"
            )
        return tuple(f"{path} ({table}, row {row}) is absent" for row, path in absent.items())


def read_status(files: pd.Series, table: Path, root: Path | None) -> FileStatus:
    """Read the status of each file from the disk.

    Parameters
    ----------
    files
        Paths, indexed by the row of the table that names them.
    table
        The table.
    root
        The folder outside which no link may lead; None if files may lie anywhere.

    Raises
    ------
    EvenhandError
        If a link leads outside ``root``, or a path is neither a file nor a folder. The message
        names the first such paths and their rows.
    """
    files = files.copy()
    size, changed = np.full(len(files), -1, np.int64), np.zeros(len(files), np.int64)
    folder = np.zeros(len(files), np.bool_)
    top = len(str(root or ""))

    @cache
    def behind_link(folder: str) -> bool:
        if len(folder) <= top:
            return False
        return S_ISLNK(os.lstat(folder).st_mode) or behind_link(_parent(folder))

    suspects, special = [], []
    listing = cache(_names_in)
    for index, file in enumerate(files.to_numpy(object)):
        path, stat, linked = _status(file, listing)
        if stat is None:
            continue
        if path != file:
            files.iloc[index] = path
        folder[index] = S_ISDIR(stat.st_mode)
        if not (S_ISREG(stat.st_mode) or folder[index]):
            special.append(index)
        size[index], changed[index] = stat.st_size, stat.st_mtime_ns
        if root is not None and (linked or behind_link(_parent(path))):
            suspects.append(index)
    if special:
        rows = files.iloc[special]
        raise EvenhandError(
            f"{table}, {rows_text(rows.index)}: a pipe, a socket or a device instead of a file: "
            f"{first_few(rows)}. Remove it from the data."
        )
    if suspects and root is not None:
        linked_files = files.iloc[suspects]
        refuse_outside(linked_files, root, f"{table}, {rows_text(linked_files.index)}")
    return FileStatus(files, size, changed, root, folder)


_NamesIn = Callable[[str], Mapping[str, str]]
"""Returns cleaned name (see `clean`) → name on the disk, for the content of a folder."""


def _status(path: str, names_in: _NamesIn) -> tuple[str, os.stat_result | None, bool]:
    """Return a path as it is on the disk, its status (None: absent), and whether it is a link."""
    try:
        try:
            status = os.lstat(path)
        except (OSError, ValueError):  # ValueError: a NUL character
            path = _as_on_disk(path, names_in) or path
            status = os.lstat(path)
        is_link = S_ISLNK(status.st_mode)
        return path, Path(path).stat() if is_link else status, is_link
    except (OSError, ValueError):
        return path, None, False


def _as_on_disk(path: str, names_in: _NamesIn) -> str | None:
    """Return the path on the disk of a file that a table spells differently.

    The table may use backslashes between folders, and other Unicode forms, blanks or invisible
    characters in names (see `clean`). If no file or several files match, the result is None.
    """
    path = str(path).replace("\\", "/") if os.sep == "/" else str(path)
    if "\0" in path:
        return None
    if os.path.lexists(path):
        return path
    if _parent(path) in ("", path):
        return None
    folder = _parent(path)
    folder = folder if os.path.lexists(folder) else (_as_on_disk(folder, names_in) or "")
    name = names_in(folder).get(clean(path[len(_parent(path)) + 1 :])) if folder else None
    return None if name is None else f"{folder}{os.sep}{name}"


def _names_in(folder: str) -> dict[str, str]:
    """Return cleaned name → name in a folder, without names whose cleaned forms are equal."""
    by_name: dict[str, list[str]] = {}
    with suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208
            by_name.setdefault(clean(name), []).append(name)
    return {name: names[0] for name, names in by_name.items() if len(names) == 1}


def files_below(folders: pd.Series) -> pd.Series:
    """Return the files in folders of slices; other paths and empty folders are unchanged."""
    files = {path: sorted(map(str, Path(path).glob("*"))) or [path] for path in folders.unique()}
    return folders.map(files).explode()


def unpack_hint(root: Path | None) -> str:
    """Return a sentence that names the archives still to be unpacked, or an empty text."""
    if root is None or not root.is_dir():
        return ""
    packed = [
        path.name
        for path in sorted(root.iterdir())
        for ending in ARCHIVES
        if path.name.lower().endswith(ending)
        and path.is_file()
        and not path.with_name(path.name[: -len(ending)]).is_dir()
    ]
    return f" Unpack {first_few(packed)}." if packed else ""


def entry_paths(root: Path, entry: LayoutEntry) -> Iterator[Path]:
    """Yield every file or folder that matches an entry, in order; ignore archives."""
    for name in entry.names:
        paths = root.glob(name)
        yield from sorted(path for path in paths if not path.name.lower().endswith(ARCHIVES))


def _unnamed(paths: Mapping[str, str], names: pd.Series) -> tuple[str, ...]:
    return tuple(sorted(paths[name] for name in paths.keys() - set(names)))


def _without_suffix(name: str, suffixes: tuple[str, ...], paths: Mapping[str, str]) -> str:
    """Return a name without its suffix if ``paths`` has only the name without suffix."""
    ending = next((end for end in suffixes if name.lower().endswith(end)), "")
    stem = name[: len(name) - len(ending)]
    return stem if name not in paths and stem in paths else name


def _expected_path(root: Path, folders: str, name: str) -> str:
    """Return the path where an absent file is expected."""
    folder = "…" if "*" in folders else folders
    return f"{root}{os.sep}{folder}{os.sep}{name}"


def _parent(path: str) -> str:
    """Return the folder of a path, in a third of the time that ``os.path.dirname`` takes."""
    return path[: max(path.rfind(os.sep), path.rfind("/"))]


def _hint(root: Path, data_set: DataSet, absent: Sequence[LayoutEntry]) -> str:
    """Return a hint on where missing entries may lie: in an archive, a subfolder or the parent."""
    if packed := unpack_hint(root):
        return packed
    near = [*sorted(path for path in root.iterdir() if path.is_dir()), root.absolute().parent]
    for folder in near:
        if len(missing_entries(folder, data_set)) < len(absent):
            return f" Did you mean {folder}?"
    return ""
