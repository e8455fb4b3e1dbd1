"""Image stacks: files -> float32 arrays in Z, Y, X, with the voxel size in µm.

A `Stack` knows a file's shape and voxel size and reads any crop of it at the crop's cost; nothing
here holds a whole stack in memory. Every mistake that can be seen in a file's header (wrong axes,
truncated data, colour) is reported when the file is opened.
"""

import contextlib
import math
import os
import struct
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, Self

import nd2
import numpy as np
import numpy.typing as npt
import tifffile
import zarr
import zarr.storage

from tenet.errors import TenetError, one_line

__all__ = [
    "IntensityRange",
    "Stack",
    "check_intensities",
    "intensity_range",
    "normalise",
    "open_stack",
]

Triple = tuple[int, int, int]
VoxelSize = tuple[float, float, float]

WHOLE = slice(None)

#: Lengths in µm of the units met in OME-XML, OME-Zarr and ImageJ headers. Pixels, "reference
#: frame" and inches (a printing resolution, not a calibration) are left out on purpose.
# fmt: off
MICROMETRES = {
    "m": 1e6, "meter": 1e6, "metre": 1e6,
    "cm": 1e4, "centimeter": 1e4, "centimetre": 1e4,
    "mm": 1e3, "millimeter": 1e3, "millimetre": 1e3,
    "µm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0,
    "nm": 1e-3, "nanometer": 1e-3, "nanometre": 1e-3,
    "Å": 1e-4, "angstrom": 1e-4,
    "pm": 1e-6, "picometer": 1e-6, "picometre": 1e-6,
}
# fmt: on


