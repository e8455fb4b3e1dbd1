"""Blocks and levels of the networks."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tenet.errors import TenetError
from tenet.networks.convolution import Conv
from tenet.networks.encoder import Encoder
from tenet.networks.recording import Passes, free_memory
from tenet.types import Triple


def hill(image: Tensor) -> Tensor:
    """Intensity transform 2√x / (1 + √x) of the network's *input*: [0, 1] -> [0, 1].

    The transform lifts dim structure. Losses compare linear intensities instead.
    """
    root = image.clamp_min(0).sqrt()
    return 2 * root / (1 + root)


class Dropout(nn.Module):
    """Dropout that draws a byte instead of a float per element on the CPU.

    On a CPU, drawing floats takes as long as a convolution. The probability is rounded to 1/256.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        dropped = round(256 * self.probability)
        if not self.training or dropped == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.probability)
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        keep = words.view(torch.uint8)[: x.numel()] >= dropped
        # In the order of memory, whichever that is: the draws are all alike.
        keep = torch.empty_like(x, dtype=torch.bool).copy_(keep.as_strided(x.shape, x.stride()))
        return x.mul(keep).mul_(256 / (256 - dropped))


class ResidualBlock(nn.Module):
    """BN, ReLU, conv, BN, ReLU, dropout, conv, plus the input.

    Convolutions are 3³. With `flat`, the first convolution is in planes and the second along z,
    which takes a fifth of the operations. With `checkpointed`, the block keeps only its input for
    the backward pass.
    """

    checkpointed = False

    def __init__(
        self,
        channels: int,
        dropout: float,
        *,
        flat: bool = False,
        norm: type[nn.BatchNorm3d] = nn.BatchNorm3d,
    ) -> None:
        super().__init__()
        self.bn1 = norm(channels)
        self.conv1 = Conv(channels, channels, (1, 3, 3) if flat else 3)
        self.bn2 = norm(channels)
        self.dropout = Dropout(dropout)
        self.conv2 = Conv(channels, channels, (3, 1, 1) if flat else 3)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        if not (self.checkpointed and torch.is_grad_enabled()):
            return self._forward(x)
        contexts = (contextlib.nullcontext(), self._again())
        result: Tensor = checkpoint(
            self._forward, x, use_reentrant=False, context_fn=lambda: contexts
        )
        return result

    @contextlib.contextmanager
    def _again(self) -> Iterator[None]:
        """Keep the statistics of the norms, because the first pass has updated them already."""
        norms = [norm for norm in (self.bn1, self.bn2) if norm.training]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 0.0
        try:
            yield
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
                assert norm.num_batches_tracked is not None
                norm.num_batches_tracked -= 1

    def _forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(F.relu(self.bn1(x), inplace=True))
        hidden = self.dropout(F.relu(self.bn2(hidden), inplace=True))
        return self.conv2(hidden) + x


def checkpoint_blocks(network: nn.Module, wanted: bool) -> None:
    """Choose whether residual blocks are computed again for the backward pass."""
    for block in network.modules():
        if isinstance(block, ResidualBlock):
            block.checkpointed = wanted
            block.conv1.keeps_nothing = block.conv2.keeps_nothing = wanted


def record_encoders(network: nn.Module, wanted: bool) -> None:
    """Choose whether the encoders of a network that learn record their passes on a GPU.

    Recording halves a training step of the light encoder (`tenet.networks.recording.Passes`).
    """
    for module in network.modules():
        if isinstance(module, Encoder):
            learns = any(parameter.requires_grad for parameter in module.parameters())
            module.fast = Passes(module.encode_logits, module) if wanted and learns else None
    if not wanted:
        free_memory()


def blocks(channels: int, n: int, dropout: float, **kind: Any) -> nn.Sequential:
    """`n` residual blocks in a row; `kind` is `flat` and `norm` of `ResidualBlock`."""
    return nn.Sequential(*[ResidualBlock(channels, dropout, **kind) for _ in range(n)])


class SelfAttention(nn.Module):
    """Pre-norm multi-head self-attention over all voxels of a level, plus the input.

    `attn_list` of the published settings asks for attention; no published model has it on.
    """

    def __init__(self, channels: int, heads: int = 8) -> None:
        super().__init__()
        if channels % heads:
            raise TenetError(f"attention needs channels divisible by {heads}, not {channels}")
        self.norm = nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        tokens = self.norm(x.flatten(2).transpose(1, 2))  # (N, C, Z, Y, X) -> (N, ZYX, C)
        attended, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return x + attended.transpose(1, 2).reshape(x.shape)


class Level(nn.Module):
    """One level of the U-Net and all below it: down, blocks, deeper, blocks, up, plus the input."""

    def __init__(
        self,
        channels: Sequence[int],
        pools: Sequence[Triple],
        n_blocks: int,
        dropout: float,
        *,
        attention: Sequence[bool] = (),
        **kind: Any,
    ) -> None:
        super().__init__()
        above, here = channels[0], channels[1]
        attention = attention or [False] * len(channels)
        self.pool = pools[0]
        self.down = Conv(above, here, 1)
        self.enter = Conv(here, here, 1)
        self.before = blocks(here, n_blocks, dropout, **kind)
        self.attention = SelfAttention(here) if attention[1] else nn.Identity()
        self.deeper = (
            Level(channels[1:], pools[1:], n_blocks, dropout, attention=attention[1:], **kind)
            if len(channels) > 2
            else nn.Identity()
        )
        self.after = blocks(here, n_blocks, dropout, **kind)
        self.up = Conv(here, above, 1)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        hidden = self.enter(F.relu(self.down(F.max_pool3d(x, self.pool))))
        hidden = self.after(self.deeper(self.attention(self.before(hidden))))
        # The 1³ convolution commutes with the interpolation and is cheaper before it.
        hidden = upsample(self.up(hidden), self.pool)
        return x + F.relu(hidden, inplace=True)


def upsample(x: Tensor, factors: Triple) -> Tensor:
    """Trilinear upsampling by whole factors, voxel centres aligned."""
    size = [n * factor for n, factor in zip(x.shape[2:], factors, strict=True)]
    # Back to half precision, where autocast on the CPU leaves it.
    return F.interpolate(x, size=size, mode="trilinear", align_corners=False).to(x.dtype)
