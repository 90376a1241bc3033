"""SWAD: the mean of the weights over the steps in which the validation loss is low.

Misleads as a method for groups: it does not use them. With few validation patients, the choice of
steps is noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from evenhand.errors import EvenhandError
from evenhand.methods.base import Positive, TrainingMethod
from evenhand.methods.ranges import Between


class Swad(TrainingMethod):
    """Average the weights of all steps from the first low validation loss until it rises.

    Parameters
    ----------
    start
        The averaging starts at an evaluation whose loss is the lowest of ``start`` consecutive
        evaluations, of which it is the first.
    end
        The averaging ends before ``end`` consecutive evaluations with a loss above the limit.
    tolerance
        The limit, as a multiple of the mean loss of the ``start`` evaluations.

    Notes
    -----
    Cha et al. (NeurIPS 2021, arXiv 2102.08604). After training, load `final_weights` and then
    recompute the statistics of batch normalisation (`torch.optim.swa_utils.update_bn`).
    """

    ranges = MappingProxyType({"tolerance": Between(1.05, 3.0)})

    def __init__(self, start: int = 3, end: int = 3, tolerance: Positive = 1.3) -> None:
        super().__init__()
        if min(start, end) < 1 or tolerance < 1:
            raise EvenhandError(
                f"swad with start {start}, end {end} and tolerance {tolerance}: give at least 1 "
                "for each of them."
            )
        self.start, self.end, self.tolerance = start, end, tolerance
        self._segments: list[tuple[float, dict[str, Tensor]]] = []  # not yet averaged
        self._sum: dict[str, Tensor] = {}
        self._steps = 0
        self._total: dict[str, Tensor] = {}
        self._count = 0
        self.limit: float | None = None
        self._above: list[dict[str, Tensor]] = []  # above the limit, and averaged if it falls again
        self.closed = False

    def after_step(self, module: nn.Module) -> None:
        """Add the weights to the sum since the last evaluation."""
        if self.closed:
            return
        self._steps += 1
        for name, parameter in module.named_parameters():
            value = parameter.detach().to("cpu", torch.float64)
            self._sum[name] = self._sum[name] + value if name in self._sum else value.clone()

    def after_validation(self, loss: float) -> None:
        """Decide by the validation loss whether the latest weights are averaged."""
        if self.closed or not self._steps:
            return
        mean = {name: total / self._steps for name, total in self._sum.items()}
        self._sum, self._steps = {}, 0
        self._segments = [*self._segments, (loss, mean)][-self.start :]
        if self.limit is None:
            self._begin()
        elif loss > self.limit:
            self._above.append(mean)
            self.closed = len(self._above) >= self.end
        else:
            for weights in (*self._above, mean):
                self._add(weights)
            self._above = []

    def _begin(self) -> None:
        """Start the averaging if the oldest of the last evaluations has the lowest loss."""
        losses = [loss for loss, _ in self._segments]
        if len(losses) < self.start or min(losses) != losses[0]:
            return
        self.limit = self.tolerance * sum(losses) / len(losses)
        for _, mean in self._segments:
            self._add(mean)

    def _add(self, mean: Mapping[str, Tensor]) -> None:
        self._count += 1
        for name, value in mean.items():
            self._total[name] = self._total[name] + value if name in self._total else value.clone()

    def final_weights(self) -> dict[str, Tensor]:
        """Return the mean weights by name; those of the last evaluation if averaging never started.

        Raises
        ------
        EvenhandError
            If there was no step or no evaluation yet.
        """
        if self._count:
            return {name: total / self._count for name, total in self._total.items()}
        if self._segments:
            return dict(self._segments[-1][1])
        raise EvenhandError("swad has no weights yet: call after_step and after_validation first.")

    def state_dict(self) -> dict[str, Any]:
        """Return the averages and the state of the window."""
        return {
            "segments": self._segments,
            "sum": self._sum,
            "steps": self._steps,
            "total": self._total,
            "count": self._count,
            "limit": self.limit,
            "above": self._above,
            "closed": self.closed,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the averages and the state of the window."""
        super().load_state_dict(state)
        self._segments, self._sum = list(state["segments"]), dict(state["sum"])
        self._steps, self._total = int(state["steps"]), dict(state["total"])
        self._count, self.limit = int(state["count"]), state["limit"]
        self._above, self.closed = list(state["above"]), bool(state["closed"])


METHOD = Swad
