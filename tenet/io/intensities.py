"""Raw intensities: which become 0 and 1, and which cannot be an image."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from tenet.errors import TenetError
from tenet.io.stack import Stack, Triple


def check_intensities(stack: Stack) -> None:
    """Go through a stack once and refuse what cannot be an image.

    Raises
    ------
    TenetError
        If an intensity is NaN or infinite (the first such plane is named), or all are equal.
    """
    low, high = math.inf, -math.inf
    for start, slab in stack.slabs():
        _check_finite(stack, start, slab)
        low, high = min(low, float(slab.min())), max(high, float(slab.max()))
    if low == high:
        raise TenetError(_constant(stack, low))


def _check_finite(stack: Stack, start: int, slab: npt.NDArray[np.float32]) -> None:
    bad = ~np.isfinite(slab).all(axis=(1, 2))
    if bad.any():
        plane = start + int(np.argmax(bad))
        raise TenetError(
            f"{stack.path}: plane {plane} (counted from 0) holds NaN or infinite intensities; "
            "export the raw data again, or cut the plane off"
        )


def _constant(stack: Stack, value: float) -> str:
    return (
        f"{stack.path}: all intensities are {value:g}, so there is nothing to see; "
        "check the channel and the export"
    )


@dataclass(frozen=True)
class IntensityRange:
    """The raw intensities that become 0 and 1.

    Attributes
    ----------
    low, high : float
        Raw intensities, low < high.
    method : str
        How they were found, for the record.
    saturated : bool
        Whether the detector's highest value is among them, and piled up.
    """

    low: float
    high: float
    method: str
    saturated: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise TenetError(
                f"an intensity range must rise, and {self.low:g} to {self.high:g} does not; "
                "compute it again from the stack"
            )

    def to_dict(self) -> dict[str, float | str | bool]:
        """Return the range as it is kept in JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """Return the range kept by `to_dict`.

        Raises
        ------
        TenetError
            If an entry is missing or is not a number.
        """
        try:
            saturated = record.get("saturated", False)
            if not isinstance(saturated, bool):
                raise TypeError
            return cls(
                float(record["low"]), float(record["high"]), str(record["method"]), saturated
            )
        except (KeyError, TypeError, ValueError) as error:
            raise TenetError(
                f"an intensity range needs low, high and method, and has {dict(record)}; "
                "compute it again from the stack"
            ) from error


def intensity_range(
    stack: Stack,
    method: Literal["percentile", "minmax"] = "percentile",
    *,
    low_percent: float = 25.0,
    high_percent: float = 99.99,
) -> IntensityRange:
    """Find the raw intensities that become 0 and 1, going through the stack once.

    The defaults suit sparse fluorescence. The first quartile lies within 0.7 noise standard
    deviations of the background's mean when all is background, closer when most of it is, so
    background goes to nearly 0 however strong the noise or the detector's offset; and no signal
    is clipped as long as a quarter of the stack is background. The upper percentile leaves out one
    voxel in 10 000, so no hot pixel sets the contrast, while a single bead still spans the range.
    Percentiles are order statistics rounded down: the highest voxel is always left out.

    Percentiles are exact for integers of 8 and 16 bits; for other types they are those of a
    regular subset of at most 8 million voxels. If more than one voxel in 10 000 has the highest
    intensity of all, and more than have the next, the detector is taken as saturated.

    Parameters
    ----------
    stack : Stack
    method : {"percentile", "minmax"}
        "minmax" takes the extremes, as the published work did.
    low_percent, high_percent : float
        Percentiles for "percentile", 0 ≤ low < high < 100.

    Returns
    -------
    IntensityRange

    Raises
    ------
    TenetError
        If intensities are not finite, all are equal, or the two percentiles coincide.
    """
    if method not in ("percentile", "minmax"):
        raise TenetError(f"there is no intensity range method {method!r}; use percentile or minmax")
    if not 0 <= low_percent < high_percent < 100:
        raise TenetError(
            f"percentiles {low_percent:g} and {high_percent:g} are no range; "
            "choose 0 ≤ low < high < 100"
        )
    exact = stack.dtype.kind in "bui" and stack.dtype.itemsize <= 2
    counts = np.zeros(2**16, dtype=np.int64)
    zero = 2**15 if stack.dtype.kind == "i" else 0
    samples: list[npt.NDArray[np.float32]] = []
    step = _sampling_step(stack.zyx_shape)
    plane_voxels = stack.zyx_shape[1] * stack.zyx_shape[2]
    low, high = math.inf, -math.inf
    for start, slab in stack.slabs():
        _check_finite(stack, start, slab)
        low, high = min(low, float(slab.min())), max(high, float(slab.max()))
        if method == "minmax":
            continue
        if exact:
            counts += np.bincount(slab.ravel().astype(np.int64) + zero, minlength=2**16)
        else:
            # Every step-th voxel of the whole stack, whatever the size of a slab.
            samples.append(slab.ravel()[-start * plane_voxels % step :: step].copy())
    if low == high:
        raise TenetError(_constant(stack, low))
    if method == "minmax":
        return IntensityRange(low, high, "minmax")
    if exact:
        cumulative = np.cumsum(counts)
        ranks = [int(p / 100 * (cumulative[-1] - 1)) for p in (low_percent, high_percent)]
        lower, upper = (float(v) - zero for v in np.searchsorted(cumulative, ranks, side="right"))
        next_to_last, last = counts[np.flatnonzero(counts)[-2:]]
    else:
        drawn = np.concatenate(samples)
        ranks = [int(p / 100 * (drawn.size - 1)) for p in (low_percent, high_percent)]
        drawn.partition(ranks)
        lower, upper = (float(drawn[rank]) for rank in ranks)
        top, below = drawn == upper, drawn[drawn < upper]
        last = top.sum()
        next_to_last = (below == below.max(initial=-math.inf)).sum()
    if lower >= upper:
        raise TenetError(
            f"{stack.path}: all but a few voxels have the intensity {lower:g} (percentiles "
            f"{low_percent:g} to {high_percent:g}); take a nearer crop or the method minmax"
        )
    method_used = f"percentile {low_percent:g} to {high_percent:g}"
    saturated = bool(upper == high and last > next_to_last)
    return IntensityRange(lower, upper, method_used, saturated)


def _sampling_step(zyx_shape: Triple, most: int = 2**23) -> int:
    """Return a step through the flattened stack that takes at most `most` voxels.

    It has no divisor in common with a row or a plane, so that all rows and columns take part.
    """
    step = math.ceil(math.prod(zyx_shape) / most)
    while math.gcd(step, zyx_shape[1] * zyx_shape[2]) > 1:
        step += 1
    return step


def normalise(array: npt.ArrayLike, range_: IntensityRange) -> npt.NDArray[np.float32]:
    """Scale raw intensities to [0, 1], clipping what lies outside the range."""
    scaled = np.array(array, dtype=np.float32)
    scaled -= np.float32(range_.low)
    scaled /= np.float32(range_.high - range_.low)
    return np.clip(scaled, 0.0, 1.0, out=scaled)
