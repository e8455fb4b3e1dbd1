"""Intensities apart from the others of a stack: fill around the image, and hot voxels.

Both are first looked for in the histogram, so that a stack without fill and hot voxels is read
once. A candidate of the histogram is then checked in the image.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tenet.io.stack import Stack

#: Fill is at least and at most this share of a stack. Fill lies below the 5th percentile of the
#: rest by this many times the distance from that percentile to the median. At most this share of
#: the fill lies between image voxels of one row or column. A larger share of the stack may be fill
#: only beside a box that holds image alone, but for the last share: such fill is a border, or
#: planes that were not recorded.
LEAST_FILL, MOST_FILL, FILL_GAP, INNER_FILL, FULL_BOX = 0.01, 0.75, 1.0, 0.02, 0.99
#: Hot voxels are at most this share of a stack, and this many times as bright as the percentile of
#: the rest. A PSF as narrow as 1.3 pixels (FWHM) gives this share of a voxel's light to the next
#: voxel; a hot voxel gives less. This share of the voxels beyond the gap must be hot.
MOST_HOT, HOT_GAP, NEXT_LIGHT, HOT_PART = 0.02, 3.0, 0.2, 0.75


@dataclass(frozen=True)
class Histogram:
    """The intensities that occur, in rising order, and the number of voxels of each."""

    values: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]

    @property
    def size(self) -> int:
        """Number of voxels."""
        return int(self.counts.sum())

    def percentile(self, percent: float) -> float:
        """Return the order statistic, rounded down: the highest voxel is always left out."""
        rank = int(percent / 100 * (self.size - 1))
        return float(self.values[np.searchsorted(np.cumsum(self.counts), rank, side="right")])

    def part(self, keep: npt.NDArray[np.bool_]) -> "Histogram":
        """Return the histogram of some of the intensities."""
        return Histogram(self.values[keep], self.counts[keep])


def find_fill(stack: Stack, histogram: Histogram) -> float | None:
    """Find the intensity of places without an image: borders, or planes that were left empty.

    Fill has the lowest intensity of all, with a gap to the others; a background that is clipped at
    0 has none, because 1, 2, … follow. Fill lies around the image; in an image that is cut off
    below a threshold the lowest intensity also lies between the structures.
    """
    value, share = float(histogram.values[0]), histogram.counts[0] / histogram.size
    if share < LEAST_FILL:
        return None
    rest = histogram.part(histogram.values > value)
    first, middle = rest.percentile(5), rest.percentile(50)
    if not 0 < FILL_GAP * (middle - first) < first - value:
        return None
    rows = columns = fill = 0
    inside = [np.zeros(size, np.bool_) for size in stack.zyx_shape]
    for start, slab in stack.slabs():
        image = slab != value
        fill += image.size - int(np.count_nonzero(image))
        rows, columns = rows + _inner(image), columns + _inner(image.swapaxes(1, 2))
        inside[0][start : start + len(image)] = image.any((1, 2))
        inside[1] |= image.any((0, 2))
        inside[2] |= image.any((0, 1))
    if max(rows, columns) > INNER_FILL * fill:
        return None
    voxels = math.prod(stack.zyx_shape) - fill
    return value if share <= MOST_FILL or _is_box(inside, voxels) else None


def _is_box(inside: Sequence[npt.NDArray[np.bool_]], voxels: int) -> bool:
    """Whether the voxels fill their bounding box, and the box reaches through the stack.

    `inside` says for each axis which positions have voxels.
    """
    sizes = [int(np.ptp(np.flatnonzero(places))) + 1 for places in inside]
    through = any(size == places.size for size, places in zip(sizes, inside, strict=True))
    return through and voxels >= FULL_BOX * math.prod(sizes)


def _inner(image: npt.NDArray[np.bool_]) -> int:
    """Count the voxels of no image that lie between image voxels of their line (the last axis)."""
    size = image.shape[-1]
    first, last = image.argmax(-1), size - 1 - image[..., ::-1].argmax(-1)
    spans = np.where(image.any(-1), last - first + 1, 0)
    return int(spans.sum()) - int(np.count_nonzero(image))


def find_hot(stack: Stack, histogram: Histogram, low: float, percent: float) -> float | None:
    """Find the intensity from which voxels are hot: artefacts of a detector, and not light.

    Hot voxels are brighter than the percentile of all others, with a gap. Hot voxels have dark
    neighbours along a row, a column or both, because light would reach the neighbours too.

    Parameters
    ----------
    stack : Stack
    histogram : Histogram
        Histogram of the stack, without fill.
    low : float
        Intensity of the background.
    percent : float
        The percentile that hot voxels would set.
    """
    cumulative = np.cumsum(histogram.counts)
    # The percentile of all voxels up to each of the highest intensities, against the next one.
    first = int(np.searchsorted(cumulative, (1 - MOST_HOT) * histogram.size))
    below, following = cumulative[first:-1], histogram.values[first + 1 :]
    ranks = (percent / 100 * (below - 1)).astype(np.int64)
    rest = histogram.values[np.searchsorted(cumulative, ranks, side="right")]
    apart = (rest > low) & (following - low > HOT_GAP * (rest - low))
    apart &= following <= histogram.percentile(percent)  # fewer do not reach the percentile
    levels = following[apart]
    if not levels.size:
        return None
    bright, alone = [], []
    for _, slab in stack.slabs():
        above = slab >= levels[0]
        bright.append(slab[above])
        alone.append(slab[above][_stands_alone(slab, above, low)[0]])
    # Above one gap there may be light, and above a higher gap no light.
    total, lonely = (_number_from(np.concatenate(values), levels) for values in (bright, alone))
    hot = lonely >= HOT_PART * total
    return float(levels[np.argmax(hot)]) if hot.any() else None


def _number_from(
    values: npt.NDArray[np.float32], levels: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Count the values that reach each of some intensities."""
    return values.size - np.searchsorted(np.sort(values), levels)


def without_hot(
    array: npt.NDArray[np.float32], level: float, low: float
) -> npt.NDArray[np.float32]:
    """Return an image (…, Y, X) whose hot voxels are the median of their neighbours."""
    bright = array >= level
    if bright.any():
        alone, median = _stands_alone(array, bright, low)
        array = array.copy()
        array[bright] = np.where(alone, median, array[bright])
    return array


def _stands_alone(
    array: npt.NDArray[np.float32], bright: npt.NDArray[np.bool_], low: float
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """Say which of the bright voxels have dark neighbours, and return the medians around them."""
    # Mirrored about its centre, a column at the border has no other column beside it.
    borders = [(0, 0)] * (array.ndim - 2) + [(1, 1), (1, 1)]
    padded = np.pad(array, borders, mode="reflect")
    around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(-2, -1))[bright]
    in_column, in_row = around[:, ::2, 1].max(-1), around[:, 1, ::2].max(-1)
    dark = np.minimum(in_column, in_row) - low < NEXT_LIGHT * (array[bright] - low)
    return dark, np.partition(around.reshape(-1, 9), 4, axis=1)[:, 4]
