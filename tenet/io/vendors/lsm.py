"""LSM, the TIFF of Zeiss microscopes: lengths and optics in a tag of its own."""

from collections.abc import Mapping
from typing import Any

from tenet.io.calibration import Calibration
from tenet.io.optics import Optics, inscribed, photons_of_mode
from tenet.io.stack import micrometres, voxel_size_of_axes


def lsm_calibration(metadata: Mapping[str, Any]) -> Calibration:
    """Return the lengths of an LSM (in metres there)."""
    sizes = (micrometres(metadata.get(f"VoxelSize{axis}"), "m") for axis in "ZYX")
    z, y, x = (size if voxel_size_of_axes(size, 1.0, 1.0) else None for size in sizes)
    return Calibration(z, y, x)


def lsm_optics(metadata: Mapping[str, Any]) -> tuple[Optics, ...]:
    """Return the optics of each channel, whose tracks follow each other.

    A track with several lasers does not say which of them a channel shows.
    """
    scan = metadata.get("ScanInformation") or {}
    lines: list[float | None] = []
    for track in scan.get("Tracks", ()):
        lasers = _acquired(track.get("IlluminationChannels", ()))
        line = micrometres(lasers[0].get("Wavelength"), "nm") if len(lasers) == 1 else None
        lines += [line] * len(_acquired(track.get("DetectionChannels", ())))
    channels = int(metadata.get("DimensionChannels", 0))
    if len(lines) != channels:
        lines = [None] * min(channels, 1000)
    na, index = inscribed(str(scan.get("Objective", "")))
    return tuple(
        Optics.read(
            na=na,
            wavelength_um=line,
            immersion_indices=(index,),
            photons=photons_of_mode("", line),
        )
        for line in lines
    )


def _acquired(channels: Any) -> list[Mapping[str, Any]]:
    # The format spells the entry in two ways.
    return [c for c in channels if isinstance(c, dict) and c.get("Acquire", c.get("Aquire", 1))]
