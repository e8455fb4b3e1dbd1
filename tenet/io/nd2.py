"""ND2, the format of Nikon's microscopes."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nd2
import numpy as np
import numpy.typing as npt

from tenet.errors import TenetError, one_line
from tenet.io.stack import Stack, VoxelSize, check_dtype, find_layout, voxel_size_of_axes


@dataclass(frozen=True)
class _Nd2Reader:
    """Frames of an ND2 file; with z its only loop, frame and plane are the same."""

    path: Path
    channel: int

    def read(self, z: slice, y: slice, x: slice) -> npt.NDArray[Any]:
        with nd2.ND2File(self.path) as file:
            # Copied while the file is open: a frame is a view of its memory map.
            return np.stack([self._plane(file, k)[y, x] for k in range(z.start, z.stop)])

    def _plane(self, file: nd2.ND2File, plane: int) -> npt.NDArray[Any]:
        frame = file.read_frame(plane)
        return frame if frame.ndim == 2 else frame[self.channel]


def open_nd2(path: Path, channel: int | None) -> Stack:
    """Open an ND2 file; see `tenet.io.open.open_stack`."""
    try:
        with nd2.ND2File(path) as file:
            sizes, dtype = dict(file.sizes), np.dtype(file.dtype)
            frames = file.attributes.sequenceCount
            volume = _nd2_volume(file)
    # The package meets damaged files with whatever its parser runs into.
    except Exception as error:
        raise TenetError(
            f"{path}: the ND2 file is damaged or not ND2 ({one_line(error)}); "
            "copy or export it again"
        ) from error
    _, zyx_shape = find_layout(path, "".join(sizes), tuple(sizes.values()), channel)
    check_dtype(path, dtype)
    if frames < zyx_shape[0]:
        raise TenetError(
            f"{path}: only {frames} of {zyx_shape[0]} planes were recorded; "
            "export the complete planes as a TIFF"
        )
    voxel_size_um = _nd2_voxel_size(volume) if volume else None
    return Stack(path, zyx_shape, dtype, voxel_size_um, _Nd2Reader(path, channel or 0))


def _nd2_volume(file: nd2.ND2File) -> Any:
    """Return the calibration, or None where the metadata lack it or cannot be parsed."""
    # The parser of nd2 stops at channels without a probe; their planes are sound nonetheless.
    with contextlib.suppress(Exception):
        channels = getattr(file.metadata, "channels", None)
        return channels[0].volume if channels else None
    return None


def _nd2_voxel_size(volume: Any) -> VoxelSize | None:
    """Return the voxel size of an ND2 volume (x, y, z there, 1.0 where uncalibrated)."""
    if not all(volume.axesCalibrated):
        return None
    x, y, z = volume.axesCalibration
    return voxel_size_of_axes(float(z), float(y), float(x))
