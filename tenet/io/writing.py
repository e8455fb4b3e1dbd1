"""Results on disk: OME-TIFF and OME-Zarr. A file with its final name is complete."""

import contextlib
import errno
import itertools
import math
import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt
import tifffile
import zarr

from tenet.errors import TenetError
from tenet.io.atomic import replacing, writing
from tenet.types import Triple, VoxelSize

Index = tuple[int | slice, ...]

#: Most bytes of data that the 32-bit offsets of a classic TIFF are sure to reach.
CLASSIC_TIFF_BYTES = 2**32 - 2**25


def write_ome_tiff(
    path: str | os.PathLike[str],
    data: npt.NDArray[Any],
    voxel_size_um: VoxelSize,
    channel_names: Sequence[str] | None = None,
    *,
    compression: Literal["zlib"] | None = None,
) -> None:
    """Write an OME-TIFF. The file takes its name only when the file is complete.

    Parameters
    ----------
    path : path-like
        Its folder is made if need be.
    data : ndarray
        Image, shape (Z, Y, X) or (C, Z, Y, X). OME-TIFF does not know all types: bool becomes
        uint8, float16 becomes float32, and 64-bit integers become 32-bit integers if the values
        fit.
    voxel_size_um : tuple of float
        Voxel size along z, y and x in µm.
    channel_names : sequence of str, optional
        One for each channel.
    compression : {"zlib"}, optional
        Lossless; by default there is none, so that crops can be memory-mapped.

    Raises
    ------
    TenetError
        If the data are not finite or cannot be kept in OME-TIFF, or the disk is full or not
        writable.

    Examples
    --------
    >>> import numpy as np
    >>> import tenet
    >>> write_ome_tiff("dark.ome.tif", np.zeros((4, 8, 8), np.uint16), (1.0, 0.31, 0.31))
    >>> tenet.open_stack("dark.ome.tif").voxel_size_um
    (1.0, 0.31, 0.31)
    """
    path = Path(path)
    data = _ome_storable(path, np.asarray(data))
    check_finite(path, data)
    czyx_shape = data.shape if data.ndim == 4 else (1, *data.shape)
    metadata = ome_metadata(path, data.ndim, czyx_shape, voxel_size_um, channel_names)
    with replacing(path) as temporary:
        tifffile.imwrite(
            temporary,
            data,
            ome=True,
            bigtiff=data.nbytes > CLASSIC_TIFF_BYTES,
            photometric="minisblack",
            compression=compression,
            metadata=metadata,
        )


