"""TIFF: plain, ImageJ, OME and ScanImage, classic and Big."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import tifffile
import zarr

from tenet.errors import TenetError, one_line
from tenet.io.axes import Layout, axes_with_planes, check_shape, find_layout
from tenet.io.calibration import Calibration
from tenet.io.imagej import check_imagej_counts, imagej_calibration
from tenet.io.ome_tiff import check_ome, ome_calibration, ome_optics, ome_step, parse_ome
from tenet.io.optics import Optics
from tenet.io.scanimage import (
    PHOTONS,
    Header,
    ScanImageReader,
    check_one_region,
    find_recording,
    scanimage_calibration,
    scanimage_header,
)
from tenet.io.stack import ContiguousReader, InvertedReader, Reader, Stack, check_dtype
from tenet.io.tiff_series import one_of_a_series
from tenet.io.tiff_structure import TiffStructure, check_tiff_structure, truncated
from tenet.io.vendors.lsm import lsm_calibration, lsm_optics
from tenet.types import Triple

# Errors hold what tifffile logs of strange files. Without a handler the log would be printed.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_WHITE_IS_ZERO, _PALETTE = 0, 3


def open_tiff(
    path: Path,
    channel: int | None,
    planes_are: Literal["C", "T"] | None = None,
    time: int | None = None,
) -> Stack:
    """Open a TIFF; see `tenet.io.open.open_stack`."""
    structure = check_tiff_structure(path)
    with _stranger(path):
        tiff = _open(path, plain=False)
        header = scanimage_header(tiff.pages.first.software, tiff.pages.first.description)
    with tiff:
        if header is None:
            return _open_series(path, tiff, structure, channel, planes_are, time)
    with _stranger(path):
        tiff = _open(path, plain=True)
    with tiff:
        return _open_scanimage(path, tiff, header, channel, planes_are, time)


@contextmanager
def _stranger(path: Path) -> Iterator[None]:
    """Turn any error of tifffile on a strange file into one line."""
    try:
        yield
    # Its parsers raise many kinds: struct.error, KeyError, TypeError, AssertionError, MemoryError …
    except Exception as error:
        raise TenetError(
            f"{path}: the TIFF cannot be read ({one_line(error)}); copy or export it again"
        ) from error


def _open(path: Path, plain: bool) -> tifffile.TiffFile:
    """Open a TIFF, or with `plain` as a sequence of pages without meaning.

    tifffile would take pages of ScanImage as equally spaced in the file, and averaged frames as
    further slices. Files of a set may each describe the whole set.
    """
    if not plain:
        return tifffile.TiffFile(path, is_scanimage=False)
    return tifffile.TiffFile(
        path, is_scanimage=False, is_shaped=False, is_imagej=False, is_ome=False
    )


@dataclass(frozen=True)
class Pages:
    """A TIFF as a plain sequence of pages.

    Attributes
    ----------
    reader : Reader
        Reads pages as planes.
    zyx_shape : tuple of int
        Pages, rows and columns.
    dtype : numpy.dtype
    """

    reader: Reader
    zyx_shape: Triple
    dtype: np.dtype[Any]


def open_pages(path: Path) -> Pages:
    """Open a TIFF that is part of a set: its pages are planes, whatever it says of the set.

    Raises
    ------
    TenetError
        If the file is missing, damaged, or no TIFF of greyscale pages of one size.
    """
    check_tiff_structure(path)
    with _stranger(path):
        tiff = _open(path, plain=True)
    with tiff:
        pixels = _find_pixels(path, tiff)
    if pixels.axes[-2:] != "YX":
        raise TenetError(f"{path}: this is a colour image; export greyscale planes")
    count = math.prod(pixels.shape[:-2])
    names = ["Z" if size == count else 0 for size in pixels.shape[:-2]]
    zyx_shape = count, pixels.shape[-2], pixels.shape[-1]
    check_shape(path, zyx_shape)
    layout = Layout((*names, "Y", "X"), pixels.axes)
    return Pages(_reader(path, pixels, layout, plain=True), zyx_shape, pixels.dtype)


def read_plane_header(path: Path) -> tuple[Calibration, tuple[Optics, ...]]:
    """Return the lengths and the optics in a TIFF of one plane; ImageJ gives no distance of planes.

    Raises
    ------
    TenetError
        If the file is damaged, or holds more than one plane.
    """
    structure = check_tiff_structure(path)
    with _stranger(path):
        tiff = _open(path, plain=False)
    with tiff:
        found, declared, _, optics = _read_calibration(path, tiff, structure)
        with _stranger(path):
            series = [math.prod(series.shape[:-2]) for series in tiff.series]
            imagej = tiff.is_imagej
    if structure.pages > 1 or declared > 1 or series != [1]:
        raise TenetError(f"{path}: it holds several planes")
    return (Calibration(None, found.y, found.x) if imagej else found), optics


# Series -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pixels:
    """The one image of a file: its place, its axes, and the meaning of its numbers."""

    series: int
    shape: tuple[int, ...]
    axes: str
    dtype: np.dtype[Any]
    offset: int | None
    byteorder: str
    photometric: int
    bits: int
    stored: int
    complete: bool


def _open_series(
    path: Path,
    tiff: tifffile.TiffFile,
    structure: TiffStructure,
    channel: int | None,
    planes_are: str | None,
    time: int | None,
) -> Stack:
    """Open a TIFF whose axes are named by ImageJ, OME or tifffile, or have no names."""
    found, declared, step, optics = _read_calibration(path, tiff, structure)
    pixels = _find_pixels(path, tiff)
    # ImageJ writes large stacks as one page and a number; a short file then looks like one plane.
    if declared > math.prod(pixels.shape[:-2]):
        raise TenetError(truncated(path))
    if math.prod(pixels.shape[:-2]) == 1 and (said := one_of_a_series(path)):
        raise TenetError(said)
    axes = axes_with_planes(path, pixels.axes, pixels.shape, planes_are)
    sizes = find_layout(path, axes, pixels.shape, channel, time)
    reader = _reader(path, pixels, sizes.layout)
    return Stack(
        path, sizes.zyx_shape, pixels.dtype, found.voxel_size_um, reader, found.note,
        sizes.channels, sizes.times, step=step, channel_optics=optics, channel=channel or 0,
    )  # fmt: skip


def _open_scanimage(
    path: Path,
    tiff: tifffile.TiffFile,
    header: Header,
    channel: int | None,
    planes_are: str | None,
    time: int | None,
) -> Stack:
    """Open a TIFF of ScanImage, whose pages are channels, frames and slices by turns."""
    with _stranger(path):
        artist = tiff.pages.first.tags.get(315)
        rois = "" if artist is None else str(artist.value)
    check_one_region(path, header, rois)
    pixels = _find_pixels(path, tiff)
    *_, rows, columns = pixels.shape
    recording = find_recording(path, header, math.prod(pixels.shape[:-2]), planes_are)
    shape = (recording.slices, recording.channels, rows, columns)
    sizes = find_layout(path, "ZCYX", shape, channel, time)
    layout = Layout(("Z", *(0 for _ in pixels.shape[1:-2]), "Y", "X"), pixels.axes)
    reader = ScanImageReader(_reader(path, pixels, layout, plain=True), recording, channel or 0)
    found = scanimage_calibration(header, rows, columns)
    dtype = pixels.dtype
    if recording.frames > 1:  # a mean has fractions; sums of 16 bits and more need float64
        dtype = np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)
    return Stack(
        path, sizes.zyx_shape, dtype, found.voxel_size_um, reader, found.note, sizes.channels,
        channel_optics=(Optics(photons=PHOTONS),) * sizes.channels, channel=channel or 0,
    )  # fmt: skip


def _read_calibration(
    path: Path, tiff: tifffile.TiffFile, structure: TiffStructure
) -> tuple[Calibration, int, float, tuple[Optics, ...]]:
    """Return voxel size, declared planes, step and optics of an OME, ImageJ or LSM TIFF.

    The resolution of a TIFF alone is no voxel size, because the resolution is in dots per inch or
    without a unit, and has no z.
    """
    with _stranger(path):
        first = tiff.pages.first
        xml = first.description if tiff.is_ome or "<OME" in first.description[:4096] else ""
        metadata = tiff.imagej_metadata if tiff.is_imagej and not xml else None
        lsm = tiff.lsm_metadata
        from_lsm = lsm and (lsm_calibration(lsm), 0, 1.0, lsm_optics(lsm))
        x, y = (first.tags.valueof(f"{axis}Resolution") for axis in "XY")
    if from_lsm:
        return from_lsm
    if xml:
        ome = parse_ome(path, xml)
        if not tiff.is_ome:  # tifffile would take the pages for planes, against the XML
            raise TenetError(f"{path}: its OME-XML does not end with </OME>; export it again")
        check_ome(path, ome, structure)
        return ome_calibration(path, ome), 0, ome_step(path, ome), ome_optics(path, ome)
    if metadata:
        return imagej_calibration(metadata, x, y), check_imagej_counts(path, metadata), 1.0, ()
    return Calibration(), 0, 1.0, ()


def _find_pixels(path: Path, tiff: tifffile.TiffFile) -> _Pixels:
    """Find the one stack in a file, which may also hold a preview or a label."""
    with _stranger(path):
        shapes = [tuple(series.shape) for series in tiff.series]
        shapes = shapes[:1] if tiff.is_lsm else shapes  # thumbnails follow
    stacks = [k for k, shape in enumerate(shapes) if math.prod(shape[:-2]) > 1]
    if not shapes:
        raise TenetError(f"{path}: there is no image in the file; export it again")
    if len(stacks) > 1 or (not stacks and len(shapes) > 1):
        said = ", ".join("×".join(map(str, shape)) for shape in shapes[:4])
        raise TenetError(
            f"{path}: it holds {len(shapes)} images ({said}, …); export one stack by itself"
        )
    number = stacks[0] if stacks else 0
    with _stranger(path):
        series = tiff.series[number]
        page = series.keyframe
        pixels = _Pixels(
            series=number,
            shape=shapes[number],
            axes=str(series.axes).upper(),
            dtype=np.dtype(series.dtype or "V1"),
            offset=series.dataoffset,
            byteorder=tiff.byteorder,
            photometric=int(page.photometric),
            bits=int(np.max(page.bitspersample)),
            stored=len(series.pages) * int(page.size),
            complete=all(page is not None for page in series.pages),
        )
        palette = page.tags.valueof(320)
        indexed = pixels.photometric == _PALETTE and not (tiff.is_imagej or tiff.is_ome)
    if indexed and not _is_ramp(palette):
        raise TenetError(
            f"{path}: its pixels are numbers of colours in a palette, not intensities; "
            "export the raw intensities as a greyscale stack"
        )
    _check_pixels(path, pixels)
    return pixels


def _is_ramp(palette: Any) -> bool:
    """Whether each colour of a palette rises with its number, as intensities do."""
    return palette is not None and bool((np.diff(np.int64(palette)) >= 0).all())


def _check_pixels(path: Path, pixels: _Pixels) -> None:
    """Refuse planes that are missing, and numbers that are not intensities."""
    if pixels.dtype.kind == "V":
        raise TenetError(f"{path}: its pixel type is not known; export it as integers")
    check_dtype(path, pixels.dtype)
    if not pixels.complete:
        raise TenetError(
            f"{path}: planes are missing or stand in other files that are not beside it; "
            "copy all files of the image"
        )
    size = math.prod(pixels.shape) * pixels.dtype.itemsize
    if pixels.offset is not None and pixels.offset + size > path.stat().st_size:
        raise TenetError(truncated(path))
    if pixels.offset is None and math.prod(pixels.shape) > pixels.stored:
        raise TenetError(truncated(path))
    if pixels.photometric == _WHITE_IS_ZERO and pixels.dtype.kind == "f":
        raise TenetError(
            f"{path}: it says that 0 is white, and floating-point numbers have no black to count "
            "from; save it with black as 0"
        )


# Voxels -------------------------------------------------------------------------------------------


def _reader(path: Path, pixels: _Pixels, layout: Layout, plain: bool = False) -> Reader:
    reader: Reader
    if pixels.offset is None:
        reader = _TiffReader(path, pixels.series, layout, plain)
    else:
        stored = np.dtype(pixels.byteorder + pixels.dtype.char).str
        reader = ContiguousReader(path, stored, pixels.offset, pixels.shape, "C", layout)
    if pixels.photometric != _WHITE_IS_ZERO:
        return reader
    signed = pixels.dtype.kind == "i"
    return InvertedReader(reader, -1 if signed else 2**pixels.bits - 1)


@dataclass(frozen=True)
class _TiffReader:
    """Compressed or tiled pages, of which only the strips and tiles of a crop are decoded."""

    path: Path
    series: int
    layout: Layout
    plain: bool

    def read(self, z: slice, y: slice, x: slice) -> npt.NDArray[Any]:
        """Read planes, rows and columns."""
        planes = range(*z.indices(z.stop))
        try:
            return self._decode(z, y, x)
        # On damaged data a decoder raises many kinds of errors.
        except Exception as error:
            bad = next((k for k in planes if not self._decodes(k, y, x)), z.start)
            what = "page" if self.plain else "plane"
            raise ValueError(f"{what} {bad}, counted from 0: {one_line(error)}") from error

    def at(self, channel: int, time: int) -> "_TiffReader":
        """Return the reader of another channel and time point."""
        return replace(self, layout=self.layout.at(channel, time))

    def _decode(self, z: slice, y: slice, x: slice) -> npt.NDArray[Any]:
        with _open(self.path, self.plain) as tiff:
            store = tiff.series[self.series].aszarr(level=0)
            return self.layout.crop(zarr.open_array(store, mode="r"), z, y, x)

    def _decodes(self, plane: int, y: slice, x: slice) -> bool:
        try:
            self._decode(slice(plane, plane + 1), y, x)
        except Exception:
            return False
        return True
