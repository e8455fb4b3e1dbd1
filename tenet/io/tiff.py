"""TIFF: plain, ImageJ and OME, classic and Big."""

import math
import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import tifffile
import zarr

from tenet.errors import TenetError, one_line
from tenet.io.stack import (
    ContiguousReader,
    Layout,
    Reader,
    Stack,
    VoxelSize,
    check_dtype,
    find_layout,
    micrometres,
    voxel_size_of_axes,
)


@dataclass(frozen=True)
class _TiffReader:
    """Compressed or tiled pages: only the strips and tiles of the crop are decoded."""

    path: Path
    series: int
    layout: Layout

    def read(self, z: slice, y: slice, x: slice) -> npt.NDArray[Any]:
        with tifffile.TiffFile(self.path) as tiff:
            store = tiff.series[self.series].aszarr(level=0)
            return self.layout.crop(zarr.open_array(store, mode="r"), z, y, x)


def open_tiff(path: Path, channel: int | None) -> Stack:
    """Open a TIFF; see `tenet.io.open.open_stack`."""
    _check_tiff_structure(path)
    try:
        with tifffile.TiffFile(path) as tiff:
            number, series = _tiff_series(path, tiff)
            shape, axes, dtype = tuple(series.shape), str(series.axes), series.dtype
            if dtype is None:
                raise TenetError(f"{path}: its pixel type is not known; export it as integers")
            layout, zyx_shape = find_layout(path, axes, shape, channel)
            check_dtype(path, dtype)
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
            reader: Reader
            if offset is None:
                reader = _TiffReader(path, number, layout)
            else:
                stored = np.dtype(tiff.byteorder + dtype.char).str
                reader = ContiguousReader(path, stored, offset, shape, "C", layout)
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
                micrometres(
                    pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm")
                )
                for axis in "ZYX"
            )
            sizes.add(voxel_size_of_axes(z, y, x))
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
    return voxel_size_of_axes(
        # ImageJ gives stacks taken downwards a negative spacing.
        micrometres(abs(float(metadata["spacing"])), z_unit),
        micrometres(y_resolution[1] / y_resolution[0], y_unit),
        micrometres(x_resolution[1] / x_resolution[0], unit),
    )
