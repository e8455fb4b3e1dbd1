"""The light encoder, which works on the coarse grid."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tenet.networks.blocks import Level, blocks
from tenet.networks.convolution import Conv
from tenet.networks.encoder import Encoded, Encoder
from tenet.types import Triple


class PlanesNet(Encoder):
    """A U-Net whose voxels hold some fine planes, which are channels of its input and its output.

    Residual blocks convolve in planes and along z in turns, which takes a fifth of the operations
    of 3³ convolutions. Levels halve z only once voxels are as coarse laterally as axially.

    Parameters
    ----------
    channels, n_blocks, dropout
        As for `JNet`.
    planes : int
        Fine planes of a voxel.
    inputs : int
        Channels of the input.
    kernel : int or tuple of int
        Size of the first convolution.
    norm : type
        Of the residual blocks.
    """

    def __init__(
        self,
        channels: Sequence[int],
        planes: int,
        inputs: int,
        kernel: int | Triple,
        *,
        n_blocks: int,
        dropout: float,
        norm: type[nn.BatchNorm3d] = nn.BatchNorm3d,
    ) -> None:
        super().__init__()
        first, depth = channels[0], len(channels) - 1
        kind: dict[str, Any] = {"flat": True, "norm": norm}
        pools: list[Triple] = [(1 if 2 ** (i + 1) <= planes else 2, 2, 2) for i in range(depth)]
        self.planes = planes
        #: Fine planes of the lowest level's voxels.
        self.lowest_planes = planes * math.prod(pool[0] for pool in pools)
        self.stem = Conv(inputs, first, kernel)
        self.stem_blocks = blocks(first, n_blocks, dropout, **kind)
        self.level = Level(channels, pools, n_blocks, dropout, **kind) if depth else nn.Identity()
        self.last_blocks = blocks(first, n_blocks, dropout, **kind)
        self.head = Conv(first, 2 * planes, 3)
        self._finish()

    def to_channels(self, fine: Tensor) -> Tensor:
        """(N, C, Z·planes, Y, X) -> (N, C·planes, Z, Y, X): planes of a voxel become channels."""
        return fine.unflatten(2, (-1, self.planes)).movedim(3, 2).flatten(1, 2)

    def encode_voxels(self, voxels: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, C, Z, Y, X), and logits (N, 2, Z·planes, Y, X) of shape and brightness."""
        voxels = voxels.contiguous(memory_format=torch.channels_last_3d)
        features = self.last_blocks(self.level(self.stem_blocks(self.stem(voxels))))
        logits = self.head(features).unflatten(1, (2, self.planes)).movedim(2, 3).flatten(2, 3)
        return features, logits


class CoarseNet(PlanesNet):
    """An encoder that works on the coarse grid and super-resolves last.

    The U-Net runs on the coarse grid, because an interpolated stack holds no more than the stack
    itself. That takes s times fewer operations. The last convolution makes s fine planes of each
    coarse plane.

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
        inputs = 1 + scale * estimates
        super().__init__(channels, scale, inputs, 5, n_blocks=n_blocks, dropout=dropout)
        depth = len(channels) - 1
        self.scale = scale
        self.divisor_zyx = (self.lowest_planes, 2**depth, 2**depth)

    def encode(self, image: Tensor, estimate: Tensor | None = None) -> Encoded:  # noqa: D102
        if estimate is not None:
            image = torch.cat([image, self.to_channels(estimate)], dim=1)
        features, logits = self.encode_voxels(image)
        return Encoded(logits[:, :1], logits[:, 1:], features)
