"""A layer's features, and the kernel that measures the similarity of two samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RowIndices = NDArray[np.intp]

SAMPLED = 1000
"""The largest number of rows for the median distance."""


@dataclass(frozen=True, eq=False)
class Layer:
    """The features of one layer, with a kernel.

    Attributes
    ----------
    features
        ``(N, d)``, one row per sample; Gram matrices have their precision.
    bandwidth
        σ of the RBF kernel exp(−|x − y|² / 2σ²); None stands for the linear kernel.
    """

    features: NDArray[np.floating]
    bandwidth: float | None = None

    @property
    def width(self) -> int:
        """The number of features."""
        return int(self.features.shape[1])

    def centred(self, chosen: RowIndices) -> NDArray[np.floating]:
        """Return the features of some rows minus their mean.

        This keeps more digits, and does not change HSIC: a shift of all features changes a kernel
        only by a sum of terms that depend on one sample each, which centring removes.
        """
        rows = self.features[chosen]
        rows -= rows.mean(axis=0)
        return rows

    def gram(self, chosen: RowIndices) -> NDArray[np.floating]:
        """Return the kernel of all pairs of some rows, ``(n, n)``; the diagonal is not used."""
        rows = self.centred(chosen)
        products: NDArray[np.floating] = rows @ rows.T
        if self.bandwidth is None:
            return products
        squares = np.diagonal(products).copy()
        products *= 2
        products -= squares
        products -= squares[:, None]  # now minus the squared distances
        products /= 2 * self.bandwidth**2
        np.exp(products, out=products)
        return products


def rbf_layer(features: NDArray[np.floating], share: float, rng: np.random.Generator) -> Layer:
    """Return a layer with an RBF kernel; its bandwidth is a share of the median distance of rows.

    The bandwidth comes from all rows, so all groups are compared by the same kernel. If the median
    distance is 0, the bandwidth is 1.
    """
    from scipy.spatial.distance import pdist  # every audit imports this module

    sampled = rng.permutation(len(features))[:SAMPLED]
    median = float(np.median(pdist(features[sampled]))) if len(sampled) > 1 else 0.0
    return Layer(features, share * median if median > 0 else 1.0)
