"""Full widths at half maximum of Gaussians fitted to a bead."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from tenet.errors import TenetError
from tenet.metrics.shapes import _centre, _voxel_size


def gaussian_fwhm(
    intensity_zyx: NDArray[Any], centre_zyx: Sequence[float], voxel_size_um: Sequence[float]
) -> tuple[float, float, float]:
    """Full widths at half maximum of Gaussians fitted to the three lines through a point.

    Each line is fitted by a·exp(−(u − u₀)²/2σ²) + c with free a, u₀, σ and offset c;
    the width is 2√(2 ln 2) σ.

    Parameters
    ----------
    intensity_zyx
        Intensities, shape (Z, Y, X).
    centre_zyx
        The point in voxels, e.g. the centroid of the bead; rounded to the nearest voxel.
    voxel_size_um
        Voxel size (z, y, x) in µm.

    Returns
    -------
    tuple of float
        Widths along z, y, x in µm; NaN where the line is flat, the fit does not converge, or the
        width is more than the line's length.

    Raises
    ------
    TenetError
        If the point lies outside of the volume.

    Examples
    --------
    >>> z, y, x = np.mgrid[-10:11, -10:11, -10:11]
    >>> bead = np.exp(-(z / 4) ** 2 / 2 - (y**2 + x**2) / 2 / 2**2)
    >>> widths_um = gaussian_fwhm(bead, (10, 10, 10), (0.1, 0.1, 0.1))
    >>> [round(width, 2) for width in widths_um]
    [0.94, 0.47, 0.47]
    """
    volume = np.asarray(intensity_zyx, dtype=np.float64)
    spacing = _voxel_size(voxel_size_um)
    if volume.ndim != 3:
        raise TenetError(f"expected a volume (Z, Y, X), got shape {volume.shape}")
    centre = np.round(_centre(volume.shape, centre_zyx)).astype(int)
    if np.any(centre < 0) or np.any(centre >= volume.shape):
        raise TenetError(f"the point {tuple(centre_zyx)} is outside of the volume {volume.shape}")
    widths = []
    for axis in range(3):
        line: list[Any] = list(centre)
        line[axis] = slice(None)
        widths.append(_fitted_fwhm(volume[tuple(line)], int(centre[axis])) * spacing[axis])
    z, y, x = (float(width) for width in widths)
    return (z, y, x)


def _fitted_fwhm(profile: NDArray[np.float64], centre: int) -> float:
    """FWHM, in samples, of a Gaussian with offset fitted to a profile."""
    if profile.size < 4 or not np.ptp(profile) > 0:
        return float("nan")

    def gaussian(
        u: NDArray[np.float64], height: float, middle: float, sigma: float, offset: float
    ) -> NDArray[np.float64]:
        return height * np.exp(-((u - middle) ** 2) / (2 * sigma**2)) + offset

    positions = np.arange(profile.size, dtype=np.float64)
    above_half = np.count_nonzero(profile > (profile.min() + profile.max()) / 2)
    start = (np.ptp(profile), float(centre), max(above_half / 2.355, 0.5), profile.min())
    lower = (0.0, -0.5, 0.1, -np.inf)
    upper = (np.inf, profile.size - 0.5, 4.0 * profile.size, np.inf)
    try:
        fit, _ = optimize.curve_fit(gaussian, positions, profile, p0=start, bounds=(lower, upper))
    except RuntimeError:  # scipy's word for no convergence
        return float("nan")
    width = float(2 * np.sqrt(2 * np.log(2)) * fit[2])
    # Of a flat top only part of a far too wide Gaussian is fitted: that is no measurement.
    return width if width <= profile.size else float("nan")
