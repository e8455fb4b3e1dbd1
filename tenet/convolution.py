"""3-D convolutions, as fast as the processor at hand can do them."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: On a CPU, in float32, PyTorch leaves 3³ convolutions of single crops of no more elements to code
#: that takes several times as long as oneDNN, but not batches (`use_mkldnn` in its Convolution.cpp,
#: which leaves out the last axis).
LEAST_OF_ONEDNN = 20480


def faster_in_float32(device: torch.device) -> bool:
    """Whether convolutions are faster in float32 than in bfloat16: on CPUs without AMX."""
    return device.type == "cpu" and not torch.cpu.get_capabilities().get("amx_bf16")


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, zeros: int = 0) -> Tensor:
    """3-D convolution with stride 1; in pieces along z where that is faster.

    Parameters
    ----------
    x : Tensor, shape (N, C, Z, Y, X)
    weight : Tensor, shape (C', C, kz, ky, kx)
    bias : Tensor, shape (C',), optional
    zeros : int
        How many to pad each end of each axis with.

    Returns
    -------
    Tensor, shape (N, C', Z + 2·zeros - kz + 1, Y + 2·zeros - ky + 1, X + 2·zeros - kx + 1)
    """
    halo = weight.shape[2] - 1
    planes = x.shape[2] + 2 * zeros - halo
    pieces = _pieces(x, weight, planes)
    if pieces == 1:
        return F.conv3d(x, weight, bias, padding=zeros)
    x = F.pad(x, [zeros] * 6)
    each = planes // pieces
    batch = torch.cat([x.narrow(2, n * each, each + halo) for n in range(pieces)])
    out = F.conv3d(batch.contiguous(memory_format=torch.channels_last_3d), weight, bias)
    # (pieces, C', z, Y, X) -> (1, C', pieces·z, Y, X): with channels last the same memory
    return out.movedim(1, -1).flatten(0, 1)[None].movedim(-1, 1)


def _pieces(x: Tensor, weight: Tensor, planes: int) -> int:
    """Of how many equal pieces PyTorch needs a single crop for oneDNN to convolve it."""
    left_out = len(x) == 1 and math.prod(x.shape[:-1]) <= LEAST_OF_ONEDNN and weight.shape[-1] == 3
    float32 = x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if not left_out or not float32 or x.device.type != "cpu":
        return 1
    return next((n for n in range(2, planes + 1) if planes % n == 0), 1)


def replicate(x: Tensor, border: int) -> Tensor:
    """Pad the last three axes of (N, C, Z, Y, X) with copies of the outermost voxels.

    Unlike `F.pad` it keeps channels last and, under autocast on the CPU, half precision.
    """
    layout = torch.channels_last_3d
    if not x.is_contiguous(memory_format=layout):
        layout = torch.contiguous_format
    size = [*x.shape[:2], *(n + 2 * border for n in x.shape[2:])]
    padded = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=layout)
    _inner(padded, border).copy_(x)
    for dim, n in enumerate(x.shape[2:], start=2):
        padded.narrow(dim, 0, border).copy_(padded.narrow(dim, border, 1))
        padded.narrow(dim, border + n, border).copy_(padded.narrow(dim, border + n - 1, 1))
    return padded


def _inner(padded: Tensor, border: int) -> Tensor:
    inner = slice(border, -border)
    return padded[:, :, inner, inner, inner]


class _Replicate(torch.autograd.Function):
    """`replicate` and its transpose."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, border: int) -> Tensor:
        ctx.border = border
        return replicate(x, border)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        border = ctx.border
        gradient = gradient.clone()
        for dim in (2, 3, 4):  # what copies contributed goes back to where they were copied from
            n = gradient.shape[dim]
            first, last = gradient.narrow(dim, border, 1), gradient.narrow(dim, n - border - 1, 1)
            first += gradient.narrow(dim, 0, border).sum(dim, keepdim=True)
            last += gradient.narrow(dim, n - border, border).sum(dim, keepdim=True)
        return _inner(gradient, border), None


class Conv(nn.Conv3d):
    """3-D convolution of odd size that keeps the shape and pads by replication.

    For the backward pass it keeps what came in, which others keep as well, and pads it once more;
    unless `keeps_nothing`, where all is computed again anyway, or the crop is so small that it is
    convolved in pieces, which are kept.
    """

    keeps_nothing = False

    def __init__(self, inputs: int, outputs: int, size: int, *, bias: bool = True) -> None:
        super().__init__(inputs, outputs, size, bias=bias)
        self.border = size // 2

    def forward(self, input: Tensor) -> Tensor:  # noqa: D102
        if torch.is_autocast_enabled("cpu") and faster_in_float32(input.device):
            with torch.autocast("cpu", enabled=False):
                return self._convolve(input.float())
        return self._convolve(input)

    def _convolve(self, input: Tensor) -> Tensor:
        if not self.border:
            return super().forward(input)
        padded = _Replicate.apply(input, self.border)
        if self.keeps_nothing or torch.compiler.is_compiling():  # it decides what to keep
            return convolve(padded, self.weight, self.bias)
        unpadded = input.detach()

        def pack(saved: Tensor) -> Tensor | None:
            return None if saved.data_ptr() == padded.data_ptr() else saved

        def unpack(saved: Tensor | None) -> Tensor:
            return replicate(unpadded, self.border) if saved is None else saved

        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            return convolve(padded, self.weight, self.bias)


class ZeroPaddedConv(nn.Conv3d):
    """3³ convolution that keeps the shape and pads with zeros."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3)

    def forward(self, input: Tensor) -> Tensor:  # noqa: D102
        return convolve(input, self.weight, self.bias, zeros=1)
