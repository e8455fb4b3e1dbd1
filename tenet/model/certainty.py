"""How sure a model is: the probability that a voxel of its segmentation is wrong."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from tenet.model.store import BINS


class Counts:
    """Numbers of voxels, and of voxels in structures, for each bin of the shape's probability.

    Parameters
    ----------
    weights : sequence of float, optional
        How much the voxels of each volume count; by default all count alike.
    """

    def __init__(self, weights: Sequence[float] | None = None) -> None:
        self.voxels, self.inside = np.zeros(BINS), np.zeros(BINS)
        self.weights = weights

    def seen(
        self, pairs: Iterable[tuple[NDArray[np.float32], NDArray[np.uint8]]]
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.uint8]]]:
        """Count the voxels of (probability, truth) pairs, and hand the pairs on."""
        weights = self.weights or repeat(1.0)
        for (probability, truth), weight in zip(pairs, weights, strict=False):
            bins = np.minimum((probability * BINS).astype(np.intp), BINS - 1).ravel()
            self.voxels += weight * np.bincount(bins, minlength=BINS)
            self.inside += weight * np.bincount(bins[truth.ravel() > 0], minlength=BINS)
            yield probability, truth

    def shares(self) -> list[float]:
        """Share of voxels in structures for each bin, rising with the probability.

        Each bin starts from one voxel with the share that its probability says, so that no bin is
        empty. Isotonic regression (Barlow et al., Statistical Inference under Order Restrictions,
        1972) makes the shares rise.
        """
        from scipy.optimize import isotonic_regression  # this import takes most of a second

        centres = (np.arange(BINS) + 0.5) / BINS
        voxels = self.voxels + 1
        rising = isotonic_regression((self.inside + centres) / voxels, weights=voxels)
        return [round(float(share), 6) for share in rising.x]


@dataclass(frozen=True)
class Certainty:
    """The meaning of a model's probabilities, found on held-out phantoms.

    Attributes
    ----------
    threshold : float
        A voxel belongs to the shape from this probability on.
    shares : tuple of float
        Share of voxels in structures, for each bin of the probability.
    """

    threshold: float
    shares: tuple[float, ...]

    def wrong(self, probability: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probability that a voxel with this probability is on the wrong side of the threshold.

        Parameters
        ----------
        probability : ndarray
            Probability of the shape, in [0, 1].

        Returns
        -------
        ndarray of float32, of the same shape
        """
        centres = (np.arange(BINS) + 0.5) / BINS
        inside = np.interp(probability, centres, self.shares).astype(np.float32)
        return np.where(probability >= self.threshold, 1 - inside, inside)
