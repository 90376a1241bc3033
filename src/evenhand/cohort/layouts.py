"""The files of a data set's published layout: what is there, and what is not."""

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

from evenhand.cohort.registry import DataSet, Entry
from evenhand.errors import EvenhandError, some
from evenhand.files import Stamp
from evenhand.tables.spelling import clean
from evenhand.tables.table_checks import rows_text

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar")


def check_layout(root: Path, data_set: DataSet) -> None:
    """Check that a folder holds what a data set's layout requires.

    Raises
    ------
    EvenhandError
        It is no folder, or lacks something; the message says what was looked for, what was found
        instead, and where it may lie. Or what it has is a link that leads outside.
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
        lacks = "; ".join(f"{entry} ({entry.what})" for entry in absent)
        held = some(sorted(path.name for path in root.iterdir())) or "nothing"
        raise EvenhandError(
            f"{root} is not {data_set.title} as published. Missing: {lacks}. The folder holds: "
            f"{held}.{_hint(root, data_set, absent)}"
        )
    refuse_outside((path for entry in data_set.layout for path in places(root, entry)), root)


def refuse_outside(paths: Iterable[Path | str], root: Path, where: str = "the data set") -> None:
    """Raise for files and folders that links lead to, outside a root; ``where`` names them."""
    real = os.path.join(os.path.realpath(root), "")  # noqa: PTH118
    each = dict.fromkeys(map(str, paths))  # one file may hold many samples
    leading = [path for path in each if not os.path.realpath(path).startswith(real)]
    if leading:
        target = os.path.realpath(leading[0])
        lead = "is a link that leads" if len(leading) == 1 else "are links that lead"
        raise EvenhandError(
            f"{where}: {some(leading)} {lead} outside {root} (to {target}). Copy the files in, or "
            "give the folder that they lie in."
        )


def missing(root: Path, data_set: DataSet) -> list[Entry]:
    """Return what a folder lacks of the files and folders that a layout requires."""
    return [entry for entry in data_set.layout if entry.required and not locate(root, entry)]


def locate(root: Path, entry: Entry) -> Path | None:
    """Return the first of the files or folders of that name, archives aside."""
    return next(places(root, entry), None)


def find_entry(root: Path, entry: Entry) -> Path:
    """Return the one file or folder that a layout requires, once the layout has been checked.

    Raises
    ------
    EvenhandError
        There is none any more, or there are several (see `find_optional`).
    """
    path = find_optional(root, entry)
    if path is None:
        raise EvenhandError(f"{root} has no {entry} ({entry.what}) any more.")
    return path


def find_optional(root: Path, entry: Entry) -> Path | None:
    """Return the one file or folder of an entry; None if there is none.

    Raises
    ------
    EvenhandError
        There are several, and nothing says which one belongs to the data.
    """
    paths = list(dict.fromkeys(places(root, entry)))
    if len(paths) > 1:
        raise EvenhandError(
            f"{root} has {len(paths)} of {entry} ({entry.what}): "
            f"{some(path.relative_to(root) for path in paths)}. Keep the one that belongs to the "
            "data, and move the others out."
        )
    return paths[0] if paths else None


def files_by_name(
    names: pd.Series,
    root: Path,
    folders: str,
    suffixes: tuple[str, ...],
    key: Callable[[str], str] = str,
) -> tuple[pd.Series, tuple[str, ...]]:
    """Return the path of the file of each name, below some folders, and the files of no name.

    Parameters
    ----------
    names
        File names, with or without suffix; a name of which there is no file gets a path that is
        not there.
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
            name = key(clean(os.path.basename(path)[: -len(ending)]))  # noqa: PTH119
            if name in paths:
                raise EvenhandError(f"{paths[name]} and {path} have the same name: keep one.")
            paths[name] = path
    bare = names.map(lambda name: _without(clean(str(name)), suffixes, paths))
    files = [paths.get(name) or _absent(root, folders, f"{name}{suffixes[0]}") for name in bare]
    return pd.Series(files, names.index, dtype=object), _of_no_name(paths, bare)


