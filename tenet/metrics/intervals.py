"""Intervals of means, by a bootstrap over clusters."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tenet.errors import TenetError


class Interval(NamedTuple):
    """A mean and the bounds of its confidence interval."""

    value: float
    low: float
    high: float


def bootstrap_interval(
    values: ArrayLike,
    clusters: Sequence[Any] | NDArray[Any] | None = None,
    *,
    rng: np.random.Generator,
    confidence: float = 0.95,
    n_resamples: int = 2000,
) -> Interval:
    """Mean and its percentile bootstrap interval, resampling whole clusters.

    Images are resampled, and not beads, because beads of one image share its optics and its noise:
    resampling beads would pretend to more independent observations than there are.

    Parameters
    ----------
    values
        One number per observation.
    clusters
        The cluster (image) of each observation; by default each is its own.
    rng
        Source of the resamples.
    confidence
        Level of the interval, in (0, 1).
    n_resamples
        Number of bootstrap samples.

    Returns
    -------
    Interval
        The mean of all values, and the bounds; the bounds are NaN when there is only one
        cluster, which says nothing of the spread between clusters.

    Raises
    ------
    TenetError
        If there are no values, one is not finite, or the numbers of values and clusters differ.
    """
    observations = np.asarray(values, dtype=np.float64)
    if observations.ndim != 1 or observations.size == 0 or not np.isfinite(observations).all():
        raise TenetError("a bootstrap interval needs a list of finite values, with at least one")
    labels = np.arange(observations.size) if clusters is None else np.asarray(clusters)
    if labels.shape != observations.shape:
        raise TenetError(
            f"each value needs a cluster, but there are {observations.size} values and "
            f"{labels.size} clusters"
        )
    _, group, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    value = float(observations.mean())
    if len(sizes) == 1:
        return Interval(value, float("nan"), float("nan"))
    sums = np.bincount(group, observations)

    def of_resamples(drawn: NDArray[np.intp], axis: int) -> NDArray[np.float64]:
        return np.asarray(sums[drawn].sum(axis) / sizes[drawn].sum(axis))

    # Half a second of imports that most commands can do without.
    from scipy import stats

    interval = stats.bootstrap(
        (np.arange(len(sizes)),),
        of_resamples,
        n_resamples=n_resamples,
        vectorized=True,
        confidence_level=confidence,
        method="percentile",
        rng=rng,
    ).confidence_interval
    return Interval(value, float(interval.low), float(interval.high))
