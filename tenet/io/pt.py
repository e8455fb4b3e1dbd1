"""PT: a tensor that `torch.save` wrote, whose first axis is z."""

import warnings
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tenet.errors import TenetError, one_line
from tenet.io.axes import Layout, find_layout, plain_axes
from tenet.io.records import is_zip
from tenet.io.stack import Stack, check_dtype


def open_pt(path: Path, channel: int | None, time: int | None = None) -> Stack:
    """Open a tensor file; see `tenet.io.open.open_stack`."""
    array = _array(path)
    if array.ndim < 2:
        raise TenetError(f"{path}: a tensor of shape {array.shape} is no stack; save Z, Y, X")
    check_dtype(path, array.dtype)
    found = find_layout(path, plain_axes(array.shape), array.shape, channel, time)
    return Stack(path, found.zyx_shape, array.dtype, None, _TensorReader(path, found.layout))


@dataclass(frozen=True)
class _TensorReader:
    """Reads crops of a tensor that stays in its file."""

    path: Path
    layout: Layout

    def read(self, z: slice, y: slice, x: slice) -> npt.NDArray[Any]:
        """Read planes, rows and columns."""
        return np.array(self.layout.crop(_array(self.path), z, y, x))

    def at(self, channel: int, time: int) -> "_TensorReader":
        """Return the reader of another channel and time point."""
        return replace(self, layout=self.layout.at(channel, time))


def check_promise(path: Path) -> None:
    """Refuse a file that unpacks to more than it holds, because torch.save compresses nothing.

    Raises
    ------
    ValueError, zipfile.BadZipFile
        If it does, or is no file of torch.save.
    """
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
            raise ValueError("it promises more than it holds")


def _array(path: Path) -> npt.NDArray[Any]:
    """Map the tensor of a file into memory; no code in the file is run."""
    import torch  # takes seconds to import, and most stacks do without

    if not is_zip(path):
        raise TenetError(
            f"{path}: this is no file of torch.save, or one of before PyTorch 1.6; save the tensor "
            "again"
        )
    try:
        check_promise(path)
        with warnings.catch_warnings(action="ignore"):  # their cause is refused below
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # PyTorch fails in many ways at a file of a stranger, and advises to run it
        raise TenetError(
            f"{path}: this holds no plain tensor, or is damaged; code in such a file is never run"
        ) from None
    if not isinstance(found, torch.Tensor) or found.layout != torch.strided or found.is_nested:
        raise TenetError(
            f"{path}: this holds a {type(found).__name__}, not one dense tensor; a stack is a "
            "tensor Z, Y, X (of a trained model, give the folder)"
        )
    if found.numel() * found.element_size() > path.stat().st_size:
        raise TenetError(
            f"{path}: the tensor of shape {tuple(found.shape)} is larger than its file"
        )
    try:
        return found.detach().numpy()
    except (TypeError, RuntimeError) as error:  # such as bfloat16, or a view of complex numbers
        raise TenetError(
            f"{path}: intensities of type {found.dtype} cannot be read ({one_line(error)}); save "
            "them as float32"
        ) from None
