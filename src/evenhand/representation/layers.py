"""What a layer makes of each sample, and the kernel by which two samples are alike in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.intp]

SAMPLED = 1000
"""Rows, at most, that the median distance is taken over."""


@dataclass(frozen=True, eq=False)
class Layer:
    """The features of one layer, with a kernel.

    Attributes
    ----------
    features
        ``(N, d)``, one row per sample; what is computed has their precision.
    bandwidth
        Of the RBF kernel exp(−|x − y|² / 2σ²); None is the linear kernel.
    """

    features: NDArray[np.floating]
    bandwidth: float | None = None

    @property
    def width(self) -> int:
        """The number of features."""
        return int(self.features.shape[1])

    def centred(self, chosen: Rows) -> NDArray[np.floating]:
        """Return the features of some rows less their mean.

        No kernel here changes by more than a sum over its two samples when all features move,
        which the estimator does not see; the numbers keep more digits.
        """
        rows = self.features[chosen]
        rows -= rows.mean(axis=0)
        return rows

    def gram(self, chosen: Rows) -> NDArray[np.floating]:
        """Return the kernel of each two of some rows, ``(n, n)``; the diagonal is of no account."""
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
    """Return a layer with an RBF kernel as wide as a share of the median distance of two rows.

    One bandwidth for all groups: they are to be compared by the same kernel. Where the median
    distance is 0 no bandwidth would do, and the layer's similarity is undefined.
    """
    from scipy.spatial.distance import pdist  # every audit imports this module

    sampled = rng.permutation(len(features))[:SAMPLED]
    middle = float(np.median(pdist(features[sampled]))) if len(sampled) > 1 else 0.0
    return Layer(features, share * middle if middle > 0 else 1.0)
