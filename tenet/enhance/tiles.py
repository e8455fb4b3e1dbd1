"""Overlapping tiles that cover a stack, and the weights that blend their results.

The weights of all tiles add up to 1 everywhere, so that weighted results are simply added.
"""

import math
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from tenet.errors import TenetError
from tenet.types import Triple


@dataclass(frozen=True)
class Span:
    """One axis of a tile: coarse voxels `start` to `stop`, shared with its neighbours at the ends.

    Attributes
    ----------
    start, stop : int
        First voxel, and the one after the last.
    before, after : int
        Voxels shared with the tile before and the tile after; 0 at the border of the stack.
    context_before, context_after : int
        Voxels before and after the tile that are shown to the method, and are not in its result.

    Examples
    --------
    >>> span = Span(start=20, stop=60, before=8, context_before=4)
    >>> span.shown, span.own
    (slice(16, 60, None), slice(4, 44, None))
    """

    start: int
    stop: int
    before: int = 0
    after: int = 0
    context_before: int = 0
    context_after: int = 0

    @property
    def shown(self) -> slice:
        """Voxels of the stack that are shown to the method."""
        return slice(self.start - self.context_before, self.stop + self.context_after)

    @property
    def own(self) -> slice:
        """Place of the tile among the voxels that are shown."""
        return slice(self.context_before, self.context_before + self.stop - self.start)

    def shown_of(self, whole: "Span") -> slice:
        """Place of the voxels that a part of `whole` shows, among those that `whole` shows.

        Examples
        --------
        >>> whole = Span(start=20, stop=60, context_before=4)
        >>> Span(start=0, stop=24, context_before=4).shown_of(whole)
        slice(0, 28, None)
        """
        before = whole.context_before
        return slice(before + self.shown.start, before + self.shown.stop)

    def weights(self, factor: int = 1) -> NDArray[np.float32]:
        """Weights along this axis on a grid `factor` times finer.

        The weights of neighbouring spans add up to 1. The outer three eighths of an overlap have
        the weight 0, because the border of the tile disturbs them. Then the weights rise as 3t² -
        2t³.

        Examples
        --------
        >>> first, second = Span(0, 8, after=4), Span(4, 12, before=4)
        >>> float((first.weights()[4:] + second.weights()[:4]).min())  # weights add up to 1
        1.0
        """
        weights = np.ones((self.stop - self.start) * factor)
        before, after = self.before * factor, self.after * factor
        weights[:before] = _rise(before)
        weights[weights.size - after :] = 1 - _rise(after)
        return weights.astype(np.float32)


Tile = tuple[Span, Span, Span]


def _rise(n: int) -> NDArray[np.float64]:
    cut = 3 * n // 8
    t = np.clip((np.arange(n) + 0.5 - cut) / max(n - 2 * cut, 1), 0, 1)
    return t * t * (3 - 2 * t)


def tile_plan(
    zyx_shape: Triple,
    tile_zyx_shape: Triple,
    overlap_zyx: Triple,
    alignment_zyx: Triple,
    context_zyx: Triple = (0, 0, 0),
) -> list[Tile]:
    """Cut a stack into overlapping tiles of nearly equal size.

    Parameters
    ----------
    zyx_shape : tuple of int
        Shape of the stack on the coarse grid, as all numbers here.
    tile_zyx_shape : tuple of int
        Most voxels of a tile along each axis. A shorter axis is not cut.
    overlap_zyx : tuple of int
        Voxels that neighbouring tiles share.
    alignment_zyx : tuple of int
        Tiles start at multiples of this number, so that pooling groups the same voxels in each
        tile.
    context_zyx : tuple of int
        Voxels around a tile that are shown to the method, as far as the stack reaches; multiples of
        `alignment_zyx`.

    Returns
    -------
    list of Tile
        Spans along z, y and x. Every voxel lies in one or two spans of each axis.

    Raises
    ------
    TenetError
        If a tile is too small for its overlap.

    Examples
    --------
    >>> plan = tile_plan((6, 40, 24), (6, 24, 24), (0, 8, 8), (1, 4, 4))
    >>> [(y.start, y.stop) for z, y, x in plan]
    [(0, 24), (16, 40)]
    """
    axes = zip(
        "zyx", zyx_shape, tile_zyx_shape, overlap_zyx, alignment_zyx, context_zyx, strict=True
    )
    z_spans, y_spans, x_spans = (_spans(*axis) for axis in axes)
    return list(product(z_spans, y_spans, x_spans))


