"""3-D convolutions, as fast as the processor at hand can do them."""

import math
import os
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tenet.types import Triple

#: On a CPU, in float32, PyTorch leaves 3³ convolutions of single crops of no more elements to code
#: that takes several times as long as oneDNN, but not batches (`use_mkldnn` in its Convolution.cpp,
#: which leaves out the last axis).
LEAST_OF_ONEDNN = 20480


#: Limits that a user may set to what oneDNN uses of a processor, and under which it does not
#: multiply bfloat16: https://uxlfoundation.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html
WITHOUT_BFLOAT16 = frozenset(
    ["SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"]
)


def faster_in_float32(device: torch.device) -> bool:
    """Whether convolutions are faster in float32: on CPUs that do not multiply bfloat16.

    CPUs with AMX or AVX512_BF16 multiply bfloat16 (AMD's since Zen 4, Intel's Xeons since Sapphire
    Rapids), unless ``ONEDNN_MAX_CPU_ISA`` forbids them to.
    """
    if device.type != "cpu":
        return False
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA", "")
    able = torch.cpu.get_capabilities()
    native = able.get("amx_bf16") or able.get("avx512_bf16")
    return not native or limit.upper() in WITHOUT_BFLOAT16


def half_precision(device: torch.device, wanted: bool) -> torch.autocast:
    """Make the context in which networks run: bfloat16 where it is wanted and fast, else float32.

    All networks run in this context, so that one rule decides; see `faster_in_float32`.
    """
    half = wanted and not faster_in_float32(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=half)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve in 3-D with stride 1, by the cheapest operation that a kernel of this shape needs.

    A kernel that is flat along some axes needs only a 2-D convolution or a product of matrices.
    Every operation keeps channels last.

    Parameters
    ----------
    x : Tensor, shape (N, C, Z, Y, X)
    weight : Tensor, shape (C', C, kz, ky, kx)
    bias : Tensor, shape (C',), optional

    Returns
    -------
    Tensor, shape (N, C', Z - kz + 1, Y - ky + 1, X - kx + 1)
    """
    depth, *face = weight.shape[2:]
    if face == [1, 1] and depth == 1:
        return F.linear(x.movedim(1, -1), weight.flatten(1), bias).movedim(-1, 1)
    if face == [1, 1]:
        columns = F.conv2d(x.flatten(3), weight.flatten(3), bias)  # (N, C, Z, Y·X)
        return columns.unflatten(3, x.shape[3:])
    if depth == 1:
        planes = F.conv2d(x.movedim(2, 1).flatten(0, 1), weight[:, :, 0], bias)  # (N·Z, C, Y, X)
        return planes.unflatten(0, (len(x), -1)).movedim(1, 2)
    return convolve_cubes(x, weight, bias)


def convolve_cubes(x: Tensor, weight: Tensor, bias: Tensor | None = None, zeros: int = 0) -> Tensor:
    """Convolve with a kernel that is flat along no axis, in pieces along z where that is faster.

    Each end of each axis is padded with so many `zeros`.
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
    """Count the equal pieces of a single crop that PyTorch needs so that oneDNN convolves it."""
    left_out = len(x) == 1 and math.prod(x.shape[:-1]) <= LEAST_OF_ONEDNN and weight.shape[-1] == 3
    float32 = x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if not left_out or not float32 or x.device.type != "cpu":
        return 1
    return next((n for n in range(2, planes + 1) if planes % n == 0), 1)


def replicate(x: Tensor, border_zyx: Triple) -> Tensor:
    """Pad the last three axes of (N, C, Z, Y, X) with copies of the outermost voxels.

    Unlike `F.pad`, this function keeps channels last in both passes, and keeps half precision under
    autocast on the CPU.
    """
    sizes = zip(x.shape[2:], border_zyx, strict=True)
    size = [*x.shape[:2], *(n + 2 * border for n, border in sizes)]
    padded = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=_layout(x))
    _inner(padded, border_zyx).copy_(x)
    for dim, (n, border) in enumerate(zip(x.shape[2:], border_zyx, strict=True), start=2):
        if border:
            padded.narrow(dim, 0, border).copy_(padded.narrow(dim, border, 1))
            padded.narrow(dim, border + n, border).copy_(padded.narrow(dim, border + n - 1, 1))
    return padded


def _layout(x: Tensor) -> torch.memory_format:
    last = torch.channels_last_3d
    return last if x.is_contiguous(memory_format=last) else torch.contiguous_format


def _inner(padded: Tensor, border_zyx: Triple) -> Tensor:
    z, y, x = (slice(border, -border or None) for border in border_zyx)
    return padded[:, :, z, y, x]


class _Replicate(torch.autograd.Function):
    """`replicate` and its transpose."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, border_zyx: Triple) -> Tensor:
        ctx.border_zyx, ctx.layout = border_zyx, _layout(x)
        return replicate(x, border_zyx)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ours = False
        for dim, border in enumerate(ctx.border_zyx, start=2):
            if border:  # what copies contributed goes back to where they were copied from
                n = gradient.shape[dim] - 2 * border
                before, inner, after = gradient.split((border, n, border), dim)
                if not ours:
                    inner, ours = inner.clone(memory_format=ctx.layout), True
                first, last = inner.narrow(dim, 0, 1), inner.narrow(dim, n - 1, 1)
                first += before.sum(dim, keepdim=True)
                last += after.sum(dim, keepdim=True)
                gradient = inner
        return gradient.contiguous(memory_format=ctx.layout), None


class Conv(nn.Conv3d):
    """3-D convolution of odd size that keeps the shape and pads by replication.

    For the backward pass the convolution keeps its input, which other operations keep as well, and
    pads the input once more. With `keeps_nothing` the convolution takes no such care, because the
    whole block is computed again anyway. A crop that is so small that it is convolved in pieces
    keeps the pieces.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    size : int or tuple of int
        Of the kernel, along all axes or along z, y and x.
    bias : bool
        Whether to add a number to each channel.
    """

    keeps_nothing = False

    def __init__(self, inputs: int, outputs: int, size: int | Triple, *, bias: bool = True) -> None:
        super().__init__(inputs, outputs, size, bias=bias)
        z, y, x = self.kernel_size
        self.border_zyx = (z // 2, y // 2, x // 2)

    def forward(self, input: Tensor) -> Tensor:  # noqa: D102
        if not any(self.border_zyx):
            return convolve(input, self.weight, self.bias)
        padded = _Replicate.apply(input, self.border_zyx)
        if self.keeps_nothing:
            return convolve(padded, self.weight, self.bias)
        # Its address, not itself: what these functions refer to lives until the backward pass.
        unpadded, at = input.detach(), padded.data_ptr()

        def pack(saved: Tensor) -> Tensor | tuple[torch.Size, tuple[int, ...]]:
            return (saved.shape, saved.stride()) if saved.data_ptr() == at else saved

        def unpack(saved: Tensor | tuple[torch.Size, tuple[int, ...]]) -> Tensor:
            if isinstance(saved, Tensor):
                return saved
            return replicate(unpadded, self.border_zyx).as_strided(*saved)

        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            return convolve(padded, self.weight, self.bias)


class ZeroPaddedConv(nn.Conv3d):
    """3³ convolution that keeps the shape and pads with zeros."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3)

    def forward(self, input: Tensor) -> Tensor:  # noqa: D102
        return convolve_cubes(input, self.weight, self.bias, zeros=1)
