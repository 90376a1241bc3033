"""Write files whole or not at all, read and check JSON files, and compute fingerprints of data."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from evenhand.errors import EvenhandError

M = TypeVar("M", bound=BaseModel)

ABANDONED = 24 * 3600.0  # seconds after which a temporary file of another machine is abandoned
# Temporary files of earlier versions have no host in their name.
_PART = re.compile(r"\.(?P<name>.+)\.(?:(?P<host>[^.]*)-)?(?P<process>\d+)\.part")

_NO_ROOM = "Make room and give the same command again; what is finished is kept."
_NO_RIGHT = "Name a folder that you may write to, or ask its owner for the right."
_ADVICE = {
    errno.ENOSPC: _NO_ROOM,
    errno.EDQUOT: _NO_ROOM,
    errno.EFBIG: _NO_ROOM,
    errno.EACCES: _NO_RIGHT,
    errno.EPERM: _NO_RIGHT,
    errno.EROFS: _NO_RIGHT,
    errno.ENOTDIR: "A file lies where a folder should be; name another path.",
    errno.EEXIST: "A file lies where a folder should be; name another path.",
    errno.EISDIR: "A folder lies where a file should be; name another path.",
    errno.ELOOP: "Symbolic links lead in a circle; name another path.",
    errno.ENAMETOOLONG: "Give a shorter name.",
}
MACHINE_FAULTS = frozenset(_ADVICE) | {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE}
"""Error numbers that mean a fault of the machine or of a path, never a bug."""


_written_now: set[str] = set()  # names of this process's temporary files


class WriteError(EvenhandError):
    """The error for a file that cannot be written, or a folder that cannot be created.

    Parameters
    ----------
    path
        The file or folder.
    error
        The error of the system.
    """

    def __init__(self, path: Path, error: OSError) -> None:
        self.reason = os.strerror(error.errno) if error.errno else str(error)
        advice = _ADVICE.get(error.errno or 0, "Fix this, or name another folder.")
        super().__init__(f"{path} cannot be written: {self.reason}. {advice}")


class DamagedError(EvenhandError):
    """The error for a file of Evenhand that is missing, incomplete or changed.

    Parameters
    ----------
    path
        The file.
    problem
        What is wrong with it.
    advice
        What to do next.
    """

    def __init__(self, path: Path, problem: str, advice: str = "") -> None:
        self.problem = problem
        default = (
            "Restore the file from a copy, or make it again: give the command that wrote it with "
            "--overwrite."
        )
        super().__init__(f"{path} is damaged: {problem}. {advice or default}")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a `WriteError` that names ``path``.

    Raises
    ------
    WriteError
        If the block raises an OSError.
    """
    try:
        yield
    except OSError as error:
        raise WriteError(path, error) from error


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Create a folder for the block; if the block raises, remove it unless it holds files."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for path in new:
            with suppress(OSError):  # it is not empty, or does not exist
                path.rmdir()
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path; when the block succeeds, its file replaces ``path``.

    Readers see the old file or the new one, never a part of it. If the block raises, the temporary
    file is removed and the old file stays.

    Raises
    ------
    WriteError
        If the disk is full, the folder cannot be written, or no file can have the path.
    """
    with writing(path), new_folder(path.parent):
        part = path.with_name(_temporary_name(path.name))
        _create(part)
        mode = part.stat().st_mode
        _written_now.add(part.name)
        try:
            yield part
            part.chmod(mode)  # safetensors writes files that only their owner may read
            with part.open("r+b") as written:  # Windows syncs only files opened for writing
                os.fsync(written.fileno())
            part.replace(path)
        finally:
            _written_now.discard(part.name)
            with suppress(OSError):
                part.unlink(missing_ok=True)


def _create(path: Path) -> None:
    """Create an empty file; an existing file or link at the path is removed, never followed."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))


def _temporary_name(name: str) -> str:
    return f".{name}.{host_name()}-{os.getpid()}.part"


