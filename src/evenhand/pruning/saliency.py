"""What zeroing each parameter would cost: the error change of each group, and their balance."""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from evenhand.errors import UnknownNameError, import_extra, some

Named = Mapping[str, Tensor]

DRAWN = 2000
"""How many numbers of a layer a figure shows at most."""
COLORS = ("#0072b2", "#d55e00", "#009e73", "#a8548a", "#2a9bd6", "#b98200")
"""Of the groups in a figure; those of the report's figures on a light page."""


def error_change(theta: Named, curvature: Named) -> dict[str, Tensor]:
    """Return the predicted change of a group's error when each parameter is zeroed, ½ h θ².

    It is the second-order term at a minimum, where the gradient vanishes; what zeroing two
    parameters changes beyond the sum of both is neglected (Optimal Brain Damage, LeCun et al.
    1989).
    """
    return {name: theta[name].square() * h / 2 for name, h in curvature.items()}


def saliency(
    theta: Named,
    curvature: Mapping[Any, Named],
    unprivileged: Hashable,
    betas: Mapping[Any, float],
) -> dict[str, Tensor]:
    """Return s = ½ θ² (h_u - Σ_g β_g h_g); the smallest are pruned first (arXiv 2203.02110).

    Parameters
    ----------
    theta
        The parameters.
    curvature
        Group → parameter → h.
    unprivileged
        The group u whose error is to be kept.
    betas
        β_g of each privileged group g; with all of them 0 this is Optimal Brain Damage on u.
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
        Group → parameter → the predicted change ½ h θ² of the group's error when a number is
        zeroed; the unprivileged group first.
    """

    def __init__(self, values: Named, by_group: Mapping[Hashable, Named]) -> None:
        super().__init__(values)
        self.by_group = by_group

    def __repr__(self) -> str:
        """Return a line for each parameter, with its mean and its range."""
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
        theta: Named,
        curvature: Mapping[Any, Named],
        unprivileged: Hashable,
        betas: Mapping[Any, float],
    ) -> GroupSaliency:
        """Return the saliency and each group's error change; arguments as in `saliency`."""
        groups = (unprivileged, *betas)
        changes = {group: error_change(theta, curvature[group]) for group in groups}
        return cls(saliency(theta, curvature, unprivileged, betas), changes)

    def sample(self, layer: str, most: int = DRAWN) -> pd.DataFrame:
        """Return numbers of a layer, evenly spaced in the order of the unprivileged group.

        Parameters
        ----------
        layer
            The name of a parameter, or of a module, all of whose parameters are taken.
        most
            How many rows at most; the smallest and the largest are among them.

        Returns
        -------
        pandas.DataFrame
            ``parameter`` and ``place`` (in the flattened parameter) name a number; ``rank``, 0 … 1,
            is its place in the order of the unprivileged group's error change. Then a column
            ``change:<group>`` for each group: the predicted change of its error when the number is
            zeroed.

        Raises
        ------
        EvenhandError
            There is no such layer.
        """
        names = [name for name in self if f"{name}.".startswith(f"{layer}.")]
        if not names:
            raise unknown_parameters([layer], list(self))
        changes = {
            group: np.concatenate([own[name].flatten().cpu().numpy() for name in names])
            for group, own in self.by_group.items()
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
                **{change_of(group): own[chosen] for group, own in changes.items()},
            }
        )

    def plot(self, layer: str | None = None, ax: Any = None) -> Any:
        """Draw the predicted error change of each number of a layer, by group.

        The numbers stand in the order of the unprivileged group. Where another group lies above it,
        that group needs the number more. The figure shows up to 2,000 numbers of the layer.

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
            There is no such layer, or matplotlib is not installed.
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
        for group, color in zip(others, _cycled(COLORS[1:], len(others)), strict=True):
            own = table[change_of(group)]
            ax.plot(share, own, "o", markersize=2.5, color=color, label=str(group))
        ax.plot(share, table[change_of(first)], color=COLORS[0], linewidth=2, label=str(first))
        values = table[[*map(change_of, self.by_group)]].to_numpy(float)
        unit = _unit(values)
        ax.set_yscale("asinh", linear_width=unit)
        if values.min() >= 0:
            ax.set_ylim(bottom=-unit / 2)
        ax.set_title(layer, loc="left", fontweight="bold")
        ax.set_xlabel(f"numbers in the order of {first}, percent")
        ax.set_ylabel("predicted change of error")
        ax.legend(frameon=False)
        return ax


def change_of(group: Hashable) -> str:
    """Return the column of a sample that holds the predicted change of a group's error."""
    return f"change:{group}"


def unknown_parameters(unknown: Sequence[str], names: Sequence[str]) -> UnknownNameError:
    """Return the error for names that are no parameters of a network."""
    near = difflib.get_close_matches(unknown[0], names, n=3)
    return UnknownNameError(
        f"the network has no parameter {some(map(repr, unknown))}; near it: "
        f"{', '.join(near) or some(names)}."
    )


def _cycled(colors: Sequence[str], count: int) -> list[str]:
    return [colors[number % len(colors)] for number in range(count)]


def _unit(values: NDArray[np.float64]) -> float:
    """Return the size below which an axis is linear: the lower quartile of what is not 0."""
    sizes = np.abs(values[values != 0])
    return float(np.quantile(sizes, 0.25)) if sizes.size else 1.0
