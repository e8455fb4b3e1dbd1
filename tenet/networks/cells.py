"""The encoder for every axial ratio, whose voxels are cells of fine planes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tenet.networks.blocks import upsample
from tenet.networks.coarse import PlanesNet
from tenet.networks.encoder import Encoded

#: Fine planes of a cell.
CELL = 8


class CellNet(PlanesNet):
    """An encoder that works on cells of eight fine planes, whatever the distance of recorded ones.

    The weights do not depend on the scale, so that one network serves stacks of every axial ratio.
    The image is interpolated onto the fine grid. The planes of a cell become channels, of the image
    and of what is deconvolved, and the last convolution makes the planes of a cell again.

    Parameters
    ----------
    channels, scale, n_blocks, dropout, estimates
        As for `JNet`.
    norm : type
        Of the residual blocks.
    """

    def __init__(
        self,
        channels: Sequence[int],
        scale: int,
        *,
        n_blocks: int = 2,
        dropout: float = 0.5,
        estimates: int = 0,
        norm: type[nn.BatchNorm3d] = nn.BatchNorm3d,
    ) -> None:
        inputs = CELL * (1 + estimates)
        super().__init__(
            channels, CELL, inputs, (1, 5, 5), n_blocks=n_blocks, dropout=dropout, norm=norm
        )
        depth = len(channels) - 1
        self.scale = scale
        self.divisor_zyx = (scale, 2**depth, 2**depth)

    def encode(self, image: Tensor, estimate: Tensor | None = None) -> Encoded:  # noqa: D102
        scale = self.scale if estimate is None else estimate.shape[2] // image.shape[2]
        fine = upsample(image, (scale, 1, 1))
        if estimate is not None:
            fine = torch.cat([fine, estimate], dim=1)
        planes = fine.shape[2]
        missing = -planes % self.lowest_planes
        below, above = missing // 2, missing - missing // 2
        fine = nn.functional.pad(fine, (0, 0, 0, 0, below, above), mode="replicate")
        features, logits = self.encode_voxels(self.to_channels(fine))
        logits = logits[:, :, below : below + planes]
        return Encoded(logits[:, :1], logits[:, 1:], features)