class Writer(Protocol):
    """A context manager to which a result of any size is added, block by block."""

    def __enter__(self) -> Self: ...

    def add(
        self, zyx_start: Triple, block: npt.NDArray[np.float32], *, channel: int = 0, time: int = 0
    ) -> None:
        """Add a block (C, Z, Y, X), from a channel on, to the image, which is 0 at first."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


def writer_for(
    path: str | os.PathLike[str],
    czyx_shape: tuple[int, int, int, int],
    voxel_size_um: VoxelSize,
    channel_names: Sequence[str] | None = None,
    times: int | None = None,
) -> Writer:
    """Return an `OmeZarrWriter` for names in ``.zarr``, and an `OmeTiffWriter` for all others."""
    kind = OmeZarrWriter if Path(path).suffix == ".zarr" else OmeTiffWriter
    return kind(path, czyx_shape, voxel_size_um, channel_names, times)


class OmeTiffWriter:
    """An OME-TIFF of float32 to which blocks are added. The image is on disk, not in memory.

    The writer is a context manager. The file starts as zeros under a temporary name, with all its
    space allocated. When the `with` block ends well, the file takes its final name. When the block
    ends in an error, the file is removed.

    Parameters
    ----------
    path : path-like
        Its folder is made if need be.
    czyx_shape : tuple of int
        Channels, planes, rows and columns.
    voxel_size_um : tuple of float
        Voxel size along z, y and x in µm.
    channel_names : sequence of str, optional
        One for each channel.
    times : int, optional
        Time points, an axis before the channels; by default there is no such axis.

    Raises
    ------
    TenetError
        On entering, if the disk has no room for the file or is not writable.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        czyx_shape: tuple[int, int, int, int],
        voxel_size_um: VoxelSize,
        channel_names: Sequence[str] | None = None,
        times: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.tczyx_shape = (times or 1, *czyx_shape)
        # The axis of time is left out where there is none.
        self._shape = self.tczyx_shape[0 if times else 1 :]
        axes = len(self._shape)
        self._metadata = ome_metadata(self.path, axes, czyx_shape, voxel_size_um, channel_names)
        self._open = contextlib.ExitStack()
        self._temporary: Path | None = None
        self._offset = 0

    def __enter__(self) -> Self:
        nbytes = 4 * math.prod(self._shape)
        with contextlib.ExitStack() as opening:
            temporary = opening.enter_context(replacing(self.path))
            with writing(self.path):
                # The free space is asked for first, because a failing allocation would fill the
                # disk.
                if shutil.disk_usage(temporary.parent).free < nbytes:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                place = tifffile.imwrite(
                    temporary,
                    shape=self._shape,
                    dtype=np.float32,
                    ome=True,
                    bigtiff=nbytes > CLASSIC_TIFF_BYTES,
                    photometric="minisblack",
                    metadata=self._metadata,
                    returnoffset=True,
                )
                assert place is not None  # uncompressed data are contiguous
                self._offset = place[0]
                # A full disk behind a hole in a memory-mapped file kills the process.
                if hasattr(os, "posix_fallocate"):
                    with temporary.open("r+b") as file:
                        os.posix_fallocate(file.fileno(), self._offset, nbytes)
            self._temporary = temporary
            self._open = opening.pop_all()
        return self

    def add(
        self, zyx_start: Triple, block: npt.NDArray[np.float32], *, channel: int = 0, time: int = 0
    ) -> None:
        """Add a block to the image, which is 0 at first.

        Parameters
        ----------
        zyx_start : tuple of int
            Place of the block's first voxel.
        block : ndarray of float32
            C, Z, Y, X; must lie within the image.
        channel, time : int
            First channel of the block, and its time point.
        """
        if self._temporary is None:
            raise RuntimeError("blocks are added inside the writer's with block")
        place = place_of(self.tczyx_shape, zyx_start, block, channel, time)
        check_finite(self.path, block, zyx_start)
        with writing(self.path):
            # The file is mapped anew for each block, so that the block bounds the memory.
            image = np.memmap(
                self._temporary, np.float32, "r+", self._offset, shape=self.tczyx_shape
            )
            image[place] += block
            image.flush()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._temporary = None
        self._open.__exit__(kind, error, traceback)


