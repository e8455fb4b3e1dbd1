"""ND2, the format of Nikon's microscopes."""

import contextlib
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nd2
import numpy as np
import numpy.typing as npt

from tenet.errors import TenetError, one_line
from tenet.io.axes import axes_with_planes, find_layout
from tenet.io.calibration import Calibration
from tenet.io.optics import Optics
from tenet.io.stack import Stack, check_dtype, micrometres

#: Modalities with one photon, unless "multiphoton" is named too.
_ONE_PHOTON = {
    "camera", "laserScanConfocal", "spinningDiskConfocal", "sweptFieldConfocalSlit",
    "sweptFieldConfocalPinhole", "dsdConfocal",
}  # fmt: skip


@dataclass(frozen=True)
class _Nd2Reader:
    """Frames of an ND2 file, each a plane. `loops` are the axes over frames, outermost first."""

    path: Path
    loops: str
    lengths: tuple[int, ...]
    channel: int
    time: int

    def read(self, z: slice, y: slice, x: slice) -> npt.NDArray[Any]:
        with nd2.ND2File(self.path) as file:
            # Copied while the file is open: a frame is a view of its memory map.
            return np.stack([self._plane(file, k)[y, x] for k in range(z.start, z.stop)])

    def at(self, channel: int, time: int) -> "_Nd2Reader":
        return replace(self, channel=channel, time=time)

    def _plane(self, file: nd2.ND2File, plane: int) -> npt.NDArray[Any]:
        place = [{"Z": plane, "T": self.time}.get(loop, 0) for loop in self.loops]
        number = int(np.ravel_multi_index(place, self.lengths)) if place else 0
        frame = file.read_frame(number)
        return frame if frame.ndim == 2 else frame[self.channel]


def open_nd2(
    path: Path, channel: int | None, planes_are: str | None = None, time: int | None = None
) -> Stack:
    """Open an ND2 file; see `tenet.io.open.open_stack`."""
    try:
        with nd2.ND2File(path) as file:
            axes, shape = "".join(file.sizes), tuple(file.sizes.values())
            dtype = np.dtype(file.dtype)
            frames = int(file.attributes.sequenceCount)
            described = _nd2_channels(file)
    # On a damaged file the parser of the package raises many kinds of errors.
    except Exception as error:
        raise TenetError(
            f"{path}: the ND2 file is damaged or not ND2 ({one_line(error)}); "
            "copy or export it again"
        ) from error
    if planes_are == "C":
        raise TenetError(f"{path}: channels of an ND2 cannot be planes; export it as OME-TIFF")
    axes = axes_with_planes(path, axes, shape, planes_are)
    sizes = find_layout(path, axes, shape, channel, time)
    check_dtype(path, dtype)
    loops = {axis: n for axis, n in zip(axes, shape, strict=True) if axis not in "CYX"}
    planes = math.prod(loops.values())
    if frames < planes:
        raise TenetError(
            f"{path}: only {frames} of {planes} planes were recorded; "
            "export the complete planes as a TIFF"
        )
    found = _nd2_calibration(described[0].volume) if described else Calibration()
    lengths = tuple(loops.values())
    reader = _Nd2Reader(path, "".join(loops), lengths, channel or 0, time or 0)
    return Stack(
        path, sizes.zyx_shape, dtype, found.voxel_size_um, reader, found.note,
        sizes.channels, sizes.times,
        channel_optics=tuple(map(_nd2_optics, described)), channel=channel or 0,
    )  # fmt: skip


def _nd2_channels(file: nd2.ND2File) -> list[Any]:
    """Return the metadata of the channels; none where they are missing or cannot be parsed."""
    # The parser of nd2 stops at channels without a probe; their planes are sound nonetheless.
    with contextlib.suppress(Exception):
        return list(getattr(file.metadata, "channels", None) or [])
    return []


def _nd2_calibration(volume: Any) -> Calibration:
    """Return the lengths of an ND2 volume (x, y, z there, 1.0 where uncalibrated)."""
    x, y, z = (
        float(size) if sure and float(size) > 0 else None
        for size, sure in zip(volume.axesCalibration, volume.axesCalibrated, strict=True)
    )
    return Calibration(z, y, x)


def _nd2_optics(described: Any) -> Optics:
    """Return the optics of a channel (its wavelength in nm there); nothing where it has none."""
    with contextlib.suppress(Exception):  # as for the channels
        scope = described.microscope
        modes = set(scope.modalityFlags)
        return Optics.read(
            na=scope.objectiveNumericalAperture,
            wavelength_um=micrometres(described.channel.excitationLambdaNm, "nm"),
            immersion_indices=(scope.immersionRefractiveIndex,),
            photons=2 if "multiphoton" in modes else 1 if modes & _ONE_PHOTON else None,
        )
    return Optics()
