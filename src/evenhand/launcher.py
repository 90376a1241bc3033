"""The processes of one job that a launcher has started: torchrun, accelerate launch."""

from __future__ import annotations

import os

from evenhand.errors import EvenhandError


def is_main() -> bool:
    """Say whether this process is the one that writes and prints for all of them.

    RANK counts only beside a WORLD_SIZE above 1: a shell may hold one that no launcher has set.
    """
    return _number("WORLD_SIZE", 1) == 1 or _number("RANK", 0) == 0


def check_alone() -> None:
    """Refuse to be one process of several.

    Raises
    ------
    EvenhandError
        A launcher has started several.
    """
    if _number("WORLD_SIZE", 1) > 1:
        raise EvenhandError(
            "each process that a launcher starts (torchrun, accelerate launch) would do this whole "
            "job again; only `evenhand finetune` shares its work among them. Give the command by "
            "itself; --workers N has several fits run at the same time."
        )


def check_environment() -> None:
    """Check the numbers of processes and threads in the environment.

    Raises
    ------
    EvenhandError
        A variable is not a whole number, threads are below 1, or RANK is not below WORLD_SIZE.
    """
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        if _number(name, 1) < 1:
            raise EvenhandError(f"{name}={os.environ[name]}: give 1 thread at least, or unset it.")
    size, rank = _number("WORLD_SIZE", 1), _number("RANK", 0)
    if not 0 <= rank < max(size, 1):
        raise EvenhandError(
            f"the shell holds RANK={rank} and WORLD_SIZE={size}, which only processes that "
            "torchrun or accelerate launch has started should have. Start the command with one of "
            "these, or remove RANK: unset RANK"
        )


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "") or str(default)
    try:
        return int(text.partition(",")[0])  # threads of nested loops have commas between them
    except ValueError:
        raise EvenhandError(
            f"{name}={text} in the shell is no whole number. Set one, or remove it: unset {name}"
        ) from None
