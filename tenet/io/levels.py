"""Images of many stacks on a small disk: one channel, in so many levels of intensity.

A value is stored as a whole number of steps, in 8 bits or 16. The step is in the OME-XML of the
file, and `tenet.io.open.open_stack` multiplies by the step, so that what reads an image need not
know how the image is stored.
"""

import contextlib
import errno
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import tifffile

from tenet.errors import TenetError
from tenet.io.atomic import replacing, writing
from tenet.io.ome_tiff import STEP
from tenet.io.writing import CLASSIC_TIFF_BYTES, check_finite, ome_metadata, place_of
from tenet.types import Triple, VoxelSize

#: Levels of 8 and of 16 bits.
BYTE, MOST_LEVELS = 255, 65535
#: How hard Zstandard tries: at 9 it takes a third of zlib's time for files as small.
_ZSTD_LEVEL = 9
#: Rows and columns that are compressed together.
_TILE = (256, 256)


def write_levels(
    path: Path,
    values_zyx: npt.NDArray[np.float32],
    voxel_size_um: VoxelSize,
    name: str,
    levels: int,
    *,
    compressed: bool = True,
) -> None:
    """Write values as whole numbers of steps into an OME-TIFF.

    The highest level stands for 1, or for the highest value if that is above 1. So no value
    changes by more than half a step.

    Parameters
    ----------
    path : Path
        Its folder is made if need be.
    values_zyx : ndarray of float32
        Values, not negative, shape (Z, Y, X). They are read plane by plane, so that a mapped file
        takes no memory.
    voxel_size_um : tuple of float
        Voxel size along z, y and x in µm.
    name : str
        Name of the channel.
    levels : int
        Steps from 0 to the highest number: up to 255 in 8 bits, up to 65535 in 16.
    compressed : bool
        Whether to compress tiles of planes, without loss; otherwise crops can be memory-mapped.

    Raises
    ------
    TenetError
        If a value is negative or not finite, or the disk is full or not writable.

    Examples
    --------
    >>> import numpy as np
    >>> import tenet
    >>> third = np.full((2, 8, 8), 0.3, np.float32)
    >>> write_levels(Path("third.ome.tif"), third, (0.5, 0.3, 0.3), "shape", 255)
    >>> stored = tenet.open_stack("third.ome.tif")
    >>> stored.dtype, round(float(stored.read().mean()), 3)
    (dtype('uint8'), 0.302)
    """
    if not 1 <= levels <= MOST_LEVELS:
        raise ValueError(f"{levels} levels are not from 1 to {MOST_LEVELS}")
    step = _highest(path, values_zyx) / levels
    dtype = np.dtype(np.uint8 if levels <= BYTE else np.uint16)
    metadata = ome_metadata(path, 3, (1, *values_zyx.shape), voxel_size_um, [name])
    metadata["MapAnnotation"] = {STEP: repr(step)}

    def planes() -> Iterator[npt.NDArray[Any]]:
        for plane in values_zyx:
            yield np.rint(plane / np.float64(step)).astype(dtype)

    shape = values_zyx.shape
    with replacing(path) as temporary, writing(path):
        tifffile.imwrite(
            temporary,
            _tiles(planes(), shape) if compressed else planes(),
            shape=shape,
            dtype=dtype,
            ome=True,
            bigtiff=math.prod(shape) * dtype.itemsize > CLASSIC_TIFF_BYTES,
            photometric="minisblack",
            tile=_TILE if compressed else None,
            compression="zstd" if compressed else None,
            compressionargs={"level": _ZSTD_LEVEL} if compressed else None,
            metadata=metadata,
        )


def _highest(path: Path, values_zyx: npt.NDArray[np.float32]) -> float:
    """Return the value of the highest level: 1, or the highest value if that is above 1."""
    highest = 1.0
    for z, plane in enumerate(values_zyx):
        check_finite(path, plane[None], (z, 0, 0))
        if plane.min() < 0:
            raise TenetError(f"{path}: plane {z} of the result has negative values; clip them at 0")
        highest = max(highest, float(plane.max()))
    return highest


def _tiles(
    planes: Iterator[npt.NDArray[Any]], zyx_shape: tuple[int, ...]
) -> Iterator[npt.NDArray[Any]]:
    """Cut planes into tiles, row by row; tifffile fills up those at the ends."""
    _, rows, columns = zyx_shape
    for plane in planes:
        for y in range(0, rows, _TILE[0]):
            for x in range(0, columns, _TILE[1]):
                yield plane[y : y + _TILE[0], x : x + _TILE[1]]


class LevelsWriter:
    """An image in levels to which blocks are added, as to a `tenet.io.writing.OmeTiffWriter`.

    Blocks overlap, and their sums are not rounded: the image grows as float32 in a file without a
    name, on the disk of the result. `write_levels` packs the image when the `with` block ends well.

    Parameters
    ----------
    path : Path
        Its folder is made if need be.
    zyx_shape : tuple of int
        Planes, rows and columns.
    voxel_size_um : tuple of float
        Voxel size along z, y and x in µm.
    name : str
        Name of the channel.
    levels : int
        As in `write_levels`.

    Raises
    ------
    TenetError
        On entering, if the disk has no room for the image as float32 or is not writable.
    """

    def __init__(
        self, path: Path, zyx_shape: Triple, voxel_size_um: VoxelSize, name: str, levels: int
    ) -> None:
        self.path, self.tczyx_shape = Path(path), (1, 1, *zyx_shape)
        self.voxel_size_um, self.name, self.levels = voxel_size_um, name, levels
        self._open = contextlib.ExitStack()
        self._file: Any = None

    def __enter__(self) -> Self:
        nbytes = 4 * math.prod(self.tczyx_shape)
        with writing(self.path), contextlib.ExitStack() as opening:
            folder = self.path.parent
            folder.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(folder).free < nbytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._file = opening.enter_context(tempfile.TemporaryFile(dir=folder))
            # A full disk behind a hole in a memory-mapped file kills the process.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._file.fileno(), 0, nbytes)
            else:
                self._file.truncate(nbytes)
            self._open = opening.pop_all()
        return self

    def add(
        self, zyx_start: Triple, block: npt.NDArray[np.float32], *, channel: int = 0, time: int = 0
    ) -> None:
        """Add a block (1, Z, Y, X) to the image, as `OmeTiffWriter.add` does."""
        if self._file is None:
            raise RuntimeError("blocks are added inside the writer's with block")
        place = place_of(self.tczyx_shape, zyx_start, block, channel, time)
        check_finite(self.path, block, zyx_start)
        with writing(self.path):
            image = self._image()
            image[place] += block
            image.flush()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._open:
            if kind is None:
                write_levels(
                    self.path, self._image()[0, 0], self.voxel_size_um, self.name, self.levels
                )
        self._file = None

    def _image(self) -> Any:
        return np.memmap(self._file, np.float32, "r+", shape=self.tczyx_shape)
