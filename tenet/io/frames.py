"""Stacks whose planes are read one by one: a frame of the file, or a file, is a plane."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tenet.errors import TenetError
from tenet.io.axes import axes_with_planes, find_layout
from tenet.io.calibration import Calibration
from tenet.io.optics import Optics
from tenet.io.stack import Reader, Stack, check_dtype
from tenet.io.tiff import Pages, open_pages

#: Most planes of a set, of all channels and time points.
MOST_FRAMES = 2**17


class Frames(Protocol):
    """The planes of a file, or of a set of files, by number."""

    def crops(self, numbers: Sequence[int], y: slice, x: slice) -> Iterable[npt.NDArray[Any]]:
        """Read rows and columns of some planes, each of shape (Y, X)."""
        ...


@dataclass(frozen=True)
class FrameReader:
    """One channel and time point of frames. `loops` are the axes over frames, outermost first."""

    frames: Frames
    loops: str
    lengths: tuple[int, ...]
    channel: int
    time: int

    def read(self, z: slice, y: slice, x: slice) -> npt.NDArray[Any]:
        """Read planes, rows and columns."""
        numbers = [self._number(k) for k in range(z.start, z.stop)]
        return np.stack([np.asarray(crop) for crop in self.frames.crops(numbers, y, x)])

    def at(self, channel: int, time: int) -> "FrameReader":
        """Return the reader of another channel and time point."""
        return replace(self, channel=channel, time=time)

    def _number(self, plane: int) -> int:
        of = {"Z": plane, "C": self.channel, "T": self.time}
        place = [of.get(loop, 0) for loop in self.loops]
        return int(np.ravel_multi_index(place, self.lengths)) if place else 0


@dataclass(frozen=True)
class Image:
    """What a file, or a set of files, holds.

    Attributes
    ----------
    loops : dict
        Lengths of the axes over planes by name (C, T, Z), outermost first.
    rows, columns : int
    dtype : numpy.dtype
    found : Calibration
    optics : tuple of Optics
        Of each channel, or one for all of them.
    """

    loops: Mapping[str, int]
    rows: int
    columns: int
    dtype: np.dtype[Any]
    found: Calibration
    optics: tuple[Optics, ...] = ()


def stack_of_frames(
    path: Path,
    frames: Frames,
    image: Image,
    channel: int | None,
    planes_are: str | None,
    time: int | None,
) -> Stack:
    """Make the stack of a channel and a time point of frames.

    Raises
    ------
    TenetError
        If the axes are not one stack, or the channel or time point is not there.
    """
    shape = (*image.loops.values(), image.rows, image.columns)
    axes = axes_with_planes(path, "".join(image.loops) + "YX", shape, planes_are)
    sizes = find_layout(path, axes, shape, channel, time)
    check_dtype(path, image.dtype)
    reader = FrameReader(frames, axes[:-2], shape[:-2], channel or 0, time or 0)
    optics = image.optics * (sizes.channels if len(image.optics) == 1 else 1)
    return Stack(
        path, sizes.zyx_shape, image.dtype, image.found.voxel_size_um, reader, image.found.note,
        sizes.channels, sizes.times, channel_optics=optics, channel=channel or 0,
    )  # fmt: skip


# Sets of files ------------------------------------------------------------------------------------

#: Channel, time point and plane, as a set of files counts them.
Place = tuple[int, int, int]
#: A file, and a page of the file from 0.
Page = tuple[Path, int]


@dataclass(frozen=True)
class PlaneFiles:
    """Planes that are pages of files: a reader and a page for each plane."""

    readers: tuple[Reader, ...]
    pages: tuple[int, ...]

    def crops(self, numbers: Sequence[int], y: slice, x: slice) -> Iterable[npt.NDArray[Any]]:
        """Read rows and columns of some planes."""
        for number in numbers:
            page = self.pages[number]
            yield self.readers[number].read(slice(page, page + 1), y, x)[0]


def stack_of_files(
    path: Path,
    planes: Mapping[Place, Page],
    channel: int | None,
    planes_are: str | None,
    time: int | None,
    found: Calibration,
    optics: tuple[Optics, ...] = (),
) -> Stack:
    """Make the stack of a channel and a time point of TIFF files of one plane, or of a few planes.

    Parameters
    ----------
    path : Path
        The folder, or the file that describes the set.
    planes : mapping
        The page of a file for each channel, time point and plane.
    channel, planes_are, time
        As in `tenet.io.open.open_stack`.
    found : Calibration
    optics : tuple of Optics
        As in `Image`.

    Raises
    ------
    TenetError
        If planes are missing, a file is missing or damaged, or files differ in size or type.
    """
    loops = lengths_of(path, planes)
    opened: dict[Path, Pages] = {}
    for file, page in planes.values():
        if file not in opened:
            opened[file] = open_pages(file)
        if page >= (count := opened[file].zyx_shape[0]):
            raise TenetError(
                f"{file}: page {page + 1} is needed, and it has {count}; copy the file again"
            )
    one = next(iter(opened.values()))
    for file, pages in opened.items():
        if (pages.zyx_shape[1:], pages.dtype) != (one.zyx_shape[1:], one.dtype):
            raise TenetError(
                f"{file}: its planes are {_said(pages)}, and others of the set are {_said(one)}; "
                "keep files of one recording in a folder"
            )
    ordered = [planes[place] for place in sorted(planes)]
    frames = PlaneFiles(
        tuple(opened[file].reader for file, _ in ordered), tuple(page for _, page in ordered)
    )
    image = Image(loops, *one.zyx_shape[1:], one.dtype, found, optics)
    return stack_of_frames(path, frames, image, channel, planes_are, time)


def _said(pages: Pages) -> str:
    return f"{pages.zyx_shape[1]} × {pages.zyx_shape[2]} pixels of {pages.dtype}"


def lengths_of(path: Path, places: Iterable[Place]) -> dict[str, int]:
    """Return the number of channels, time points and planes of a set.

    Raises
    ------
    TenetError
        If planes are missing, or if there are none or too many.
    """
    found = set(places)
    if not found or len(found) > MOST_FRAMES:
        raise TenetError(
            f"{path}: it names {len(found)} planes, and 1 to {MOST_FRAMES} can be read"
        )
    counts = [len({place[axis] for place in found}) for axis in range(3)]
    lengths = dict(zip("CTZ", counts, strict=True))
    missing = math.prod(counts) - len(found)
    if missing:
        raise TenetError(
            f"{path}: {missing} of {math.prod(counts)} planes are missing ({counts[0]} channels, "
            f"{counts[1]} time points, {counts[2]} planes); copy all files of the recording, or "
            "export its complete part as OME-TIFF"
        )
    return lengths


def beside(path: Path, folder: Path, name: str) -> Path:
    """Return a file of a folder by a name that a file of the set gives.

    Raises
    ------
    TenetError
        If the name leads out of the folder, or there is no such file.
    """
    if PureWindowsPath(name).name != name or name in ("", ".", "..") or "\0" in name:
        raise TenetError(
            f"{path}: it names the file {name[:80]!r} outside its folder; "
            "copy all files of the recording into one folder"
        )
    if not (folder / name).exists():
        raise TenetError(
            f"{path}: the file {name[:80]} of the recording is missing; "
            "copy all files of the recording"
        )
    return folder / name
