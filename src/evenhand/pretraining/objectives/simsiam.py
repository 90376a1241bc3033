"""SimSiam (Chen and He, CVPR 2021): predict the other view's projection, without its gradient."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from evenhand.pretraining.learners import Encoder, Learner, perceptron
from evenhand.pretraining.registry import SSLObjective, register_ssl

HIDDEN = 64  # of the predictor: a quarter of its width, as in the paper


def simsiam_loss(predicted: tuple[Tensor, Tensor], projected: tuple[Tensor, Tensor]) -> Tensor:
    """Return the negative cosine of each view's prediction and the other view's projection.

    The loss is the mean over samples of −½ cos(p_1, stop(z_2)) − ½ cos(p_2, stop(z_1)), in
    [−1, 1]; no gradient passes through the projections z.

    Parameters
    ----------
    predicted, projected
        Predictions and projections ``(B, D)``, of the first and of the second views.

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
    """Predict from one view the projection of the other view, which gets no gradient.

    The projection head ends with batch normalisation without weights.

    Misleads by its loss, which also falls if all representations become equal. Read their spread
    and effective rank.
    """

    def __init__(self, objective: SSLObjective, encoder: Encoder) -> None:
        super().__init__(objective, encoder)
        self.projector = perceptron(encoder.width, objective.widths, norm=True, norm_last=True)
        self.predictor = perceptron(objective.widths[-1], (HIDDEN, objective.widths[-1]), norm=True)

    def forward(self, *batch: Tensor) -> Tensor:
        """Return the loss of two views of each sample."""
        (views,) = batch
        projected = self.embed(views)
        from_first, from_second = self.predictor(projected).chunk(2)
        first, second = projected.chunk(2)
        return simsiam_loss((from_first, from_second), (first, second))
