"""NPY: an array whose first axis is z."""

import math
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.lib import format as npy_format

from tenet.errors import TenetError, one_line
from tenet.io.axes import find_layout, plain_axes
from tenet.io.stack import ContiguousReader, Stack, check_dtype

#: Bytes of a header at most. The header of a plain array has 118 bytes.
MOST_HEADER = 4096


def open_npy(path: Path, channel: int | None, time: int | None = None) -> Stack:
    """Open an NPY file; see `tenet.io.open.open_stack`."""
    with path.open("rb") as file:
        shape, fortran, dtype = _read_header(path, file)
        offset = file.tell()
    if len(shape) < 2:
        raise TenetError(f"{path}: an array of shape {shape} is no stack; save Z, Y, X")
    check_dtype(path, dtype)
    found = find_layout(path, plain_axes(shape), shape, channel, time)
    size = path.stat().st_size
    promised = offset + math.prod(shape) * dtype.itemsize
    if promised > size:
        raise TenetError(
            f"{path}: the NPY file is truncated (its header promises {promised} bytes, and it has "
            f"{size}); save it again"
        )
    order: Literal["C", "F"] = "F" if fortran else "C"
    reader = ContiguousReader(path, dtype.str, offset, shape, order, found.layout)
    return Stack(path, found.zyx_shape, dtype, None, reader)


def _read_header(path: Path, file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of an NPY, and leave the file at the start of the data."""
    start = file.read(12)
    if start.startswith(b"PK"):
        raise TenetError(
            f"{path}: this is an NPZ archive, whatever its name says; save the stack alone as .npy"
        )
    if not start.startswith(npy_format.MAGIC_PREFIX):
        raise TenetError(f"{path}: this is not an NPY file, whatever its name says")
    length = int.from_bytes(start[8:10] if start[6:7] == b"\x01" else start[8:12], "little")
    if length > MOST_HEADER:
        raise TenetError(
            f"{path}: the NPY file is damaged (a header of {length} bytes); save it again"
        )
    file.seek(0)
    try:
        version = npy_format.read_magic(file)
        read = {
            (1, 0): npy_format.read_array_header_1_0,
            (2, 0): npy_format.read_array_header_2_0,
            (3, 0): npy_format.read_array_header_2_0,  # other names of fields, which are refused
        }.get(version)
        if read is None:
            raise ValueError(f"version {version[0]}.{version[1]}")
        shape, fortran, dtype = read(file)
        if any(isinstance(size, bool) or size < 0 for size in shape):
            raise ValueError(f"shape {shape}")
        return shape, fortran, dtype
    # NumPy parses the header as Python, and raises the errors of Python's parser.
    except Exception as error:
        raise TenetError(
            f"{path}: the NPY file is truncated or damaged ({one_line(error)}); save it again"
        ) from error