def host_name() -> str:
    """Return this machine's name as in the names of temporary files."""
    return socket.gethostname().partition(".")[0]


def written_name(temporary: str) -> str | None:
    """Return the final name of a temporary file; None for other files.

    Examples
    --------
    >>> written_name(".run.json.node7-4711.part"), written_name("run.json")
    ('run.json', None)
    """
    named = _PART.fullmatch(temporary)
    return named["name"] if named else None


def is_abandoned(temporary: Path) -> bool:
    """Return whether the process that created a temporary file has ended.

    Processes of other machines cannot be checked: their files count as abandoned one day after the
    last write.
    """
    named = _PART.fullmatch(temporary.name)
    if named is None:
        return False
    is_ours = named["host"] in (None, host_name())
    if is_ours and sys.platform != "win32":  # on Windows, os.kill() would end the process
        process = int(named["process"])
        if process == os.getpid():  # this one, or an earlier process with the same number
            return temporary.name not in _written_now
        return not is_running(process)
    try:
        return time.time() - temporary.stat().st_mtime > ABANDONED
    except FileNotFoundError:  # its process has just finished it
        return False


def remove_abandoned(folder: Path) -> None:
    """Remove from a folder, if it exists, the temporary files of processes that have ended."""
    for path in folder.glob(".*.part"):
        if is_abandoned(path):
            with suppress(OSError):
                path.unlink()


def is_running(process: int) -> bool:
    """Return whether a process of this machine is running."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to another user
        return True
    return True


def to_path(value: Any, what: str) -> Path:
    """Return text or a path as a Path; the message calls the value ``what``.

    Raises
    ------
    EvenhandError
        If ``value`` is neither text nor a path.
    """
    if isinstance(value, str | os.PathLike):
        return Path(value)
    raise EvenhandError(f"{what}: {value!r:.60} is no path; give one as text or as a Path.")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, whole or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` as indented JSON; NaN and infinity raise ValueError."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


class FileObject(dict[str, Any]):
    """A JSON object from a file; reading a missing key raises `DamagedError` with the file."""

    def __init__(self, values: dict[str, Any], path: Path) -> None:
        super().__init__(values)
        self._path = path

    def __missing__(self, key: str) -> NoReturn:
        raise DamagedError(self._path, f"it lacks {key!r}")


def write_rows_json(
    path: Path, entries: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]
) -> None:
    """Write a JSON object with ``entries`` and the key ``rows``, each row on a line of its own."""
    encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
    start = encoder.encode({**entries, "rows": []})
    write_text(path, start[:-2] + "\n" + ",\n".join(map(encoder.encode, rows)) + "\n]}\n")


def finite_or_none(value: Any) -> float | None:
    """Return a number for JSON: None where it is absent or not finite.

    Examples
    --------
    >>> finite_or_none(0.5), finite_or_none(None), finite_or_none(float("nan"))
    (0.5, None, None)
    """
    return float(value) if value is not None and math.isfinite(value) else None


def read_json(path: Path) -> Any:
    """Return the JSON value in a file that Evenhand wrote.

    Raises
    ------
    DamagedError
        If the file is absent or holds no JSON; also later, when a missing key of an object is read.
    """
    try:
        if path.exists() and not path.is_file():
            raise DamagedError(path, "it is a folder, a pipe or a device where a file belongs")
        return _parse_json(path.read_text(encoding="utf-8"), path)
    except FileNotFoundError:
        raise DamagedError(path, "there is no such file") from None
    except OSError as error:
        raise DamagedError(path, f"it cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DamagedError(path, "it is no text in UTF-8") from error


def _parse_json(text: str, path: Path) -> Any:
    try:
        return json.loads(text, object_hook=lambda values: FileObject(values, path))
    except (ValueError, RecursionError) as error:
        problem = f"it is no JSON ({error})" if text.strip() else "it is empty"
        raise DamagedError(path, problem) from error


def read_object(path: Path, schema: int | None = None) -> FileObject:
    """Return the JSON object in a file that Evenhand wrote.

    Parameters
    ----------
    path
        The file.
    schema
        The highest value of the key ``schema`` that this version reads; None for files without it.

    Raises
    ------
    DamagedError
        If the file is absent or holds no JSON object, or its schema is not a number.
    EvenhandError
        If a later version of Evenhand wrote the file.
    """
    return _checked_object(read_json(path), path, schema)


def parse_object(text: str, path: Path, schema: int | None = None) -> FileObject:
    """Return the JSON object in a text from a file; see `read_object`."""
    return _checked_object(_parse_json(text, path), path, schema)


def _checked_object(value: Any, path: Path, schema: int | None) -> FileObject:
    if not isinstance(value, FileObject):
        raise DamagedError(path, f"it holds {_kind(value)} where an object belongs")
    if schema is None:
        return value
    written = value["schema"]
    if type(written) is not int or written < 1:
        raise DamagedError(path, f"its schema is {written!r}, which is no number from 1 on")
    if written > schema:
        raise EvenhandError(
            f"{path} has schema {written}; this version of Evenhand reads up to {schema}. Install "
            "a newer version."
        )
    return value


def read_json_record(
    model: type[M], path: Path, schema: int | None = None, *, strict: bool = False
) -> M:
    """Read a JSON file of Evenhand, and return its record; see `read_object`, `parse_record`."""
    return parse_record(model, read_object(path, schema), path, strict=strict)


def parse_record(model: type[M], values: FileObject, path: Path, *, strict: bool = False) -> M:
    """Check a JSON object of a file, and return it as a record.

    Parameters
    ----------
    model
        The type of the record.
    values
        The JSON object.
    path
        The file that holds it, for messages.
    strict
        Whether each value must have the JSON type of its field: then 3 is not accepted as text.

    Raises
    ------
    DamagedError
        If a value is missing or has the wrong type.
    """
    try:
        if strict:
            return model.model_validate_json(json.dumps(values), strict=True)
        return model.model_validate(values)
    except ValidationError as error:
        raise DamagedError(path, first_problem(error)) from None


def first_problem(error: ValidationError) -> str:
    """Return the first problem of a record as a clause."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f"it lacks {place!r}"
    if first["type"] == "value_error":  # its text says what is wrong
        return f"{place}: {first['msg'].removeprefix('Value error, ')}"
    return f"{place}: {first['msg']} (it is {first['input']!r})"


