"""The light encoder, which works on the coarse grid."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tenet.networks.blocks import Level, blocks
from tenet.networks.convolution import Conv
from tenet.networks.encoder import Encoded, Encoder
from tenet.types import Triple


class CoarseNet(Encoder):
    """An encoder that works on the coarse grid and super-resolves last.

    The U-Net runs on the coarse grid, because an interpolated stack holds no more than the stack
    itself. That takes s times fewer operations. The last convolution makes s fine planes of each
    coarse plane. Residual blocks convolve in planes and along z in turns, which takes a fifth of
    the operations of 3³ convolutions. Levels halve z only once voxels are as coarse laterally as
    axially.

    Parameters
    ----------
    channels, scale, n_blocks, dropout, estimates
        As for `JNet`.
    """

    def __init__(
        self,
        channels: Sequence[int],
        scale: int,
        *,
        n_blocks: int = 2,
        dropout: float = 0.5,
        estimates: int = 0,
    ) -> None:
        super().__init__()
        first, depth = channels[0], len(channels) - 1
        pools: list[Triple] = [(1 if 2 ** (i + 1) <= scale else 2, 2, 2) for i in range(depth)]
        self.scale = scale
        self.divisor_zyx = (scale * math.prod(pool[0] for pool in pools), 2**depth, 2**depth)
        self.stem = Conv(1 + scale * estimates, first, 5)
        self.stem_blocks = blocks(first, n_blocks, dropout, flat=True)
        self.level = (
            Level(channels, pools, n_blocks, dropout, flat=True) if depth else nn.Identity()
        )
        self.last_blocks = blocks(first, n_blocks, dropout, flat=True)
        self.head = Conv(first, 2 * scale, 3)
        self._finish()

    def encode(self, image: Tensor, estimate: Tensor | None = None) -> Encoded:  # noqa: D102
        if estimate is not None:
            # (N, C, Z·s, Y, X) -> (N, C·s, Z, Y, X): the s planes of a coarse one become channels
            planes = estimate.unflatten(2, (image.shape[2], self.scale)).movedim(3, 2).flatten(1, 2)
            image = torch.cat([image, planes], dim=1)
        image = image.contiguous(memory_format=torch.channels_last_3d)
        coarse = self.level(self.stem_blocks(self.stem(image)))
        coarse = self.last_blocks(coarse)
        planes = self.head(coarse)
        # (N, 2·s, Z, Y, X) -> (N, 2, Z·s, Y, X): s channels become neighbouring planes
        logits = planes.unflatten(1, (2, self.scale)).movedim(2, 3).flatten(2, 3)
        return Encoded(logits[:, :1], logits[:, 1:], coarse)
