"""Volume, surface and roundness of what is segmented, and the measures of beads."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure

from tenet.errors import TenetError

BEAD_DIAMETER_UM = 2.0
BEAD_VOLUME_UM3 = 4 / 3 * np.pi * (BEAD_DIAMETER_UM / 2) ** 3


# ---------------------------------------------------------------------------------------------
# Beads
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BeadMetrics:
    """Shape of one bead.

    Attributes
    ----------
    volume_um3
        Voxels of the mask times the voxel's volume.
    sphericity
        Wadell's π^(1/3) (6V)^(2/3) / A; see `sphericity`.
    z_xy_ratio
        Axial over lateral extent from second moments; see `z_xy_ratio`.
    total_loss
        |V/V₀ − 1| + |sphericity − 1| + |z/xy − 1| with V₀ the volume of a 2 µm sphere.
    offset_zyx
        Centroid minus expected centre, in voxels of the grid (the registration error).
        NaN for an empty mask.

    Notes
    -----
    A bead that was missed (empty mask) has volume, sphericity and ratios 0, thus the loss 3.

    Examples
    --------
    >>> z, y, x = np.mgrid[-15:16, -15:16, -15:16] * 0.1
    >>> bead = measure_bead((z**2 + y**2 + x**2 <= 1).astype(float), 0.5, (0.1, 0.1, 0.1))
    >>> bead.offset_zyx
    (0.0, 0.0, 0.0)
    """

    volume_um3: float
    sphericity: float
    z_xy_ratio: float
    total_loss: float
    offset_zyx: tuple[float, float, float]


def measure_bead(
    score_zyx: NDArray[Any],
    threshold: float,
    voxel_size_um: Sequence[float],
    *,
    expected_centre_zyx: Sequence[float] | None = None,
) -> BeadMetrics:
    """Measure the bead in a region of interest: the component chosen by `central_component`.

    Parameters
    ----------
    score_zyx
        Scores on the fine grid, shape (Z, Y, X).
    threshold
        A voxel is foreground where its score reaches this.
    voxel_size_um
        Voxel size (z, y, x) in µm.
    expected_centre_zyx
        Where the bead should be, in voxels; by default the middle of the region, (n − 1)/2.

    Returns
    -------
    BeadMetrics

    Examples
    --------
    >>> z, y, x = np.mgrid[-15:16, -15:16, -15:16] * 0.1
    >>> score = (z**2 + y**2 + x**2 <= 1).astype(float)  # a ball, 2 µm across
    >>> bead = measure_bead(score, 0.5, (0.1, 0.1, 0.1))
    >>> round(bead.volume_um3, 1), round(bead.sphericity, 1), round(bead.z_xy_ratio, 1)
    (4.1, 1.0, 1.0)
    """
    mask = np.asarray(score_zyx) >= threshold
    mask = central_component(mask, voxel_size_um, centre_zyx=expected_centre_zyx)
    volume = volume_um3(mask, voxel_size_um)
    roundness = sphericity(mask, voxel_size_um)
    ratio = z_xy_ratio(mask, voxel_size_um)
    return BeadMetrics(
        volume_um3=volume,
        sphericity=roundness,
        z_xy_ratio=ratio,
        total_loss=bead_loss(volume, roundness, ratio),
        offset_zyx=registration_offset(mask, expected_centre_zyx),
    )


def central_component(
    mask_zyx: NDArray[Any],
    voxel_size_um: Sequence[float],
    *,
    centre_zyx: Sequence[float] | None = None,
    radius_um: float = BEAD_DIAMETER_UM / 2,
) -> NDArray[np.bool_]:
    """Select the connected component that fills most of a ball around the centre.

    Voxels are connected through their faces. A component that does not come within `radius_um` of
    the centre is not taken for the bead; if none does, the result is empty.

    Parameters
    ----------
    mask_zyx
        Mask, shape (Z, Y, X).
    voxel_size_um
        Voxel size (z, y, x) in µm.
    centre_zyx
        Centre in voxels; by default the middle, (n − 1)/2.
    radius_um
        Radius of the ball in µm.

    Returns
    -------
    ndarray of bool
        Mask of the one component.

    Examples
    --------
    >>> mask = np.zeros((9, 9, 9), bool)
    >>> mask[3:6, 3:6, 3:6] = mask[0, 0, 0] = True  # a bead, and a speck
    >>> int(central_component(mask, (0.3, 0.3, 0.3)).sum())
    27
    """
    spacing = _voxel_size(voxel_size_um)
    mask = _mask_zyx(mask_zyx)
    centre = _centre(mask.shape, centre_zyx)
    labels, n_components = ndimage.label(mask)
    if n_components == 0:
        return mask
    distance_squared = sum(
        ((axis - c) * h) ** 2
        for axis, c, h in zip(np.ogrid[tuple(map(slice, mask.shape))], centre, spacing, strict=True)
    )
    # Half a voxel more, so that the ball holds a voxel on every grid.
    near = distance_squared <= (radius_um + spacing.max() / 2) ** 2
    votes = np.bincount(labels[near], minlength=n_components + 1)
    votes[0] = 0
    if not votes.any():
        return np.zeros_like(mask)
    return labels == votes.argmax()


def volume_um3(mask_zyx: NDArray[Any], voxel_size_um: Sequence[float]) -> float:
    """Volume of a mask: its voxels times the voxel's volume, in µm³.

    Examples
    --------
    >>> round(volume_um3(np.ones((2, 5, 5)), (0.5, 0.2, 0.2)), 3)
    1.0
    """
    return float(np.count_nonzero(_mask_zyx(mask_zyx)) * np.prod(_voxel_size(voxel_size_um)))


def sphericity(
    mask_zyx: NDArray[Any], voxel_size_um: Sequence[float], *, smoothing_voxels: float = 1.0
) -> float:
    """Wadell sphericity π^(1/3) (6V)^(2/3) / A of a mask; 1 for a sphere.

    V and A are those of the closed marching-cubes surface. On a mask as it is, that surface is a
    staircase with about 8 % too much area, so that even a perfect ball gets 0.92. The protocol
    therefore smooths the mask by a Gaussian of one voxel and takes the surface at ½: a ball of 5 to
    20 voxels in radius then gets 0.99 to 1.00, and no surface can get more than 1, as volume and
    area are of the same surface.

    Parameters
    ----------
    mask_zyx
        Mask, shape (Z, Y, X). It is padded, so that surfaces close at the border.
    voxel_size_um
        Voxel size (z, y, x) in µm.
    smoothing_voxels
        Standard deviation of the Gaussian, in voxels; 0 takes the mask as it is.

    Returns
    -------
    float
        In [0, 1]; 0 for an empty mask. What is too thin to survive the smoothing altogether is
        measured without it.

    Examples
    --------
    >>> z, y, x = np.mgrid[-15:16, -15:16, -15:16] * 0.1
    >>> ball, rod = z**2 + y**2 + x**2 <= 1, y**2 + x**2 <= 0.2**2
    >>> round(sphericity(ball, (0.1, 0.1, 0.1)), 1), round(sphericity(rod, (0.1, 0.1, 0.1)), 1)
    (1.0, 0.6)
    """
    spacing = _voxel_size(voxel_size_um)
    mask = _mask_zyx(mask_zyx)
    if not mask.any():
        return 0.0
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    margin = 2 + int(np.ceil(4 * smoothing_voxels))
    binary = np.pad(mask[box], margin).astype(np.float32)
    field = ndimage.gaussian_filter(binary, smoothing_voxels) if smoothing_voxels > 0 else binary
    if field.max() <= 0.5:
        field = binary
    vertices, faces, _, _ = measure.marching_cubes(field, 0.5, spacing=tuple(spacing))
    a, b, c = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    volume = abs(np.sum(a * np.cross(b, c))) / 6
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2
    return float(np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / area)


def surface_um2(mask_zyx: NDArray[Any], voxel_size_um: Sequence[float]) -> float:
    """Surface of a mask of any shape by Crofton's formula: how often lines cross it.

    The lines run through the centres of voxels in 13 directions. Each direction counts with the
    share of the sphere that is nearest to it. The mask is not smoothed, so that thin processes keep
    their surface, and no staircase is counted.

    Parameters
    ----------
    mask_zyx
        Mask, shape (Z, Y, X). Beyond its border all is 0.
    voxel_size_um
        Voxel size (z, y, x) in µm.

    Returns
    -------
    float
        µm²; 0 for an empty mask.

    References
    ----------
    Ohser & Mücklich, Statistical Analysis of Microstructures in Materials Science (Wiley, 2000),
    chapter 4.

    Examples
    --------
    >>> z, y, x = np.mgrid[-15:16, -15:16, -15:16] * 0.1
    >>> ball = z**2 + y**2 + x**2 <= 1
    >>> round(float(surface_um2(ball, (0.1, 0.1, 0.1))), 1)  # a sphere has 12.6
    12.5
    """
    size = np.asarray(_voxel_size(voxel_size_um))
    mask = np.pad(_mask_zyx(mask_zyx), 1)
    steps = _neighbours()
    total = 0.0
    for step, share in zip(steps, _shares_of_sphere(tuple(map(float, size))), strict=True):
        pairs = list(zip(step, mask.shape, strict=True))
        here = tuple(slice(max(0, -d), n - max(0, d)) for d, n in pairs)
        there = tuple(slice(max(0, d), n - max(0, -d)) for d, n in pairs)
        crossings = int(np.count_nonzero(mask[here] != mask[there]))
        total += share * crossings / float(np.linalg.norm(step * size))
    # There is a line of each direction for every size.prod() / |step| of area across it.
    return 2 * float(size.prod()) * total


def _neighbours() -> list[tuple[int, ...]]:
    """Steps to one of each two opposite neighbours of a voxel: 13."""
    return [step for step in itertools.product((-1, 0, 1), repeat=3) if step > (0, 0, 0)]


@cache
def _shares_of_sphere(size: tuple[float, ...], points: int = 20_000) -> NDArray[np.float64]:
    """Share of the sphere that is nearest to each step between neighbours or its opposite."""
    directions = np.array(_neighbours()) * size
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    # Evenly spread points: Fibonacci's spiral.
    height = 1 - (2 * np.arange(points) + 1) / points
    angle = np.pi * (1 + 5**0.5) * np.arange(points)
    across = np.sqrt(1 - height**2)
    sphere = np.stack([height, across * np.cos(angle), across * np.sin(angle)], axis=1)
    nearest = np.abs(sphere @ unit.T).argmax(axis=1)
    shares: NDArray[np.float64] = np.bincount(nearest, minlength=len(unit)) / points
    return shares


def z_xy_ratio(mask_zyx: NDArray[Any], voxel_size_um: Sequence[float]) -> float:
    """Axial over lateral extent of a mask, from second moments: the protocol's z/xy ratio.

    √var(z) / √((var(y) + var(x))/2) of the foreground's positions in µm, each variance with the
    h²/12 of a voxel's own width. An ellipsoid along the axes gets exactly the ratio of its
    semi-axes. A few stray voxels, which set the whole bounding box, hardly matter here.

    Returns
    -------
    float
        0 for an empty mask.

    Examples
    --------
    >>> z, y, x = np.mgrid[-15:16, -15:16, -15:16] * 0.1
    >>> round(z_xy_ratio((z / 1.4) ** 2 + (y / 0.7) ** 2 + (x / 0.7) ** 2 <= 1, (0.1, 0.1, 0.1)), 1)
    2.0
    """
    spacing = _voxel_size(voxel_size_um)
    positions = np.argwhere(_mask_zyx(mask_zyx))
    if positions.size == 0:
        return 0.0
    variance = positions.var(axis=0) * spacing**2 + spacing**2 / 12
    return float(np.sqrt(variance[0] / variance[1:].mean()))


def bead_loss(volume_um3: float, sphericity: float, z_xy_ratio: float) -> float:
    """Total loss |V/V₀ − 1| + |sphericity − 1| + |z/xy − 1| of a 2 µm bead, V₀ = 4π/3 µm³.

    Examples
    --------
    >>> round(bead_loss(BEAD_VOLUME_UM3, sphericity=0.9, z_xy_ratio=1.2), 2)
    0.3
    """
    return abs(volume_um3 / BEAD_VOLUME_UM3 - 1) + abs(sphericity - 1) + abs(z_xy_ratio - 1)


def registration_offset(
    mask_zyx: NDArray[Any], expected_centre_zyx: Sequence[float] | None = None
) -> tuple[float, float, float]:
    """Centroid of a mask minus where it should be, (z, y, x) in voxels.

    Parameters
    ----------
    mask_zyx
        Mask, shape (Z, Y, X).
    expected_centre_zyx
        In voxels; by default the middle, (n − 1)/2.

    Returns
    -------
    tuple of float
        NaN for an empty mask.

    Examples
    --------
    >>> mask = np.zeros((5, 5, 5))
    >>> mask[2, 2, 3] = 1
    >>> registration_offset(mask)  # one voxel along x from the middle
    (0.0, 0.0, 1.0)
    """
    mask = _mask_zyx(mask_zyx)
    centre = _centre(mask.shape, expected_centre_zyx)
    if not mask.any():
        return (np.nan, np.nan, np.nan)
    z, y, x = (float(value) for value in np.argwhere(mask).mean(axis=0) - centre)
    return (z, y, x)


def _mask_zyx(mask: NDArray[Any]) -> NDArray[np.bool_]:
    result = np.asarray(mask).astype(bool)
    if result.ndim != 3:
        raise TenetError(f"expected a mask (Z, Y, X), got shape {result.shape}")
    return result


def _voxel_size(voxel_size_um: Sequence[float]) -> NDArray[np.float64]:
    spacing = np.asarray(voxel_size_um, dtype=np.float64)
    if spacing.shape != (3,) or not np.all(spacing > 0):
        raise TenetError(f"a voxel size is three positive numbers (z, y, x), got {voxel_size_um}")
    return spacing


def _centre(shape_zyx: tuple[int, ...], centre_zyx: Sequence[float] | None) -> NDArray[np.float64]:
    if centre_zyx is None:
        return (np.asarray(shape_zyx, dtype=np.float64) - 1) / 2
    centre = np.asarray(centre_zyx, dtype=np.float64)
    if centre.shape != (3,):
        raise TenetError(f"a centre is three numbers (z, y, x), got {centre_zyx}")
    return centre
