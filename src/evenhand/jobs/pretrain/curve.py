"""What is known of each epoch of a pre-training."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from evenhand.pretraining.collapse import Embeddings


@dataclass(frozen=True, eq=False)
class LossCurve:
    """The mean loss of each epoch, that on held-out patients after it, and what embeddings are."""

    loss: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)  # empty without early stopping
    spread: list[float] = field(default_factory=list)
    rank: list[float] = field(default_factory=list)
    untrained: list[float] = field(default_factory=list)  # spread and rank before training

    @property
    def judged(self) -> list[float]:
        """The losses that epochs are judged by."""
        return self.held_out or self.loss

    @property
    def best(self) -> int:
        """The epoch, from 1, whose weights are kept."""
        return int(np.argmin(self.held_out)) + 1 if self.held_out else len(self.loss)

    @property
    def kept(self) -> Embeddings:
        """What the embeddings of the epoch are whose weights are kept."""
        return self._embeddings(self.best - 1)

    @property
    def text(self) -> str:
        """The last epoch, in a line."""
        held_out = f", held out {self.held_out[-1]:.3f}" if self.held_out else ""
        last = self._embeddings(-1)
        rises = self.spread[-1] > [0.0, *self.spread][-2]  # as it does in the first epochs
        collapsed = " (collapsed)" if last.collapsed and not rises else ""
        return f"epoch {len(self.loss)}: loss {self.loss[-1]:.3f}{held_out}, {last}{collapsed}"

    @property
    def facts(self) -> dict[str, Any]:
        """What ``model.json`` says of the epoch that is kept."""
        return {"epoch": self.best, "embeddings": asdict(self.kept)}

    def _embeddings(self, place: int) -> Embeddings:
        return Embeddings(self.spread[place], self.rank[place], self.untrained[1])

    def table(self) -> pd.DataFrame:
        """Return a row per epoch."""
        columns = {"epoch": [*range(1, len(self.loss) + 1)], "loss": self.loss}
        columns |= {"held_out": self.held_out} if self.held_out else {}
        return pd.DataFrame(columns | {"spread": self.spread, "effective_rank": self.rank})
