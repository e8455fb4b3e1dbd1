"""A search for one number by trying values, because its gradient would be biased."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Steps in which losses are followed downhill, and then on either side of the best.
COARSE, FINE = 0.2, 0.1
#: How far below and above the start it may lead; at the least a PSF is a little shorter than it is
#: fitted for (`tenet.physics.psf.SPARE`), which affects the loss.
LOWEST, HIGHEST = -0.5, 0.6
#: Most values that are tried, the start included.
MOST_TRIED = math.floor(-LOWEST / COARSE) + math.floor(HIGHEST / COARSE) + 3
#: How many standard errors better than the start something must be.
SURE = 2.0


class Found(NamedTuple):
    """Where a loss is lowest.

    `value` is the start, unless the mean `gain` over the start is at least `SURE` times the
    `standard_error` of the gain.
    """

    value: float
    gain: float
    standard_error: float
    tried: list[tuple[float, float]]


def lowest(losses: Callable[[float], Sequence[float]], start: float) -> Found:
    """Find where the mean of some losses is lowest, from `LOWEST` to `HIGHEST` about `start`.

    Parameters
    ----------
    losses : callable
        Losses of the same samples, at least two, at a value.
    start : float
        What is kept where nothing is better by `SURE` times the standard error of the differences.

    Returns
    -------
    Found
        With the vertex of the parabola through the best of what was tried and its neighbours; at
        the end of the range, that end.
    """
    seen: dict[float, NDArray[np.float64]] = {}

    def mean(offset: float) -> float:
        if offset not in seen:
            seen[offset] = np.asarray(losses(start + offset), dtype=float)
        return float(seen[offset].mean())

    def may(offset: float) -> bool:
        return LOWEST <= offset <= HIGHEST

    for side in (-COARSE, COARSE):  # downhill on either side
        offset = 0.0
        while may(further := round(offset + side, 6)) and mean(further) < mean(offset):
            offset = further
    best = min(seen, key=mean)
    for side in (-FINE, FINE):
        if may(further := round(best + side, 6)):
            mean(further)
    best = min(seen, key=mean)
    gains = seen[0.0] - seen[best]
    error = float(gains.std(ddof=1) / math.sqrt(len(gains)))
    tried = [(start + offset, mean(offset)) for offset in sorted(seen)]
    if gains.mean() <= SURE * error:
        return Found(start, 0.0, error, tried)
    return Found(start + best + _vertex(seen, best), float(gains.mean()), error, tried)


def _vertex(seen: dict[float, NDArray[np.float64]], best: float) -> float:
    """How far from the best the parabola through its neighbours at `FINE` is lowest."""
    sides = [seen.get(round(best + side, 6)) for side in (-FINE, FINE)]
    if sides[0] is None or sides[1] is None:
        return 0.0
    low, middle, high = sides[0].mean(), seen[best].mean(), sides[1].mean()
    curvature = low - 2 * middle + high
    return float(FINE * (low - high) / (2 * curvature)) if curvature > 0 else 0.0
