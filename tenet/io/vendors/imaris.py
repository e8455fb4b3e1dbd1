"""IMS, the format of Imaris: an HDF5 file with a volume for each channel and time point."""

from pathlib import Path
from typing import Any

from tenet.errors import TenetError
from tenet.io.axes import find_layout
from tenet.io.calibration import Calibration, calibration
from tenet.io.frames import MOST_FRAMES
from tenet.io.optics import Optics, photons_of_mode
from tenet.io.stack import Stack, micrometres
from tenet.io.vendors.hdf5 import Hdf5Reader, one_volume, opened
from tenet.io.vendors.library import refuse_planes_are

_LEVEL = "DataSet/ResolutionLevel 0"


def open_imaris(
    path: Path, channel: int | None, planes_are: str | None = None, time: int | None = None
) -> Stack:
    """Open an IMS file at its full resolution; see `tenet.io.open.open_stack`."""
    refuse_planes_are(path, planes_are)
    with opened(path) as file:
        times = _number(file, _LEVEL, "TimePoint")
        channels = _number(file, f"{_LEVEL}/TimePoint 0", "Channel")
        names = tuple(
            tuple(f"{_LEVEL}/TimePoint {t}/Channel {c}/Data" for t in range(times))
            for c in range(channels)
        )
        volume = one_volume(path, file, names)
        image = _entries(file, "DataSetInfo/Image")
        optics = tuple(
            _optics(image, _entries(file, f"DataSetInfo/Channel {c}")) for c in range(channels)
        )
        dtype, stored = volume.dtype, volume.shape
    # Datasets are filled up to whole chunks; the size of the image stands beside them.
    shape = tuple(_size(path, image, axis, n) for axis, n in zip("ZYX", stored, strict=True))
    sizes = find_layout(path, "CTZYX", (channels, times, *shape), channel, time)
    found = _calibration(image, shape)
    reader = Hdf5Reader(path, names, channel=channel or 0, time=time or 0)
    return Stack(
        path, sizes.zyx_shape, dtype, found.voxel_size_um, reader, found.note,
        sizes.channels, sizes.times, channel_optics=optics, channel=channel or 0,
    )  # fmt: skip


def _number(file: Any, group: str, name: str) -> int:
    """Return the number of groups that are named and counted from 0."""
    inside = set(file.get(group, ()))
    return next((k for k in range(MOST_FRAMES) if f"{name} {k}" not in inside), MOST_FRAMES)


def _entries(file: Any, group: str) -> dict[str, str]:
    """Return the attributes of a group, which are arrays of single letters."""
    found = file.get(group)
    entries = {} if found is None else dict(found.attrs)
    return {
        name: b"".join(value.ravel()).decode("latin-1").strip()
        for name, value in entries.items()
        if getattr(value, "dtype", None) is not None and value.dtype.kind == "S"
    }


def _size(path: Path, image: dict[str, str], axis: str, stored: int) -> int:
    text = image.get(axis, str(stored))
    if not text.isdecimal() or len(text) > 12 or not 1 <= int(text) <= stored:
        raise TenetError(
            f"{path}: it says {text[:24]!r} voxels along {axis.lower()}, and {stored} are stored; "
            "export it again"
        )
    return int(text)


def _calibration(image: dict[str, str], shape: tuple[int, ...]) -> Calibration:
    """Return the lengths: the extent of the image along each axis over its voxels."""
    unit = image.get("Unit", "um")
    lengths: list[tuple[float | None, str]] = []
    for axis, size in zip((2, 1, 0), shape, strict=True):
        try:
            extent = float(image[f"ExtMax{axis}"]) - float(image[f"ExtMin{axis}"])
            lengths.append((extent / size, unit))
        except (KeyError, ValueError):
            lengths.append((None, unit))
    return calibration(*lengths)


def _optics(image: dict[str, str], channel: dict[str, str]) -> Optics:
    wavelength = micrometres(channel.get("LSMExcitationWavelength"), "nm")
    return Optics.read(
        na=image.get("NumericalAperture"),
        wavelength_um=wavelength,
        immersion_indices=(image.get("RefractiveIndex"),),
        photons=photons_of_mode(channel.get("MicroscopyMode", ""), wavelength),
    )
