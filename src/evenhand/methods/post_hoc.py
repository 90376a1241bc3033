"""What a method for trained models is: a fit on arrays, and what it needs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from evenhand.errors import unknown_setting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

Need = Literal["yes", "inferred", "no"]
"""Whether the attribute of a row must be known when the adjusted model scores it."""

COMPUTED = ("patients", "features", "head", "seed")
"""Keywords of a fit that the caller computes, and that are no settings of the method."""


class Fit(Protocol):
    """What a method has fitted, and applies to any rows."""

    @property
    def attribute(self) -> Need:
        """Whether `apply` needs the groups."""

    def apply(self, inputs: ArrayLike, groups: Any, /) -> NDArray[np.float64]:
        """Return new scores of scores ``(n,)`` or of features ``(n, D)``."""


@dataclass(frozen=True)
class PostHoc:
    """A method that works on the output of a trained model.

    Attributes
    ----------
    fit
        A function of scores or features, labels and groups, and of keywords; returns a `Fit`.
        Of these keywords those in `COMPUTED` are given by the caller, the others are settings.
    takes
        What its first argument is: scores ``(n,)`` of class 1, or features ``(n, D)``.
    groups
        What its third argument is: the group of each row, or a table with a column an attribute.
    needs
        What it needs, in words.
    source
        Where it was published.
    """

    fit: Callable[..., Any]
    takes: Literal["scores", "features"]
    groups: Literal["one", "table"]
    needs: str
    source: str

    @property
    def settings(self) -> Mapping[str, inspect.Parameter]:
        """The settings of the method by name."""
        parameters = inspect.signature(self.fit).parameters
        return {
            name: parameter
            for name, parameter in parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY and name not in COMPUTED
        }

    def check_settings(self, name: str, settings: Mapping[str, Any]) -> None:
        """Refuse settings that the method, of that name, does not have.

        Raises
        ------
        EvenhandError
            It has no such setting; the text lists those that it has.
        """
        allowed = self.settings
        for setting in settings:
            if setting not in allowed:
                raise unknown_setting(name, setting, allowed)

    def computed(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of some computed keywords that the fit takes."""
        takes = inspect.signature(self.fit).parameters
        keywords = {name for name, of in takes.items() if of.kind is of.KEYWORD_ONLY}
        return {name: value for name, value in given.items() if name in keywords}