def _spans(
    axis: str, size: int, tile: int, overlap: int, alignment: int, context: int
) -> list[Span]:
    if size <= tile:
        return [Span(0, size)]
    longest = (tile - overlap) // alignment * alignment
    if overlap < 0 or longest < max(overlap, 1):
        least = overlap + max(round_up(overlap, alignment), alignment)
        raise TenetError(
            f"a tile of {tile} voxels along {axis} is too small for an overlap of {overlap}: "
            f"make it at least {least}, or the overlap smaller"
        )
    # The largest step gives the number of tiles. The smallest step with this number is taken.
    count = math.ceil((size - overlap) / longest)
    step = max(
        round_up(math.ceil((size - overlap) / count), alignment), round_up(overlap, alignment)
    )
    spans = []
    for start in range(0, size - overlap, step):
        stop = min(start + step + overlap, size)
        before, after = (overlap if start else 0), (overlap if stop < size else 0)
        spans.append(
            Span(start, stop, before, after, min(context, start), min(context, size - stop))
        )
    return spans


def weigh(block: NDArray[np.float32], tile: Tile, scale: int) -> None:
    """Multiply the result of a tile, (C, Z·s, Y, X), by the weights of the tile, in place.

    Examples
    --------
    >>> y_tiles = [Span(0, 24, after=8), Span(16, 40, before=8)]
    >>> block = np.ones((2, 18, 24, 20), np.float32)
    >>> weigh(block, (Span(0, 6), y_tiles[0], Span(0, 20)), scale=3)
    >>> block[0, 0, [0, 23], 0]
    array([1., 0.], dtype=float32)
    """
    z, y, x = tile
    block *= z.weights(scale)[:, None, None]
    block *= y.weights()[:, None]
    block *= x.weights()


def halves(
    tile: Tile, overlap_zyx: Triple, alignment_zyx: Triple, context_zyx: Triple
) -> list[Tile] | None:
    """Cut a tile in two along the axis that has most room for it; None if no axis has any.

    Places are relative to the tile. The parts are shown no voxels beyond those of the tile.

    Examples
    --------
    >>> tile = (Span(0, 6), Span(0, 40), Span(0, 24))
    >>> parts = halves(tile, (2, 8, 8), (1, 4, 4), (0, 0, 0))
    >>> [(y.start, y.stop) for z, y, x in parts]
    [(0, 24), (16, 40)]
    """
    z, y, x = (span.stop - span.start for span in tile)
    zyx_shape = (z, y, x)
    room = [n / max(overlap, 1) for n, overlap in zip(zyx_shape, overlap_zyx, strict=True)]
    for axis in sorted(range(3), key=lambda axis: -room[axis]):
        shape = list(zyx_shape)
        n, overlap, alignment = zyx_shape[axis], overlap_zyx[axis], alignment_zyx[axis]
        shape[axis] = round_up(math.ceil((n + overlap) / 2), alignment)
        longest = (shape[axis] - overlap) // alignment * alignment
        if shape[axis] < n and longest >= max(overlap, 1):
            z, y, x = shape
            parts = tile_plan(zyx_shape, (z, y, x), overlap_zyx, alignment_zyx)
            return [_in_context(part, tile, context_zyx) for part in parts]
    return None


def _in_context(part: Tile, tile: Tile, context_zyx: Triple) -> Tile:
    z, y, x = (
        replace(
            span,
            context_before=min(context, span.start + whole.context_before),
            context_after=min(context, whole.stop - whole.start - span.stop + whole.context_after),
        )
        for span, whole, context in zip(part, tile, context_zyx, strict=True)
    )
    return z, y, x


def round_up(n: int, divisor: int) -> int:
    """Round `n` up to a multiple of `divisor`.

    Examples
    --------
    >>> round_up(10, 4)
    12
    """
    return -(-n // divisor) * divisor