class OmeZarrWriter:
    """An OME-Zarr image of float32 to which blocks are added, in compressed chunks.

    The writer is a context manager. The image grows under a temporary name. When the `with` block
    ends well, the image gets coarser levels for viewers (means of 2×2×2 voxels, down to `SMALLEST`
    voxels a side). The image then takes its final name, and replaces an older OME-Zarr. When the
    block ends in an error, the image is removed.

    Parameters
    ----------
    path : path-like
        The folder of the image. The folder above is made if need be.
    czyx_shape : tuple of int
        Channels, planes, rows and columns.
    voxel_size_um : tuple of float
        Voxel size along z, y and x in µm.
    channel_names : sequence of str, optional
        One for each channel.
    times : int, optional
        Time points, an axis before the channels; by default there is no such axis.

    Raises
    ------
    TenetError
        If the folder is not writable, a file of another kind has the name, or the disk is full.
    """

    #: Voxels of a chunk, and the side of the image that needs no coarser level.
    CHUNK_ZYX, SMALLEST = (64, 128, 128), 256

    def __init__(
        self,
        path: str | os.PathLike[str],
        czyx_shape: tuple[int, int, int, int],
        voxel_size_um: VoxelSize,
        channel_names: Sequence[str] | None = None,
        times: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.tczyx_shape, self.voxel_size_um = (times or 1, *czyx_shape), voxel_size_um
        self._timed = times is not None
        ome_metadata(self.path, 4, czyx_shape, voxel_size_um, channel_names)  # checks them
        self.channel_names = channel_names
        self._open = contextlib.ExitStack()
        self._levels: list[zarr.Array[Any]] = []

    def __enter__(self) -> Self:
        if self.path.exists() and not _is_zarr(self.path):
            raise TenetError(f"{self.path} exists and is no OME-Zarr image: remove or rename it")
        with contextlib.ExitStack() as opening:
            temporary = opening.enter_context(replacing(self.path, folder=True))
            with writing(self.path):
                self._group = zarr.create_group(temporary, zarr_format=2)
                self._add_level(self.tczyx_shape[0 if self._timed else 1 :])
            self._open = opening.pop_all()
        return self

    def _add_level(self, shape: tuple[int, ...]) -> None:
        zyx_shape = shape[-3:]
        chunk = tuple(min(n, most) for n, most in zip(zyx_shape, self.CHUNK_ZYX, strict=True))
        self._levels.append(
            self._group.create_array(
                str(len(self._levels)),
                shape=shape,
                chunks=(*[1] * (len(shape) - 3), *chunk),
                dtype=np.float32,
                fill_value=0,
                chunk_key_encoding={"name": "v2", "separator": "/"},
            )
        )

    def add(
        self, zyx_start: Triple, block: npt.NDArray[np.float32], *, channel: int = 0, time: int = 0
    ) -> None:
        """Add a block to the image, as `OmeTiffWriter.add` does."""
        if not self._levels:
            raise RuntimeError("blocks are added inside the writer's with block")
        _, _, *place = place_of(self.tczyx_shape, zyx_start, block, channel, time)
        check_finite(self.path, block, zyx_start)
        image = self._levels[0]
        with writing(self.path):
            for number, added in enumerate(block, channel):
                window: Index = (*([time] if self._timed else []), number, *place)
                image[window] += added

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                with self._open, writing(self.path):
                    while max(self._levels[-1].shape[-3:]) > self.SMALLEST:
                        self._coarsen()
                    self._describe()
            else:
                self._open.__exit__(kind, error, traceback)
        finally:
            self._levels = []

    def _coarsen(self) -> None:
        """Add a level of half the size, chunk by chunk."""
        fine = self._levels[-1]
        images, zyx_shape = fine.shape[:-3], fine.shape[-3:]
        self._add_level((*images, *(-(-n // 2) for n in zyx_shape)))
        coarse = self._levels[-1]
        steps = coarse.chunks[-3:]
        starts = [range(0, n, step) for n, step in zip(coarse.shape[-3:], steps, strict=True)]
        for image, start in itertools.product(np.ndindex(*images), itertools.product(*starts)):
            axes = zip(start, steps, strict=True)
            window: Index = (*image, *[slice(2 * n, 2 * (n + step)) for n, step in axes])
            block = np.asarray(fine[window])
            padded = np.pad(block, [(0, n % 2) for n in block.shape], mode="edge")
            z, y, x = (n // 2 for n in padded.shape)
            axes = zip(start, (z, y, x), strict=True)
            inside: Index = (*image, *[slice(n, n + size) for n, size in axes])
            coarse[inside] = padded.reshape(z, 2, y, 2, x, 2).mean((1, 3, 5))

    def _describe(self) -> None:
        """Write the metadata of OME-Zarr 0.4, which most viewers read."""
        datasets = []
        for level in range(len(self._levels)):
            factor = 2**level
            images = 2 if self._timed else 1
            size = [*[1.0] * images, *(factor * float(n) for n in self.voxel_size_um)]
            centre = [
                *[0.0] * images, *((factor - 1) / 2 * float(n) for n in self.voxel_size_um)
            ]  # fmt: skip
            transformations: list[dict[str, Any]] = [{"type": "scale", "scale": size}]
            if level:
                transformations.append({"type": "translation", "translation": centre})
            datasets.append({"path": str(level), "coordinateTransformations": transformations})
        axes: list[dict[str, str]] = [{"name": "t", "type": "time"}] if self._timed else []
        axes.append({"name": "c", "type": "channel"})
        axes += [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"]
        image: dict[str, Any] = {
            "version": "0.4",
            "name": self.path.name,
            "axes": axes,
            "datasets": datasets,
        }
        self._group.attrs["multiscales"] = [image]
        if self.channel_names is not None:
            window = {"min": 0.0, "max": 1.0, "start": 0.0, "end": 1.0}
            self._group.attrs["omero"] = {
                "channels": [
                    {"label": name, "color": "FFFFFF", "active": True, "window": window}
                    for name in self.channel_names
                ]
            }


def _is_zarr(path: Path) -> bool:
    return any((path / name).exists() for name in (".zgroup", ".zattrs", "zarr.json"))


def place_of(
    tczyx_shape: tuple[int, ...],
    zyx_start: Triple,
    block: npt.NDArray[np.float32],
    channel: int = 0,
    time: int = 0,
) -> tuple[int | slice, ...]:
    """Return the place of a block (C, Z, Y, X), which must lie within an image of this shape."""
    start = (channel, *zyx_start)
    stop = [first + size for first, size in zip(start, block.shape, strict=True)]
    times, *czyx_shape = tczyx_shape
    if not 0 <= time < times or any(
        first < 0 or end > size for first, end, size in zip(start, stop, czyx_shape, strict=True)
    ):
        at = (time, *start)
        raise ValueError(f"block {block.shape} at {at} does not fit into {tczyx_shape}")
    return (time, *(slice(a, b) for a, b in zip(start, stop, strict=True)))


def check_finite(path: Path, data: npt.NDArray[Any], zyx_start: Triple = (0, 0, 0)) -> None:
    """Refuse data that are NaN or infinite; `zyx_start` is the place of the data in the image."""
    # A sum is cheaper than a mask, and is finite only if all values are.
    if data.dtype.kind != "f" or np.isfinite(data.sum(dtype=np.float64)):
        return
    place = ", ".join(
        f"{axis} {start} to {start + size - 1}"
        for axis, start, size in zip(
            ("planes", "rows", "columns"), zyx_start, data.shape[-3:], strict=True
        )
    )
    raise TenetError(
        f"{path}: NaN or infinite values in {place} of the result, so nothing is written; "
        "check the model and the intensities of the stack"
    )


def _ome_storable(path: Path, data: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Convert data to a type that OME-TIFF knows, without loss."""
    if data.ndim not in (3, 4) or 0 in data.shape:
        raise TenetError(f"{path}: data of shape {data.shape} are not Z, Y, X or C, Z, Y, X")
    if data.dtype == np.bool_:
        return data.astype(np.uint8)
    if data.dtype == np.float16:
        return data.astype(np.float32)
    if data.dtype.kind in "iu" and data.dtype.itemsize == 8:
        narrow = np.dtype(np.int32 if data.dtype.kind == "i" else np.uint32)
        limits = np.iinfo(narrow)
        if data.min() < limits.min or data.max() > limits.max:
            raise TenetError(
                f"{path}: OME-TIFF has no {data.dtype}, and the values do not fit into {narrow}; "
                "convert them first"
            )
        return data.astype(narrow)
    if data.dtype.kind not in "uif" or data.dtype.itemsize > 8:
        raise TenetError(f"{path}: {data.dtype} cannot be kept in OME-TIFF; convert it first")
    return data


def ome_metadata(
    path: Path,
    ndim: int,
    czyx_shape: Sequence[int],
    voxel_size_um: VoxelSize,
    channel_names: Sequence[str] | None,
) -> dict[str, Any]:
    """Return tifffile's metadata of an image of some axes, whose numbers are checked."""
    if not all(math.isfinite(size) and size > 0 for size in voxel_size_um):
        raise TenetError(f"{path}: {voxel_size_um} is not a voxel size; give z, y, x in µm")
    # tifffile would take a random one, and equal results would differ in it.
    about = ascii(f"tenet {path.name} {czyx_shape} {voxel_size_um}")  # names may be no text
    same = uuid.uuid5(uuid.NAMESPACE_URL, about)
    metadata: dict[str, Any] = {"axes": "TCZYX"[-ndim:], "UUID": str(same)}
    for axis, size in zip("ZYX", voxel_size_um, strict=True):
        metadata |= {f"PhysicalSize{axis}": float(size), f"PhysicalSize{axis}Unit": "µm"}
    if channel_names is not None:
        if len(channel_names) != czyx_shape[0]:
            raise TenetError(
                f"{path}: {len(channel_names)} channel names for {czyx_shape[0]} channels; "
                "give one for each"
            )
        metadata["Channel"] = {"Name": list(channel_names)}
    return metadata
