"""Full width at half maximum of a sampled profile."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tenet.errors import TenetError


def fwhm(profile: ArrayLike, spacing: float) -> float:
    """Full width at half maximum of a sampled profile, such as a line through a PSF.

    The half maximum, counted from zero, is crossed by linear interpolation on either side of the
    highest sample.

    Parameters
    ----------
    profile
        Samples of a non-negative profile with one peak.
    spacing
        Distance between samples.

    Returns
    -------
    float
        Width in the unit of `spacing`; infinite if the profile is cut off above half its maximum.

    Raises
    ------
    TenetError
        If the profile is not one-dimensional or has no positive sample.

    Examples
    --------
    >>> x_um = np.linspace(-3, 3, 61)
    >>> round(float(fwhm(np.exp(-(x_um**2) / 2), spacing=0.1)), 2)  # a Gaussian, σ = 1 µm
    2.36
    """
    samples = np.asarray(profile, dtype=np.float64)
    if samples.ndim != 1 or samples.size == 0 or not samples.max() > 0:
        raise TenetError("a width needs a one-dimensional profile with a positive sample")
    peak = int(samples.argmax())
    half = samples[peak] / 2

    def distance_to_half(side: NDArray[np.float64]) -> float:
        below = np.flatnonzero(side < half)
        if below.size == 0:
            return float("inf")
        after = int(below[0])
        return after - (half - side[after]) / (side[after - 1] - side[after])

    return spacing * (distance_to_half(samples[peak:]) + distance_to_half(samples[peak::-1]))