def folders_by_name(
    names: pd.Series, root: Path, folders: str
) -> tuple[pd.Series, tuple[str, ...]]:
    """Return the folder of each name, out of those that match a pattern, and those of no name."""
    places = (path for path in sorted(root.glob(folders)) if path.is_dir())
    paths = {clean(path.name): str(path) for path in places}
    plain = names.map(lambda name: clean(str(name)))
    own = [paths.get(name) or _absent(root, folders, name) for name in plain]
    return pd.Series(own, names.index, dtype=object), _of_no_name(paths, plain)


def walk(folder: Path, root: Path) -> Iterator[str]:
    """Yield every file below a folder, in order; as text, since 400,000 paths take their time."""
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in folders:
            path = Path(place, name)
            if path.is_symlink():
                refuse_outside([path], root, str(folder))
        yield from (os.path.join(place, name) for name in sorted(files))  # noqa: PTH118


@dataclass(frozen=True, eq=False)
class Seen:
    """Files (or folders of slices) of which each was looked at once.

    Parameters
    ----------
    files
        Paths as they are on the disk, indexed by the row of the table that names them.
    size
        How many bytes each has; -1 where there is none.
    changed
        When each was changed, in nanoseconds.
    root
        The folder of the data set, None where files may lie anywhere.
    folder
        Which of them are folders, ``(n,)``.
    """

    files: pd.Series
    size: NDArray[np.int64]
    changed: NDArray[np.int64]
    root: Path | None
    folder: NDArray[np.bool_]

    @property
    def there(self) -> NDArray[np.bool_]:
        """Which files there are, ``(n,)``."""
        return self.size >= 0

    def stamps(self) -> Iterator[Stamp]:
        """Yield what tells each file that is there from its later self."""
        there = self.there
        times = (self.size[there].tolist(), self.changed[there].tolist())
        return zip(self.files.to_numpy(object)[there], *times, strict=True)

    def absent(self, table: Path, *, skip: bool) -> tuple[str, ...]:
        """Say which files are absent, for the record.

        Parameters
        ----------
        table
            The table that names the files.
        skip
            Whether the user leaves out what cannot be read.

        Raises
        ------
        EvenhandError
            Files are absent, and ``skip`` is false.
        """
        absent = self.files[~self.there]
        if len(absent) and not skip:
            raise EvenhandError(
                f"{table}, {rows_text(absent.index)}: {len(absent)} of {len(self.files)} files "
                f"{'is' if len(absent) == 1 else 'are'} absent: {some(absent)}. Put them there, "
                f"or leave them out with --skip-unreadable.{unpack_hint(self.root)}"
            )
        return tuple(f"{path} ({table}, row {row}) is absent" for row, path in absent.items())


