"""A private temporary folder; those that dead processes left are removed."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from evenhand.files import host_name, is_running

_LONGEST = 60  # characters of the folder's place, as a socket's path may have about 100
_ours: set[str] = set()


def private_folder() -> TemporaryDirectory[str]:
    """Make a temporary folder that only this user may enter; what dead processes left is removed.

    It lies in ``$TMPDIR``, or in ``/tmp`` where the path would be too long for a socket.
    """
    place = Path(tempfile.gettempdir()).resolve()
    if len(os.fsencode(place)) > _LONGEST and Path("/tmp").is_dir():
        place = Path("/tmp")
    _remove_abandoned(place)
    folder = TemporaryDirectory(
        prefix=f"{_prefix()}{os.getpid()}-", dir=place, ignore_cleanup_errors=True
    )
    _ours.add(folder.name)
    return folder


def _prefix() -> str:
    """Return how the names begin on this machine; others may share the temporary folder."""
    return f"evenhand-{hashlib.sha256(host_name().encode()).hexdigest()[:6]}-"


def _remove_abandoned(place: Path) -> None:
    for folder in place.glob(f"{_prefix()}*"):
        process = re.fullmatch(r"(\d+)-\w+", folder.name.removeprefix(_prefix()))
        if process is None or str(folder) in _ours:
            continue
        number = int(process[1])
        if number == os.getpid() or not is_running(
            number
        ):  # our own were skipped: the number was reused
            with suppress(OSError):
                if sys.platform == "win32" or folder.lstat().st_uid == os.getuid():
                    shutil.rmtree(folder)
