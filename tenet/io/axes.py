"""The axes of a file: planes, rows and columns, and which channel and time point is read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tenet.errors import TenetError
from tenet.types import Triple

#: The largest plane, in bytes as float32, and the most voxels of a stack.
MOST_PLANE_BYTES, MOST_VOXELS = 2**31, 2**40


@dataclass(frozen=True)
class Layout:
    """How a Z, Y, X crop is cut from an array with further axes.

    `axes` holds, for each axis of the array, "Z", "Y" or "X", or the one index to take. `names`
    holds the name of each axis; C and T are those of `at`. Without a "Z" the array is one plane.
    """

    axes: tuple[int | str, ...]
    names: str

    def at(self, channel: int, time: int) -> "Layout":
        """Return the layout of another channel and time point."""
        index = {"C": channel, "T": time}
        axes = zip(self.axes, self.names, strict=True)
        return Layout(tuple(index.get(name, axis) for axis, name in axes), self.names)

    def crop(self, array: Any, z: slice, y: slice, x: slice) -> npt.NDArray[Any]:
        """Cut a crop, in Z, Y, X."""
        spans = {"Z": z, "Y": y, "X": x}
        key = tuple(spans[axis] if isinstance(axis, str) else axis for axis in self.axes)
        kept = [axis for axis in self.axes if isinstance(axis, str)]
        cut = np.asarray(array[key])
        if "Z" not in kept:
            kept, cut = ["Z", *kept], cut[np.newaxis]
        return cut.transpose([kept.index(axis) for axis in "ZYX"])


def axes_with_planes(path: Path, axes: str, shape: Sequence[int], planes_are: str | None) -> str:
    """Name the axis Z that holds planes under the name of channels (C) or of time (T).

    Parameters
    ----------
    path : Path
    axes : str
        Names of the axes, as in `find_layout`.
    shape : sequence of int
    planes_are : {"C", "T"}, optional
        The axis whose entries are in truth planes; None leaves the names unchanged.

    Raises
    ------
    TenetError
        If there is no such axis, or another axis holds planes too.
    """
    if planes_are is None:
        return axes
    sizes = dict(zip(axes, shape, strict=True))
    said = f"axes {axes} of lengths {'×'.join(map(str, shape))}"
    if sizes.get(planes_are, 1) < 2:
        raise TenetError(
            f"{path}: there is no axis {planes_are} whose entries may be planes ({said})"
        )
    if any(sizes.get(axis, 1) > 1 for axis in "ZIQ"):
        raise TenetError(f"{path}: it has planes besides those along axis {planes_are} ({said})")
    return axes.translate({ord("Z"): planes_are, ord(planes_are): "Z"})


def plain_axes(shape: Sequence[int]) -> str:
    """Name axes without names: planes, rows and columns, and others of length one."""
    if len(shape) <= 3:
        return "ZYX"[3 - len(shape) :]
    if sum(size > 1 for size in shape) != 3:
        return "Q" * len(shape)
    names = iter("ZYX")
    return "".join(next(names) if size > 1 else "Q" for size in shape)


@dataclass(frozen=True)
class Found:
    """What the axes of a file are: the layout of one stack, its shape, and how many there are."""

    layout: Layout
    zyx_shape: Triple
    channels: int
    times: int


def find_layout(
    path: Path, axes: str, shape: Sequence[int], channel: int | None, time: int | None = None
) -> Found:
    """Find Z, Y and X among named axes, and refuse axes that are not one stack.

    Axes have the names of tifffile: C is a channel, T time, S a colour sample. I (pages of a file)
    and Q (unnamed) stand for Z where there is no Z.
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
    if "T" in names and not unnamed and "Z" not in names:
        raise TenetError(
            f"{path}: this is a time series of single planes ({said}); give stacks, or "
            "--planes-are T if its frames are in truth planes"
        )
    for axis in names:
        if axis not in "ZYXCTIQ":
            raise TenetError(
                f"{path}: axis {axis} cannot be read ({said}); export one Z, Y, X stack"
            )
    if unnamed:
        axes = axes.replace(unnamed[0], "Z")
        names = [axis.replace(unnamed[0], "Z") for axis in names]
    if len(set(names)) < len(names) or not {"Y", "X"} <= set(axes):
        raise TenetError(
            f"{path}: an axis is named twice, or Y or X not at all ({said}); export it again"
        )
    if "C" in names and "Z" not in names:
        raise TenetError(
            f"{path}: this is a two-dimensional image of several channels, not a stack ({said}); "
            "give --planes-are C if its channels are in truth planes"
        )
    if "Z" not in names:
        raise TenetError(
            f"{path}: this is a single two-dimensional image, not a stack ({said}); "
            "give a file with several z planes (if each plane is a file of its own, join them: "
            "in Fiji, File > Import > Image Sequence, and save as TIFF)"
        )
    length = dict(zip(axes, shape, strict=True))
    channels, times = length.get("C", 1), length.get("T", 1)
    chosen = {
        "C": check_choice(path, "channel", channel, channels),
        "T": check_choice(path, "time point", time, times),
    }
    # Two axes may have one name, such as a Z of length one beside unnamed pages. The longer axis is
    # meant.
    found = {axis: max(s for a, s in zip(axes, shape, strict=True) if a == axis) for axis in "ZYX"}
    zyx_shape = found["Z"], found["Y"], found["X"]
    check_shape(path, zyx_shape)
    template: list[int | str] = []
    for axis, size in zip(axes, shape, strict=True):
        if axis in "ZYX" and axis not in template and size == found[axis]:
            template.append(axis)
        else:
            template.append(chosen.get(axis, 0))
    return Found(Layout(tuple(template), axes), zyx_shape, channels, times)


def check_choice(path: Path, what: str, chosen: int | None, count: int) -> int:
    """Check the number of a channel or a time point; the only one if none is given."""
    if chosen is None and count > 1:
        raise TenetError(f"{path}: it has {count} {what}s; choose one, 0 to {count - 1}")
    if chosen is not None and not 0 <= chosen < count:
        raise TenetError(
            f"{path}: there is no {what} {chosen}; "
            + ("give 0, the only one" if count == 1 else f"choose one, 0 to {count - 1}")
        )
    return chosen or 0


def check_shape(path: Path, zyx_shape: Triple) -> None:
    """Refuse a stack that no memory holds, because whole planes are read, and every voxel."""
    plane = 4 * zyx_shape[1] * zyx_shape[2]
    if plane > MOST_PLANE_BYTES or math.prod(zyx_shape) > MOST_VOXELS:
        size = "×".join(map(str, zyx_shape))
        raise TenetError(
            f"{path}: {size} voxels are more than can be read (a plane of "
            f"{plane / 2**30:.3g} GiB, and at most {MOST_PLANE_BYTES // 2**30} GiB are); "
            "cut the stack into parts, or export it again if its header is wrong"
        )
