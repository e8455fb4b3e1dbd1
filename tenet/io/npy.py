"""NPY: an array whose first axis is z."""

from pathlib import Path
from typing import Literal

import numpy as np

from tenet.errors import TenetError, one_line
from tenet.io.stack import ContiguousReader, Stack, check_dtype, find_layout


def open_npy(path: Path, channel: int | None) -> Stack:
    """Open an NPY file; see `tenet.io.open.open_stack`."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise TenetError(
            f"{path}: the NPY file is truncated, empty or not NPY ({one_line(error)}); "
            "save it again"
        ) from error
    if not isinstance(array, np.memmap):
        raise TenetError(f"{path}: this is not an NPY file, whatever its name says")
    axes = {2: "YX", 3: "ZYX"}.get(array.ndim, "Q" * max(array.ndim, 2))
    if array.ndim < 2:
        raise TenetError(f"{path}: an array of shape {array.shape} is no stack; save Z, Y, X")
    layout, zyx_shape = find_layout(path, axes, array.shape, channel)
    check_dtype(path, array.dtype)
    order: Literal["C", "F"] = "C" if array.flags.c_contiguous else "F"
    reader = ContiguousReader(path, array.dtype.str, array.offset, array.shape, order, layout)
    return Stack(path, zyx_shape, array.dtype, None, reader)
