"""MoCo (He et al., CVPR 2020; version 2, arXiv 2003.04297): contrast with a queue of keys."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from evenhand.pretraining.learners import Encoder, Learner, Teacher
from evenhand.pretraining.registry import SSLObjective, register_ssl

TEMPERATURE = 0.2
LONGEST = 1024  # the largest number of keys in the queue


def info_nce(
    queries: Tensor, keys: Tensor, queue: Tensor, temperature: float = TEMPERATURE
) -> Tensor:
    """Return the cross-entropy of the choice of each query's own key among it and a queue's keys.

    The loss is the mean over samples of
    −log( exp(q·k / τ) / (exp(q·k / τ) + Σ_j exp(q·u_j / τ)) ), where q and k are scaled to
    length 1 and u_j are the keys of the queue.

    Parameters
    ----------
    queries, keys
        Projections ``(B, D)`` of the first and of the second view of each sample.
    queue
        Earlier keys ``(K, D)`` of length 1.
    temperature
        τ > 0. A lower τ gives more weight to the keys most similar to the query.

    References
    ----------
    He et al., Momentum Contrast for Unsupervised Visual Representation Learning, CVPR 2020,
    equation 1.
    """
    queries, keys = F.normalize(queries.float(), dim=1), F.normalize(keys.float(), dim=1)
    positive = (queries * keys).sum(dim=1, keepdim=True)
    logits = torch.cat([positive, queries @ queue.T], dim=1) / temperature
    return F.cross_entropy(
        logits, torch.zeros(len(logits), dtype=torch.long, device=positive.device)
    )


@register_ssl(
    "moco",
    widths=(256, 128),
    needs=("teacher", "queue"),
    momentum=0.99,
    stops_early=False,
)
class Moco(Learner):
    """Tell the teacher's projection of a sample's other view from those of earlier samples.

    The queue of earlier projections (keys) has at most half as many entries as there are samples,
    so few of them are of the sample itself. It begins with random directions; new keys replace the
    oldest.

    Misleads by its loss, since the task changes with the teacher and the queue. Also, samples of
    the same disease in the queue are pushed apart.
    """

    queue: Tensor
    place: Tensor

    def __init__(self, objective: SSLObjective, encoder: Encoder) -> None:
        super().__init__(objective, encoder)
        assert objective.momentum is not None
        self.teacher = Teacher(self.encoder, self.projector, start=objective.momentum)
        count = max(1, min(LONGEST, encoder.samples // 2))
        keys = F.normalize(torch.randn(count, objective.widths[-1]), dim=1)
        self.register_buffer("queue", keys)
        self.register_buffer("place", torch.zeros((), dtype=torch.long))  # where the next key goes
        self._keys: Tensor | None = None  # of the last step

    def forward(self, *batch: Tensor) -> Tensor:
        """Return the loss of two views: queries of the first ones, keys of the second ones."""
        (views,) = batch
        first, second = views.chunk(2)
        keys = self.teacher(second)
        self._keys = keys if self.training else None
        return info_nce(self.embed(first), keys, self.queue)

    def after_step(self, progress: float) -> None:
        """Move the teacher towards the student, and put the step's keys into the queue."""
        self.teacher.follow(self.encoder, self.projector, progress=progress)
        if self._keys is not None:
            self.enqueue(F.normalize(self._keys.float(), dim=1))

    def enqueue(self, keys: Tensor) -> None:
        """Replace the oldest keys of the queue by keys ``(B, D)`` of length 1."""
        keys = keys[-len(self.queue) :]
        places = (self.place + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue.index_copy_(0, places, keys)
        self.place.add_(len(keys)).remainder_(len(self.queue))
