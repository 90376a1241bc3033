"""The processes of one job that a launcher has started: torchrun, accelerate launch."""

from __future__ import annotations

import os

from evenhand.errors import EvenhandError


def is_main() -> bool:
    """Say whether this process is the one that writes and prints for all of them."""
    return os.environ.get("RANK", "0") == "0"


def check_alone() -> None:
    """Refuse to be one process of several.

    Raises
    ------
    EvenhandError
        A launcher has started several.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise EvenhandError(
            "each process that a launcher starts (torchrun, accelerate launch) would do this whole "
            "job again; only `evenhand finetune` shares its work among them. Give the command by "
            "itself; --workers N has several fits run at the same time."
        )
