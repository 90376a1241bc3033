"""The command line as users call it, in this process or in one that can be killed."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from evenhand.cli import main
from evenhand.run_files import Contents

PHANTOMS = "phantom:patients=160,size=32,seed=1"
SMALL = ("--image-size", "32", "--backbone", "test_vit", "--weights", "none", "--device", "cpu")
"""A small network; it takes a second."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    status: int
    out: str
    err: str


def evenhand(*words: object) -> Outcome:
    """Run a command; an exception other than a user's mistake comes through."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    arguments = ["evenhand", *map(str, words)]
    with patch.object(sys, "argv", arguments), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
    if status == 0 and "--out" in words:
        check_listed(Path(str(words[words.index("--out") + 1])))
    return Outcome(status, out.getvalue(), err.getvalue())


def check_listed(out: Path) -> None:
    """See that a run directory holds what the list of written files has, and no more."""
    if (out / "run.json").is_file():
        contents = Contents.of(out)
        assert not contents.strange
        assert not contents.temporary


def start(*words: object) -> subprocess.Popen[bytes]:
    """Start a command in a process of its own."""
    code = "from evenhand.cli import main; main()"
    arguments = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def without(words: tuple[object, ...], flag: str) -> tuple[object, ...]:
    """Return the words of a command but for a flag and its value."""
    place = words.index(flag)
    return (*words[:place], *words[place + 2 :])


def changed(words: tuple[object, ...], *more: object) -> tuple[object, ...]:
    """Return the words of a command with more of them, which replace single values of a flag."""
    several = ("--attribute", "--bins", "--metric", "--across", "--merge", "--map", "--baseline")
    for flag in {*more} - {*several}:
        if str(flag).startswith("--") and flag in words:
            words = without(words, str(flag))
    return (*words, *more)


def training(cache: Path, *words: object) -> tuple[object, ...]:
    """Return the flags of a small, quick training on phantoms by group."""
    usual = (*SMALL, "--attribute", "group", "--batch-size", 32, "--cache", cache)
    return changed(usual, *words)
