"""Cells in a segmentation: the voxels and the shape of each cell.

Arrays are Z, Y, X, lengths µm.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree
from skimage.measure import block_reduce
from skimage.segmentation import watershed

from tenet.errors import TenetError
from tenet.metrics.shapes import surface_um2, volume_um3
from tenet.paper.somata import SIDE, Box, blocks, find_somata, inside, smooth_thickness

#: Voxels of a box that are divided at once; the watershed takes some 30 bytes each.
MOST_VOXELS = 2**28
#: Planes that are searched at once for the nearest voxel.
_SLAB = 16

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
    side: int = SIDE,
    most_voxels: int = MOST_VOXELS,
    threads: int = 1,
) -> NDArray[np.int32]:
    """Divide a segmentation into cells, one around each soma.

    Somata are the thickest places of the mask, which are maxima of the distance to its surface. A
    watershed of that distance gives each voxel to the nearest soma that it is connected to. Beside
    the mask and the labels, five bytes a voxel, the work takes the memory of a block and of one
    connected piece of the mask with several somata.

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
    side : int
        Side of a block in voxels; the labels are the same for all sides.
    most_voxels : int
        A connected piece whose box has more voxels is divided on a coarser grid.
    threads : int
        Blocks that are looked at at once.

    Returns
    -------
    ndarray of int32
        0 outside of cells, else the number of the cell from 1 on, in the order of volume.

    Raises
    ------
    TenetError
        If the mask is not three-dimensional.
    """
    mask = np.asarray(mask_zyx)
    if mask.ndim != 3:
        raise TenetError(f"expected a mask (Z, Y, X), got shape {mask.shape}")
    mask = mask if mask.dtype == np.bool_ else mask > 0
    size = np.asarray(voxel_size_um, dtype=float)
    somata = find_somata(
        mask,
        size,
        least_radius_um=0.8 * least_soma_radius_um,
        least_distance_um=least_distance_um,
        side=side,
        threads=threads,
    )
    labels, _ = ndimage.label(mask, output=np.int32)
    _divide(mask, labels, somata, size, side, most_voxels)
    voxels = np.zeros(len(somata) + 1, dtype=np.int64)
    for plane in labels:
        voxels += np.bincount(plane.ravel(), minlength=len(voxels))
    volumes = voxels * float(size.prod())
    volumes[0] = 0
    order = [i for i in np.argsort(-volumes) if volumes[i] >= max(least_volume_um3, 1e-12)]
    number = np.zeros(len(somata) + 1, dtype=np.int32)
    number[order] = np.arange(1, len(order) + 1)
    return _renumber(labels, number)


def _renumber(labels: NDArray[np.int32], number: NDArray[np.int32]) -> NDArray[np.int32]:
    """Replace each label by its number, in place and plane by plane."""
    for plane in labels:
        plane[:] = number[plane]
    return labels


def _divide(
    mask: NDArray[np.bool_],
    labels: NDArray[np.int32],
    somata: NDArray[np.intp],
    size: NDArray[np.float64],
    side: int,
    most_voxels: int,
) -> None:
    """Replace the numbers of connected pieces by the numbers of somata from 1 on, in place.

    Voxels of pieces without a soma become 0. A piece with one soma is its cell; one with more is
    divided. A voxel that touches a piece, and is no part of it, is outside of the mask, so that
    distances and watershed of a piece do not depend on the others.
    """
    pieces = labels[tuple(somata.T)]
    several = [
        piece for piece, n in zip(*np.unique(pieces, return_counts=True), strict=True) if n > 1
    ]
    number = np.zeros(int(max((plane.max() for plane in labels), default=0)) + 1, dtype=np.int32)
    number[pieces] = np.arange(1, len(somata) + 1)
    number[several] = len(somata) + 1 + np.arange(len(several))
    _renumber(labels, number)
    boxes = ndimage.find_objects(labels)[len(somata) :]
    for piece, box in zip(several, boxes, strict=True):
        own = np.flatnonzero(pieces == piece)
        _divide_piece(
            mask, labels, number[piece], box, somata[own], own + 1, size, side, most_voxels
        )


def _divide_piece(
    mask: NDArray[np.bool_],
    labels: NDArray[np.int32],
    piece: int,
    box: Box,
    somata: NDArray[np.intp],
    numbers: NDArray[np.intp],
    size: NDArray[np.float64],
    side: int,
    most_voxels: int,
) -> None:
    """Give the voxels of a piece to its somata by a watershed, in coarser steps if it is large."""
    shape = [part.stop - part.start for part in box]
    step = math.ceil((math.prod(shape) / most_voxels) ** (1 / 3) - 1e-9)
    coarse = [-(-n // step) for n in shape]
    found, height = np.zeros(coarse, dtype=bool), np.zeros(coarse, dtype=np.float32)
    places = [(block, inside(block, box)) for block in blocks(box, side // step * step or step)]
    for block, at in places:
        to = tuple(slice(part.start // step, -(-part.stop // step)) for part in at)
        own = labels[block] == piece
        if own.any():
            thickness = np.where(own, smooth_thickness(mask, size, block), 0)
            found[to] = block_reduce(own, step, np.max)
            height[to] = block_reduce(thickness, step, np.max)
    markers = np.zeros(coarse, dtype=np.int32)
    start = [part.start for part in box]
    markers[tuple(((somata - start) // step).T)] = numbers
    divided = watershed(-height, markers, mask=found)
    for block, at in places:
        own = labels[block] == piece
        fine = np.ix_(*(np.arange(part.start, part.stop) // step for part in at))
        labels[block][own] = divided[fine][own]


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
        start = np.array([part.start for part in box]) - 1
        count = int(np.count_nonzero(cell))
        total, squares = np.zeros(3), np.zeros((3, 3))
        middle = np.asarray(cell.shape) * size / 2  # squares are taken around it
        for places in _places(cell, size):
            total += (places - middle).sum(axis=0)
            squares += (places - middle).T @ (places - middle)
        mean = total / count
        centre = mean + middle + start * size
        volume = volume_um3(cell, size.tolist())
        surface = surface_um2(cell, size.tolist())
        sphericity = math.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / surface
        # The spread within a voxel keeps the axes of flat pieces above 0.
        spread = squares / count - np.outer(mean, mean) + np.diag(size**2 / 12)
        axes = np.sqrt(np.sort(np.linalg.eigvalsh(spread))[::-1])
        shell = cell & ~ndimage.binary_erosion(cell)
        to_surface = [
            np.linalg.norm(places - mean - middle, axis=1) for places in _places(shell, size)
        ]
        away = np.concatenate(to_surface)
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


def _places(mask: NDArray[np.bool_], size: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Centres (N, 3) of the voxels of a mask in µm, plane by plane."""
    for z, plane in enumerate(mask):
        flat = np.argwhere(plane)
        yield np.column_stack([np.full(len(flat), z), flat]) * size + 0.5 * size


def distances_um(
    centres_um: NDArray[np.float64], mask_zyx: NDArray[Any], voxel_size_um: Sequence[float]
) -> NDArray[np.float64]:
    """Distance of points (N, 3) from the nearest voxel of a mask, µm; infinite if it is empty.

    A point counts as the centre of the voxel that it lies in. The mask is searched slab by slab:
    of each, the voxels with a neighbour outside of the mask or the slab.
    """
    mask, size = np.asarray(mask_zyx), np.asarray(voxel_size_um, dtype=float)
    voxels = np.clip((centres_um / size).astype(int), 0, np.array(mask.shape) - 1)
    away = np.full(len(voxels), np.inf)
    for start in range(0, mask.shape[0], _SLAB):
        slab = mask[start : start + _SLAB] > 0
        surface = np.argwhere(slab & ~ndimage.binary_erosion(slab))
        if len(surface) and len(voxels):
            found, _ = KDTree((surface + np.array([start, 0, 0])) * size).query(voxels * size)
            np.minimum(away, found, out=away)
    away[mask[tuple(voxels.T)] > 0] = 0
    return away
