"""Ranges of settings, and combinations of settings that are possible.

The upper ends lie beyond every sensible value. They stop mistakes of units and of typing, and
settings of strangers, that would exhaust the memory or take for ever.
"""

import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import BeforeValidator, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=1e6)]
NotNegative = Annotated[float, Field(ge=0, le=1e6)]
AtLeastOne = Annotated[float, Field(ge=1, le=1000)]
Signed = Annotated[float, Field(ge=-1e6, le=1e6)]
Rate = Annotated[float, Field(gt=0, le=100)]
RefractiveIndex = Annotated[float, Field(ge=1, le=4)]
Thickness = Annotated[float, Field(ge=0, le=1e5)]  # µm
Width = Annotated[float, Field(ge=0.01, le=1e4)]  # planes or pixels
PositiveInt = Annotated[int, Field(gt=0, le=10**6)]
Count = Annotated[
    int,
    Field(ge=0, le=10**6),
    BeforeValidator(lambda value: 0 if value is False else value),
]
Blocks = Annotated[int, Field(gt=0, le=64)]
Channels = Annotated[tuple[Annotated[int, Field(gt=0, le=4096)], ...], Field(min_length=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
ZYX = tuple[PositiveInt, PositiveInt, PositiveInt]

#: Most voxels of a volume (32 GiB in float32) and of a PSF, most numbers of all PSFs of
#: pre-training and of the fit of one PSF, most numbers of a network's first level, and most weights
#: of a network.
MOST_VOXELS = 2**33
MOST_PSF_VOXELS, MOST_PSF_NUMBERS = 2**26, 2**28
#: Largest grid of a PSF of `microscopes.free`; all odd.
MOST_FREE = (201, 61, 61)
MOST_ACTIVITY = 2**33
MOST_WEIGHTS = 2**30


def check_volume(image_size: Sequence[int]) -> None:
    """Refuse phantoms that no memory holds. All checks of this module raise `ValueError`."""
    _at_most("image_size: voxels", image_size, MOST_VOXELS)


def check_psf(zyx_shape: tuple[int, int, int], hidden: int) -> None:
    """Refuse a PSF that is too large for the memory, or for a fit with so many hidden units."""
    _at_most("size_z, size_y, size_x: voxels of the PSF", zyx_shape, MOST_PSF_VOXELS)
    size_z, size_y, size_x = zyx_shape
    fit = (size_z, math.isqrt(size_y**2 + size_x**2), 4 * hidden)
    _at_most("size_z, radii, 4 mid: numbers in the fit of the PSF", fit, MOST_PSF_NUMBERS)


def check_psfs(count: int, zyx_shape: tuple[int, int, int]) -> None:
    """Refuse more PSFs than pre-training can hold at once."""
    what = "microscopes.count, params.size_z, size_y, size_x: voxels of all PSFs"
    _at_most(what, (count, *zyx_shape), MOST_PSF_NUMBERS)


def check_network(section: str, channels: Sequence[int], blocks: int) -> None:
    """Refuse too many weights, nearly all of residual blocks: four 3³ convolutions each a level."""
    weights = 4 * 27 * blocks * sum(n**2 for n in channels)
    _at_most(f"{section}hidden_channels_list, nblocks: weights", (weights,), MOST_WEIGHTS)


def check_activity(section: str, crop: Sequence[int], batch_size: int, channels: int) -> None:
    """Refuse crops whose first level no memory holds."""
    what = f"{section}.cropsize with margins, batch_size, first channels: numbers of a level"
    _at_most(what, (*crop, batch_size, channels), MOST_ACTIVITY)


def check_length(name: str, length: float, limits: tuple[float, float]) -> None:
    """Refuse a length in µm that no microscope has, and name the unit that was likely meant."""
    least, most = limits
    if least <= length <= most:
        return
    hint = "check its value"
    for unit, factor in (("m", 1e6), ("mm", 1e3), ("nm", 1e-3)):
        if least <= length * factor <= most:
            hint = f"is it in {unit}? Then give {length * factor:g}"
    raise ValueError(f"{name} {length:g} µm is not within {least:g} to {most:g} µm: {hint}")


def _at_most(what: str, factors: Sequence[int], most: int) -> None:
    if math.prod(factors) > most:
        product = " x ".join(map(str, factors))
        raise ValueError(f"{what} are {product}; at most {most:.2g} are possible")
