"""The base class of the encoders, and what an encoder returns."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tenet.errors import TenetError
from tenet.types import Triple


class Encoded(NamedTuple):
    """Logits on the fine grid, tensors (N, 1, Z·s, Y, X), and the features before the heads.

    `features` are (N, C, Z·s, Y, X) of `JNet`, (N, C, Z, Y, X) of `CoarseNet`, and (N, C, cells, Y,
    X) of `CellNet`. They are empty where passes are recorded.
    """

    shape_logits: Tensor
    brightness_logits: Tensor
    features: Tensor


class Encoder(nn.Module):
    """Base class of the encoders: it checks sizes and sets the layout in memory.

    Attributes
    ----------
    scale : int
        s, fine planes per coarse plane.
    divisor_zyx : tuple of int
        Divisors of the axes of the *fine* grid.
    """

    scale: int
    divisor_zyx: Triple
    #: `encode_logits`, recorded on a GPU, while training makes use of the recording.
    fast: Callable[..., Encoded] | None = None

    def forward(self, image: Tensor, estimate: Tensor | None = None) -> Encoded:
        """Encode a blurred stack.

        Parameters
        ----------
        image : Tensor, shape (N, 1, Z, Y, X)
            Network input (after `hill`); (Z·s, Y, X) must be divisible by `divisor_zyx`.
        estimate : Tensor, shape (N, C, Z·s, Y, X), optional
            The deconvolved stack, in linear intensities, for a network with C channels for it.

        Returns
        -------
        Encoded
            Logits of shape and brightness, and features.

        Raises
        ------
        TenetError
            If the size does not fit the levels.
        """
        fine_shape = (image.shape[2] * self.scale, *image.shape[3:])
        if any(n % d for n, d in zip(fine_shape, self.divisor_zyx, strict=True)):
            raise TenetError(
                f"a fine grid of {fine_shape} does not fit the network: its axes must be divisible "
                f"by {self.divisor_zyx}"
            )
        encode: Callable[..., Encoded] = self.encode
        if self.fast is not None and self.training and torch.is_grad_enabled():
            encode = self.fast
        return encode(image) if estimate is None else encode(image, estimate)

    def encode(self, image: Tensor, estimate: Tensor | None = None) -> Encoded:
        """Run the network on a stack whose size fits."""
        raise NotImplementedError

    def encode_logits(self, image: Tensor, estimate: Tensor | None = None) -> Encoded:
        """Encode without features: a recorded pass may return only what the loss depends on."""
        return self.encode(image, estimate)._replace(features=image.new_empty(0))

    def _finish(self) -> None:
        # Convolutions on few channels are more than twice as fast with channels last.
        self.to(memory_format=torch.channels_last_3d)
