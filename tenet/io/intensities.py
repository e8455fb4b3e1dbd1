"""Raw intensities: the range that becomes 0 to 1, and intensities that cannot be an image."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from tenet.errors import TenetError
from tenet.io.outliers import Histogram, find_fill, find_hot, without_hot
from tenet.io.stack import Stack
from tenet.types import Triple

#: A segmentation is doubtful if a smaller or larger share of the voxels is segmented.
LEAST_SEGMENTED, MOST_SEGMENTED = 1e-5, 0.5
#: A result is doubtful in more than its brightness if a larger share of the voxels is saturated.
MOST_SATURATED = 0.05


def check_intensities(stack: Stack) -> tuple[float, float]:
    """Go through a stack once and refuse intensities that cannot be an image.

    Returns
    -------
    low, high : float
        The lowest and the highest raw intensity.

    Raises
    ------
    TenetError
        If an intensity is NaN or infinite, or all intensities are equal. The message names the
        first plane with such an intensity.
    """
    low, high = math.inf, -math.inf
    for start, slab in stack.slabs():
        _check_finite(stack, start, slab)
        low, high = min(low, float(slab.min())), max(high, float(slab.max()))
    if low == high:
        raise TenetError(_constant(stack, low))
    return low + stack.offset, high + stack.offset


def _check_finite(stack: Stack, start: int, slab: npt.NDArray[np.float32]) -> None:
    bad = ~np.isfinite(slab).all(axis=(1, 2))
    if bad.any():
        plane = start + int(np.argmax(bad))
        raise TenetError(
            f"{stack.path}: plane {plane} (counted from 0) holds NaN or infinite intensities; "
            "export the raw data again, set them to 0 where there is no image, or cut the plane off"
        )


def _constant(stack: Stack, value: float) -> str:
    return (
        f"{stack.path}: all intensities are {value + stack.offset:g}, so there is nothing to see; "
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
        How the two intensities were found, for the record.
    saturated : bool
        Whether many voxels have the detector's highest value.
    saturated_share : float
        Share of the voxels that have the detector's highest value, if the stack is saturated.
    offset : float
        The intensity that `Stack.read` subtracts from raw intensities.
    fill : float or None
        Raw intensity of places without an image. The range does not depend on these places.
    fill_share : float
        Share of the voxels that have the intensity `fill`.
    hot : float or None
        Raw intensity from which voxels that stand alone are artefacts of the detector. The range
        does not depend on these voxels.
    hot_share : float
        Share of the voxels that reach the intensity `hot`.
    """

    low: float
    high: float
    method: str
    saturated: bool = False
    saturated_share: float = 0.0
    offset: float = 0.0
    fill: float | None = None
    fill_share: float = 0.0
    hot: float | None = None
    hot_share: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise TenetError(
                f"an intensity range must rise, and {self.low:g} to {self.high:g} does not; "
                "compute it again from the stack"
            )

    def to_dict(self) -> dict[str, float | str | bool | None]:
        """Return the range as it is kept in JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """Return the range kept by `to_dict`.

        Raises
        ------
        TenetError
            If an entry is missing or of the wrong kind.
        """
        try:
            # JSON is read in between, because there an integer may stand for a float, but "3" is
            # not 3.
            return TypeAdapter(cls).validate_json(json.dumps(dict(record)), strict=True)
        except (ValidationError, TypeError, ValueError) as error:
            raise TenetError(
                f"an intensity range needs low, high and method, and has {str(record)[:200]}; "
                "compute it again from the stack"
            ) from error

    def describe(self) -> str:
        """Describe the range, and the voxels that were left out, in one line."""
        digits = 12 if self.offset else 6
        parts = [f"{self.low:.{digits}g} to {self.high:.{digits}g} become 0 to 1 ({self.method})"]
        if self.fill is not None:
            parts.append(f"{_percent(self.fill_share)} of {self.fill:g} left out as fill")
        if self.hot is not None:
            parts.append(f"{_percent(self.hot_share)} from {self.hot:g} on left out as hot voxels")
        if self.saturated:
            parts.append(f"{_percent(self.saturated_share)} saturated")
        return "intensities " + ", ".join(parts)

    @property
    def as_read(self) -> tuple[float, float]:
        """What `Stack.read` returns for `low` and `high`."""
        return self.low - self.offset, self.high - self.offset


def _percent(share: float) -> str:
    return f"{float(f'{100 * share:.2g}'):g} %"  # two digits, and no power of ten for 100


def warnings_of(range_: IntensityRange, segmented: float | None = None) -> list[str]:
    """Say what makes a result doubtful, in one line each.

    Parameters
    ----------
    range_ : IntensityRange
        Of the stack.
    segmented : float, optional
        Share of the result's voxels that reach the threshold.
    """
    said = []
    if range_.saturated:
        said.append(
            f"{_percent(range_.saturated_share)} of the voxels are saturated: how bright they are "
            "cannot be seen; record with less gain or light"
        )
    if range_.saturated_share > MOST_SATURATED:
        said.append(
            f"with more than {_percent(MOST_SATURATED)} saturated, the shape of bright structures, "
            "what is dim beside them, and the PSF that is found cannot be trusted"
        )
    if segmented is not None and segmented < LEAST_SEGMENTED:
        said.append(
            f"nearly nothing is segmented ({_percent(segmented)} of the voxels): "
            "check the channel, the voxel size and the range of intensities"
        )
    if segmented is not None and segmented > MOST_SEGMENTED:
        said.append(
            f"{_percent(segmented)} of the voxels are segmented, which is no sparse structure: "
            "check the channel, the voxel size and the range of intensities"
        )
    return said


def intensity_range(
    stack: Stack,
    method: Literal["percentile", "minmax"] = "percentile",
    *,
    low_percent: float = 25.0,
    high_percent: float = 99.99,
) -> IntensityRange:
    """Find the raw intensities that become 0 and 1, going through the stack once.

    The defaults suit sparse fluorescence. The first quartile lies within 0.7 standard deviations of
    the noise of the background's mean if the whole stack is background, and closer if most of the
    stack is. The background therefore becomes nearly 0, however strong the noise or the detector's
    offset are. No signal is clipped as long as a quarter of the stack is background. The upper
    percentile leaves out one voxel in 10 000. No hot pixel therefore sets the contrast, while a
    single bead still spans the range. Percentiles are order statistics rounded down, and so the
    highest voxel is always left out. Fill around the image, and hot voxels beyond that number, are
    left out first (`tenet.io.outliers`).

    Percentiles are exact for integers of 8 and 16 bits. For other types a regular subset of at most
    8 million voxels gives the percentiles. The detector counts as saturated if more than one voxel
    in 10 000 has the highest intensity, and more voxels have the highest than the next intensity.

    Parameters
    ----------
    stack : Stack
    method : {"percentile", "minmax"}
        "minmax" takes the lowest and the highest intensity, as the published work did.
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
    if method == "minmax":
        low, high = check_intensities(stack)
        return IntensityRange(low, high, "minmax", offset=stack.offset)
    everything, highest = _histogram(stack)
    found, offset = everything, stack.offset
    fill = find_fill(stack, everything)
    if fill is not None:
        found = found.part(found.values > fill)
    lower = found.percentile(low_percent)
    hot = find_hot(stack, found, lower, high_percent)
    if hot is not None:
        found = found.part(found.values < hot)
        highest = float(found.values[-1])
        lower = found.percentile(low_percent)
    upper = found.percentile(high_percent)
    if lower >= upper:
        raise TenetError(
            f"{stack.path}: all but a few voxels have the intensity {lower + offset:g} "
            f"(percentiles {low_percent:g} to {high_percent:g}); "
            "take a nearer crop or the method minmax"
        )
    top = int(found.counts[-1])
    saturated = bool(upper == highest and top > found.counts[-2])
    size = everything.size
    return IntensityRange(
        lower + offset,
        upper + offset,
        f"percentile {low_percent:g} to {high_percent:g}",
        saturated,
        top / size if saturated else 0.0,
        offset,
        None if fill is None else _raw(fill, offset),
        0.0 if fill is None else float(everything.counts[0]) / size,
        None if hot is None else hot + offset,
        0.0 if hot is None else everything.part(everything.values >= hot).size / size,
    )


