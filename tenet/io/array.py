"""An array in memory as a stack, so that what is done to files is done to arrays alike."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tenet.io.stack import Layout, Stack, check_dtype, find_layout, plain_axes
from tenet.types import VoxelSize

#: What errors call an array.
NAME = Path("array")


@dataclass(frozen=True)
class _InMemory:
    array: NDArray[Any]
    layout: Layout

    def read(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        return self.layout.crop(self.array, z, y, x)


def array_stack(image_zyx: ArrayLike, voxel_size_um: VoxelSize | None = None) -> Stack:
    """Make a stack of raw intensities that are in memory.

    Parameters
    ----------
    image_zyx : array-like, shape (Z, Y, X)
        Real numbers of any type; the stack refers to the array and copies nothing.
    voxel_size_um : tuple of float, optional
        Voxel size along z, y and x.

    Raises
    ------
    TenetError
        If the array is empty, has not three axes, or holds no real numbers.
    """
    array = np.asarray(image_zyx)
    check_dtype(NAME, array.dtype)
    layout, zyx_shape = find_layout(NAME, plain_axes(array.shape), array.shape, None)
    return Stack(NAME, zyx_shape, array.dtype, voxel_size_um, _InMemory(array, layout))
