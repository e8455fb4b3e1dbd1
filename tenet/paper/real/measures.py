"""How a segmentation shows real structures: what it reaches, and what it adds."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from tenet.types import VoxelSize

Mask = NDArray[np.bool_]

#: How near to its tip a spine counts as reached, and how far from the truth a voxel as false.
REACH_UM, FALSE_UM = 0.35, 0.3


def reached(
    mask: Mask, tips_um: NDArray[np.float64], voxel_size_um: VoxelSize, within_um: float = REACH_UM
) -> int:
    """Count the tips with the centre of a segmented voxel no farther than `within_um`.

    Parameters
    ----------
    mask : ndarray of bool, shape (Z, Y, X)
    tips_um : ndarray, shape (tips, 3)
        Along z, y and x, from the volume's corner.

    Examples
    --------
    >>> mask = np.zeros((8, 8, 8), bool)
    >>> mask[4, 4, 4] = True  # its centre lies at 0.45 µm
    >>> reached(mask, np.array([[0.45, 0.45, 0.75], [0.45, 0.45, 0.85]]), (0.1, 0.1, 0.1))
    1
    """
    size_um = np.array(voxel_size_um)
    far = np.ceil(within_um / size_um).astype(int)
    count = 0
    for tip in tips_um:
        corner = np.maximum((tip / size_um).astype(int) - far, 0)
        z, y, x = (slice(a, a + 2 * n + 1) for a, n in zip(corner, far, strict=True))
        centres_um = (np.argwhere(mask[z, y, x]) + corner + 0.5) * size_um
        count += bool((np.linalg.norm(centres_um - tip, axis=1) <= within_um + 1e-9).any())
    return count


def false_share(
    mask: Mask, truth: Mask, voxel_size_um: VoxelSize, beyond_um: float = FALSE_UM
) -> float:
    """Share of the segmented voxels that are farther than `beyond_um` from the truth; 0 of none.

    Examples
    --------
    >>> truth, mask = np.zeros((2, 10, 1, 1), bool)
    >>> truth[2] = mask[2:7] = True
    >>> false_share(mask, truth, (0.1, 0.1, 0.1), 0.25)
    0.4
    """
    if not mask.any():
        return 0.0
    distance_um = distance_transform_edt(~truth, sampling=voxel_size_um)
    return float(np.mean(distance_um[mask] > beyond_um))


def tail_share(psf: NDArray[np.floating]) -> float:
    """Share of a PSF's light beyond twice its half width at half maximum along z, seen as a line.

    Parameters
    ----------
    psf : ndarray, shape (planes, rows, columns)

    Examples
    --------
    >>> z = np.linspace(-8, 8, 1601)
    >>> line = (1 + z**2) ** -1.5  # a Gaussian beam, two photons
    >>> share = tail_share(line[:, None, None])
    >>> half_width = (2 ** (2 / 3) - 1) ** 0.5
    >>> exact = 1 - 2 * half_width / (1 + (2 * half_width) ** 2) ** 0.5
    >>> round(share, 2), round(exact, 2)  # the grid ends at 8
    (0.16, 0.16)
    """
    line = psf.sum(2)[:, psf.shape[1] // 2]
    above = np.flatnonzero(line >= line.max() / 2)
    centre, half = (above[0] + above[-1]) / 2, (above[-1] - above[0] + 1) / 2
    far = np.abs(np.arange(len(line)) - centre) > 2 * half
    return float(line[far].sum() / line.sum())