def _raw(value: float, offset: float) -> float:
    """Return the raw intensity of a value that was read, as exactly as float32 permits."""
    step = float(np.spacing(np.float32(abs(value))))
    return round((value + offset) / step) * step if offset else value


def _histogram(stack: Stack) -> tuple[Histogram, float]:
    """Return the histogram and the highest intensity of a stack; see `intensity_range`."""
    exact = stack.dtype.kind in "bui" and stack.dtype.itemsize <= 2 and stack.step == 1
    counts = np.zeros(2**16, dtype=np.int64)
    zero = 2**15 if stack.dtype.kind == "i" else 0
    samples: list[npt.NDArray[np.float32]] = []
    step = _sampling_step(stack.zyx_shape)
    plane_voxels = stack.zyx_shape[1] * stack.zyx_shape[2]
    low, high = math.inf, -math.inf
    for start, slab in stack.slabs():
        _check_finite(stack, start, slab)
        low, high = min(low, float(slab.min())), max(high, float(slab.max()))
        if exact:
            counts += np.bincount(slab.ravel().astype(np.int64) + zero, minlength=2**16)
        else:
            # Every step-th voxel of the whole stack, whatever the size of a slab.
            samples.append(slab.ravel()[-start * plane_voxels % step :: step].copy())
    if low == high:
        raise TenetError(_constant(stack, low))
    if exact:
        values = np.flatnonzero(counts)
        return Histogram(values.astype(np.float64) - zero, counts[values]), high
    found, numbers = np.unique(np.concatenate(samples), return_counts=True)
    return Histogram(found.astype(np.float64), numbers.astype(np.int64)), high


def _sampling_step(zyx_shape: Triple, most: int = 2**23) -> int:
    """Return a step through the flattened stack that takes at most `most` voxels.

    The step has no divisor in common with a row or a plane, so that all rows and columns take part.
    """
    step = math.ceil(math.prod(zyx_shape) / most)
    while math.gcd(step, zyx_shape[1] * zyx_shape[2]) > 1:
        step += 1
    return step


def normalise(array: npt.ArrayLike, range_: IntensityRange) -> npt.NDArray[np.float32]:
    """Scale intensities, as `Stack.read` returns them, to [0, 1], and clip the others.

    Hot voxels (of an image whose last axes are Y and X) become the median of their neighbours.
    """
    low, high = range_.as_read
    scaled = np.array(array, dtype=np.float32)
    if range_.hot is not None:
        scaled = without_hot(scaled, range_.hot - range_.offset, low)
    scaled -= np.float32(low)
    scaled /= np.float32(high - low)
    return np.clip(scaled, 0.0, 1.0, out=scaled)
