"""Checks of the settings of phantoms."""

import math

from tenet.errors import TenetError
from tenet.settings.ranges import MOST_VOXELS
from tenet.types import Triple

#: Lines, beads or cells of a volume, at most.
MOST_OBJECTS = 100_000


def check_shape(zyx_shape: Triple) -> None:
    """Refuse a volume without voxels, and one that no memory holds."""
    if len(zyx_shape) != 3 or min(zyx_shape) < 1:
        raise TenetError(
            f"phantom setting zyx_shape is {zyx_shape}: give three sizes of at least 1 (z, y, x)"
        )
    if math.prod(zyx_shape) > MOST_VOXELS:
        raise TenetError(
            f"phantom setting zyx_shape is {zyx_shape}: give at most {MOST_VOXELS:.2g} voxels"
        )


def check_value(name: str, value: float, low: float, high: float = math.inf) -> None:
    """Refuse a setting that is not within its limits."""
    if not (low <= value <= high and math.isfinite(value)):
        bounds = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise TenetError(f"phantom setting {name} is {value}: must be {bounds}")


def check_range(name: str, bounds: tuple[float, float], low: float) -> None:
    """Refuse a range that falls, or begins below `low`."""
    if len(bounds) != 2 or not low <= bounds[0] <= bounds[1] < math.inf:
        raise TenetError(
            f"phantom setting {name} is {bounds}: give the smallest and the largest, "
            f"at least {low:g}, in this order"
        )
