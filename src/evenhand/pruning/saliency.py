"""Saliency: the predicted change of each group's error when a weight is set to zero."""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from evenhand.errors import UnknownNameError, first_few, import_extra

NamedTensors = Mapping[str, Tensor]
"""Name of a parameter → tensor of its shape."""

DRAWN = 2000
"""The largest number of weights of a layer that a figure shows."""
COLORS = ("#0072b2", "#d55e00", "#009e73", "#a8548a", "#2a9bd6", "#b98200")
"""Colors of the groups in a figure, as in the report's figures on a light page."""


def error_change(theta: NamedTensors, curvature: NamedTensors) -> dict[str, Tensor]:
    """Return the predicted change of a group's error when each parameter is zeroed, ½ h θ².

    This is the second-order term at a minimum, where the gradient vanishes. Interactions between
    parameters are neglected (Optimal Brain Damage, LeCun et al. 1989).
    """
    return {name: theta[name].square() * h / 2 for name, h in curvature.items()}


def saliency(
    theta: NamedTensors,
    curvature: Mapping[Any, NamedTensors],
    unprivileged: Hashable,
    betas: Mapping[Any, float],
) -> dict[str, Tensor]:
    """Return s = ½ θ² (h_u - Σ_g β_g h_g); the smallest are pruned first (arXiv 2203.02110).

    Parameters
    ----------
    theta
        The parameters.
    curvature
        Group → parameter → second derivative h of the group's loss.
    unprivileged
        The group u whose error should not rise.
    betas
        β_g of each privileged group g; if all are 0, s is Optimal Brain Damage on u.
    """
    balance = {name: h.clone() for name, h in curvature[unprivileged].items()}
    for group, beta in betas.items():
        for name, h in curvature[group].items():
            balance[name].sub_(h, alpha=beta)
    return error_change(theta, balance)


class GroupSaliency(dict[str, Tensor]):
    """Saliency by the parameter's name, of the parameter's shape.

    Attributes
    ----------
    by_group
        Group → parameter → predicted change ½ h θ² of the group's error when a weight is zeroed;
        the unprivileged group first.
    """

    def __init__(self, values: NamedTensors, by_group: Mapping[Hashable, NamedTensors]) -> None:
        super().__init__(values)
        self.by_group = by_group

    def __repr__(self) -> str:
        """Return one line per parameter with the mean and the range of its saliency."""
        groups = ", ".join(map(str, self.by_group))
        lines = [
            f"{name} {tuple(values.shape)}: mean {values.mean():.3g}, "
            f"{values.min():.3g} to {values.max():.3g}"
            for name, values in self.items()
        ]
        return "\n".join([f"Saliency of {len(self)} parameters, groups {groups}", *lines])

    @classmethod
    def compute(
        cls,
        theta: NamedTensors,
        curvature: Mapping[Any, NamedTensors],
        unprivileged: Hashable,
        betas: Mapping[Any, float],
    ) -> GroupSaliency:
        """Return the saliency and each group's error change; arguments as in `saliency`."""
        groups = (unprivileged, *betas)
        changes = {group: error_change(theta, curvature[group]) for group in groups}
        return cls(saliency(theta, curvature, unprivileged, betas), changes)

    def sample(self, layer: str, most: int = DRAWN) -> pd.DataFrame:
        """Return a sample of a layer's weights, evenly spaced by rank of error change.

        Parameters
        ----------
        layer
            The name of a parameter, or of a module; a module stands for all of its parameters.
        most
            The largest number of rows. The weights with the smallest and the largest change of the
            unprivileged group's error are always included.

        Returns
        -------
        pandas.DataFrame
            One row per weight: ``parameter``, ``place`` (its index in the flattened parameter),
            ``rank`` (0 … 1, by the unprivileged group's error change), and for each group a column
            ``change:<group>``, the predicted change of its error when the weight is zeroed.

        Raises
        ------
        EvenhandError
            If no parameter or module has that name.
        """
        names = [name for name in self if f"{name}.".startswith(f"{layer}.")]
        if not names:
            raise unknown_parameters([layer], list(self))
        changes = {
            group: np.concatenate([tensors[name].flatten().cpu().numpy() for name in names])
            for group, tensors in self.by_group.items()
        }
        order = np.argsort(next(iter(changes.values())), kind="stable")
        ranks = np.unique(np.linspace(0, len(order) - 1, min(most, len(order))).round().astype(int))
        chosen = order[ranks]
        sizes = [self[name].numel() for name in names]
        return pd.DataFrame(
            {
                "parameter": np.repeat(names, sizes)[chosen],
                "place": np.concatenate([np.arange(size) for size in sizes])[chosen],
                "rank": ranks / max(len(order) - 1, 1),
                **{change_column(group): change[chosen] for group, change in changes.items()},
            }
        )

    def plot(self, layer: str | None = None, ax: Any = None) -> Any:
        """Draw the predicted error change of each weight of a layer, by group.

        The weights are sorted by the change of the unprivileged group's error, which is a line;
        points above the line are weights that matter more to another group. The figure shows at
        most 2,000 weights.

        Parameters
        ----------
        layer
            The name of a parameter or module; by default the parameter whose removal changes the
            unprivileged group's error most.
        ax
            Matplotlib's axes; by default new ones.

        Returns
        -------
        matplotlib.axes.Axes
            The axes.

        Raises
        ------
        EvenhandError
            If no parameter or module has that name, or if matplotlib is not installed.
        """
        first, *others = self.by_group
        if layer is None:
            changes = self.by_group[first]
            layer = max(changes, key=lambda name: float(changes[name].sum()))
        table = self.sample(layer)
        if ax is None:
            figures = import_extra("matplotlib.pyplot", "plot", "figures")
            ax = figures.subplots(layout="constrained")[1]
        share = 100 * table["rank"]
        for group, color in zip(others, cycle(COLORS[1:]), strict=False):
            ax.plot(
                share,
                table[change_column(group)],
                "o",
                markersize=2.5,
                color=color,
                label=str(group),
            )
        ax.plot(share, table[change_column(first)], color=COLORS[0], linewidth=2, label=str(first))
        values = table[[*map(change_column, self.by_group)]].to_numpy(float)
        width = _linear_width(values)
        ax.set_yscale("asinh", linear_width=width)
        if values.min() >= 0:
            ax.set_ylim(bottom=-width / 2)
        ax.set_title(layer, loc="left", fontweight="bold")
        ax.set_xlabel(f"numbers in the order of {first}, percent")
        ax.set_ylabel("predicted change of error")
        ax.legend(frameon=False)
        return ax


def change_column(group: Hashable) -> str:
    """Return the name of the column with the predicted change of a group's error."""
    return f"change:{group}"


def unknown_parameters(unknown: Sequence[str], names: Sequence[str]) -> UnknownNameError:
    """Return the error for names that are no parameters of a network."""
    near = difflib.get_close_matches(unknown[0], names, n=3)
    return UnknownNameError(
        f"the network has no parameter {first_few(map(repr, unknown))}; near it: "
        f"{', '.join(near) or first_few(names)}."
    )


def _linear_width(values: NDArray[np.float64]) -> float:
    """Return the size below which the axis is linear: the lower quartile of non-zero sizes."""
    sizes = np.abs(values[values != 0])
    return float(np.quantile(sizes, 0.25)) if sizes.size else 1.0
