"""The encoder for every axial ratio, whose voxels are cells of fine planes."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tenet.networks.blocks import Level, blocks, upsample
from tenet.networks.convolution import Conv
from tenet.networks.encoder import Encoded, Encoder
from tenet.types import Triple

#: Fine planes of a cell.
CELL = 8


class CellNet(Encoder):
    """An encoder that works on cells of eight fine planes, whatever the distance of recorded ones.

    The weights do not depend on the scale, so that one network serves stacks of every axial ratio.
    The image is interpolated onto the fine grid. The planes of a cell become channels, of the image
    and of what is deconvolved, and the last convolution makes the planes of a cell again. Else the
    network is that of `CoarseNet`: residual blocks convolve in planes and along z in turns.

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
        pools: list[Triple] = [(1 if 2 ** (i + 1) <= CELL else 2, 2, 2) for i in range(depth)]
        self.scale = scale
        self.cell = CELL * math.prod(pool[0] for pool in pools)  # whole voxels of every level
        self.divisor_zyx = (scale, 2**depth, 2**depth)
        self.stem = Conv(CELL * (1 + estimates), first, (1, 5, 5))
        self.stem_blocks = blocks(first, n_blocks, dropout, flat=True)
        self.level = (
            Level(channels, pools, n_blocks, dropout, flat=True) if depth else nn.Identity()
        )
        self.last_blocks = blocks(first, n_blocks, dropout, flat=True)
        self.head = Conv(first, 2 * CELL, 3)
        self._finish()

    def encode(self, image: Tensor, estimate: Tensor | None = None) -> Encoded:  # noqa: D102
        scale = self.scale if estimate is None else estimate.shape[2] // image.shape[2]
        fine = upsample(image, (scale, 1, 1))
        if estimate is not None:
            fine = torch.cat([fine, estimate], dim=1)
        planes = fine.shape[2]
        below = -planes % self.cell // 2
        above = -planes % self.cell - below
        fine = nn.functional.pad(fine, (0, 0, 0, 0, below, above), mode="replicate")
        # (N, C, Z·s, Y, X) -> (N, C·cell, cells, Y, X): the planes of a cell become channels
        cells = fine.unflatten(2, (-1, CELL)).movedim(3, 2).flatten(1, 2)
        cells = cells.contiguous(memory_format=torch.channels_last_3d)
        features = self.last_blocks(self.level(self.stem_blocks(self.stem(cells))))
        made = self.head(features).unflatten(1, (2, CELL)).movedim(2, 3).flatten(2, 3)
        logits = made[:, :, below : below + planes]
        return Encoded(logits[:, :1], logits[:, 1:], features)
