"""ND2, the format of Nikon's microscopes."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nd2
import numpy as np
import numpy.typing as npt

from tenet.errors import TenetError, one_line
from tenet.io.calibration import Calibration
from tenet.io.stack import Stack, axes_with_planes, check_dtype, find_layout


@dataclass(frozen=True)
class _Nd2Reader:
    """Frames of an ND2 file whose only loop is z, so that each frame is a plane."""

    path: Path
    channel: int

    def read(self, z: slice, y: slice, x: slice) -> npt.NDArray[Any]:
        with nd2.ND2File(self.path) as file:
            # Copied while the file is open: a frame is a view of its memory map.
            return np.stack([self._plane(file, k)[y, x] for k in range(z.start, z.stop)])

    def _plane(self, file: nd2.ND2File, plane: int) -> npt.NDArray[Any]:
        frame = file.read_frame(plane)
        return frame if frame.ndim == 2 else frame[self.channel]


def open_nd2(path: Path, channel: int | None, planes_are: str | None = None) -> Stack:
    """Open an ND2 file; see `tenet.io.open.open_stack`."""
    try:
        with nd2.ND2File(path) as file:
            axes, shape = "".join(file.sizes), tuple(file.sizes.values())
            dtype = np.dtype(file.dtype)
            frames = int(file.attributes.sequenceCount)
            volume = _nd2_volume(file)
    # On a damaged file the parser of the package raises many kinds of errors.
    except Exception as error:
        raise TenetError(
            f"{path}: the ND2 file is damaged or not ND2 ({one_line(error)}); "
            "copy or export it again"
        ) from error
    if planes_are == "C":
        raise TenetError(f"{path}: channels of an ND2 cannot be planes; export it as OME-TIFF")
    axes = axes_with_planes(path, axes, shape, planes_are)
    _, zyx_shape = find_layout(path, axes, shape, channel)
    check_dtype(path, dtype)
    if frames < zyx_shape[0]:
        raise TenetError(
            f"{path}: only {frames} of {zyx_shape[0]} planes were recorded; "
            "export the complete planes as a TIFF"
        )
    found = _nd2_calibration(volume) if volume else Calibration()
    reader = _Nd2Reader(path, channel or 0)
    return Stack(path, zyx_shape, dtype, found.voxel_size_um, reader, found.note)


def _nd2_volume(file: nd2.ND2File) -> Any:
    """Return the calibration, or None where the metadata lack it or cannot be parsed."""
    # The parser of nd2 stops at channels without a probe; their planes are sound nonetheless.
    with contextlib.suppress(Exception):
        channels = getattr(file.metadata, "channels", None)
        return channels[0].volume if channels else None
    return None


def _nd2_calibration(volume: Any) -> Calibration:
    """Return the lengths of an ND2 volume (x, y, z there, 1.0 where uncalibrated)."""
    x, y, z = (
        float(size) if sure and float(size) > 0 else None
        for size, sure in zip(volume.axesCalibration, volume.axesCalibrated, strict=True)
    )
    return Calibration(z, y, x)
