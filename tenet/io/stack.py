"""A stack in a file, read crop by crop, and the meaning of its units.

A `Stack` knows the shape and the voxel size of a file, and reads any crop at the crop's cost. No
function here holds a whole stack in memory.
"""

import functools
import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from tenet.errors import TenetError, one_line
from tenet.io.axes import Layout
from tenet.io.optics import Optics
from tenet.types import Triple, VoxelSize

WHOLE = slice(None)

#: Lengths in µm of the units in headers of OME-XML, OME-Zarr and ImageJ. Pixels, "reference frame"
#: and inches are left out on purpose, because an inch is a unit of printing.
# fmt: off
MICROMETRES = {
    "m": 1e6, "meter": 1e6, "metre": 1e6,
    "dm": 1e5, "decimeter": 1e5, "decimetre": 1e5,
    "cm": 1e4, "centimeter": 1e4, "centimetre": 1e4,
    "mm": 1e3, "millimeter": 1e3, "millimetre": 1e3,
    "µm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0,
    "nm": 1e-3, "nanometer": 1e-3, "nanometre": 1e-3,
    "Å": 1e-4, "angstrom": 1e-4,
    "pm": 1e-6, "picometer": 1e-6, "picometre": 1e-6,
}
# fmt: on

#: Limits of a voxel in µm: of pixels of light microscopes, and of steps between planes.
PIXEL_UM, STEP_UM = (0.01, 10.0), (0.01, 100.0)


class Reader(Protocol):
    """Reads a crop of a file, in the file's own data type."""

    def read(self, z: slice, y: slice, x: slice) -> npt.NDArray[Any]:
        """Read planes, rows and columns."""
        ...

    def at(self, channel: int, time: int) -> "Reader":
        """Return the reader of another channel and time point of the file."""
        ...


