"""The starting weights of cells: encoders that are pre-trained here, and external encoders."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from evenhand.errors import EvenhandError
from evenhand.jobs.assess.settings import AssessSettings

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
"""The allowed names of encoders, which are parts of folder names."""


@dataclass(frozen=True)
class EncoderStart:
    """An encoder from which the cells of an arm start.

    Attributes
    ----------
    name
        The name of the arm.
    weights
        The starting weights of pre-training, or the weights of an external encoder.
    objective
        The objective of pre-training; None for an external encoder.
    """

    name: str
    weights: str
    objective: str | None = None

    def folder(self, seed: int, *, alone: bool) -> str:
        """Return the folder name of a seed's encoder; ``alone`` if there is no other start."""
        return f"seed{seed}" if alone else f"{self.name}-seed{seed}"


def encoder_starts(settings: AssessSettings) -> tuple[EncoderStart, ...]:
    """Return the starts of cells: first one for each objective, then the external encoders.

    Raises
    ------
    EvenhandError
        If two starts have the same name, or a name cannot be the name of a folder.
    """
    starts = [EncoderStart(name, settings.weights, name) for name in settings.objectives]
    starts += [_encoder(text) for text in settings.encoder]
    for name, count in Counter(start.name for start in starts).items():
        if count > 1:
            raise EvenhandError(
                f"--encoder: {count} arms are called {name!r}. Name them: --encoder NAME=PATH."
            )
    return tuple(starts)


def cells_name_starts(settings: AssessSettings) -> bool:
    """Return whether names of cells contain the start: if there are several, or external ones."""
    return bool(settings.encoder) or len(settings.objectives) > 1


def _encoder(text: str) -> EncoderStart:
    """Return the start that ``--encoder`` names, as ``PATH`` or ``NAME=PATH``."""
    name, equals, path = text.partition("=")
    if not equals or "/" in name or Path(text).exists():
        path, name = text, _default_name(text)
    if not path or not NAME.fullmatch(name):
        raise EvenhandError(
            f"--encoder {text}: give a run or a file of weights, or NAME=PATH with a name of "
            "letters, digits and _ . + -."
        )
    return EncoderStart(name, path)


def _default_name(path: str) -> str:
    """Return a name for a run or a file of weights: that of the file, or of its folder."""
    file = Path(path)
    stem = file.parent.name if file.name == "model.safetensors" else file.stem
    return re.sub(r"[^A-Za-z0-9_.+-]+", "-", stem).strip("-.") or "encoder"