def look_at(files: pd.Series, table: Path, root: Path | None) -> Seen:
    """Look at each file once, which is what opening 400,000 of them costs.

    Parameters
    ----------
    files
        Paths, indexed by the row of the table that names them.
    table
        The table.
    root
        The folder that no link, of a file or of a folder on the way to it, may lead out of; None
        where files may lie anywhere.

    Raises
    ------
    EvenhandError
        Such a link does, or what a path leads to is neither a file nor a folder; the message names
        the first few, and the rows that name them.
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
    for place, file in enumerate(files.to_numpy(object)):
        path, stat, linked = _status(file, listing)
        if stat is None:
            continue
        if path != file:
            files.iloc[place] = path
        folder[place] = S_ISDIR(stat.st_mode)
        if not (S_ISREG(stat.st_mode) or folder[place]):
            special.append(place)
        size[place], changed[place] = stat.st_size, stat.st_mtime_ns
        if root is not None and (linked or behind_link(_parent(path))):
            suspects.append(place)
    if special:
        rows = files.iloc[special]
        raise EvenhandError(
            f"{table}, {rows_text(rows.index)}: no file but a pipe, a socket or a device: "
            f"{some(rows)}. Take it out of the data."
        )
    if suspects and root is not None:
        linked_files = files.iloc[suspects]
        refuse_outside(linked_files, root, f"{table}, {rows_text(linked_files.index)}")
    return Seen(files, size, changed, root, folder)


_NamesIn = Callable[[str], Mapping[str, str]]
"""The names in a folder as they are on the disk, by what `clean` makes of them."""


def _status(path: str, names_in: _NamesIn) -> tuple[str, os.stat_result | None, bool]:
    """Return a path as it is on the disk, what lies there, and whether a link leads there."""
    try:
        try:
            status = os.lstat(path)
        except (OSError, ValueError):  # ValueError: a NUL character
            path = _as_on_disk(path, names_in) or path
            status = os.lstat(path)
        linked = S_ISLNK(status.st_mode)
        return path, Path(path).stat() if linked else status, linked
    except (OSError, ValueError):
        return path, None, False


def _as_on_disk(path: str, names_in: _NamesIn) -> str | None:
    """Return the path of a file that a table spells in another way; None if there is none.

    Folders may be divided by backslashes, and names differ in what `clean` makes one: the Unicode
    form, blanks and invisible characters. Where several names do, none is meant.
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
    """Return the names in a folder as they are on the disk, by what `clean` makes of them."""
    by_name: dict[str, list[str]] = {}
    with suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208
            by_name.setdefault(clean(name), []).append(name)
    return {name: alike[0] for name, alike in by_name.items() if len(alike) == 1}


def files_below(folders: pd.Series) -> pd.Series:
    """Return the files in folders of slices; what is no folder, or empty, as it is."""
    files = {path: sorted(map(str, Path(path).glob("*"))) or [path] for path in folders.unique()}
    return folders.map(files).explode()


def unpack_hint(root: Path | None) -> str:
    """Say which archives in a folder are still to be unpacked, a sentence or nothing."""
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
    return f" Unpack {some(packed)}." if packed else ""


def places(root: Path, entry: Entry) -> Iterator[Path]:
    """Yield every file or folder of that name, in order, archives aside."""
    for name in entry.names:
        yield from sorted(path for path in root.glob(name) if not _is_archive(path))


def _of_no_name(paths: Mapping[str, str], names: pd.Series) -> tuple[str, ...]:
    return tuple(sorted(paths[name] for name in paths.keys() - set(names)))


def _without(name: str, suffixes: tuple[str, ...], there: Mapping[str, str]) -> str:
    """Return a name without the suffix that some tables write, where files go by it so."""
    ending = next((end for end in suffixes if name.lower().endswith(end)), "")
    bare = name[: len(name) - len(ending)]
    return bare if name not in there and bare in there else name


def _absent(root: Path, folders: str, name: str) -> str:
    """Return a path that shows where a file that is not there would lie."""
    place = "…" if "*" in folders else folders
    return f"{root}{os.sep}{place}{os.sep}{name}"


def _parent(path: str) -> str:
    """Return the folder of a path, in a third of the time that ``os.path.dirname`` takes."""
    return path[: max(path.rfind(os.sep), path.rfind("/"))]


def _is_archive(path: Path) -> bool:
    return path.name.lower().endswith(ARCHIVES)


def _hint(root: Path, data_set: DataSet, absent: Sequence[Entry]) -> str:
    """Say where what is missing may lie: in an archive, or one folder further down or up."""
    if packed := unpack_hint(root):
        return packed
    near = [*sorted(path for path in root.iterdir() if path.is_dir()), root.absolute().parent]
    for folder in near:
        if len(missing(folder, data_set)) < len(absent):
            return f" Did you mean {folder}?"
    return ""
