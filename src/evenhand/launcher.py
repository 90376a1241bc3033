"""The processes that a launcher (torchrun, accelerate launch) started for one job."""

from __future__ import annotations

import os

from evenhand.errors import EvenhandError


def is_main() -> bool:
    """Return whether this process writes and prints for all processes of the job.

    RANK is read only if WORLD_SIZE is above 1; without a launcher, RANK has no meaning.
    """
    return _number("WORLD_SIZE", 1) == 1 or _number("RANK", 0) == 0


def check_alone() -> None:
    """Refuse to run if a launcher started several processes.

    Raises
    ------
    EvenhandError
        If a launcher started several processes.
    """
    if _number("WORLD_SIZE", 1) > 1:
        raise EvenhandError(
            "a launcher (torchrun, accelerate launch) started several processes, and each would "
            "repeat this whole job; only `evenhand finetune` shares its work among processes. "
            "Run the command without the launcher; --workers N runs several fits at a time."
        )


def check_environment() -> None:
    """Check the numbers of processes and threads in the environment.

    Raises
    ------
    EvenhandError
        If a variable is not a whole number, threads are below 1, or RANK is not below WORLD_SIZE.
    """
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        if _number(name, 1) < 1:
            raise EvenhandError(f"{name}={os.environ[name]}: give at least 1 thread, or unset it.")
    size, rank = _number("WORLD_SIZE", 1), _number("RANK", 0)
    if not 0 <= rank < max(size, 1):
        raise EvenhandError(
            f"the environment has RANK={rank} and WORLD_SIZE={size}; RANK must be below "
            "WORLD_SIZE. Only torchrun and accelerate launch should set them. Start the command "
            "with one of these, or remove RANK: unset RANK"
        )


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "") or str(default)
    try:
        return int(text.partition(",")[0])  # OpenMP allows a list: one number per nesting level
    except ValueError:
        raise EvenhandError(
            f"{name}={text} in the environment is not a whole number. Give one, or remove the "
            f"variable: unset {name}"
        ) from None