def _kind(value: object) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


Stamp = tuple[str, int, int]
"""Path, size in bytes and time of change in nanoseconds of a file."""


def fingerprint(files: Iterable[Stamp], tables: Iterable[Path] = ()) -> str:
    """Return a hex digest that changes when the data change.

    Parameters
    ----------
    files
        Bulk files (images, recordings). Their paths count relative to their common folder, so
        neither moving the whole folder nor another working directory changes the digest.
    tables
        Tables: their content counts, their paths do not.
    """
    stamps = sorted(
        (os.path.abspath(path), size, changed)  # noqa: PTH100  (pathlib is slow for many files)
        for path, size, changed in files
    )
    root, digest = _root(stamps), hashlib.sha256()
    for path, size, changed in stamps:
        digest.update(f"{path.removeprefix(root)}\0{size}\0{changed}\n".encode())
    for table in sorted(tables):
        digest.update(hashlib.sha256(table.read_bytes()).digest())
    return digest.hexdigest()


def _root(sorted_stamps: list[Stamp]) -> str:
    """Return the common folder of files: that of the first and the last of the sorted paths."""
    ends = [os.path.dirname(path) for path, _, _ in sorted_stamps[:1] + sorted_stamps[-1:]]  # noqa: PTH120
    try:
        return os.path.commonpath(ends)
    except ValueError:  # no file, a mix of absolute and relative paths, or several drives
        return ""
