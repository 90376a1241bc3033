"""SimSiam (Chen and He, CVPR 2021): a prediction of the other view, which stands still."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from evenhand.pretraining.learners import Encoder, Learner, perceptron
from evenhand.pretraining.registry import SSLObjective, register_ssl

HIDDEN = 64  # of the predictor: a quarter of its width, as in the paper


def simsiam_loss(predicted: tuple[Tensor, Tensor], projected: tuple[Tensor, Tensor]) -> Tensor:
    """Return the negative cosine of each view's prediction with the other's projection.

    The mean over samples of −½ cos(p_1, stop(z_2)) − ½ cos(p_2, stop(z_1)), in [−1, 1]; no
    gradient goes through a projection that is predicted.

    Parameters
    ----------
    predicted, projected
        Predictions and projections ``(B, D)`` of the first and the second views.

    References
    ----------
    Chen and He, Exploring Simple Siamese Representation Learning, CVPR 2021, equations 1 to 4.
    """
    cosines = [
        F.cosine_similarity(prediction.float(), target.detach().float(), dim=1)
        for prediction, target in zip(predicted, reversed(projected), strict=True)
    ]
    return -(cosines[0] + cosines[1]).mean() / 2


@register_ssl("simsiam", widths=(256, 256, 256), norm=True, needs=("predictor",), stops_early=False)
class SimSiam(Learner):
    """Predict from one view the projection of the other, which gets no gradient.

    The projection has batch normalisation at its end, too, without weights.

    Misleads by its loss, which also falls when all representations become alike. Read their spread
    and effective rank.
    """

    def __init__(self, objective: SSLObjective, encoder: Encoder) -> None:
        super().__init__(objective, encoder)
        self.projector = perceptron(encoder.width, objective.widths, norm=True, norm_last=True)
        self.predictor = perceptron(objective.widths[-1], (HIDDEN, objective.widths[-1]), norm=True)

    def forward(self, *batch: Tensor) -> Tensor:
        """Return the loss of two views."""
        (views,) = batch
        projected = self.embed(views)
        from_first, from_second = self.predictor(projected).chunk(2)
        first, second = projected.chunk(2)
        return simsiam_loss((from_first, from_second), (first, second))
