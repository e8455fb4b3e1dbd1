"""The network that lays the planes of a stack on one another."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tenet.errors import TenetError
from tenet.networks.blocks import Level, blocks, hill
from tenet.networks.convolution import Conv


class AlignmentNet(nn.Module):
    """Estimate a still stack from a stack whose planes moved, on the grid of the data.

    The network is of the encoder's kind (stem, residual blocks, U-Net levels, one head), without
    upsampling. Levels halve y and x alone, because planes move in their own plane. The head adds to
    the logit of the stack, and starts at 0, so that a fresh network returns the stack unchanged.

    Parameters
    ----------
    channels, n_blocks, dropout
        As for `JNet`.
    """

    def __init__(self, channels: Sequence[int], *, n_blocks: int = 2, dropout: float = 0.5) -> None:
        super().__init__()
        first, depth = channels[0], len(channels) - 1
        pools = [(1, 2, 2)] * depth
        self.divisor_yx = 2**depth
        self.stem = Conv(1, first, 7)
        self.stem_blocks = blocks(first, n_blocks, dropout)
        self.level = Level(channels, pools, n_blocks, dropout) if depth else nn.Identity()
        last = Conv(first, 1, 3)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.head = nn.Sequential(*blocks(first, n_blocks, dropout), last)
        self.to(memory_format=torch.channels_last_3d)

    def forward(self, image: Tensor) -> Tensor:
        """Estimate the stack of linear intensities that still planes would have given.

        Parameters
        ----------
        image : Tensor, shape (N, 1, Z, Y, X)
            In [0, 1]; Y and X must be divisible by `divisor_yx`.

        Returns
        -------
        Tensor, shape (N, 1, Z, Y, X)
            float32, in (0, 1).

        Raises
        ------
        TenetError
            If the size does not fit the levels.
        """
        if any(n % self.divisor_yx for n in image.shape[3:]):
            raise TenetError(
                f"planes of {tuple(image.shape[3:])} do not fit the alignment network: both must "
                f"be divisible by {self.divisor_yx}"
            )
        features = self.stem(hill(image).contiguous(memory_format=torch.channels_last_3d))
        change = self.head(self.level(self.stem_blocks(features)))
        return (change.float() + image.float().logit(eps=1e-3)).sigmoid()
