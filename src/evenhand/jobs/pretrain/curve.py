"""The course of a pre-training: losses and properties of the embeddings after each epoch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from evenhand.networks.checkpoints import ModelRecord
from evenhand.pretraining.collapse import Embeddings


def embeddings_of(record: ModelRecord) -> Embeddings | None:
    """Return the embeddings in the record of an encoder; None if it has none."""
    return Embeddings(**dict(record.embeddings)) if record.embeddings else None


@dataclass(frozen=True, eq=False)
class LossCurve:
    """Losses and properties of the embeddings, a value for each epoch.

    Attributes
    ----------
    loss
        The mean training loss.
    held_out
        The mean loss on held-out patients after the epoch; empty without early stopping.
    spread, rank
        The spread and the effective rank of the embeddings after the epoch.
    untrained
        The spread and the effective rank before training.
    """

    loss: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    spread: list[float] = field(default_factory=list)
    rank: list[float] = field(default_factory=list)
    untrained: list[float] = field(default_factory=list)

    @property
    def best(self) -> int:
        """The epoch, counted from 1, whose weights the encoder has."""
        return int(np.argmin(self.held_out)) + 1 if self.held_out else len(self.loss)

    @property
    def judged_losses(self) -> list[float]:
        """The losses that choose the best epoch: on held-out patients, else the training losses."""
        return self.held_out or self.loss

    @property
    def best_loss(self) -> float:
        """The loss of the best epoch."""
        return self.judged_losses[self.best - 1]

    @property
    def best_embeddings(self) -> Embeddings:
        """The properties of the embeddings after the best epoch."""
        return self._embeddings(self.best - 1)

    @property
    def text(self) -> str:
        """The last epoch, as one line of text."""
        held_out = f", held out {self.held_out[-1]:.3f}" if self.held_out else ""
        embeddings = self._embeddings(-1)
        rises = self.spread[-1] > [0.0, *self.spread][-2]  # a low spread that rises is no collapse
        collapsed = " (collapsed)" if embeddings.collapsed and not rises else ""
        loss = f"loss {self.loss[-1]:.3f}{held_out}"
        return f"epoch {len(self.loss)}: {loss}, {embeddings}{collapsed}"

    @property
    def best_record(self) -> dict[str, Any]:
        """The best epoch and its embeddings, as in ``model.json``."""
        return {"epoch": self.best, "embeddings": asdict(self.best_embeddings)}

    def _embeddings(self, index: int) -> Embeddings:
        return Embeddings(self.spread[index], self.rank[index], self.untrained[1])

    def table(self) -> pd.DataFrame:
        """Return a row per epoch."""
        columns = {"epoch": [*range(1, len(self.loss) + 1)], "loss": self.loss}
        columns |= {"held_out": self.held_out} if self.held_out else {}
        return pd.DataFrame(columns | {"spread": self.spread, "effective_rank": self.rank})
