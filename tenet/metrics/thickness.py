"""How thick the structures of a segmentation are."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def mean_thickness(shape_zyx: NDArray[Any]) -> float:
    """Mean thickness of structures in voxels, as of cylinders: four volumes over the surface.

    Faces of voxels make a surface 3/2 times as large as it is, on average over all directions.
    Faces at the border are no surface. The mean weighs structures by their surface.

    Parameters
    ----------
    shape_zyx : ndarray, shape (Z, Y, X)
        True, or above 0, inside of structures.

    Returns
    -------
    float
        NaN where there is no structure, or no surface.

    Examples
    --------
    >>> y, x = np.indices((41, 41)) - 20
    >>> cylinder = np.tile(y**2 + x**2 <= 6.5**2, (30, 1, 1))
    >>> round(mean_thickness(cylinder))  # 13, and more because it stands straight
    16
    """
    inside = shape_zyx > 0
    faces = sum(np.count_nonzero(np.diff(inside, axis=axis)) for axis in range(3))
    volume = np.count_nonzero(inside)
    return float(6 * volume / faces) if volume and faces else math.nan
