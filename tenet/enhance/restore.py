"""Restore stacks of any size with any method that makes a fine tile from a coarse tile.

A stack is cut into overlapping tiles on the coarse grid. The result of each tile is multiplied by
weights, which fall smoothly to 0 towards the tile's borders and add up to 1 over all tiles. The
weighted results are added to a file. The work takes the memory of a few tiles.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tenet.enhance.tiles import Tile, weigh
from tenet.errors import TenetError
from tenet.io.intensities import IntensityRange, normalise
from tenet.io.levels import LevelsWriter
from tenet.io.stack import Stack
from tenet.io.writing import Writer, writer_for
from tenet.types import Progress, Triple, VoxelSize

Read = Callable[[slice, slice, slice], NDArray[np.float32]]


class Restorer(Protocol):
    """A method that restores a stack tile by tile.

    Examples
    --------
    >>> class Repeated:
    ...     '''Every plane three times: a method that restores nothing.'''
    ...     scale, channels, workers = 3, ("intensity",), 1
    ...     def tiles(self, zyx_shape):
    ...         return tile_plan(zyx_shape, (8, 16, 16), (2, 4, 4), (1, 1, 1))
    ...     def restore(self, shown_zyx, tile):
    ...         return shown_zyx.repeat(3, axis=0)[None]
    >>> from tenet.enhance.tiles import tile_plan
    >>> restore_array(Repeated(), np.full((6, 24, 20), 0.5)).shape
    (1, 18, 24, 20)
    """

    @property
    def scale(self) -> int:
        """Fine planes per coarse plane."""
        ...

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels that the method makes."""
        ...

    def tiles(self, zyx_shape: Triple) -> list[Tile]:
        """Cut a stack into tiles on the coarse grid."""
        ...

    @property
    def workers(self) -> int:
        """Number of tiles that are restored at once, each in a thread; one for each device."""
        ...

    def restore(self, shown_zyx: NDArray[np.float32], tile: Tile) -> NDArray[np.float32]:
        """Restore a tile to (C, Z·s, Y, X), from the tile and its context, in [0, 1]."""
        ...


