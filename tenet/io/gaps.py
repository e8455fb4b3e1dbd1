"""Stacks with NaN where nothing was recorded, as registration leaves them at the borders."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from tenet.errors import TenetError
from tenet.io.stack import Reader, Stack
from tenet.types import Triple


def without_gaps(stack: Stack) -> Stack:
    """Return a stack that reads intensities where the file has NaN; `Stack.seen` tells where.

    A NaN becomes the nearest intensity of its plane, and a plane of NaN becomes the nearest plane,
    so that no edge appears that the microscope has not seen. No voxel is read before it is asked
    for. Reading raises a `TenetError` if every intensity is NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from tenet.io.array import stack_in_memory
    >>> stack = stack_in_memory([[[np.nan, 2, 3], [4, np.nan, np.nan]]])  # calls this function
    >>> stack.read()[0]
    array([[4., 2., 3.],
           [4., 4., 3.]], dtype=float32)
    >>> stack.unseen_share
    0.5
    """
    if stack.dtype.kind != "f" or stack._with_gaps is not None:
        return stack
    filled = _Filled(stack._reader, stack.zyx_shape, stack.path)
    return replace(stack, _reader=filled, _with_gaps=stack._reader)


@dataclass(frozen=True)
class _Filled:
    """A reader whose NaN are filled."""

    reader: Reader
    zyx_shape: Triple
    path: Path

    def at(self, channel: int, time: int) -> "_Filled":
        return replace(self, reader=self.reader.at(channel, time))

    def read(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        crop = self.reader.read(z, y, x)
        if not np.isnan(crop).any():
            return crop
        # Of whole planes, so that a voxel does not depend on where its crop was cut.
        return np.stack([self._plane(plane)[y, x] for plane in range(z.start, z.stop)])

    def _plane(self, plane: int) -> NDArray[Any]:
        planes, rows, columns = self.zyx_shape
        for nearest in sorted(range(planes), key=lambda other: abs(other - plane)):
            at = slice(nearest, nearest + 1)
            image: NDArray[Any] = self.reader.read(at, slice(0, rows), slice(0, columns))[0]
            gaps = np.isnan(image)
            if not gaps.all():
                found = distance_transform_edt(gaps, return_distances=False, return_indices=True)
                return image[tuple(found)]
        raise TenetError(f"{self.path}: every intensity is NaN; check the channel and the export")
