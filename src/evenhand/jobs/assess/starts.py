"""Where the weights come from that cells start with: pre-trained here, or made elsewhere."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from evenhand.errors import EvenhandError
from evenhand.jobs.assess.settings import AssessSettings

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
"""What the name of an encoder is made of, as it is part of folder names."""


@dataclass(frozen=True)
class EncoderStart:
    """What the cells of one arm start from.

    Attributes
    ----------
    name
        What the arm is called.
    weights
        What pre-training starts from, or the weights themselves where they were made elsewhere.
    objective
        The SSL objective that the encoder is pre-trained with; None where it was made elsewhere.
    """

    name: str
    weights: str
    objective: str | None = None

    def folder(self, seed: int, *, alone: bool) -> str:
        """Return the name of the folder of a seed's encoder."""
        return f"seed{seed}" if alone else f"{self.name}-seed{seed}"


def starts_of(settings: AssessSettings) -> tuple[EncoderStart, ...]:
    """Return what cells start from: SSL objectives first, then encoders.

    Raises
    ------
    EvenhandError
        Two of them have one name, or a name cannot be that of a folder.
    """
    starts = [EncoderStart(name, settings.weights, name) for name in settings.objectives]
    starts += [_encoder(text) for text in settings.encoder]
    for name, count in Counter(start.name for start in starts).items():
        if count > 1:
            raise EvenhandError(
                f"--encoder: {count} arms are called {name!r}. Name them: --encoder NAME=PATH."
            )
    return tuple(starts)


def is_named(settings: AssessSettings) -> bool:
    """Whether cells bear the name of their start: where there are several, or an encoder."""
    return bool(settings.encoder) or len(settings.objectives) > 1


def _encoder(text: str) -> EncoderStart:
    """Return the start that ``--encoder`` names, as ``PATH`` or ``NAME=PATH``."""
    name, equals, path = text.partition("=")
    if not equals or "/" in name or Path(text).exists():
        path, name = text, _name_of(text)
    if not path or not NAME.fullmatch(name):
        raise EvenhandError(
            f"--encoder {text}: give a run or a file of weights, or NAME=PATH with a name of "
            "letters, digits and _ . + -."
        )
    return EncoderStart(name, path)


def _name_of(path: str) -> str:
    """Return what a run or a file of weights is called; its folder's name where it has none."""
    file = Path(path)
    stem = file.parent.name if file.name == "model.safetensors" else file.stem
    return re.sub(r"[^A-Za-z0-9_.+-]+", "-", stem).strip("-.") or "encoder"