def restore_stack(
    restorer: Restorer,
    stack: Stack,
    range_: IntensityRange,
    out: Path,
    *,
    voxel_size_um: VoxelSize | None = None,
    levels: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Restore a stack of any size into an OME-TIFF or OME-Zarr, in the memory of a few tiles.

    Parameters
    ----------
    restorer : Restorer
    stack : Stack
        Raw stack.
    range_ : IntensityRange
        Raw intensities that become 0 and 1.
    out : Path
        File for the result, C, Z·s, Y, X; an OME-Zarr if the name ends in ``.zarr``. The voxel size
        along z is the stack's, divided by s.
    voxel_size_um : tuple of float, optional
        Voxel size of the stack along z, y and x in µm; by default that of the file.
    levels : int, optional
        Write the first channel alone, as `tenet.io.levels` does; by default all, as float32.
    progress : callable, optional
        Called as ``progress(done, tiles)`` after every tile.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    TenetError
        If the voxel size is not known, the stack holds NaN or infinite intensities, or the disk is
        full.

    Examples
    --------
    >>> import tenet
    >>> from tenet.enhance.tiles import tile_plan
    >>> from tenet.io.intensities import intensity_range
    >>> class Repeated:
    ...     '''Every plane three times: a method that restores nothing.'''
    ...     scale, channels, workers = 3, ("intensity",), 1
    ...     def tiles(self, zyx_shape):
    ...         return tile_plan(zyx_shape, (8, 16, 16), (2, 4, 4), (1, 1, 1))
    ...     def restore(self, shown_zyx, tile):
    ...         return shown_zyx.repeat(3, axis=0)[None]
    >>> stack = tenet.open_stack("stack.tif")
    >>> out = restore_stack(Repeated(), stack, intensity_range(stack), Path("repeated.ome.tif"))
    >>> tenet.open_stack(out).zyx_shape
    (18, 24, 20)
    """
    size_um = voxel_size_um or stack.voxel_size_um
    if size_um is None:
        raise TenetError(f"{stack.path}: it records no voxel size; give z, y, x in µm")

    def read(z: slice, y: slice, x: slice) -> NDArray[np.float32]:
        raw = stack.read(z, y, x)
        if not np.isfinite(raw).all():
            raise TenetError(
                f"{stack.label}: NaN or infinite intensities in planes {z.start} to {z.stop - 1}; "
                "export the raw data again"
            )
        return normalise(raw, range_)

    out = Path(out)
    scale = restorer.scale
    planes, rows, columns = stack.zyx_shape
    zyx_shape = (planes * scale, rows, columns)
    fine_size_um = (size_um[0] / scale, size_um[1], size_um[2])
    channels = restorer.channels if levels is None else restorer.channels[:1]
    opened: Writer = (
        writer_for(out, (len(channels), *zyx_shape), fine_size_um, channels)
        if levels is None
        else LevelsWriter(out, zyx_shape, fine_size_um, channels[0], levels)
    )
    with opened as writer:
        for start, block in _blocks(restorer, read, stack.zyx_shape, progress):
            mask_block(block, stack, start, scale)
            writer.add(start, block[: len(channels)])
    return out


def mask_block(
    block: NDArray[np.float32], stack: Stack, fine_zyx_start: Triple, scale: int
) -> None:
    """Set a restored block (C, Z·s, Y, X) to 0 where nothing was recorded; see `Stack.seen`."""
    if stack.unseen_share:
        z, y, x = fine_zyx_start
        _, planes, rows, columns = block.shape
        coarse = slice(z // scale, -(-(z + planes) // scale))
        seen = stack.seen(coarse, slice(y, y + rows), slice(x, x + columns)).repeat(scale, axis=0)
        block *= seen[z % scale :][:planes]


def restore_array(
    restorer: Restorer, image_zyx: NDArray[Any], *, progress: Progress | None = None
) -> NDArray[np.float32]:
    """Restore a small stack in memory; see `restore_stack`.

    Parameters
    ----------
    image_zyx : ndarray
        Intensities in [0, 1], shape (Z, Y, X).

    Returns
    -------
    ndarray of float32, shape (C, Z·s, Y, X)

    Raises
    ------
    TenetError
        If the array is not three-dimensional, or not within [0, 1].

    Examples
    --------
    >>> from tenet.enhance.tiles import tile_plan
    >>> class Repeated:
    ...     '''Every plane three times: a method that restores nothing.'''
    ...     scale, channels, workers = 3, ("intensity",), 1
    ...     def tiles(self, zyx_shape):
    ...         return tile_plan(zyx_shape, (8, 16, 16), (2, 4, 4), (1, 1, 1))
    ...     def restore(self, shown_zyx, tile):
    ...         return shown_zyx.repeat(3, axis=0)[None]
    >>> image = np.random.default_rng(0).random((6, 24, 20))
    >>> whole = restore_array(Repeated(), image)
    >>> np.allclose(whole[0, ::3], image)  # tiles leave no seam
    True
    """
    image = checked(image_zyx)
    planes, rows, columns = image.shape
    whole = np.zeros(
        (len(restorer.channels), planes * restorer.scale, rows, columns), dtype=np.float32
    )
    shape = (planes, rows, columns)
    for (z, y, x), block in _blocks(restorer, lambda z, y, x: image[z, y, x], shape, progress):
        _, n_z, n_y, n_x = block.shape
        whole[:, z : z + n_z, y : y + n_y, x : x + n_x] += block
    return whole


def checked(image_zyx: NDArray[Any]) -> NDArray[np.float32]:
    """A stack in memory, if it has three axes and intensities from 0 to 1.

    Raises
    ------
    TenetError
        If it has not.

    Examples
    --------
    >>> checked(np.full((2, 3, 3), 0.5)).dtype
    dtype('float32')
    """
    image = np.asarray(image_zyx, dtype=np.float32)
    if image.ndim != 3 or 0 in image.shape:
        raise TenetError(f"an array of shape {image.shape} is no stack; give Z, Y, X")
    if not (image.min() >= 0 and image.max() <= 1):
        raise TenetError("intensities must be from 0 to 1: normalise the stack first")
    return image


def _blocks(
    restorer: Restorer, read: Read, zyx_shape: Triple, progress: Progress | None
) -> Iterator[tuple[Triple, NDArray[np.float32]]]:
    """Yield weighted blocks (C, Z·s, Y, X) and their fine places; their sum is the result."""
    plan = restorer.tiles(zyx_shape)

    def load(tile: Tile) -> NDArray[np.float32]:
        z, y, x = (span.shown for span in tile)
        return read(z, y, x)

    def restored(tile: Tile, loaded: "Future[NDArray[np.float32]]") -> NDArray[np.float32]:
        block = restorer.restore(loaded.result(), tile)
        weigh(block, tile, restorer.scale)
        return block

    # While the devices work, one more tile is read, and the caller writes the block before. No more
    # tiles wait, so that the memory of a few tiles is enough.
    reader, workers = ThreadPoolExecutor(1), ThreadPoolExecutor(restorer.workers)
    waiting: deque[tuple[Tile, Future[NDArray[np.float32]]]] = deque()
    remaining = iter(plan)
    try:
        for done in range(1, len(plan) + 1):
            while len(waiting) <= restorer.workers and (tile := next(remaining, None)):
                loaded = reader.submit(load, tile)
                waiting.append((tile, workers.submit(restored, tile, loaded)))
            (z, y, x), future = waiting.popleft()
            yield (z.start * restorer.scale, y.start, x.start), future.result()
            if progress is not None:
                progress(done, len(plan))
    finally:
        for pool in (reader, workers):
            pool.shutdown(cancel_futures=True)
