"""LIF, the format of Leica microscopes."""

import struct
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
import numpy.typing as npt

from tenet.errors import TenetError
from tenet.io.calibration import Calibration
from tenet.io.frames import MOST_FRAMES, Image, stack_of_frames
from tenet.io.inside import holder, pick_image
from tenet.io.optics import Optics, index_of_medium, inscribed, photons_of_mode
from tenet.io.stack import Stack, micrometres, voxel_size_of_axes
from tenet.io.vendors.library import library, opened_with
from tenet.io.xml import MOST_XML_BYTES, elements, first, parse_xml

_AXES = "CTZYX"


@dataclass(frozen=True)
class LifFrames:
    """Planes of an image of a LIF."""

    path: Path
    image: int

    def crops(self, numbers: Sequence[int], y: slice, x: slice) -> Iterator[npt.NDArray[Any]]:
        """Read rows and columns of some planes."""
        with opened(self.path) as file:
            frames = file.images[self.image].frames
            for number in numbers:
                yield frames[number][y, x]


def opened(path: Path) -> AbstractContextManager[Any]:
    """Open a LIF, and turn any error of a damaged one into one line."""
    found = library(path, "liffile")
    return opened_with(path, "LIF", lambda: found.LifFile(path))


def open_lif(
    path: Path, channel: int | None, planes_are: str | None = None, time: int | None = None
) -> Stack:
    """Open an image of a LIF file; see `tenet.io.open.open_stack`.

    Of a file the one stack is opened; overviews, which have one plane, may lie beside the stack.
    """
    held, _ = holder(path)
    _check_header(held)
    with opened(held) as file:
        number = _the_stack(path, file)
        image = file.images[number]
        sizes, dtype = dict(image.sizes), np.dtype(image.dtype)
        loops = {axis: size for axis, size in sizes.items() if axis not in "YX"}
        others = [axis for axis in sizes if axis not in _AXES]
        if others or list(image.frames.frame_sizes) != ["Y", "X"]:
            raise TenetError(
                f"{path}: image {image.name!r} has axes {''.join(sizes)}; export one Z, Y, X stack"
            )
        block, needed = image.memory_block, int(np.prod(list(sizes.values()))) * dtype.itemsize
        there = min(block.size, held.stat().st_size - block.offset)
        if needed > there or np.prod(list(loops.values())) > MOST_FRAMES:
            raise TenetError(
                f"{path}: image {image.name!r} needs {needed} bytes, and the file holds {there} of "
                "them: the file is truncated; copy it again"
            )
        found, xml = _calibration(image), image.xml_element
    optics = (_optics(xml),)
    pixels = Image(loops, sizes["Y"], sizes["X"], dtype, found, optics)
    return stack_of_frames(path, LifFrames(held, number), pixels, channel, planes_are, time)


def _check_header(path: Path) -> None:
    """Parse the XML of the file within limits, before the library does without."""
    with path.open("rb") as file:
        start = file.read(13)
        length = 2 * struct.unpack("<I", start[9:13])[0] if len(start) == 13 else 0
        if start[:1] != b"\x70" or start[8:9] != b"\x2a" or not 0 < length <= MOST_XML_BYTES:
            raise TenetError(f"{path}: this is not a LIF file, whatever its name says")
        parse_xml(path, file.read(length).decode("utf-16-le", "replace"), "its XML")


def _the_stack(path: Path, file: Any) -> int:
    """Return the number of the named image, or of the one with several planes or time points."""
    images = list(file.images)
    for axis in "ZT":
        found = [k for k, image in enumerate(images) if image.sizes.get(axis, 1) > 1]
        if len(found) == 1 and not holder(path)[1]:
            return found[0]
        if found:
            break
    return pick_image(path, [image.name for image in images])


def _calibration(image: Any) -> Calibration:
    """Return the lengths: from the first to the last element of each axis, in metres there."""
    steps = {
        axis: float(abs(places[-1] - places[0])) / (len(places) - 1)
        for axis, places in image.coords.items()
        if len(places) > 1
    }
    sizes = (micrometres(steps.get(axis), "m") for axis in "ZYX")
    z, y, x = (size if voxel_size_of_axes(size, 1.0, 1.0) else None for size in sizes)
    return Calibration(z, y, x)


def _optics(xml: Element) -> Optics:
    """Return the optics of all channels; the wavelength if one laser line alone was on."""
    scope = first(xml, "ATLConfocalSettingDefinition")
    na, index = inscribed(scope.get("ObjectiveName", ""))
    lines = {
        setting.get("LaserLine", "")
        for setting in elements(xml, "LaserLineSetting")
        if setting.get("IntensityDev", "0") not in ("0", "0.0", "")
    }
    wavelength = micrometres(lines.pop(), "nm") if len(lines) == 1 else None
    return Optics.read(
        na=scope.get("NumericalAperture") or na,
        wavelength_um=wavelength,
        immersion_indices=(
            scope.get("RefractionIndex"), index_of_medium(scope.get("Immersion", "")), index,
        ),
        photons=photons_of_mode("", wavelength),
    )  # fmt: skip
