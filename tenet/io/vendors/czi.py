"""CZI, the format of Zeiss microscopes, read by the library of Zeiss."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
import numpy.typing as npt

from tenet.errors import TenetError
from tenet.io.calibration import Calibration, calibration
from tenet.io.frames import MOST_FRAMES, Image, stack_of_frames
from tenet.io.inside import holder, pick_image
from tenet.io.optics import Optics, index_of_medium, photons_of_mode
from tenet.io.stack import Stack, micrometres
from tenet.io.tiff_structure import check_plane
from tenet.io.vendors.library import library, opened_with
from tenet.io.xml import elements, first, parse_xml

_TYPES = {"Gray8": np.uint8, "Gray16": np.uint16, "Gray32Float": np.float32}
_LOOPS = "CTZ"


@dataclass(frozen=True)
class CziFrames:
    """Planes of a CZI; tiles of a plane are put together by the library."""

    path: Path
    lengths: tuple[int, ...]
    scene: int | None
    left: int
    top: int

    def crops(self, numbers: Sequence[int], y: slice, x: slice) -> Iterator[npt.NDArray[Any]]:
        """Read rows and columns of some planes."""
        roi = (self.left + x.start, self.top + y.start, x.stop - x.start, y.stop - y.start)
        with opened(self.path) as file:
            for number in numbers:
                place = (int(k) for k in np.unravel_index(number, self.lengths))
                plane = dict(zip(_LOOPS, place, strict=True))
                yield file.read(roi=roi, plane=plane, scene=self.scene)[..., 0]


def opened(path: Path) -> AbstractContextManager[Any]:
    """Open a CZI, and turn any error of a damaged one into one line."""
    found = library(path, "pylibCZIrw.czi")
    return opened_with(path, "CZI", lambda: found.open_czi(str(path)))


def open_czi(
    path: Path, channel: int | None, planes_are: str | None = None, time: int | None = None
) -> Stack:
    """Open a scene of a CZI file; see `tenet.io.open.open_stack`."""
    held, _ = holder(path)
    with opened(held) as file:
        sizes = {axis: stop for axis, (_, stop) in file.total_bounding_box_no_pyramid.items()}
        scenes = dict(file.scenes_bounding_rectangle_no_pyramid)
        scenes = scenes or {None: file.total_bounding_rectangle_no_pyramid}
        names = [f"scene{number}" for number in scenes]
        scene, rectangle = list(scenes.items())[pick_image(path, names)]
        metadata = parse_xml(path, file.raw_metadata, "its XML")
        _check(path, sizes)
        types = set(file.pixel_types.values())
        _check_planes(path, file, sizes)
    if len(types) != 1 or not types <= set(_TYPES):
        raise TenetError(
            f"{path}: its pixels are {', '.join(sorted(types))}; export greyscale channels of one "
            "type as OME-TIFF"
        )
    dtype = np.dtype(_TYPES[types.pop()])
    plane = rectangle.h * rectangle.w * dtype.itemsize
    check_plane(path, rectangle.h, rectangle.w, plane, held.stat().st_size)
    lengths = tuple(sizes[axis] for axis in _LOOPS)
    frames = CziFrames(held, lengths, scene, rectangle.x, rectangle.y)
    image = Image(
        dict(zip(_LOOPS, lengths, strict=True)), rectangle.h, rectangle.w,
        dtype, _calibration(metadata), _optics(metadata, sizes["C"]),
    )  # fmt: skip
    return stack_of_frames(path, frames, image, channel, planes_are, time)


def _check(path: Path, sizes: dict[str, int]) -> None:
    """Refuse axes that a stack does not have."""
    others = [axis for axis, size in sizes.items() if axis not in "CTZYX" and size > 1]
    if others:
        raise TenetError(
            f"{path}: axis {others[0]} (of {sizes[others[0]]}) cannot be read; process the "
            "recording in ZEN, or export one Z, Y, X stack"
        )
    if sizes["C"] * sizes["T"] * sizes["Z"] > MOST_FRAMES:
        raise TenetError(f"{path}: it declares more than {MOST_FRAMES} planes; export a part")


def _check_planes(path: Path, file: Any, sizes: dict[str, int]) -> None:
    """Refuse a file without some of its planes, which the library would show as black."""
    found: set[tuple[int, ...]] = set()

    def note(_: int, block: Any) -> bool:
        place = block.coordinate.to_dict()
        found.add(tuple(place.get(axis, 0) for axis in _LOOPS))
        return True

    file.enumerate_subblocks(note)
    expected = sizes["C"] * sizes["T"] * sizes["Z"]
    if len(found) < expected:
        raise TenetError(
            f"{path}: the recording stopped early: {len(found)} of {expected} planes are there; "
            "export the complete planes as OME-TIFF"
        )


def _calibration(metadata: Element) -> Calibration:
    """Return the lengths (in metres there)."""
    distances = {
        distance.get("Id"): _text(distance, "Value") for distance in elements(metadata, "Distance")
    }
    return calibration(*((distances.get(axis) or None, "m") for axis in "ZYX"))


def _optics(metadata: Element, channels: int) -> tuple[Optics, ...]:
    """Return the optics of each channel (wavelengths in nm there)."""
    lens, settings = first(metadata, "Objective"), first(metadata, "ObjectiveSettings")
    media = (_text(settings, "Medium"), _text(lens, "Immersion"))
    indices = (_text(settings, "RefractiveIndex"), *map(index_of_medium, media))
    described = list(elements(first(metadata, "Dimensions"), "Channel"))
    described += [Element("none")] * (channels - len(described))
    found = []
    for channel in described[:channels]:
        wavelength = micrometres(_text(channel, "ExcitationWavelength") or None, "nm")
        found.append(
            Optics.read(
                na=_text(lens, "LensNA"),
                wavelength_um=wavelength,
                immersion_indices=indices,
                photons=photons_of_mode(_text(channel, "AcquisitionMode"), wavelength),
            )
        )
    return tuple(found)


def _text(inside: Element, name: str) -> str:
    return (first(inside, name).text or "").strip()
