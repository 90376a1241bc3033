"""BYOL (Grill et al., NeurIPS 2020): a student predicts what its slow teacher makes of a view."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from evenhand.pretraining.learners import Encoder, Learner, perceptron
from evenhand.pretraining.registry import SSLObjective, register_ssl
from evenhand.pretraining.teacher import Teacher

HIDDEN = 256  # of the predictor


def byol_loss(predicted: tuple[Tensor, Tensor], taught: tuple[Tensor, Tensor]) -> Tensor:
    """Return the squared distance of unit vectors, of each view's prediction to the other's target.

    With p a prediction and t a target, of length 1 each: the mean over samples of
    ‖p_1 − t_2‖² + ‖p_2 − t_1‖² = 4 − 2 cos(p_1, t_2) − 2 cos(p_2, t_1).

    Parameters
    ----------
    predicted, taught
        Predictions and targets ``(B, D)`` of the first and the second views.

    References
    ----------
    Grill et al., Bootstrap Your Own Latent, NeurIPS 2020, equation 2, made symmetric.
    """
    first, second = (
        F.cosine_similarity(p.float(), t.float(), dim=1)
        for p, t in zip(predicted, reversed(taught), strict=True)
    )
    return (4 - 2 * first - 2 * second).mean()


@register_ssl(
    "byol",
    widths=(256, 128),
    norm=True,
    needs=("predictor", "teacher"),
    momentum=0.99,
    stops_early=False,
)
class Byol(Learner):
    """Predict from one view what a slow copy of the network makes of the other.

    The teacher is a copy of encoder and projection head (`evenhand.pretraining.teacher`). Both
    views pass in one batch, so that batch normalisation sees them together.

    Misleads by its loss, which also falls when all representations become alike. Read their spread
    and effective rank.
    """

    def __init__(self, objective: SSLObjective, encoder: Encoder) -> None:
        super().__init__(objective, encoder)
        width = objective.widths[-1]
        self.predictor = perceptron(width, (HIDDEN, width), norm=True)
        assert objective.momentum is not None
        self.teacher = Teacher(self.encoder, self.projector, start=objective.momentum)

    def forward(self, *batch: Tensor) -> Tensor:
        """Return the loss of two views."""
        (views,) = batch
        from_first, from_second = self.predictor(self.embed(views)).chunk(2)
        first, second = self.teacher(views).chunk(2)
        return byol_loss((from_first, from_second), (first, second))

    def after_step(self, progress: float) -> None:
        """Let the teacher follow."""
        self.teacher.follow(self.encoder, self.projector, progress=progress)
