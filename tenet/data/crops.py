"""Crops for training: where they are cut, which are accepted, how they are turned.

Every draw is a function of the generator that is passed in, so that a resumed training draws the
same crops. Crops are Z, Y, X; intensities lie in [0, 1].
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from tenet.errors import TenetError
from tenet.io.intensities import IntensityRange, normalise
from tenet.io.stack import Stack
from tenet.types import Triple

__all__ = [
    "Acceptance", "Orientation", "PhantomCrops", "StackCrops", "mask_boxes", "read_window",
    "windows_of",
]  # fmt: skip

Crop = TypeVar("Crop")


class Phantom(Protocol):
    """A synthetic volume, as far as crops need one (see `tenet.data.phantoms`)."""

    @property
    def zyx_shape(self) -> Triple:
        """Planes, rows and columns of the fine grid."""
        ...

    def read(
        self, z: slice, y: slice, x: slice
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
        """Read the shape (0 or 1) and the brightness of a crop."""
        ...


@dataclass(frozen=True)
class Acceptance:
    """Which crops of a stack are worth training on.

    A crop is accepted if its mean intensity is at least `relative_mean` times that of its stack.
    Another crop is accepted with a small probability, so that training sees background too, but
    seldom. A crop with voxels that were never recorded is refused. After `max_tries` refused crops
    the brightest of them is taken.

    Attributes
    ----------
    relative_mean : float
        0 accepts every crop.
    background_probability : float
        In [0, 1].
    max_tries : int
        At least 1.
    """

    relative_mean: float = 1.0
    background_probability: float = 0.02
    max_tries: int = 32

    def __post_init__(self) -> None:
        if self.relative_mean < 0 or not 0 <= self.background_probability <= 1:
            raise TenetError(
                "crop acceptance needs relative_mean ≥ 0 and background_probability in [0, 1], "
                f"not {self.relative_mean:g} and {self.background_probability:g}"
            )
        if self.max_tries < 1:
            raise TenetError(f"crop acceptance needs at least one try, not {self.max_tries}")


DEFAULT_ACCEPTANCE = Acceptance()


@dataclass(frozen=True)
class Orientation:
    """One of the symmetries of a box that keep z an axis of its own.

    Flips along each axis and a quarter turn in the plane make up all of them: two flips are a
    rotation by 180° (of z and y or x: through z).

    Attributes
    ----------
    zyx_flips : tuple of bool
        Axes to reverse.
    quarter_turn : bool
        Rotate by 90° in the plane, before the flips.
    """

    zyx_flips: tuple[bool, bool, bool] = (False, False, False)
    quarter_turn: bool = False

    @classmethod
    def draw(cls, rng: np.random.Generator, zyx_shape: Triple) -> Self:
        """Draw one of the 16 orientations, or of the 8 without turn where y and x differ."""
        z, y, x, turn = (bool(bit) for bit in rng.integers(0, 2, size=4))
        return cls((z, y, x), turn and zyx_shape[1] == zyx_shape[2])

    def apply(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Turn an array of shape (…, Z, Y, X); its shape stays the same unless y and x differ."""
        if self.quarter_turn:
            array = np.rot90(array, axes=(-2, -1))
        axes = tuple(axis for axis, flip in zip((-3, -2, -1), self.zyx_flips, strict=True) if flip)
        return np.ascontiguousarray(np.flip(array, axes))


