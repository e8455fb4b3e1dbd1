"""Cells in a segmentation: the voxels and the shape of each cell.

Arrays are Z, Y, X, lengths µm.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.segmentation import watershed

from tenet.errors import TenetError
from tenet.metrics.shapes import surface_um2, volume_um3

CELL_COLUMNS = (
    "cell",
    "z_um",
    "y_um",
    "x_um",
    "volume_um3",
    "surface_um2",
    "sphericity",
    "elongation",
    "flatness",
    "centre_to_surface_um",
    "centre_to_surface_sd_um",
    "centre_to_surface_max_um",
    "touches_border",
)


def label_cells(
    mask_zyx: NDArray[Any],
    voxel_size_um: Sequence[float],
    *,
    least_soma_radius_um: float = 2.0,
    least_distance_um: float = 8.0,
    least_volume_um3: float = 100.0,
) -> NDArray[np.int32]:
    """Divide a segmentation into cells, one around each soma.

    Somata are the thickest places of the mask, which are maxima of the distance to its surface. A
    watershed of that distance gives each voxel to the nearest soma that it is connected to.

    Parameters
    ----------
    mask_zyx : ndarray
        Segmentation, True or 1 in cells.
    voxel_size_um : sequence of float
        Along z, y, x.
    least_soma_radius_um : float
        Least radius of a soma. Thinner places are processes.
    least_distance_um : float
        Least distance of two somata. Nearer somata count as one.
    least_volume_um3 : float
        Least volume of a cell. Smaller pieces are dropped.

    Returns
    -------
    ndarray of int32
        0 outside of cells, else the number of the cell from 1 on, in the order of volume.

    Raises
    ------
    TenetError
        If the mask is not three-dimensional.
    """
    mask = np.asarray(mask_zyx) > 0
    if mask.ndim != 3:
        raise TenetError(f"expected a mask (Z, Y, X), got shape {mask.shape}")
    size = np.asarray(voxel_size_um, dtype=float)
    thickness = ndimage.distance_transform_edt(mask, sampling=size)
    # Distances often have plateaus. A little smoothing gives each soma one peak.
    smooth = ndimage.gaussian_filter(thickness, 1.0 / size)
    peaks = peak_local_max(
        smooth,
        min_distance=max(1, round(least_distance_um / float(size.max()))),
        threshold_abs=0.8 * least_soma_radius_um,
        exclude_border=False,
        labels=mask.astype(np.int32),
    )
    peaks = _apart(peaks, smooth, size, least_distance_um)
    markers = np.zeros(mask.shape, dtype=np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = watershed(-smooth, markers, mask=mask)
    volumes = np.bincount(labels.ravel(), minlength=len(peaks) + 1) * float(size.prod())
    volumes[0] = 0
    order = [i for i in np.argsort(-volumes) if volumes[i] >= max(least_volume_um3, 1e-12)]
    number = np.zeros(len(peaks) + 1, dtype=np.int32)
    number[order] = np.arange(1, len(order) + 1)
    cells: NDArray[np.int32] = number[labels]
    return cells


def _apart(
    peaks: NDArray[np.intp], height: NDArray[Any], size: NDArray[np.float64], least: float
) -> NDArray[np.intp]:
    """Keep the higher of two peaks that are nearer than `least`, in µm."""
    kept: list[NDArray[np.intp]] = []
    for peak in sorted(peaks, key=lambda p: -float(height[tuple(p)])):
        if all(np.linalg.norm((peak - other) * size) >= least for other in kept):
            kept.append(peak)
    return np.array(kept, dtype=np.intp).reshape(-1, 3)


def measure_cells(labels_zyx: NDArray[np.int32], voxel_size_um: Sequence[float]) -> pd.DataFrame:
    """Measure the shape of each cell.

    Parameters
    ----------
    labels_zyx : ndarray of int
        See `label_cells`.
    voxel_size_um : sequence of float
        Along z, y, x.

    Returns
    -------
    DataFrame
        `CELL_COLUMNS`: the centroid; volume; surface (`surface_um2`); Wadell's sphericity
        π^(1/3) (6V)^(2/3) / A of these two, which rounding can bring above 1; elongation, the
        second principal axis over the first, and flatness, the third over the second (both 1 for a
        ball, of the inertia ellipsoid); mean, standard deviation and maximum of the distance from
        the centroid to the surface; whether the volume's border cuts it.
    """
    size = np.asarray(voxel_size_um, dtype=float)
    rows = []
    for number, box in enumerate(ndimage.find_objects(labels_zyx), start=1):
        if box is None:
            continue
        cell = np.pad(labels_zyx[box] == number, 1)
        voxels = np.argwhere(cell)
        start = np.array([part.start for part in box]) - 1
        places = (voxels + start + 0.5) * size
        centre = places.mean(axis=0)
        volume = volume_um3(cell, size.tolist())
        surface = surface_um2(cell, size.tolist())
        sphericity = math.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / surface
        # The spread within a voxel keeps the axes of flat pieces above 0.
        spread = np.cov(places.T, bias=True) + np.diag(size**2 / 12)
        axes = np.sqrt(np.sort(np.linalg.eigvalsh(spread))[::-1])
        shell = np.argwhere(cell & ~ndimage.binary_erosion(cell))
        away = np.linalg.norm((shell + start + 0.5) * size - centre, axis=1)
        cut = any(
            part.start == 0 or part.stop == n for part, n in zip(box, labels_zyx.shape, strict=True)
        )
        measured = (
            number,
            *centre,
            volume,
            surface,
            sphericity,
            axes[1] / axes[0],
            axes[2] / axes[1],
            away.mean(),
            away.std(),
            away.max(),
            cut,
        )
        rows.append(dict(zip(CELL_COLUMNS, measured, strict=True)))
    return pd.DataFrame(rows, columns=list(CELL_COLUMNS))


def distances_um(
    centres_um: NDArray[np.float64], mask_zyx: NDArray[Any], voxel_size_um: Sequence[float]
) -> NDArray[np.float64]:
    """Distance of points (N, 3) from the nearest voxel of a mask, µm; infinite if it is empty."""
    mask, size = np.asarray(mask_zyx) > 0, np.asarray(voxel_size_um, dtype=float)
    if not mask.any():
        return np.full(len(centres_um), np.inf)
    away = ndimage.distance_transform_edt(~mask, sampling=size)
    voxels = np.clip((centres_um / size).astype(int), 0, np.array(mask.shape) - 1)
    found: NDArray[np.float64] = away[tuple(voxels.T)]
    return found
