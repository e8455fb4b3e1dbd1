"""How large a grid must be to hold the light of a PSF."""

from typing import NamedTuple

import numpy as np

from tenet.physics.optics import RadialPSF, model_fwhm_um
from tenet.types import Triple, VoxelSize

#: Most planes, rows and columns: a grid beyond takes more memory and time than its light is worth.
MOST = (401, 101, 101)
#: Where light is looked for, on either side of the focus, in full widths at half maximum.
_WIDTHS = 40


class Extent(NamedTuple):
    """Size of a PSF grid, and the share of the light of a line that it holds."""

    zyx_shape: Triple
    held: float


def line_extent(
    psf: RadialPSF, voxel_size_um: VoxelSize, share: float = 0.995, most: Triple = MOST
) -> Extent:
    """The smallest grid that holds a share of the light of a line.

    The line lies across the axis, along x: at a defocus z its light is ∫ psf(z, 0, x) dx. With two
    photons it falls as (1 + (z / z_R)²)^(-3/2) in a Gaussian beam, so that a grid of a finite size
    holds nearly all of it. With one photon it falls as 1/z, and no grid does. A line is what tails
    are seen by: the light of a point spreads over more voxels than anybody could see.

    Parameters
    ----------
    psf : callable
        `psf(z_um, r_um)` with its focus at 0.
    voxel_size_um : tuple of float
        Of the fine grid, along z, y, x; y and x are equal.
    share : float
        Between 0 and 1.
    most : tuple of int
        The largest grid; odd.

    Returns
    -------
    Extent
        Odd sizes, y and x equal. If even the grid `most` does not hold that share of the light,
        `held` says what is held: that share of what `most` holds.

    Examples
    --------
    >>> from tenet.physics.optics import Optics, focused
    >>> beam = Optics(NA=0.8, wavelength_um=0.92, photons=2, fill=0.7)
    >>> shape, held = line_extent(focused(beam), (0.125, 0.12, 0.12))
    >>> shape[0] > 200, shape[1] > 30, round(held, 3)
    (True, True, 0.995)
    """
    width = model_fwhm_um(psf, voxel_size_um)
    step_z, _, step_x = voxel_size_um
    planes = max(int(_WIDTHS * width["axial"] / step_z), most[0] // 2)
    columns = max(int(_WIDTHS * width["lateral"] / step_x), most[2] // 2)
    light = psf(np.arange(-planes, planes + 1) * step_z, np.arange(columns + 1) * step_x)
    light[:, 1:] *= 2  # at either side of the axis
    outwards = light[planes:] + light[planes::-1]
    outwards[0] /= 2
    held = outwards.cumsum(0).cumsum(1) / outwards.sum()
    held = held[: most[0] // 2 + 1, : most[2] // 2 + 1]
    z, x = 2 * np.arange(held.shape[0])[:, None] + 1, 2 * np.arange(held.shape[1]) + 1
    enough = held >= share if held.max() >= share else held >= share * held.max()
    voxels = np.where(enough, z * x**2, np.inf)
    i, j = np.unravel_index(int(voxels.argmin()), voxels.shape)
    return Extent((int(z[i, 0]), int(x[j]), int(x[j])), float(held[i, j]))
