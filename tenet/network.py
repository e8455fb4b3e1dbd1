"""JNet: the encoder, a 3-D U-Net on the fine grid with one head for shape and one for brightness."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tenet.errors import TenetError


def hill(image: Tensor) -> Tensor:
    """Intensity transform 2√x / (1 + √x) of the network's *input*: [0, 1] -> [0, 1].

    It lifts dim structure; losses compare linear intensities.
    """
    root = image.clamp_min(0).sqrt()
    return 2 * root / (1 + root)


class Conv(nn.Conv3d):
    """3-D convolution of odd size that keeps the shape and pads by replication."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__(inputs, outputs, size)
        self.border = size // 2

    def forward(self, input: Tensor) -> Tensor:  # noqa: D102
        if self.border:
            input = F.pad(input, [self.border] * 6, mode="replicate")
        return super().forward(input)


class ResidualBlock(nn.Module):
    """BN, ReLU, 3³ conv, BN, ReLU, dropout, 3³ conv, plus the input."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm3d(channels)
        self.conv1 = Conv(channels, channels, 3)
        self.bn2 = nn.BatchNorm3d(channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = Conv(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        hidden = self.conv1(F.relu(self.bn1(x), inplace=True))
        hidden = self.dropout(F.relu(self.bn2(hidden), inplace=True))
        return self.conv2(hidden) + x


def blocks(channels: int, n: int, dropout: float) -> nn.Sequential:
    """`n` residual blocks in a row."""
    return nn.Sequential(*[ResidualBlock(channels, dropout) for _ in range(n)])


class SelfAttention(nn.Module):
    """Pre-norm multi-head self-attention over all voxels of a level, plus the input."""

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
        self, channels: Sequence[int], attention: Sequence[bool], n_blocks: int, dropout: float
    ) -> None:
        super().__init__()
        above, here = channels[0], channels[1]
        self.down = Conv(above, here, 1)
        self.enter = Conv(here, here, 1)
        self.before = blocks(here, n_blocks, dropout)
        self.attention = SelfAttention(here) if attention[1] else nn.Identity()
        self.deeper = (
            Level(channels[1:], attention[1:], n_blocks, dropout)
            if len(channels) > 2
            else nn.Identity()
        )
        self.after = blocks(here, n_blocks, dropout)
        self.up = Conv(here, above, 1)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        hidden = self.enter(F.relu(self.down(F.max_pool3d(x, 2)), inplace=True))
        hidden = self.after(self.deeper(self.attention(self.before(hidden))))
        # The 1³ convolution commutes with the interpolation and is eight times cheaper before it.
        hidden = _upsample(self.up(hidden), (2, 2, 2))
        return x + F.relu(hidden, inplace=True)


def _upsample(x: Tensor, factors: tuple[int, int, int]) -> Tensor:
    """Trilinear upsampling by whole factors, voxel centres aligned."""
    size = [n * factor for n, factor in zip(x.shape[2:], factors, strict=True)]
    return F.interpolate(x, size=size, mode="trilinear", align_corners=False)


class Encoded(NamedTuple):
    """What the encoder predicts on the fine grid; tensors (N, 1, Z·s, Y, X) but for features."""

    shape_logits: Tensor
    brightness_logits: Tensor
    features: Tensor


class JNet(nn.Module):
    """The published encoder.

    Trilinear upsampling ×s in z, 7³ convolution, residual blocks, U-Net levels, two heads.

    Parameters
    ----------
    channels : sequence of int
        Width of each level, from full resolution down.
    scale : int
        s, fine planes per coarse plane.
    n_blocks : int
        Residual blocks before and after each deeper level.
    dropout : float
        Probability of dropout inside the blocks.
    attention : sequence of bool, optional
        Which levels have self-attention; none by default.
    """

    def __init__(
        self,
        channels: Sequence[int],
        scale: int,
        *,
        n_blocks: int = 2,
        dropout: float = 0.5,
        attention: Sequence[bool] = (),
    ) -> None:
        super().__init__()
        attention = attention or [False] * len(channels)
        if len(attention) != len(channels):
            raise TenetError(
                f"attn_list has {len(attention)} entries for {len(channels)} levels of channels"
            )
        first = channels[0]
        self.scale = scale
        self.divisor = 2 ** (len(channels) - 1)
        self.stem = Conv(1, first, 7)
        self.stem_blocks = blocks(first, n_blocks, dropout)
        self.attention = SelfAttention(first) if attention[0] else nn.Identity()
        self.level = (
            Level(channels, attention, n_blocks, dropout) if len(channels) > 1 else nn.Identity()
        )
        self.shape_head = self._head(first, n_blocks, dropout)
        self.brightness_head = self._head(first, n_blocks, dropout)

    @staticmethod
    def _head(channels: int, n_blocks: int, dropout: float) -> nn.Sequential:
        return nn.Sequential(*blocks(channels, n_blocks, dropout), Conv(channels, 1, 3))

    def forward(self, image: Tensor) -> Encoded:
        """Encode a blurred stack.

        Parameters
        ----------
        image : Tensor, shape (N, 1, Z, Y, X)
            Network input (after `hill`). Z·s, Y and X must be divisible by `divisor`.

        Returns
        -------
        Encoded
            Logits of shape and brightness, and the features before the heads.

        Raises
        ------
        TenetError
            If the size does not fit the levels.
        """
        fine_shape = (image.shape[2] * self.scale, *image.shape[3:])
        if any(n % self.divisor for n in fine_shape):
            raise TenetError(
                f"a fine grid of {fine_shape} cannot be halved {self.divisor.bit_length() - 1} "
                f"times: every axis must be divisible by {self.divisor}"
            )
        fine = _upsample(image, (self.scale, 1, 1))
        # Convolutions on few channels are more than twice as fast in this layout.
        fine = fine.contiguous(memory_format=torch.channels_last_3d)
        features = self.level(self.attention(self.stem_blocks(self.stem(fine))))
        return Encoded(self.shape_head(features), self.brightness_head(features), features)
