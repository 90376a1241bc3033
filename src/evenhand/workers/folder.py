"""Create a private temporary folder, and remove those of dead processes."""

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

_LONGEST = 60  # characters of the parent's path, because a socket's path may have about 100
_ours: set[str] = set()


def private_folder() -> TemporaryDirectory[str]:
    """Create a temporary folder that only this user may enter; remove those of dead processes.

    It lies in ``$TMPDIR``, or in ``/tmp`` if the path would be too long for a socket.
    """
    parent = Path(tempfile.gettempdir()).resolve()
    if len(os.fsencode(parent)) > _LONGEST and Path("/tmp").is_dir():
        parent = Path("/tmp")
    _remove_abandoned(parent)
    folder = TemporaryDirectory(
        prefix=f"{_prefix()}{os.getpid()}-", dir=parent, ignore_cleanup_errors=True
    )
    _ours.add(folder.name)
    return folder


def _prefix() -> str:
    """Return the beginning of the folders' names, which differs between machines."""
    return f"evenhand-{hashlib.sha256(host_name().encode()).hexdigest()[:6]}-"


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{_prefix()}*"):
        process = re.fullmatch(r"(\d+)-\w+", folder.name.removeprefix(_prefix()))
        if process is None or str(folder) in _ours:
            continue
        number = int(process[1])
        is_reused = number == os.getpid()  # the folder is of an earlier process with our number
        if is_reused or not is_running(number):
            with suppress(OSError):
                if sys.platform == "win32" or folder.lstat().st_uid == os.getuid():
                    shutil.rmtree(folder)