class _Reader(Protocol):
    """Reads a crop of a file, in the file's own data type."""

    def read(self, z: slice, y: slice, x: slice) -> npt.NDArray[Any]: ...


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
        Voxel size along z, y and x in µm; None where the file does not say (it is never guessed).
    """

    path: Path
    zyx_shape: Triple
    dtype: np.dtype[Any]
    voxel_size_um: VoxelSize | None
    _reader: _Reader

    def read(self, z: slice = WHOLE, y: slice = WHOLE, x: slice = WHOLE) -> npt.NDArray[np.float32]:
        """Read the raw intensities of a crop.

        Parameters
        ----------
        z, y, x : slice
            Planes, rows and columns, of step 1; the whole axis by default.

        Returns
        -------
        ndarray of float32
            Raw intensities in Z, Y, X; time and memory are those of the crop.

        Raises
        ------
        TenetError
            If the file cannot be read or decoded there.
        """
        spans = [s.indices(n) for s, n in zip((z, y, x), self.zyx_shape, strict=True)]
        if any(step != 1 for *_, step in spans):
            raise ValueError("a stack is read with slices of step 1")
        z, y, x = (slice(start, max(start, stop)) for start, stop, _ in spans)
        try:
            crop = self._reader.read(z, y, x)
        except (OSError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
            raise TenetError(
                f"{self.path}: planes {z.start} to {z.stop - 1} cannot be read "
                f"({one_line(error)}); the file is damaged or has changed: copy or export it again"
            ) from error
        return np.array(crop, dtype=np.float32, order="C")

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
            Raw intensities in Z, Y, X.
        """
        planes, rows, columns = self.zyx_shape
        step = max(1, max_bytes // (4 * rows * columns))
        for start in range(0, planes, step):
            yield start, self.read(z=slice(start, start + step))


def open_stack(path: str | os.PathLike[str], *, channel: int | None = None) -> Stack:
    """Open a stack without reading its voxels.

    TIFF (plain, ImageJ, OME; classic and Big), NPY, ND2 and OME-Zarr (a folder, or `.zarr.zip`)
    are understood. Pages of a TIFF without axis names, and the first axis of an NPY, are planes.

    Parameters
    ----------
    path : path-like
        The file, or the folder of an OME-Zarr image.
    channel : int, optional
        Channel to read, from 0; needed where there is more than one.

    Returns
    -------
    Stack

    Raises
    ------
    TenetError
        If the file is missing, damaged, truncated or not a real-valued Z, Y, X stack.
    """
    path = Path(path)
    if not path.exists():
        raise TenetError(f"{path}: no such file; check the path")
    name = path.name.lower()
    if path.is_dir() or name.endswith((".zarr.zip", ".ozx")):
        return _open_ome_zarr(path, channel)
    if path.stat().st_size == 0:
        raise TenetError(f"{path}: the file is empty; copy or export it again")
    if name.endswith((".tif", ".tiff", ".btf")):
        return _open_tiff(path, channel)
    if name.endswith(".npy"):
        return _open_npy(path, channel)
    if name.endswith(".nd2"):
        return _open_nd2(path, channel)
    raise TenetError(
        f"{path}: {path.suffix or 'no suffix'} is not a format that can be read; "
        "give a .tif, .tiff, .npy or .nd2 file or an OME-Zarr (.zarr) folder"
    )


# Axes ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layout:
    """How a Z, Y, X crop is cut from an array with further axes.

    `axes` holds, for each axis of the array, "Z", "Y" or "X", or the one index to take.
    """

    axes: tuple[int | str, ...]

    def crop(self, array: Any, z: slice, y: slice, x: slice) -> npt.NDArray[Any]:
        spans = {"Z": z, "Y": y, "X": x}
        key = tuple(spans[axis] if isinstance(axis, str) else axis for axis in self.axes)
        kept = [axis for axis in self.axes if isinstance(axis, str)]
        return np.asarray(array[key]).transpose([kept.index(axis) for axis in "ZYX"])


def _layout(
    path: Path, axes: str, shape: Sequence[int], channel: int | None
) -> tuple[_Layout, Triple]:
    """Find Z, Y and X among named axes, and refuse what is not one stack.

    Axes are named as in tifffile: C channel, T time, S colour sample; I (pages of a file) and Q
    (unnamed) stand for Z where there is no Z.
    """
    said = f"axes {axes} of lengths {'×'.join(map(str, shape))}"
    if 0 in shape:
        raise TenetError(f"{path}: the image is empty ({said}); export it again")
    sizes = [(axis, size) for axis, size in zip(axes, shape, strict=True) if size > 1]
    names = [axis for axis, _ in sizes]
    if "S" in names:
        raise TenetError(
            f"{path}: this is a colour (RGB) image ({said}); "
            "export the raw intensities of one channel as a greyscale stack"
        )
    unnamed = [axis for axis in names if axis in "IQ"]
    if len(unnamed) + ("Z" in names) > 1:
        raise TenetError(
            f"{path}: the meaning of its axes is not recorded ({said}); "
            "save one three-dimensional stack, or an OME-TIFF that names its axes"
        )
    if "T" in names:
        raise TenetError(
            f"{path}: this is a time series ({said}); export one time point "
            "(if its frames are in truth planes, change T to Z in the file's properties)"
        )
    for axis in names:
        if axis not in "ZYXCIQ":
            raise TenetError(
                f"{path}: axis {axis} cannot be read ({said}); export one Z, Y, X stack"
            )
    if unnamed:
        axes = axes.replace(unnamed[0], "Z")
        names = [axis.replace(unnamed[0], "Z") for axis in names]
    if "Z" not in names:
        raise TenetError(
            f"{path}: this is a single two-dimensional image, not a stack ({said}); "
            "give a file with several z planes"
        )
    channels = dict(zip(axes, shape, strict=True)).get("C", 1)
    if channel is None and channels > 1:
        raise TenetError(f"{path}: it has {channels} channels; choose one, 0 to {channels - 1}")
    if channel is not None and not 0 <= channel < channels:
        raise TenetError(
            f"{path}: there is no channel {channel}; it has {channels}, counted from 0"
        )
    # An axis of length one may bear a name twice over (a Z of one beside unnamed pages): the
    # longer one is meant.
    found = {axis: max(s for a, s in zip(axes, shape, strict=True) if a == axis) for axis in "ZYX"}
    template: list[int | str] = []
    for axis, size in zip(axes, shape, strict=True):
        if axis in "ZYX" and axis not in template and size == found[axis]:
            template.append(axis)
        else:
            template.append((channel or 0) if axis == "C" else 0)
    return _Layout(tuple(template)), (found["Z"], found["Y"], found["X"])


def _check_dtype(path: Path, dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "buif":
        raise TenetError(
            f"{path}: intensities of type {dtype} are not real numbers; "
            "export integers or floating-point numbers (of complex data, the magnitude)"
        )


def _voxel_size(z: float | None, y: float | None, x: float | None) -> VoxelSize | None:
    """Return a voxel size only if all three lengths are given and make sense."""
    if z is None or y is None or x is None:
        return None
    if not all(math.isfinite(size) and size > 0 for size in (z, y, x)):
        return None
    return z, y, x


def _micrometres(value: float | str | None, unit: str | None) -> float | None:
    """Convert a length to µm; None where the value or its unit is missing or unknown."""
    # Greek mu and the escape that ImageJ writes both stand for the micro sign.
    unit = (unit or "").strip().replace("\u03bc", "µ").replace("\\u00B5", "µ")
    factor = MICROMETRES.get(unit, MICROMETRES.get(unit.lower()))
    if value is None or factor is None:
        return None
    try:
        return float(value) * factor
    except ValueError:
        return None


# TIFF ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _ContiguousReader:
    """Voxels that lie in the file as one plain array."""

    path: Path
    dtype: str
    offset: int
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    layout: _Layout

    def read(self, z: slice, y: slice, x: slice) -> npt.NDArray[Any]:
        # Mapped anew for each crop, so that the pages touched are given back.
        array = np.memmap(self.path, self.dtype, "r", self.offset, self.shape, self.order)
        return np.array(self.layout.crop(array, z, y, x))


@dataclass(frozen=True)
class _TiffReader:
    """Compressed or tiled pages: only the strips and tiles of the crop are decoded."""

    path: Path
    series: int
    layout: _Layout

    def read(self, z: slice, y: slice, x: slice) -> npt.NDArray[Any]:
        with tifffile.TiffFile(self.path) as tiff:
            store = tiff.series[self.series].aszarr(level=0)
            return self.layout.crop(zarr.open_array(store, mode="r"), z, y, x)


def _open_tiff(path: Path, channel: int | None) -> Stack:
    _check_tiff_structure(path)
    try:
        with tifffile.TiffFile(path) as tiff:
            number, series = _tiff_series(path, tiff)
            shape, axes, dtype = tuple(series.shape), str(series.axes), series.dtype
            if dtype is None:
                raise TenetError(f"{path}: its pixel type is not known; export it as integers")
            layout, zyx_shape = _layout(path, axes, shape, channel)
            _check_dtype(path, dtype)
            if any(page is None for page in series.pages):
                raise TenetError(
                    f"{path}: planes are missing or stand in other files that are not beside it; "
                    "copy all files of the image"
                )
            offset = series.dataoffset
            if offset is not None and offset + math.prod(shape) * dtype.itemsize > (
                path.stat().st_size
            ):
                raise TenetError(_truncated(path))
            reader: _Reader
            if offset is None:
                reader = _TiffReader(path, number, layout)
            else:
                stored = np.dtype(tiff.byteorder + dtype.char).str
                reader = _ContiguousReader(path, stored, offset, shape, "C", layout)
            return Stack(path, zyx_shape, dtype, _tiff_voxel_size(tiff), reader)
    except (tifffile.TiffFileError, ValueError, IndexError, KeyError, struct.error) as error:
        raise TenetError(
            f"{path}: the TIFF cannot be read ({one_line(error)}); copy or export it again"
        ) from error


def _tiff_series(path: Path, tiff: tifffile.TiffFile) -> tuple[int, tifffile.TiffPageSeries]:
    """Return the one stack in a file (which may hold a preview or a label beside it)."""
    if not tiff.series:
        raise TenetError(f"{path}: there is no image in the file; export it again")
    stacks = [(k, s) for k, s in enumerate(tiff.series) if math.prod(s.shape[:-2]) > 1]
    if len(stacks) > 1 or (not stacks and len(tiff.series) > 1):
        shapes = ", ".join("×".join(map(str, s.shape)) for s in tiff.series[:4])
        raise TenetError(
            f"{path}: it holds {len(tiff.series)} images ({shapes}, …); export one stack by itself"
        )
    number, series = stacks[0] if stacks else (0, tiff.series[0])
    # ImageJ writes large stacks as one page and a number: a short file then looks like one plane.
    declared = int((tiff.imagej_metadata or {}).get("images", 1)) if tiff.is_imagej else 1
    if declared * tiff.pages.first.size > series.size:
        raise TenetError(_truncated(path))
    return number, series


def _truncated(path: Path) -> str:
    return f"{path}: the file is truncated (its header promises more data); copy or export it again"


#: Bytes per value of each TIFF data type.
# fmt: off
_TIFF_TYPE_BYTES = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
    16: 8, 17: 8, 18: 8,
}
# fmt: on
_STRIP_OFFSETS, _STRIP_BYTES, _TILE_OFFSETS, _TILE_BYTES = 273, 279, 324, 325


def _check_tiff_structure(path: Path) -> None:
    """Follow a TIFF's chain of pages and check that all they point at lies in the file.

    tifffile logs a broken chain and returns the planes it found, so that a truncated stack would
    pass as a shorter one.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        magic = file.read(4)
        endian = {b"II": "<", b"MM": ">"}.get(magic[:2])
        version = struct.unpack(f"{endian}H", magic[2:])[0] if endian and len(magic) == 4 else 0
        if version not in (42, 43):
            raise TenetError(f"{path}: this is not a TIFF file, whatever its name says")
        big = version == 43
        file.seek(8 if big else 4)
        number = f"{endian}{'Q' if big else 'I'}"
        try:
            (offset,) = struct.unpack(number, file.read(struct.calcsize(number)))
            seen: set[int] = set()
            while offset and offset not in seen:
                seen.add(offset)
                offset = _check_tiff_page(path, file, offset, size, str(endian), big)
        except (struct.error, EOFError) as error:
            raise TenetError(_truncated(path)) from error


def _check_tiff_page(
    path: Path, file: BinaryIO, offset: int, size: int, endian: str, big: bool
) -> int:
    """Check one page and return the offset of the next (0 after the last).

    Raises
    ------
    EOFError, struct.error
        If something that the page needs lies beyond the end of the file.
    """
    count_format, entry_format, number = (
        (f"{endian}Q", f"{endian}HHQ8s", f"{endian}Q")
        if big
        else (f"{endian}H", f"{endian}HHI4s", f"{endian}I")
    )
    file.seek(offset)
    (entries,) = struct.unpack(count_format, file.read(struct.calcsize(count_format)))
    entry_bytes = struct.calcsize(entry_format)
    if offset + entries * entry_bytes > size:
        raise EOFError
    directory = file.read(entries * entry_bytes)
    (next_offset,) = struct.unpack(number, file.read(struct.calcsize(number)))
    places: dict[int, npt.NDArray[np.int64]] = {}
    for tag, kind, count, value in struct.iter_unpack(entry_format, directory):
        length = count * _TIFF_TYPE_BYTES.get(kind, 0)
        if length > len(value):
            (start,) = struct.unpack(number, value)
            if start + length > size:
                raise EOFError
        if tag in (_STRIP_OFFSETS, _STRIP_BYTES, _TILE_OFFSETS, _TILE_BYTES):
            if length > len(value):
                file.seek(start)
                value = file.read(length)
            unsigned = f"{endian}u{_TIFF_TYPE_BYTES.get(kind, 4)}"
            places[tag] = np.frombuffer(value[:length], unsigned).astype(np.int64)
    for offsets, lengths in ((_STRIP_OFFSETS, _STRIP_BYTES), (_TILE_OFFSETS, _TILE_BYTES)):
        if offsets in places and lengths in places:
            if np.any(places[lengths] <= 0):
                raise TenetError(f"{path}: a plane holds no data; export the stack again")
            if np.any(places[offsets] + places[lengths] > size):
                raise EOFError
    return int(next_offset)


def _tiff_voxel_size(tiff: tifffile.TiffFile) -> VoxelSize | None:
    """Return the voxel size of an OME or ImageJ TIFF.

    The TIFF resolution alone is none: it is in dots per inch or without a unit, and knows no z.
    """
    if tiff.is_ome and tiff.ome_metadata:
        return _ome_xml_voxel_size(tiff.ome_metadata)
    if tiff.is_imagej and tiff.imagej_metadata:
        tags = tiff.pages.first.tags
        resolutions = {
            axis: tags[f"{axis}Resolution"].value if f"{axis}Resolution" in tags else (0, 1)
            for axis in "XY"
        }
        return _imagej_voxel_size(tiff.imagej_metadata, resolutions["X"], resolutions["Y"])
    return None


def _ome_xml_voxel_size(xml: str) -> VoxelSize | None:
    """Return the voxel size of the images in OME-XML, where they agree."""
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None
    sizes = set()
    for pixels in root.iter():
        if pixels.tag.rpartition("}")[2] == "Pixels":
            # µm is the schema's default unit.
            z, y, x = (
                _micrometres(
                    pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm")
                )
                for axis in "ZYX"
            )
            sizes.add(_voxel_size(z, y, x))
    return sizes.pop() if len(sizes) == 1 else None


def _imagej_voxel_size(
    metadata: Mapping[str, Any], x_resolution: tuple[int, int], y_resolution: tuple[int, int]
) -> VoxelSize | None:
    """Return the voxel size of an ImageJ TIFF: `spacing` along z, 1 / resolution along y and x.

    All are in `unit`, unless `yunit` or `zunit` stand beside it.
    """
    unit = metadata.get("unit")
    z_unit, y_unit = metadata.get("zunit", unit), metadata.get("yunit", unit)
    if "spacing" not in metadata or not x_resolution[0] or not y_resolution[0]:
        return None
    return _voxel_size(
        # ImageJ gives stacks taken downwards a negative spacing.
        _micrometres(abs(float(metadata["spacing"])), z_unit),
        _micrometres(y_resolution[1] / y_resolution[0], y_unit),
        _micrometres(x_resolution[1] / x_resolution[0], unit),
    )


# NPY ----------------------------------------------------------------------------------------------


def _open_npy(path: Path, channel: int | None) -> Stack:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise TenetError(
            f"{path}: the NPY file is truncated, empty or not NPY ({one_line(error)}); "
            "save it again"
        ) from error
    if not isinstance(array, np.memmap):
        raise TenetError(f"{path}: this is not an NPY file, whatever its name says")
    axes = {2: "YX", 3: "ZYX"}.get(array.ndim, "Q" * max(array.ndim, 2))
    if array.ndim < 2:
        raise TenetError(f"{path}: an array of shape {array.shape} is no stack; save Z, Y, X")
    layout, zyx_shape = _layout(path, axes, array.shape, channel)
    _check_dtype(path, array.dtype)
    order: Literal["C", "F"] = "C" if array.flags.c_contiguous else "F"
    reader = _ContiguousReader(path, array.dtype.str, array.offset, array.shape, order, layout)
    return Stack(path, zyx_shape, array.dtype, None, reader)


# ND2 ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Nd2Reader:
    """Frames of an ND2 file; with z its only loop, frame and plane are the same."""

    path: Path
    channel: int

    def read(self, z: slice, y: slice, x: slice) -> npt.NDArray[Any]:
        with nd2.ND2File(self.path) as file:
            # Copied while the file is open: a frame is a view of its memory map.
            return np.stack([self._plane(file, k)[y, x] for k in range(z.start, z.stop)])

    def _plane(self, file: nd2.ND2File, plane: int) -> npt.NDArray[Any]:
        frame = file.read_frame(plane)
        return frame if frame.ndim == 2 else frame[self.channel]


def _open_nd2(path: Path, channel: int | None) -> Stack:
    try:
        with nd2.ND2File(path) as file:
            sizes, dtype = dict(file.sizes), np.dtype(file.dtype)
            frames = file.attributes.sequenceCount
            volume = _nd2_volume(file)
    # The package meets damaged files with whatever its parser runs into.
    except Exception as error:
        raise TenetError(
            f"{path}: the ND2 file is damaged or not ND2 ({one_line(error)}); "
            "copy or export it again"
        ) from error
    _, zyx_shape = _layout(path, "".join(sizes), tuple(sizes.values()), channel)
    _check_dtype(path, dtype)
    if frames < zyx_shape[0]:
        raise TenetError(
            f"{path}: only {frames} of {zyx_shape[0]} planes were recorded; "
            "export the complete planes as a TIFF"
        )
    voxel_size_um = _nd2_voxel_size(volume) if volume else None
    return Stack(path, zyx_shape, dtype, voxel_size_um, _Nd2Reader(path, channel or 0))


def _nd2_volume(file: nd2.ND2File) -> Any:
    """Return the calibration, or None where the metadata lack it or cannot be parsed."""
    # The parser of nd2 stops at channels without a probe; their planes are sound nonetheless.
    with contextlib.suppress(Exception):
        channels = getattr(file.metadata, "channels", None)
        return channels[0].volume if channels else None
    return None


def _nd2_voxel_size(volume: Any) -> VoxelSize | None:
    """Return the voxel size of an ND2 volume (x, y, z there, 1.0 where uncalibrated)."""
    if not all(volume.axesCalibrated):
        return None
    x, y, z = volume.axesCalibration
    return _voxel_size(float(z), float(y), float(x))


# OME-Zarr -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _ZarrReader:
    path: Path
    dataset: str
    layout: _Layout

    def read(self, z: slice, y: slice, x: slice) -> npt.NDArray[Any]:
        with _zarr_group(self.path) as group:
            return self.layout.crop(group[self.dataset], z, y, x)


@contextlib.contextmanager
def _zarr_group(path: Path) -> Iterator[zarr.Group]:
    if path.is_dir():
        yield zarr.open_group(path, mode="r")
        return
    if not zipfile.is_zipfile(path):
        raise zipfile.BadZipFile("it is not a zip archive")
    store = zarr.storage.ZipStore(path, mode="r")
    try:
        yield zarr.open_group(store, mode="r")
    finally:
        store.close()


def _open_ome_zarr(path: Path, channel: int | None) -> Stack:
    try:
        with _zarr_group(path) as group:
            attributes: dict[str, Any] = group.attrs.asdict()
            # Version 0.5 keeps its metadata under "ome".
            images = attributes.get("ome", attributes).get("multiscales")
            if not images:
                raise TenetError(
                    f"{path}: no OME-Zarr image is described here; "
                    "give the folder that holds the image's 'multiscales' metadata"
                )
            dataset = str(images[0]["datasets"][0]["path"])
            array = group[dataset]
            if not isinstance(array, zarr.Array):
                raise TenetError(f"{path}: {dataset} is not an array; write the image again")
            shape, dtype = tuple(array.shape), np.dtype(array.dtype)
    except (OSError, ValueError, KeyError, IndexError, TypeError, zipfile.BadZipFile) as error:
        raise TenetError(
            f"{path}: the OME-Zarr image cannot be opened ({one_line(error)}); write it again"
        ) from error
    names, voxel_size_um = _multiscale_axes(images[0], len(shape))
    layout, zyx_shape = _layout(path, names, shape, channel)
    _check_dtype(path, dtype)
    return Stack(path, zyx_shape, dtype, voxel_size_um, _ZarrReader(path, dataset, layout))


def _multiscale_axes(image: Mapping[str, Any], ndim: int) -> tuple[str, VoxelSize | None]:
    """Return the axis names and the voxel size of the finest level of an OME-Zarr image."""
    # Axes came with version 0.3 (names) and 0.4 (names and units); before, all was t, c, z, y, x.
    axes = [
        {"name": axis} if isinstance(axis, str) else dict(axis)
        for axis in image.get("axes", list("tczyx"))
    ]
    names = "".join(str(axis["name"])[:1].upper() for axis in axes)
    if len(names) != ndim:
        return "Q" * ndim, None
    scale: npt.NDArray[np.float64] | None = None
    for holder in (image["datasets"][0], image):
        for transformation in holder.get("coordinateTransformations", []):
            if transformation.get("type") == "scale" and len(transformation["scale"]) == ndim:
                factor = np.asarray(transformation["scale"], dtype=np.float64)
                scale = factor if scale is None else scale * factor
    if scale is None or not set("ZYX") <= set(names):
        return names, None
    z, y, x = (
        _micrometres(scale[names.index(axis)], axes[names.index(axis)].get("unit"))
        for axis in "ZYX"
    )
    return names, _voxel_size(z, y, x)


# Intensities --------------------------------------------------------------------------------------


def check_intensities(stack: Stack) -> None:
    """Go through a stack once and refuse what cannot be an image.

    Raises
    ------
    TenetError
        If an intensity is NaN or infinite (the first such plane is named), or all are equal.
    """
    low, high = math.inf, -math.inf
    for start, slab in stack.slabs():
        _check_finite(stack, start, slab)
        low, high = min(low, float(slab.min())), max(high, float(slab.max()))
    if low == high:
        raise TenetError(_constant(stack, low))


def _check_finite(stack: Stack, start: int, slab: npt.NDArray[np.float32]) -> None:
    bad = ~np.isfinite(slab).all(axis=(1, 2))
    if bad.any():
        plane = start + int(np.argmax(bad))
        raise TenetError(
            f"{stack.path}: plane {plane} (counted from 0) holds NaN or infinite intensities; "
            "export the raw data again, or cut the plane off"
        )


def _constant(stack: Stack, value: float) -> str:
    return (
        f"{stack.path}: all intensities are {value:g}, so there is nothing to see; "
        "check the channel and the export"
    )


@dataclass(frozen=True)
class IntensityRange:
    """The raw intensities that become 0 and 1.

    Attributes
    ----------
    low, high : float
        Raw intensities, low < high.
    method : str
        How they were found, for the record.
    saturated : bool
        Whether the detector's highest value is among them, and piled up.
    """

    low: float
    high: float
    method: str
    saturated: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise TenetError(
                f"an intensity range must rise, and {self.low:g} to {self.high:g} does not; "
                "compute it again from the stack"
            )

    def to_dict(self) -> dict[str, float | str | bool]:
        """Return the range as it is kept in JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """Return the range kept by `to_dict`.

        Raises
        ------
        TenetError
            If an entry is missing or is not a number.
        """
        try:
            saturated = record.get("saturated", False)
            if not isinstance(saturated, bool):
                raise TypeError
            return cls(
                float(record["low"]), float(record["high"]), str(record["method"]), saturated
            )
        except (KeyError, TypeError, ValueError) as error:
            raise TenetError(
                f"an intensity range needs low, high and method, and has {dict(record)}; "
                "compute it again from the stack"
            ) from error


def intensity_range(
    stack: Stack,
    method: Literal["percentile", "minmax"] = "percentile",
    *,
    low_percent: float = 25.0,
    high_percent: float = 99.99,
) -> IntensityRange:
    """Find the raw intensities that become 0 and 1, going through the stack once.

    The defaults suit sparse fluorescence. The first quartile lies within 0.7 noise standard
    deviations of the background's mean when all is background, closer when most of it is, so
    background goes to nearly 0 however strong the noise or the detector's offset; and no signal
    is clipped as long as a quarter of the stack is background. The upper percentile leaves out one
    voxel in 10 000, so no hot pixel sets the contrast, while a single bead still spans the range.
    Percentiles are order statistics rounded down: the highest voxel is always left out.

    Percentiles are exact for integers of 8 and 16 bits; for other types they are those of a
    regular subset of at most 8 million voxels. If more than one voxel in 10 000 has the highest
    intensity of all, and more than have the next, the detector is taken as saturated.

    Parameters
    ----------
    stack : Stack
    method : {"percentile", "minmax"}
        "minmax" takes the extremes, as the published work did.
    low_percent, high_percent : float
        Percentiles for "percentile", 0 ≤ low < high < 100.

    Returns
    -------
    IntensityRange

    Raises
    ------
    TenetError
        If intensities are not finite, all are equal, or the two percentiles coincide.
    """
    if method not in ("percentile", "minmax"):
        raise TenetError(f"there is no intensity range method {method!r}; use percentile or minmax")
    if not 0 <= low_percent < high_percent < 100:
        raise TenetError(
            f"percentiles {low_percent:g} and {high_percent:g} are no range; "
            "choose 0 ≤ low < high < 100"
        )
    exact = stack.dtype.kind in "bui" and stack.dtype.itemsize <= 2
    counts = np.zeros(2**16, dtype=np.int64)
    zero = 2**15 if stack.dtype.kind == "i" else 0
    samples: list[npt.NDArray[np.float32]] = []
    step = _sampling_step(stack.zyx_shape)
    plane_voxels = stack.zyx_shape[1] * stack.zyx_shape[2]
    low, high = math.inf, -math.inf
    for start, slab in stack.slabs():
        _check_finite(stack, start, slab)
        low, high = min(low, float(slab.min())), max(high, float(slab.max()))
        if method == "minmax":
            continue
        if exact:
            counts += np.bincount(slab.ravel().astype(np.int64) + zero, minlength=2**16)
        else:
            # Every step-th voxel of the whole stack, whatever the size of a slab.
            samples.append(slab.ravel()[-start * plane_voxels % step :: step].copy())
    if low == high:
        raise TenetError(_constant(stack, low))
    if method == "minmax":
        return IntensityRange(low, high, "minmax")
    if exact:
        cumulative = np.cumsum(counts)
        ranks = [int(p / 100 * (cumulative[-1] - 1)) for p in (low_percent, high_percent)]
        lower, upper = (float(v) - zero for v in np.searchsorted(cumulative, ranks, side="right"))
        next_to_last, last = counts[np.flatnonzero(counts)[-2:]]
    else:
        drawn = np.concatenate(samples)
        ranks = [int(p / 100 * (drawn.size - 1)) for p in (low_percent, high_percent)]
        drawn.partition(ranks)
        lower, upper = (float(drawn[rank]) for rank in ranks)
        top, below = drawn == upper, drawn[drawn < upper]
        last = top.sum()
        next_to_last = (below == below.max(initial=-math.inf)).sum()
    if lower >= upper:
        raise TenetError(
            f"{stack.path}: all but a few voxels have the intensity {lower:g} (percentiles "
            f"{low_percent:g} to {high_percent:g}); take a nearer crop or the method minmax"
        )
    method_used = f"percentile {low_percent:g} to {high_percent:g}"
    saturated = bool(upper == high and last > next_to_last)
    return IntensityRange(lower, upper, method_used, saturated)


def _sampling_step(zyx_shape: Triple, most: int = 2**23) -> int:
    """Return a step through the flattened stack that takes at most `most` voxels.

    It has no divisor in common with a row or a plane, so that all rows and columns take part.
    """
    step = math.ceil(math.prod(zyx_shape) / most)
    while math.gcd(step, zyx_shape[1] * zyx_shape[2]) > 1:
        step += 1
    return step


def normalise(array: npt.ArrayLike, range_: IntensityRange) -> npt.NDArray[np.float32]:
    """Scale raw intensities to [0, 1], clipping what lies outside the range."""
    scaled = np.array(array, dtype=np.float32)
    scaled -= np.float32(range_.low)
    scaled /= np.float32(range_.high - range_.low)
    return np.clip(scaled, 0.0, 1.0, out=scaled)
