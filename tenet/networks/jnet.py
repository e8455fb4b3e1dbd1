"""The published encoder, which works on the fine grid."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tenet.errors import TenetError
from tenet.networks.blocks import Level, SelfAttention, blocks, upsample
from tenet.networks.convolution import Conv
from tenet.networks.encoder import Encoded, Encoder


class JNet(Encoder):
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
    estimates : int
        Input channels for a deconvolved stack: one for each number of steps.
    """

    def __init__(
        self,
        channels: Sequence[int],
        scale: int,
        *,
        n_blocks: int = 2,
        dropout: float = 0.5,
        attention: Sequence[bool] = (),
        estimates: int = 0,
    ) -> None:
        super().__init__()
        attention = attention or [False] * len(channels)
        if len(attention) != len(channels):
            raise TenetError(
                f"attn_list has {len(attention)} entries for {len(channels)} levels of channels"
            )
        first, depth = channels[0], len(channels) - 1
        self.scale = scale
        self.divisor_zyx = (2**depth, 2**depth, 2**depth)
        self.stem = Conv(1 + estimates, first, 7)
        self.stem_blocks = blocks(first, n_blocks, dropout)
        self.attention = SelfAttention(first) if attention[0] else nn.Identity()
        self.level = (
            Level(channels, [(2, 2, 2)] * depth, n_blocks, dropout, attention=attention)
            if depth
            else nn.Identity()
        )
        self.shape_head = self._head(first, n_blocks, dropout)
        self.brightness_head = self._head(first, n_blocks, dropout)
        self._finish()

    @staticmethod
    def _head(channels: int, n_blocks: int, dropout: float) -> nn.Sequential:
        return nn.Sequential(*blocks(channels, n_blocks, dropout), Conv(channels, 1, 3))

    def encode(self, image: Tensor, estimate: Tensor | None = None) -> Encoded:  # noqa: D102
        fine = upsample(image, (self.scale, 1, 1))
        if estimate is not None:
            fine = torch.cat([fine, estimate], dim=1)
        fine = fine.contiguous(memory_format=torch.channels_last_3d)
        features = self.level(self.attention(self.stem_blocks(self.stem(fine))))
        return Encoded(self.shape_head(features), self.brightness_head(features), features)
