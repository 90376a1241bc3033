"""The registry of SSL objectives by name; importing it loads no heavy library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar, cast

from evenhand.errors import EvenhandError
from evenhand.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

    from evenhand.pretraining.learners import Encoder, Learner

ViewLoss = Callable[["Tensor", "Tensor"], "Tensor"]
"""Function of the projections ``(B, D)`` of the first and of the second views; a loss."""

Modality = Literal["images", "series"]
Extra = Literal["predictor", "teacher", "queue"]
D = TypeVar("D", bound="ViewLoss | type[Learner]")


@dataclass(frozen=True)
class SSLObjective:
    """A registered SSL objective: how an encoder learns without labels.

    Attributes
    ----------
    name
        Its name in ``--ssl``.
    widths
        Widths of the layers of the projection head, which is discarded after training; empty if
        there is no such head.
    loss
        Loss on two views of each sample; None if ``learner`` is given.
    learner
        Class that computes the loss; None if ``loss`` is given.
    norm
        Whether the hidden layers of the projection head have batch normalisation.
    modality
        Modality of the samples that it takes; None takes both.
    views
        Number of views of each sample in a step.
    needs
        What it has besides the encoder and the projection head.
    momentum
        Momentum of the teacher at the start; None without a teacher.
    stops_early
        Whether a lower loss on held-out patients means a better encoder. This is false if the
        target changes during training, as a teacher's does.
    """

    name: str
    widths: tuple[int, ...] = ()
    loss: ViewLoss | None = None
    learner: type[Learner] | None = None
    norm: bool = False
    modality: Modality | None = None
    views: int = 2
    needs: tuple[Extra, ...] = ()
    momentum: float | None = None
    stops_early: bool = True

    def head(self, features: int) -> nn.Sequential:
        """Return a fresh projection head on representations ``(B, features)``."""
        from evenhand.pretraining.learners import perceptron

        return perceptron(features, self.widths, norm=self.norm)

    def make(self, encoder: Encoder) -> Learner:
        """Return the learner of an encoder, with fresh heads.

        Raises
        ------
        EvenhandError
            If the objective is for another modality or for another kind of network.
        """
        from evenhand.pretraining.learners import LossLearner

        self.check(encoder.modality)
        return (self.learner or LossLearner)(self, encoder)

    def with_momentum(self, momentum: float) -> SSLObjective:
        """Return the objective with another initial momentum of its teacher.

        Raises
        ------
        EvenhandError
            If the objective has no teacher, or if the momentum is outside [0, 1).
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
        """Check that the objective takes samples of a modality.

        Raises
        ------
        EvenhandError
            If it takes only the other modality.
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
    needs: tuple[Extra, ...] = (),
    momentum: float | None = None,
    stops_early: bool = True,
) -> Callable[[D], D]:
    """Register the decorated loss, or class, as an SSL objective.

    A loss takes the projections of two views. An objective that needs more is a subclass of
    `evenhand.pretraining.learners.Learner`. The first line of the docstring is the title.

    Parameters
    ----------
    name
        Its name in ``--ssl``.
    widths
        Widths of the layers of the projection head.
    norm
        Whether the hidden layers of the projection head have batch normalisation.
    modality
        ``"images"`` or ``"series"`` if it takes only these; None takes both.
    views
        Number of views of each sample in a step.
    needs
        Those of ``"predictor"``, ``"teacher"`` and ``"queue"`` that it has.
    momentum
        Initial momentum of the teacher, in [0, 1); it rises to 1
        (`evenhand.pretraining.learners`). None without a teacher.
    stops_early
        Whether a lower loss on held-out patients means a better encoder.

    Raises
    ------
    EvenhandError
        If the name is taken, if there is a teacher without a momentum, or a momentum without a
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
            f"SSL objective {name!r}: a teacher needs a momentum, and a momentum a teacher. Give "
            'both needs=("teacher",) and momentum=.99, or neither.'
        )
    if momentum is not None:
        check_momentum(momentum)

    def register(definition: D) -> D:
        is_class = isinstance(definition, type)
        objective = SSLObjective(
            name,
            widths,
            loss=None if is_class else cast("ViewLoss", definition),
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
    """Refuse a teacher's momentum outside [0, 1): with 1 the teacher would never change.

    Raises
    ------
    EvenhandError
        If the momentum is outside [0, 1).
    """
    if not 0 <= momentum < 1:
        raise EvenhandError(
            f"the teacher's momentum is {momentum:g}; give at least 0 and less than 1 (with 1 the "
            "teacher would never change)."
        )
