"""Whether a bead is where a table says, and if not, under which numbers of images it would be."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tenet.io.stack import Stack
from tenet.types import Triple, VoxelSize

#: Radius of a bead, half the size of the window around it (z, y, x), and how far its centre may lie
#: from where the table says, in µm.
RADIUS_UM, WINDOW_UM, TOLERANCE_UM = 1.0, (6.0, 3.2, 3.2), (2.0, 1.0, 1.0)
#: The bead is the brightest thing in the window, or nearly; and brighter than noise by so many of
#: its standard deviations, after smoothing.
LEAST_SHARE, LEAST_SIGMAS = 0.7, 8.0


@dataclass(frozen=True)
class Region:
    """A row of a table of regions: its number, its image, and its centre in voxels."""

    roi: int
    image: int
    centre_zyx: Triple
    fold: int


@dataclass(frozen=True)
class Sight:
    """What is seen where a bead should be: whether it is one, and the brightest place instead."""

    is_bead: bool
    brightest_zyx: Triple | None


def look(stack: Stack, region: Region, voxel_size_um: VoxelSize) -> Sight:
    """Look for a bead in a window around the centre of a region.

    The window is smoothed by a Gaussian of half a bead's radius. A bead is there if close to the
    centre the window is nearly as bright as anywhere, over its darkest fifth, and by far brighter
    than noise makes it.
    """
    centre = region.centre_zyx
    if any(not 0 <= c < n for c, n in zip(centre, stack.zyx_shape, strict=True)):
        return Sight(False, None)
    spans = [
        (max(c - math.ceil(half / size), 0), min(c + math.ceil(half / size) + 1, n))
        for c, half, size, n in zip(centre, WINDOW_UM, voxel_size_um, stack.zyx_shape, strict=True)
    ]
    window = stack.read(*(slice(*span) for span in spans))
    sigma = [RADIUS_UM / 2 / size for size in voxel_size_um]
    smooth = ndimage.gaussian_filter(window, sigma)
    near = tuple(
        slice(max(c - start - math.ceil(t / size), 0), c - start + math.ceil(t / size) + 1)
        for c, (start, _), t, size in zip(centre, spans, TOLERANCE_UM, voxel_size_um, strict=True)
    )
    floor = float(np.percentile(smooth, 20))
    peak = np.unravel_index(int(np.argmax(smooth)), smooth.shape)
    found, highest = float(smooth[near].max()) - floor, float(smooth[peak]) - floor
    bright = found > LEAST_SIGMAS * _noise(window, sigma) and found > 0
    z, y, x = (int(p) + start for p, (start, _) in zip(peak, spans, strict=True))
    return Sight(bool(bright and found >= LEAST_SHARE * highest), (z, y, x))


def _noise(window: NDArray[np.float32], sigma: Sequence[float]) -> float:
    """Standard deviation that white noise has after the smoothing, from neighbouring voxels."""
    steps = np.abs(np.diff(window, axis=2))
    white = float(np.median(steps)) / (0.6745 * math.sqrt(2)) if steps.size else 0.0
    return white * math.prod(min(1.0, (2 * math.sqrt(math.pi) * s) ** -0.5) for s in sigma)


def other_numbering(
    stacks: Sequence[tuple[Stack, VoxelSize]],
    numberings: Mapping[str, Sequence[int | None]],
    regions: Sequence[Region],
) -> str:
    """Find the numbers of images under which a bead is in every region; empty if there are none.

    Parameters
    ----------
    stacks : sequence of (Stack, voxel size)
    numberings : mapping of str to sequence of int
        For each way to number, in words, the number of each stack.
    regions : sequence of Region
    """
    seen: dict[tuple[int, int], bool] = {}

    def bead(index: int, row: int) -> bool:
        if (index, row) not in seen:
            stack, size = stacks[index]
            seen[index, row] = look(stack, regions[row], size).is_bead
        return seen[index, row]

    for words, numbers in numberings.items():
        by_number = {number: index for index, number in enumerate(numbers) if number is not None}
        if all(
            region.image in by_number and bead(by_number[region.image], row)
            for row, region in enumerate(regions)
        ):
            return words
    return ""
