"""An array in memory as a stack, so that arrays and files are treated alike."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tenet.errors import TenetError
from tenet.io.gaps import without_gaps
from tenet.io.stack import Stack, check_dtype

#: What messages call an array.
NAME = Path("array")


@dataclass(frozen=True, eq=False)  # a stack is a key where its range is looked up
class _InMemory:
    """Reads crops of an array."""

    array: NDArray[Any]

    def read(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        return self.array[z, y, x]

    def at(self, channel: int, time: int) -> "_InMemory":
        return self


def stack_in_memory(array: ArrayLike) -> Stack:
    """Make a stack of intensities (Z, Y, X) in memory, without a copy; NaN stand for gaps.

    Raises
    ------
    TenetError
        If there are no three axes, or intensities are not real numbers, infinite, or all NaN.
    """
    intensities = np.asarray(array)
    if intensities.ndim != 3 or 0 in intensities.shape:
        raise TenetError(f"an array of shape {intensities.shape} is no stack; give Z, Y, X")
    check_dtype(NAME, intensities.dtype)
    if np.isinf(intensities).any():
        raise TenetError("an array with infinite intensities: give the raw data")
    planes, rows, columns = intensities.shape
    shape = planes, rows, columns
    return without_gaps(Stack(NAME, shape, intensities.dtype, None, _InMemory(intensities)))
