"""The register of SSL objectives, which loads nothing heavy: what they need, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar, cast

from evenhand.errors import EvenhandError
from evenhand.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

    from evenhand.pretraining.learners import Encoder, Learner

Loss = Callable[["Tensor", "Tensor"], "Tensor"]
"""From projections ``(B, D)`` of the first and the second views of the same samples."""

Modality = Literal["images", "series"]
Need = Literal["predictor", "teacher", "queue"]
D = TypeVar("D", bound="Loss | type[Learner]")


@dataclass(frozen=True)
class SSLObjective:
    """How an encoder learns without labels.

    Parameters
    ----------
    name
        What ``--ssl`` calls it.
    widths
        Of the layers of the projection head, which is thrown away afterwards; none where there
        is no such head.
    loss
        What is minimised over two views of each sample; None where `learner` says it.
    learner
        The class that trains; None where `loss` says it all.
    norm
        Whether the hidden layers of the projection head have batch normalisation.
    modality
        Of the samples that it takes; None takes both.
    views
        How many views of each sample a step sees.
    needs
        What it trains or keeps beside the encoder and the projection head.
    momentum
        Of the teacher at the start; None without a teacher.
    stops_early
        Whether a lower loss on held-out patients means a better encoder. It does not where the
        target moves, as that of a teacher.
    """

    name: str
    widths: tuple[int, ...] = ()
    loss: Loss | None = None
    learner: type[Learner] | None = None
    norm: bool = False
    modality: Modality | None = None
    views: int = 2
    needs: tuple[Need, ...] = ()
    momentum: float | None = None
    stops_early: bool = True

    def head(self, features: int) -> nn.Sequential:
        """Return a fresh projection head on representations ``(B, features)``."""
        from evenhand.pretraining.learners import perceptron

        return perceptron(features, self.widths, norm=self.norm)

    def make(self, encoder: Encoder) -> Learner:
        """Return what trains an encoder, with fresh heads.

        Raises
        ------
        EvenhandError
            The objective is for samples of another kind, or for another kind of network.
        """
        from evenhand.pretraining.learners import LossLearner

        self.check(encoder.modality)
        return (self.learner or LossLearner)(self, encoder)

    def with_momentum(self, momentum: float) -> SSLObjective:
        """Return the objective with another momentum of its teacher at the start.

        Raises
        ------
        EvenhandError
            It has no teacher, or the momentum is outside [0, 1).
        """
        if self.momentum is None:
            with_teacher = [
                name for name, other in SSL_OBJECTIVES.items() if other.momentum is not None
            ]
            raise EvenhandError(
                f"--teacher-momentum {momentum:g}: --ssl {self.name} has no teacher. Leave it out, "
                f"or give one of {', '.join(with_teacher)}."
            )
        check_momentum(momentum)
        return replace(self, momentum=momentum)

    def check(self, modality: Modality) -> None:
        """Refuse samples that the objective is not for.

        Raises
        ------
        EvenhandError
            It is for samples of the other kind.
        """
        if self.modality in (None, modality):
            return
        others = [
            name for name, other in SSL_OBJECTIVES.items() if other.modality in (None, modality)
        ]
        raise EvenhandError(
            f"--ssl {self.name} is for {self.modality}, and the samples are {modality}. Give "
            f"one of {', '.join(others)}."
        )


SSL_OBJECTIVES: Registry[SSLObjective] = Registry(
    "SSL objective", "pretraining/objectives", ("register_ssl",)
)
"""The SSL objectives by name."""


def register_ssl(
    name: str,
    widths: tuple[int, ...] = (),
    *,
    norm: bool = False,
    modality: Modality | None = None,
    views: int = 2,
    needs: tuple[Need, ...] = (),
    momentum: float | None = None,
    stops_early: bool = True,
) -> Callable[[D], D]:
    """Register the decorated loss, or class, as an SSL objective.

    A loss takes the projections of two views. Whatever needs more is a class of
    `evenhand.pretraining.learners.Learner`. The first line of the docstring is the title.

    Parameters
    ----------
    name
        What ``--ssl`` calls it.
    widths
        Of the layers of the projection head.
    norm
        Whether the hidden layers of the projection head have batch normalisation.
    modality
        ``"images"`` or ``"series"`` where it takes only these.
    views
        How many views of each sample a step sees.
    needs
        Of ``"predictor"``, ``"teacher"`` and ``"queue"`` those that it has.
    momentum
        What share of a teacher the first step keeps, in [0, 1); the share rises to 1
        (`evenhand.pretraining.teacher`).
    stops_early
        Whether a lower loss on held-out patients means a better encoder.

    Raises
    ------
    EvenhandError
        The name is taken, or there is a teacher without a schedule, or a schedule without a
        teacher.

    Examples
    --------
    >>> @register_ssl("distance", widths=(32,))
    ... def distance(first, second):
    ...     "Mean squared distance of the two views."
    ...     return (first - second).square().mean()
    >>> SSL_OBJECTIVES.titles()["distance"]
    'Mean squared distance of the two views.'
    >>> SSL_OBJECTIVES.remove("distance")
    """
    if ("teacher" in needs) != (momentum is not None):
        raise EvenhandError(
            f"SSL objective {name!r}: a teacher needs a schedule, and a schedule a teacher. Give "
            'both needs=("teacher",) and momentum=.99, or neither.'
        )
    if momentum is not None:
        check_momentum(momentum)

    def register(definition: D) -> D:
        is_class = isinstance(definition, type)
        objective = SSLObjective(
            name,
            widths,
            loss=None if is_class else cast("Loss", definition),
            learner=cast("type[Learner]", definition) if is_class else None,
            norm=norm,
            modality=modality,
            views=views,
            needs=needs,
            momentum=momentum,
            stops_early=stops_early,
        )
        title = (definition.__doc__ or "").partition("\n")[0]
        SSL_OBJECTIVES.add(
            name, objective, module=definition.__module__, title=title, doc=definition.__doc__ or ""
        )
        return definition

    return register


def check_momentum(momentum: float) -> None:
    """Refuse a momentum outside [0, 1): with 1 a teacher would never move.

    Raises
    ------
    EvenhandError
        It is outside.
    """
    if not 0 <= momentum < 1:
        raise EvenhandError(
            f"a teacher's momentum is {momentum:g}; it is at least 0 and less than 1, with which "
            "the teacher would never move."
        )
