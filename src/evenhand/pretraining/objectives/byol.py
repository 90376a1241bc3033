"""BYOL (Grill et al., NeurIPS 2020): a student predicts its teacher's projection of a view."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from evenhand.pretraining.learners import Encoder, Learner, Teacher, perceptron
from evenhand.pretraining.registry import SSLObjective, register_ssl

HIDDEN = 256  # width of the predictor's hidden layer


def byol_loss(predicted: tuple[Tensor, Tensor], targets: tuple[Tensor, Tensor]) -> Tensor:
    """Return the squared distance between each view's prediction and the other view's target.

    Predictions p and targets t are scaled to length 1. The loss is the mean over samples of
    ‖p_1 − t_2‖² + ‖p_2 − t_1‖² = 4 − 2 cos(p_1, t_2) − 2 cos(p_2, t_1).

    Parameters
    ----------
    predicted, targets
        Predictions and targets ``(B, D)``, of the first and of the second views.

    References
    ----------
    Grill et al., Bootstrap Your Own Latent, NeurIPS 2020, equation 2, made symmetric.
    """
    first, second = (
        F.cosine_similarity(p.float(), t.float(), dim=1)
        for p, t in zip(predicted, reversed(targets), strict=True)
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
    """Predict from one view the projection of the other view by a slow copy of the network.

    The teacher is a copy of encoder and projection head (`evenhand.pretraining.learners`). Both
    views are in one batch, so batch normalisation uses both.

    Misleads by its loss, which also falls if all representations become equal. Read their spread
    and effective rank.
    """

    def __init__(self, objective: SSLObjective, encoder: Encoder) -> None:
        super().__init__(objective, encoder)
        width = objective.widths[-1]
        self.predictor = perceptron(width, (HIDDEN, width), norm=True)
        assert objective.momentum is not None
        self.teacher = Teacher(self.encoder, self.projector, start=objective.momentum)

    def forward(self, *batch: Tensor) -> Tensor:
        """Return the loss of two views of each sample."""
        (views,) = batch
        from_first, from_second = self.predictor(self.embed(views)).chunk(2)
        first, second = self.teacher(views).chunk(2)
        return byol_loss((from_first, from_second), (first, second))

    def after_step(self, progress: float) -> None:
        """Move the teacher towards the student."""
        self.teacher.follow(self.encoder, self.projector, progress=progress)
