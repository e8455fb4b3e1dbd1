"""Lengths in the header of a file, and words for the lengths that are missing."""

from dataclasses import dataclass
from typing import Any

from tenet.io.stack import micrometres, voxel_size_of_axes
from tenet.types import VoxelSize


@dataclass(frozen=True)
class Calibration:
    """The distances of planes, rows and columns that a file gives.

    Attributes
    ----------
    z, y, x : float or None
        Lengths in µm, above 0; None where the file does not give one.
    trouble : str
        Words for a length that cannot be understood, to follow the name of the file.
    """

    z: float | None = None
    y: float | None = None
    x: float | None = None
    trouble: str = ""

    @property
    def voxel_size_um(self) -> VoxelSize | None:
        """Voxel size along z, y and x; None unless all three are known."""
        return voxel_size_of_axes(self.z, self.y, self.x)

    @property
    def note(self) -> str:
        """Words for the lengths that are missing, to follow the name of the file."""
        if self.trouble:
            return self.trouble
        if self.z is None and self.y is not None and self.x is not None:
            return (
                f"says its pixels ({self.y:g} × {self.x:g} µm) but not the distance of its planes"
            )
        if self.z is not None and (self.y is None or self.x is None):
            return f"says the distance of its planes ({self.z:g} µm) but not its pixels"
        return "does not say its voxel size"


Given = tuple[Any, Any]


def calibration(z: Given, y: Given, x: Given) -> Calibration:
    """Return the calibration from a length and its unit along each axis.

    Parameters
    ----------
    z, y, x : tuple
        Length (a number or a text) and unit, either None where it is not given.
    """
    given = {"z": z, "y": y, "x": x}
    lengths = {axis: _length(*length) for axis, length in given.items()}
    troubles = [_trouble(axis, *given[axis]) for axis, length in lengths.items() if length is None]
    return Calibration(**lengths, trouble=next(filter(None, troubles), ""))


def _length(value: Any, unit: Any) -> float | None:
    """Return a length in µm, if it is one."""
    length = micrometres(value, None if unit is None else str(unit))
    return length if voxel_size_of_axes(length, 1.0, 1.0) else None


def _trouble(axis: str, value: Any, unit: Any) -> str:
    """Say why a length cannot be understood; empty where no length is given."""
    if value is None or unit is None:
        return ""
    if _length(1.0, unit) is None:
        return f"gives its voxel size in {str(unit)[:24]!r}, which is no known length"
    return f"gives {str(value)[:24]} as the size of its voxels along {axis}, which is none"
