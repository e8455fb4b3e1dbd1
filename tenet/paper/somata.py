"""Somata, the thickest places of a segmentation, found block by block.

A stack of figure 5 has 1.2·10⁹ voxels: its distances, smoothed, with their maxima, would take 60 GB
at once. What a block cannot know is in its halo, so that its result is that of the whole volume.
Arrays are Z, Y, X, lengths µm.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import edt
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

Box = tuple[slice, ...]

#: Distances to the surface beyond this count as this, because a block's halo ends there. Somata of
#: microglia have radii of 3 to 6 µm.
MOST_RADIUS_UM = 15.0
#: Standard deviation of the smoothing of distances: a plateau becomes one peak.
SMOOTHING_UM = 1.0
#: Side of a block in voxels, without its halo.
SIDE = 256


def blocks(box: Box, side: int = SIDE) -> Iterator[Box]:
    """Divide a box into blocks of at most `side` voxels along each axis.

    Examples
    --------
    >>> [(b.start, b.stop) for (b,) in blocks((slice(3, 10),), side=4)]
    [(3, 7), (7, 10)]
    """
    starts = [range(part.start, part.stop, side) for part in box]
    for corner in itertools.product(*starts):
        yield tuple(
            slice(start, min(start + side, part.stop))
            for start, part in zip(corner, box, strict=True)
        )


def grown(box: Box, by: Sequence[int], zyx_shape: Sequence[int]) -> Box:
    """Grow a box on all sides, as far as the volume goes."""
    return tuple(
        slice(max(part.start - n, 0), min(part.stop + n, most))
        for part, n, most in zip(box, by, zyx_shape, strict=True)
    )


def inside(box: Box, outer: Box) -> Box:
    """Place of a box in a crop by an outer box."""
    return tuple(
        slice(part.start - around.start, part.stop - around.start)
        for part, around in zip(box, outer, strict=True)
    )


def smooth_thickness(
    mask: NDArray[np.bool_], size_um: NDArray[np.float64], box: Box
) -> NDArray[np.float32]:
    """Distance to the surface of a mask in a box, smoothed, in µm.

    The result is that of the whole volume, whose distances are cut at `MOST_RADIUS_UM`.
    """
    reach = [
        math.ceil(MOST_RADIUS_UM / step) + math.ceil(4 * SMOOTHING_UM / step) + 1
        for step in size_um
    ]
    shown = grown(box, reach, mask.shape)
    crop = np.ascontiguousarray(mask[shown])
    thickness = edt.edt(crop, anisotropy=tuple(size_um), black_border=False, parallel=1)
    np.minimum(thickness, np.float32(MOST_RADIUS_UM), out=thickness)
    smooth: NDArray[np.float32] = ndimage.gaussian_filter(thickness, SMOOTHING_UM / size_um)
    return smooth[inside(box, shown)]


def find_somata(
    mask: NDArray[np.bool_],
    size_um: NDArray[np.float64],
    *,
    least_radius_um: float,
    least_distance_um: float,
    side: int = SIDE,
    threads: int = 1,
) -> NDArray[np.intp]:
    """Find the highest places of the smoothed distance to the surface, each the centre of a soma.

    Parameters
    ----------
    mask : ndarray of bool
    size_um : ndarray
        Voxel size along z, y and x.
    least_radius_um : float
        Height that a peak must exceed.
    least_distance_um : float
        Least distance of two peaks; of two that are nearer, the higher is kept.
    side : int
        Side of a block; the result is the same for all sides.
    threads : int
        Blocks that are looked at at once, each in 20 bytes a voxel.

    Returns
    -------
    ndarray of int, shape (N, 3)
        The places, the highest first.
    """
    apart = max(1, round(least_distance_um / float(size_um.max())))

    def peaks(block: Box) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        return _peaks(mask, size_um, block, least_radius_um, apart)

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(peaks, blocks(tuple(slice(0, n) for n in mask.shape), side)))
    places, height = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.lexsort((*places.T[::-1], -height))  # equal heights in the order of their place
    places = places[order]
    places = places[_apart(places, apart, p=np.inf)]
    return places[_apart(places * size_um, least_distance_um, p=2)]


def _peaks(
    mask: NDArray[np.bool_], size_um: NDArray[np.float64], block: Box, least: float, apart: int
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Places of a block above which nothing within `apart` voxels is higher, and their heights."""
    if not mask[block].any():
        return np.empty((0, 3), np.intp), np.empty(0, np.float32)
    shown = grown(block, [apart] * 3, mask.shape)
    smooth = smooth_thickness(mask, size_um, shown)
    smooth[~mask[shown]] = -np.inf
    # Few voxels are higher than their neighbours: looking around these beats a wide filter.
    peak = smooth == ndimage.maximum_filter(smooth, 3, mode="nearest")
    peak &= smooth > least
    own = inside(block, shown)
    places = np.argwhere(peak[own]) + [part.start for part in own]
    highest = [
        smooth[tuple(slice(max(n - apart, 0), n + apart + 1) for n in place)].max()
        for place in places.tolist()
    ]
    heights = smooth[tuple(places.T)]
    kept = heights >= np.array(highest, np.float32)
    return places[kept] + [part.start for part in shown], heights[kept]


def _apart(places: NDArray[Any], least: float, p: float) -> NDArray[np.bool_]:
    """Of places that are nearer than `least`, keep the first; `p` is the norm of distances."""
    kept = np.ones(len(places), dtype=bool)
    if not len(places):
        return kept
    tree = KDTree(places)
    for index, place in enumerate(places):
        if kept[index]:
            near = np.array(tree.query_ball_point(place, least * (1 - 1e-9), p=p))
            kept[near[near > index]] = False
    return kept
