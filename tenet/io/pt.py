"""PT: a tensor that `torch.save` wrote, whose first axis is z."""

import warnings
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tenet.errors import TenetError, one_line
from tenet.io.axes import Layout, find_layout, plain_axes
from tenet.io.stack import Stack, check_dtype

if TYPE_CHECKING:
    import torch


def open_pt(path: Path, channel: int | None, time: int | None = None) -> Stack:
    """Open a tensor file; see `tenet.io.open.open_stack`."""
    tensor = _tensor(path)
    shape = tuple(tensor.shape)
    if len(shape) < 2:
        raise TenetError(f"{path}: a tensor of shape {shape} is no stack; save Z, Y, X")
    dtype = _numpy_type(path, tensor)
    check_dtype(path, dtype)
    found = find_layout(path, plain_axes(shape), shape, channel, time)
    return Stack(path, found.zyx_shape, dtype, None, _TensorReader(path, found.layout))


@dataclass(frozen=True)
class _TensorReader:
    """Reads crops of a tensor that stays in its file."""

    path: Path
    layout: Layout

    def read(self, z: slice, y: slice, x: slice) -> npt.NDArray[Any]:
        """Read planes, rows and columns."""
        return np.array(self.layout.crop(_tensor(self.path).numpy(), z, y, x))

    def at(self, channel: int, time: int) -> "_TensorReader":
        """Return the reader of another channel and time point."""
        return replace(self, layout=self.layout.at(channel, time))


def _tensor(path: Path) -> "torch.Tensor":
    """Map the tensor of a file into memory; no code in the file is run."""
    import torch  # takes seconds to import, and most stacks do without

    if not zipfile.is_zipfile(path):
        raise TenetError(
            f"{path}: this is no file of torch.save, or one of before PyTorch 1.6; save the tensor "
            "again"
        )
    try:
        with warnings.catch_warnings(action="ignore"):  # their cause is refused below
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # PyTorch fails in many ways at a file of a stranger
        raise TenetError(
            f"{path}: this holds no plain tensor, or is damaged ({one_line(error)}); code in such "
            "a file is never run"
        ) from None
    if not isinstance(found, torch.Tensor) or found.layout != torch.strided:
        raise TenetError(
            f"{path}: this holds a {type(found).__name__}, not one dense tensor; a stack is a "
            "tensor Z, Y, X (of a trained model, give the folder)"
        )
    if found.numel() * found.element_size() > path.stat().st_size:
        raise TenetError(
            f"{path}: the tensor of shape {tuple(found.shape)} is larger than its file"
        )
    return found.detach()


def _numpy_type(path: Path, tensor: "torch.Tensor") -> np.dtype[Any]:
    try:
        return tensor[(slice(0, 0),) * tensor.ndim].numpy().dtype
    except TypeError:  # such as bfloat16
        raise TenetError(
            f"{path}: intensities of type {tensor.dtype} cannot be read; save them as float32"
        ) from None
