"""OIF and OIB of Olympus Fluoview: a TIFF for each plane, in a folder or in a compound file."""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from tenet.errors import TenetError
from tenet.io.calibration import Calibration, calibration
from tenet.io.frames import Image, Page, Place, lengths_of, stack_of_files, stack_of_frames
from tenet.io.optics import Optics, inscribed, photons_of_mode
from tenet.io.records import MOST_BYTES, regular_file
from tenet.io.stack import Stack, micrometres
from tenet.io.tiff_structure import check_plane
from tenet.io.vendors.library import library, opened_with
from tenet.io.xml import decoded

#: Channel, plane and time point: ``s_C001Z002T003.tif``.
_PLANE = re.compile(r"s_C(\d{3,6})(?:Z(\d{3,6}))?(?:T(\d{3,6}))?\.tif", re.I | re.ASCII)

#: Entries of a file of settings by section.
Settings = Mapping[str, Mapping[str, str]]


def open_oif(
    path: Path, channel: int | None, planes_are: str | None = None, time: int | None = None
) -> Stack:
    """Open an OIF file with its folder; see `tenet.io.open.open_stack`."""
    regular_file(path, most_bytes=MOST_BYTES)
    settings = _settings(path.read_bytes())
    if "Axis 0 Parameters Common" not in settings:
        raise TenetError(f"{path}: this is not an OIF file, whatever its name says")
    folder = path.with_name(f"{path.name}.files")
    if not folder.is_dir():
        raise TenetError(f"{path}: the folder {folder.name} is not beside it; copy both")
    planes: dict[Place, Page] = {
        place: (file, 0) for file in folder.iterdir() if (place := _place(file.name))
    }
    found, optics = _calibration(settings), _optics(settings, len({c for c, *_ in planes}))
    return stack_of_files(path, planes, channel, planes_are, time, found, optics)


# OIB ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OibFrames:
    """Planes of an OIB: TIFFs in the streams of a compound file."""

    path: Path
    streams: tuple[tuple[str, ...], ...]
    rows: int
    columns: int

    def crops(self, numbers: Sequence[int], y: slice, x: slice) -> Iterator[npt.NDArray[Any]]:
        """Read rows and columns of some planes."""
        with opened(self.path) as file:
            for number in numbers:
                with _tiff(file, self.streams[number]) as tiff:
                    page = tiff.pages.first
                    if page.shape != (self.rows, self.columns):
                        raise ValueError(f"a plane of {page.shape} pixels")
                    yield page.asarray()[y, x]


def opened(path: Path) -> AbstractContextManager[Any]:
    """Open a compound file, and turn any error of a damaged one into one line."""
    found = library(path, "olefile")
    return opened_with(path, "OIB", lambda: found.OleFileIO(path))


def _tiff(file: Any, stream: tuple[str, ...]) -> tifffile.TiffFile:
    return tifffile.TiffFile(io.BytesIO(file.openstream(list(stream)).read()))


def open_oib(
    path: Path, channel: int | None, planes_are: str | None = None, time: int | None = None
) -> Stack:
    """Open an OIB file; see `tenet.io.open.open_stack`."""
    with opened(path) as file:
        streams = {stream[-1]: tuple(stream) for stream in file.listdir()}
        info = _settings(_content(file, streams["OibInfo.txt"]))["OibSaveInfo"]
        names = {re.split(r"[\\/]", name)[-1]: key for key, name in info.items() if key in streams}
        main = streams[info["MainFileName"]]
        settings = _settings(_content(file, main))
        planes = {place: streams[key] for name, key in names.items() if (place := _place(name))}
        loops = lengths_of(path, planes)
        ordered = tuple(planes[place] for place in sorted(planes))
        with _tiff(file, ordered[0]) as tiff:
            page = tiff.pages.first
            shape, dtype = page.shape, np.dtype(page.dtype)
        stored = file.get_size(list(ordered[0]))
    if len(shape) != 2:
        raise TenetError(f"{path}: its planes are colour images; export greyscale channels")
    check_plane(path, *shape, shape[0] * shape[1] * dtype.itemsize, stored)
    found, optics = _calibration(settings), _optics(settings, loops["C"])
    image = Image(loops, *shape, dtype, found, optics)
    frames = OibFrames(path, ordered, *shape)
    return stack_of_frames(path, frames, image, channel, planes_are, time)


def _content(file: Any, stream: tuple[str, ...]) -> bytes:
    if file.get_size(list(stream)) > MOST_BYTES:
        raise ValueError(f"{stream[-1]} is too large")
    content: bytes = file.openstream(list(stream)).read()
    return content


# Settings -----------------------------------------------------------------------------------------


def _place(name: str) -> Place | None:
    found = _PLANE.fullmatch(name)
    if found is None:
        return None
    channel, plane, time = (int(digits or 1) for digits in found.groups())
    return channel, time, plane


def _settings(content: bytes) -> dict[str, dict[str, str]]:
    """Parse ``[section]`` and ``name="value"`` lines."""
    settings: dict[str, dict[str, str]] = {}
    section: dict[str, str] = {}
    for line in decoded(content).splitlines():
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            section = settings.setdefault(line[1:-1], {})
        elif "=" in line:
            name, _, value = line.partition("=")
            section[name.strip()] = value.strip().strip('"')
    return settings


def _calibration(settings: Settings) -> Calibration:
    axes = {
        axis.get("AxisCode", ""): axis
        for name, axis in settings.items()
        if re.fullmatch(r"Axis \d Parameters Common", name)
    }
    return calibration(*(_length(axes.get(axis, {})) for axis in "ZYX"))


def _length(axis: Mapping[str, str]) -> tuple[float | None, str | None]:
    """Return the distance of planes or pixels: the interval along z, or the extent over pixels."""
    unit = axis.get("UnitName") or axis.get("PixUnit")
    try:
        count = int(axis["MaxSize"])
        extent = abs(float(axis["EndPosition"]) - float(axis["StartPosition"]))
        if axis["AxisCode"] == "Z":
            interval = abs(float(axis.get("Interval") or 0))
            return interval or extent / (count - 1) or None, unit
        return extent / count or None, unit
    except (KeyError, ValueError, ZeroDivisionError):
        return None, unit


def _optics(settings: Settings, channels: int) -> tuple[Optics, ...]:
    scan = settings.get("Acquisition Parameters Common", {})
    na, index = inscribed(scan.get("ObjectiveLens Name", ""))
    found = []
    for k in range(1, channels + 1):
        channel = settings.get(f"Channel {k} Parameters", {})
        wavelength = micrometres(channel.get("ExcitationWavelength"), "nm")
        found.append(
            Optics.read(
                na=scan.get("ObjectiveLens NAValue") or na,
                wavelength_um=wavelength,
                immersion_indices=(index,),
                photons=photons_of_mode("", wavelength),
            )
        )
    return tuple(found)