class PhantomCrops:
    """Crops of synthetic volumes, with the truth that pre-training compares with.

    Parameters
    ----------
    volumes : sequence of Phantom
    crop_zyx_shape : tuple of int
        On the fine grid.
    min_foreground : float
        Least part of a crop's voxels that must belong to an object; after 32 crops with less the
        fullest of them is taken.
    augment : bool
        Turn each crop at random (`Orientation`).

    Raises
    ------
    TenetError
        If there are no volumes, or one is smaller than the crop.
    """

    MAX_TRIES = 32

    def __init__(
        self,
        volumes: Sequence[Phantom],
        crop_zyx_shape: Triple,
        *,
        min_foreground: float,
        augment: bool,
    ) -> None:
        if not 0 <= min_foreground <= 1:
            raise TenetError(f"min_foreground is {min_foreground:g}; it is a part, 0 to 1")
        self.volumes = list(volumes)
        self.crop_zyx_shape = crop_zyx_shape
        self.min_foreground = min_foreground
        self.augment = augment
        names = [str(getattr(v, "path", f"phantom {i}")) for i, v in enumerate(self.volumes)]
        self._sites = _Sites([v.zyx_shape for v in self.volumes], names, crop_zyx_shape)

    def draw(
        self, rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Draw a crop.

        Returns
        -------
        shape, brightness : ndarray of float32
            Z, Y, X; 0 or 1, and [0, 1].
        """

        def attempt() -> tuple[tuple[npt.NDArray[Any], npt.NDArray[Any]], float, bool]:
            index, place = self._sites.draw(rng)
            shape, brightness = self.volumes[index].read(*place)
            foreground = float(np.count_nonzero(shape) / shape.size)
            return (shape, brightness), foreground, foreground >= self.min_foreground

        shape, brightness = _first_accepted(attempt, self.MAX_TRIES)
        if self.augment:
            orientation = Orientation.draw(rng, self.crop_zyx_shape)
            shape, brightness = orientation.apply(shape), orientation.apply(brightness)
        return shape.astype(np.float32), brightness.astype(np.float32)


class StackCrops:
    """Crops of raw stacks, normalised to [0, 1].

    `StackCrops` reads each stack once when it is made, for the mean intensity of the stack.

    Parameters
    ----------
    stacks : sequence of Stack
    ranges : sequence of IntensityRange
        The intensities of each stack that become 0 and 1.
    crop_zyx_shape : tuple of int
        On the coarse grid, that of the stacks.
    acceptance : Acceptance
        Which crops are kept.
    augment : bool
        Turn each crop at random (`Orientation`).

    Raises
    ------
    TenetError
        If there are no stacks, one is smaller than the crop, or ranges are missing.
    """

    def __init__(
        self,
        stacks: Sequence[Stack],
        ranges: Sequence[IntensityRange],
        crop_zyx_shape: Triple,
        *,
        acceptance: Acceptance = DEFAULT_ACCEPTANCE,
        augment: bool,
    ) -> None:
        if len(stacks) != len(ranges):
            raise TenetError(
                f"{len(stacks)} stacks but {len(ranges)} intensity ranges; give one for each stack"
            )
        self.stacks = list(stacks)
        self.ranges = list(ranges)
        self.crop_zyx_shape = crop_zyx_shape
        self.acceptance = acceptance
        self.augment = augment
        self._sites = _Sites(
            [stack.zyx_shape for stack in self.stacks],
            [str(stack.path) for stack in self.stacks],
            crop_zyx_shape,
        )
        self.least_means = [
            acceptance.relative_mean * _mean_intensity(stack, range_)
            if acceptance.relative_mean
            else 0.0
            for stack, range_ in zip(self.stacks, self.ranges, strict=True)
        ]

    def draw(self, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """Draw a crop of float32 in [0, 1], Z, Y, X."""

        def attempt() -> tuple[npt.NDArray[np.float32], float, bool]:
            index, place = self._sites.draw(rng)
            stack = self.stacks[index]
            crop = normalise(stack.read(*place), self.ranges[index])
            mean = float(crop.mean(dtype=np.float64))
            # Drawn in any case, so that what follows does not hang on how a mean is rounded; nor
            # should a crop as large as its stack, whose mean is the stack's own.
            lucky = rng.random() < self.acceptance.background_probability
            if stack.unseen_share and not (seen := stack.seen(*place)).all():
                return crop, float(seen.mean()) - 1, False  # behind all that were seen whole
            return crop, mean, mean >= self.least_means[index] * (1 - 1e-6) or lucky

        crop = _first_accepted(attempt, self.acceptance.max_tries)
        return Orientation.draw(rng, self.crop_zyx_shape).apply(crop) if self.augment else crop

    def draw_batch(self, number: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """Draw several crops, N, Z, Y, X; see `draw`."""
        return np.stack([self.draw(rng) for _ in range(number)])


def windows_of(zyx_shape: Triple, most_zyx: Triple) -> Iterator[tuple[slice, slice, slice]]:
    """Windows of one size that cover a stack; the last of an axis overlaps the one before it."""
    axes = []
    for size, most in zip(zyx_shape, most_zyx, strict=True):
        width = min(size, most)
        starts = sorted({*range(0, size - width + 1, width), size - width})
        axes.append([slice(start, start + width) for start in starts])
    for z in axes[0]:
        for y in axes[1]:
            for x in axes[2]:
                yield z, y, x


def read_window(
    stack: Stack, range_: IntensityRange, window: tuple[slice, slice, slice]
) -> tuple[npt.NDArray[np.float32], float]:
    """Read a window in [0, 1], and its signal: the mean square of what was recorded."""
    image = normalise(stack.read(*window), range_)
    recorded = image * stack.seen(*window) if stack.unseen_share else image
    return image, float(np.square(recorded).mean())


def mask_boxes(
    rng: np.random.Generator, zyx_shape: Triple, number: int, size_zyx: Triple
) -> npt.NDArray[np.float32]:
    """Make a mask that blanks boxes of the network's input.

    Parameters
    ----------
    rng : numpy.random.Generator
    zyx_shape : tuple of int
        Shape of the input.
    number : int
        Boxes; they lie wholly inside and may overlap.
    size_zyx : tuple of int
        Size of a box.

    Returns
    -------
    ndarray of float32
        0 in the boxes, 1 elsewhere; to multiply the input with.

    Raises
    ------
    TenetError
        If a box is larger than the input.
    """
    if any(size > length for size, length in zip(size_zyx, zyx_shape, strict=True)):
        raise TenetError(f"mask boxes of {size_zyx} do not fit into {zyx_shape}; make them smaller")
    mask = np.ones(zyx_shape, dtype=np.float32)
    for _ in range(number):
        mask[_draw_place(rng, zyx_shape, size_zyx)] = 0.0
    return mask


class _Sites:
    """The possible places of a crop in several volumes, all equally likely."""

    def __init__(
        self, zyx_shapes: Sequence[Triple], names: Sequence[str], crop_zyx_shape: Triple
    ) -> None:
        if not zyx_shapes:
            raise TenetError("there are no volumes to cut crops from; give at least one")
        for name, zyx_shape in zip(names, zyx_shapes, strict=True):
            if any(crop > size for crop, size in zip(crop_zyx_shape, zyx_shape, strict=True)):
                raise TenetError(
                    f"{name}: its shape {zyx_shape} is smaller than the crop {crop_zyx_shape} "
                    "(z, y, x); choose a smaller crop or leave this volume out"
                )
        self._zyx_shapes = zyx_shapes
        self._crop_zyx_shape = crop_zyx_shape
        places = [
            math.prod(n - c + 1 for n, c in zip(zyx_shape, crop_zyx_shape, strict=True))
            for zyx_shape in zyx_shapes
        ]
        self._probabilities = np.array(places) / sum(places)

    def draw(self, rng: np.random.Generator) -> tuple[int, tuple[slice, slice, slice]]:
        """Draw a volume and a place in it."""
        index = int(rng.choice(len(self._zyx_shapes), p=self._probabilities))
        return index, _draw_place(rng, self._zyx_shapes[index], self._crop_zyx_shape)


def _draw_place(
    rng: np.random.Generator, zyx_shape: Triple, box_zyx_shape: Triple
) -> tuple[slice, slice, slice]:
    start = rng.integers(0, np.subtract(zyx_shape, box_zyx_shape) + 1)
    z, y, x = (slice(int(a), int(a) + size) for a, size in zip(start, box_zyx_shape, strict=True))
    return z, y, x


def _first_accepted(attempt: Callable[[], tuple[Crop, float, bool]], max_tries: int) -> Crop:
    """Return the first crop accepted or, if none is, that of the highest score."""
    best, best_score, accepted = attempt()
    for _ in range(max_tries - 1):
        if accepted:
            break
        crop, score, accepted = attempt()
        if accepted or score > best_score:
            best, best_score = crop, score
    return best


def _mean_intensity(stack: Stack, range_: IntensityRange) -> float:
    """Return the mean of a stack in [0, 1], where there is an image."""
    total = sum(float(normalise(slab, range_).sum(dtype=np.float64)) for _, slab in stack.slabs())
    return total / (math.prod(stack.zyx_shape) * (1 - range_.fill_share))
