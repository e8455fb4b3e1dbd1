"""Scores of many stacks on a small disk: one channel, in 8 or 16 bits, compressed.

A score is stored as a whole number of steps. The step is in the OME-XML of the file, and
`tenet.io.open.open_stack` multiplies by the step, so that what reads a result need not know how
the result is stored.
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
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import tifffile

from tenet.errors import TenetError
from tenet.io.atomic import replacing, writing
from tenet.io.ome_tiff import STEP
from tenet.io.writing import CLASSIC_TIFF_BYTES, check_finite, ome_metadata, place_of
from tenet.types import Triple, VoxelSize

#: Types that scores are stored in.
Scores = Literal["uint8", "uint16"]
#: Rows and columns that are compressed together.
_TILE = (256, 256)


def write_scores(
    path: Path,
    scores_zyx: npt.NDArray[np.float32],
    voxel_size_um: VoxelSize,
    name: str,
    dtype: Scores,
) -> None:
    """Write scores as whole numbers of steps, in compressed tiles of an OME-TIFF.

    The highest number stands for 1, or for the highest score if that is above 1. So no score
    changes by more than half a step: 1/510 of the range in 8 bits, 1/131070 in 16 bits.

    Parameters
    ----------
    path : Path
        Its folder is made if need be.
    scores_zyx : ndarray of float32
        Scores, not negative, shape (Z, Y, X). They are read plane by plane, so that a mapped file
        takes no memory.
    voxel_size_um : tuple of float
        Voxel size along z, y and x in µm.
    name : str
        Name of the channel.
    dtype : {"uint8", "uint16"}
        Type of the numbers.

    Raises
    ------
    TenetError
        If a score is negative or not finite, or the disk is full or not writable.

    Examples
    --------
    >>> import numpy as np
    >>> import tenet
    >>> scores = np.full((2, 8, 8), 0.3, np.float32)
    >>> write_scores(Path("scores.ome.tif"), scores, (0.5, 0.3, 0.3), "shape", "uint8")
    >>> stored = tenet.open_stack("scores.ome.tif")
    >>> stored.dtype, round(float(stored.read().mean()), 3)
    (dtype('uint8'), 0.302)
    """
    most = np.iinfo(dtype).max
    step = _highest(path, scores_zyx) / most
    metadata = ome_metadata(path, 3, (1, *scores_zyx.shape), voxel_size_um, [name])
    metadata["MapAnnotation"] = {STEP: repr(step)}

    def planes() -> Iterator[npt.NDArray[Any]]:
        for plane in scores_zyx:
            yield np.rint(plane / np.float64(step)).astype(dtype)

    shape = scores_zyx.shape
    with replacing(path) as temporary, writing(path):
        tifffile.imwrite(
            temporary,
            _tiles(planes(), shape),
            shape=shape,
            dtype=np.dtype(dtype),
            ome=True,
            bigtiff=math.prod(shape) * np.dtype(dtype).itemsize > CLASSIC_TIFF_BYTES,
            photometric="minisblack",
            tile=_TILE,
            compression="zlib",
            metadata=metadata,
        )


def _highest(path: Path, scores_zyx: npt.NDArray[np.float32]) -> float:
    """Return the score of the highest number: 1, or the highest score if that is above 1."""
    highest = 1.0
    for z, plane in enumerate(scores_zyx):
        check_finite(path, plane[None], (z, 0, 0))
        if plane.min() < 0:
            raise TenetError(f"{path}: plane {z} of the result has negative scores; clip them at 0")
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


class ScoresWriter:
    """Scores to which blocks are added, as to a `tenet.io.writing.OmeTiffWriter`.

    Blocks overlap, and their sums are not rounded: the image grows as float32 in a file without a
    name, on the disk of the result. `write_scores` packs the image when the `with` block ends well.

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
    dtype : {"uint8", "uint16"}
        As in `write_scores`.

    Raises
    ------
    TenetError
        On entering, if the disk has no room for the image as float32 or is not writable.
    """

    def __init__(
        self, path: Path, zyx_shape: Triple, voxel_size_um: VoxelSize, name: str, dtype: Scores
    ) -> None:
        self.path, self.czyx_shape = Path(path), (1, *zyx_shape)
        self.voxel_size_um, self.name, self.dtype = voxel_size_um, name, dtype
        self._open = contextlib.ExitStack()
        self._file: Any = None

    def __enter__(self) -> Self:
        nbytes = 4 * math.prod(self.czyx_shape)
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

    def add(self, zyx_start: Triple, block: npt.NDArray[np.float32]) -> None:
        """Add a block (1, Z, Y, X) to the image, as `OmeTiffWriter.add` does."""
        if self._file is None:
            raise RuntimeError("blocks are added inside the writer's with block")
        place = place_of(self.czyx_shape, zyx_start, block)
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
                write_scores(self.path, self._image()[0], self.voxel_size_um, self.name, self.dtype)
        self._file = None

    def _image(self) -> Any:
        return np.memmap(self._file, np.float32, "r+", shape=self.czyx_shape)
