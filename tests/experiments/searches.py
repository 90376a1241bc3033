"""Searches over units that need no network; by name, so that they can travel to workers."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from evenhand.search.spaces import Choice, Space

UNITS = ("a", "b", "c", "d")


def space() -> Space:
    def suggest(trial):
        bits = {unit: trial.suggest_int(unit, 0, 1) for unit in UNITS}
        mask = frozenset(unit for unit, bit in bits.items() if bit)
        return Choice(mask, trial.suggest_float("lr", 1e-4, 1e-2), 0)

    return Space(suggest, float("inf"), ())


def small_space() -> Space:
    def suggest(trial):
        bits = {unit: trial.suggest_int(unit, 0, 1) for unit in UNITS[:2]}
        return Choice(frozenset(unit for unit, bit in bits.items() if bit), 1.0, 0)

    return Space(suggest, 4, (("full", {"a": 1, "b": 1}), ("head", {"a": 0, "b": 0})))


def good_units(choice, report):
    value = float(len(choice.mask)) + choice.lr
    report(1, (value,))
    return (value,)


def always_die(choice, report):
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Deadly:
    """Kills its worker so many times, always at the choice that it met first."""

    trace: Path
    times: int

    def __call__(self, choice, report):
        key = f"{choice.lr!r}\n"
        if not self.trace.exists():
            self.trace.write_text(key)
        met = self.trace.read_text().splitlines(keepends=True)
        if key == met[0] and len(met) <= self.times:
            with self.trace.open("a") as file:
                file.write("x\n")
            os.kill(os.getpid(), signal.SIGKILL)
        return good_units(choice, report)


@dataclass(frozen=True)
class Staggered:
    """The first to come reports 1 and waits for the other, which reports 0 after it."""

    folder: Path

    def __call__(self, choice, report):
        for place in ("0", "1"):
            try:
                with (self.folder / place).open("x") as file:
                    file.write(str(os.getpid()))
                break
            except FileExistsError:
                continue
        if place == "0":
            report(1, (1.0,))
            (self.folder / "reported").touch()
            wait_for(self.folder / "1")
            return (1.0,)
        wait_for(self.folder / "reported")
        report(1, (0.0,))
        return (0.0,)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 240
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