@dataclass(frozen=True)
class Stack:
    """A three-dimensional image in a file, read crop by crop.

    Attributes
    ----------
    path : Path
        The file, or the folder of an OME-Zarr image.
    zyx_shape : tuple of int
        Planes, rows and columns.
    dtype : numpy.dtype
        Data type in the file.
    voxel_size_um : tuple of float, or None
        Voxel size along z, y and x in µm; None where the file does not say, because a voxel size is
        never guessed.
    voxel_size_note : str
        Words for a voxel size that the file does not give, to follow the file's name.
    channels, times : int
        Channels and time points of the file. The stack is one of them.
    part : str
        Which of them, to follow the name of the stack, as ``_c0_t003``; empty if nothing was to be
        told apart.
    step : float
        Intensity that a count of 1 in the file stands for: 1, unless `tenet.io.levels` wrote it.
    channel_optics : tuple of Optics
        Optics of each channel, as far as the file says; `optics` are those of the stack.
    channel, time : int
        Which channel and time point of the file the stack is.
    scan_offset_px : float
        Pixels by which odd rows were shifted back; see `tenet.io.scan_offset`.

    Examples
    --------
    >>> import tenet
    >>> stack = tenet.open_stack("stack.tif")
    >>> stack.zyx_shape, stack.voxel_size_um
    ((6, 24, 20), (1.0, 0.31, 0.31))
    """

    path: Path
    zyx_shape: Triple
    dtype: np.dtype[Any]
    voxel_size_um: VoxelSize | None
    _reader: Reader
    voxel_size_note: str = "does not say its voxel size"
    channels: int = 1
    times: int = 1
    part: str = ""
    step: float = 1.0
    channel_optics: tuple[Optics, ...] = ()
    channel: int = 0
    time: int = 0
    scan_offset_px: float = 0.0
    _with_gaps: Reader | None = None

    @property
    def optics(self) -> Optics:
        """What the file says of the optics of the stack.

        Examples
        --------
        >>> import tenet
        >>> tenet.open_stack("stack.tif").optics.na is None  # a plain TIFF says nothing
        True
        """
        known = self.channel < len(self.channel_optics)
        return self.channel_optics[self.channel] if known else Optics()

    @property
    def name(self) -> str:
        """The name of the file, and which part of the file, for records.

        Examples
        --------
        >>> import tenet
        >>> tenet.open_stack("stack.tif").name
        'stack.tif'
        """
        return self.path.name + self.part.replace("_", " ")

    @property
    def label(self) -> str:
        """The path of the file, and which part of the file, for messages.

        Examples
        --------
        >>> import tenet
        >>> tenet.open_stack("stack.tif").label
        'stack.tif'
        """
        return str(self.path) + self.part.replace("_", " ")

    def at(self, channel: int, time: int, part: str) -> "Stack":
        """Return another channel and time point of the same file, without opening the file again.

        Parameters
        ----------
        channel, time : int
            Numbers from 0 to `channels` − 1 and `times` − 1.
        part : str
            As the attribute.

        Examples
        --------
        >>> import tenet
        >>> tenet.open_stack("stack.tif").at(0, 0, "_c0").label
        'stack.tif c0'
        """
        reader, gaps = self._reader.at(channel, time), self._with_gaps
        gaps = None if gaps is None else gaps.at(channel, time)
        return replace(self, _reader=reader, _with_gaps=gaps, part=part, channel=channel, time=time)

    @functools.cached_property
    def offset(self) -> float:
        """Intensity that `read` subtracts, so that float32 distinguishes the intensities.

        The offset of nearly all stacks is 0. Intensities of a wider type may lie so high that the
        step of float32 there is above a sixteenth of their spread. The offset is then their median.
        Spread and median are those of a sample.

        Examples
        --------
        >>> import tenet
        >>> tenet.open_stack("stack.tif").offset
        0.0
        """
        if np.can_cast(self.dtype, np.float32):
            return 0.0
        planes, rows, columns = self.zyx_shape
        places = np.unique(np.linspace(0, planes - 1, 5).astype(int)).tolist()
        middle = [slice(max(n // 2 - 64, 0), min(n // 2 + 64, n)) for n in (rows, columns)]
        sample = np.concatenate(
            [self._crop(slice(k, k + 1), *middle).ravel() for k in places], dtype=np.float64
        )
        with np.errstate(over="ignore", invalid="ignore"):  # NaN and infinity have no step
            level = np.median(sample)
            spread = np.median(np.abs(sample - level))
            step = np.spacing(np.float32(np.abs(level)))
        # The step must also be above 1/32, because a sample may have no spread.
        return float(np.floor(level)) if step > max(spread / 16, 1 / 32) else 0.0

    def read(self, z: slice = WHOLE, y: slice = WHOLE, x: slice = WHOLE) -> npt.NDArray[np.float32]:
        """Read the intensities of a crop.

        Parameters
        ----------
        z, y, x : slice
            Planes, rows and columns, of step 1; the whole axis by default.

        Returns
        -------
        ndarray of float32
            Raw intensities minus `offset`, times `step`, shape (Z, Y, X). Time and memory grow with
            the crop alone.

        Raises
        ------
        TenetError
            If the file cannot be read or decoded there.

        Examples
        --------
        >>> import tenet
        >>> stack = tenet.open_stack("stack.tif")
        >>> stack.read(z=slice(2, 4)).shape  # two planes
        (2, 24, 20)
        >>> stack.read().dtype
        dtype('float32')
        """
        spans = [s.indices(n) for s, n in zip((z, y, x), self.zyx_shape, strict=True)]
        if any(step != 1 for *_, step in spans):
            raise ValueError("a stack is read with slices of step 1")
        z, y, x = (slice(start, max(start, stop)) for start, stop, _ in spans)
        crop = self._crop(z, y, x)
        with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite
            if self.offset:
                found = np.empty(crop.shape, np.float32)
                return np.subtract(crop, self.offset, found, dtype=np.float64, casting="unsafe")
            if self.step != 1:
                found = np.empty(crop.shape, np.float32)
                return np.multiply(crop, self.step, found, dtype=np.float64, casting="unsafe")
            return np.array(crop, dtype=np.float32, order="C")

    def _crop(self, z: slice, y: slice, x: slice) -> npt.NDArray[Any]:
        wanted = tuple(axis.stop - axis.start for axis in (z, y, x))
        try:
            crop = self._reader.read(z, y, x)
            if crop.shape != wanted:
                raise ValueError(f"it holds {crop.shape} voxels there, not {wanted}")
            return crop
        except TenetError:
            raise
        # On damaged data the decoders of many packages raise many kinds of errors.
        except Exception as error:
            raise TenetError(
                f"{self.path}: planes {z.start} to {z.stop - 1} cannot be read "
                f"({one_line(error)}); the file is damaged or has changed: copy or export it again"
            ) from error

    def seen(self, z: slice = WHOLE, y: slice = WHOLE, x: slice = WHOLE) -> npt.NDArray[np.bool_]:
        """Tell which voxels of a crop hold an intensity; the others are NaN in the file.

        Parameters
        ----------
        z, y, x : slice
            As for `read`.

        Returns
        -------
        ndarray of bool, shape (Z, Y, X)

        Examples
        --------
        >>> import tenet
        >>> tenet.open_stack("stack.tif").seen().all()
        np.True_
        """
        spans = [slice(*s.indices(n)) for s, n in zip((z, y, x), self.zyx_shape, strict=True)]
        if self._with_gaps is None:
            return np.ones([max(s.stop - s.start, 0) for s in spans], bool)
        return ~np.isnan(self._with_gaps.read(*spans))

    @functools.cached_property
    def unseen_share(self) -> float:
        """Share of the voxels that are NaN in the file. Floating-point files are read once.

        Examples
        --------
        >>> import tenet
        >>> tenet.open_stack("stack.tif").unseen_share
        0.0
        """
        if self._with_gaps is None:
            return 0.0
        unseen = sum(
            int(np.count_nonzero(~self.seen(slice(plane, plane + 1))))
            for plane in range(self.zyx_shape[0])
        )
        return unseen / math.prod(self.zyx_shape)

    def slabs(self, max_bytes: int = 2**24) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """Go through the stack in groups of whole planes.

        Parameters
        ----------
        max_bytes : int
            Size of a group as float32; a group is never less than one plane.

        Yields
        ------
        first_plane : int
        slab : ndarray of float32
            Raw intensities minus `offset` in Z, Y, X.

        Examples
        --------
        >>> import tenet
        >>> stack = tenet.open_stack("stack.tif")
        >>> [(first, slab.shape) for first, slab in stack.slabs(max_bytes=8000)]
        [(0, (4, 24, 20)), (4, (2, 24, 20))]
        """
        planes, rows, columns = self.zyx_shape
        step = max(1, max_bytes // (4 * rows * columns))
        for start in range(0, planes, step):
            yield start, self.read(z=slice(start, start + step))

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of all intensities that `read` returns. Every voxel is read once.

        Examples
        --------
        >>> import tenet
        >>> len(tenet.open_stack("stack.tif").digest)  # hexadecimal digits
        64
        """
        whole = hashlib.sha256(str(self.zyx_shape).encode())
        for _, slab in self.slabs():
            whole.update(slab.data)
        return whole.hexdigest()


# Voxels -------------------------------------------------------------------------------------------


def check_dtype(path: Path, dtype: np.dtype[Any]) -> None:
    """Refuse intensities that are not real numbers."""
    if dtype.kind not in "buif":
        name = str(dtype)
        raise TenetError(
            f"{path}: intensities of type {name if len(name) < 40 else dtype.kind} are not real "
            "numbers; export integers or floating-point numbers (of complex data, the magnitude)"
        )


def check_voxel_size(zyx_um: VoxelSize, where: str) -> None:
    """Refuse a voxel size that no light microscope has, and name the unit that was likely meant.

    Parameters
    ----------
    zyx_um : tuple of float
        Voxel size along z, y and x in µm. Pixels must lie in `PIXEL_UM` and steps in `STEP_UM`, and
        z must be the coarsest.
    where : str
        The owner of the voxel size, for errors.

    Raises
    ------
    TenetError
        If a side is not finite, not above 0 or out of these ranges, or if planes are closer than
        pixels.
    """
    z, y, x = zyx_um
    said = f"{where}: a voxel of {z:g} × {y:g} × {x:g} µm (z, y, x)"
    if not all(math.isfinite(size) and size > 0 for size in zyx_um):
        raise TenetError(f"{said}: every side must be finite and above 0")
    if not _is_of_a_microscope(zyx_um):
        for unit in ("nm", "mm", "cm", "m"):
            meant = tuple(size * MICROMETRES[unit] for size in (z, y, x))
            if _is_of_a_microscope(meant):
                given = " ".join(f"{size:g}" for size in meant)
                raise TenetError(
                    f"{said} is not one of a light microscope; is it {unit}? then give {given}"
                )
        raise TenetError(
            f"{said} is not one of a light microscope (pixels of {PIXEL_UM[0]:g} to "
            f"{PIXEL_UM[1]:g} µm, planes at most {STEP_UM[1]:g} µm apart); check the unit"
        )
    if z < x:
        raise TenetError(
            f"{where}: its planes are {z:g} µm apart, finer than its pixels of {x:g} µm: axial "
            "super-resolution has nothing to do; check the order Z Y X, or keep one "
            f"plane in {math.ceil(x / z)}"
        )


def _is_of_a_microscope(zyx_um: Sequence[float]) -> bool:
    ranges = (STEP_UM, PIXEL_UM, PIXEL_UM)
    return all(low <= size <= high for size, (low, high) in zip(zyx_um, ranges, strict=True))


def voxel_size_of_axes(z: float | None, y: float | None, x: float | None) -> VoxelSize | None:
    """Return a voxel size if all three lengths are finite and above 0; None otherwise."""
    if z is None or y is None or x is None:
        return None
    if not all(math.isfinite(size) and size > 0 for size in (z, y, x)):
        return None
    return z, y, x


def micrometres(value: float | str | None, unit: str | None) -> float | None:
    """Convert a length to µm; None where the value or the unit is missing or unknown."""
    # Greek mu and the escape that ImageJ writes both stand for the micro sign.
    unit = (unit or "").strip().replace("\u03bc", "µ").replace("\\u00B5", "µ")
    factor = MICROMETRES.get(unit, MICROMETRES.get(unit.lower()))
    if value is None or factor is None:
        return None
    try:
        return float(value) * factor
    except (TypeError, ValueError, OverflowError):
        return None


# Plain arrays ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ContiguousReader:
    """Voxels that lie in the file as one plain array."""

    path: Path
    dtype: str
    offset: int
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    layout: Layout

    def read(self, z: slice, y: slice, x: slice) -> npt.NDArray[Any]:
        """Read planes, rows and columns."""
        # The file is mapped anew for each crop, so that the memory of earlier crops is given back.
        array = np.memmap(self.path, self.dtype, "r", self.offset, self.shape, self.order)
        return np.array(self.layout.crop(array, z, y, x))

    def at(self, channel: int, time: int) -> "ContiguousReader":
        """Return the reader of another channel and time point."""
        return replace(self, layout=self.layout.at(channel, time))


@dataclass(frozen=True)
class InvertedReader:
    """Pixels of which 0 is the brightest: `white` less each, in their own type.

    `white` is the highest value of unsigned integers, and −1 for signed ones, whose lowest value
    then becomes the highest.
    """

    reader: Reader
    white: int

    def read(self, z: slice, y: slice, x: slice) -> npt.NDArray[Any]:
        """Read planes, rows and columns."""
        crop = self.reader.read(z, y, x)
        if crop.dtype.kind == "b":
            return ~crop
        return np.asarray(np.array(self.white, crop.dtype) - crop)

    def at(self, channel: int, time: int) -> "InvertedReader":
        """Return the reader of another channel and time point."""
        return replace(self, reader=self.reader.at(channel, time))
