"""The entries that ImageJ writes into the header of a TIFF."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tenet.errors import TenetError
from tenet.io.calibration import Calibration, calibration


def check_imagej_counts(path: Path, metadata: Mapping[str, Any]) -> int:
    """Return the number of planes that an ImageJ header declares.

    Raises
    ------
    TenetError
        If the entry for planes, channels or time points is not a number of these.
    """
    counts = {}
    for key in ("images", "slices", "channels", "frames"):
        found = metadata.get(key, 1)
        if not isinstance(found, int) or found < 1:
            raise TenetError(
                f"{path}: its ImageJ header says {key}={str(found)[:24]}, which is no number of "
                "planes; open it in ImageJ and save it again"
            )
        counts[key] = found
    return max(counts.pop("images"), math.prod(counts.values()))


def imagej_calibration(
    metadata: Mapping[str, Any], x_resolution: Any, y_resolution: Any
) -> Calibration:
    """Return the calibration of an ImageJ TIFF: `spacing` along z, 1 / resolution along y and x.

    All lengths are in `unit`, unless `yunit` or `zunit` stand beside `unit`. ImageJ omits a
    `spacing` of 1. A header with a `unit` and without `spacing` therefore means 1 `unit`. A
    `spacing` that is not a number (``1,0``) is not guessed.

    Parameters
    ----------
    metadata : mapping
        The entries of the header.
    x_resolution, y_resolution : tuple of int, or None
        Pixels per unit, as numerator and denominator.
    """
    unit = metadata.get("unit")
    spacing = metadata.get("spacing", 1.0)
    if isinstance(spacing, int | float):
        spacing = abs(spacing)  # ImageJ gives stacks taken downwards a negative spacing
    return calibration(
        (spacing, metadata.get("zunit", unit)),
        (_per_pixel(y_resolution), metadata.get("yunit", unit)),
        (_per_pixel(x_resolution), unit),
    )


def _per_pixel(resolution: Any) -> float | None:
    try:
        pixels, units = resolution
        return float(units / pixels)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None  # no resolution, or none that makes sense
