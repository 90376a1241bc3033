"""Methods for trained models: a function that is fitted to arrays, with its description."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from evenhand.errors import unknown_setting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

AttributeNeed = Literal["yes", "inferred", "no"]
"""Whether an adjusted model needs the attribute of a row; ``inferred``: it predicts it itself."""

COMPUTED = ("patients", "features", "head", "seed")
"""Keywords of a fit that Evenhand computes; all others are settings of the method."""


class PostHocFit(Protocol):
    """A fitted method, which can be applied to any rows."""

    @property
    def attribute(self) -> AttributeNeed:
        """Whether `apply` needs the groups."""

    def apply(self, inputs: ArrayLike, groups: Any, /) -> NDArray[np.float64]:
        """Return new scores from scores ``(n,)`` or features ``(n, D)``."""


@dataclass(frozen=True)
class PostHoc:
    """A method that works on the scores or features of a trained model.

    Attributes
    ----------
    fit
        A function of scores or features, labels and groups, and of keywords; it returns a
        `PostHocFit`. Evenhand computes the keywords in `COMPUTED`; the other keywords are settings.
    takes
        The kind of the first argument: scores ``(n,)`` of class 1, or features ``(n, D)``.
    groups
        The kind of the third argument: the group of each row (``"one"``), or a table with a
        column for each attribute.
    needs
        A sentence that says what the method needs.
    source
        The publication.
    """

    fit: Callable[..., Any]
    takes: Literal["scores", "features"]
    groups: Literal["one", "table"]
    needs: str
    source: str

    @property
    def settings(self) -> Mapping[str, inspect.Parameter]:
        """The settings of the method, by name."""
        parameters = inspect.signature(self.fit).parameters
        return {
            name: parameter
            for name, parameter in parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY and name not in COMPUTED
        }

    def check_settings(self, name: str, settings: Mapping[str, Any]) -> None:
        """Refuse settings that the method with that name does not have.

        Raises
        ------
        EvenhandError
            If the method lacks a setting; the message lists its settings.
        """
        allowed = self.settings
        for setting in settings:
            if setting not in allowed:
                raise unknown_setting(name, setting, allowed)

    def computed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the computed values for which `fit` has a keyword."""
        parameters = inspect.signature(self.fit).parameters
        keywords = {
            name
            for name, parameter in parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY
        }
        return {name: value for name, value in values.items() if name in keywords}
