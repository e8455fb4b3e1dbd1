"""What the encoders share: a stem, levels, and one head for shape and one for brightness."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tenet.errors import TenetError
from tenet.types import Triple


class Encoded(NamedTuple):
    """What the encoder predicts on the fine grid, tensors (N, 1, Z·s, Y, X), and what from.

    `features` are those before the heads: (N, C, Z·s, Y, X) of `JNet`, (N, C, Z, Y, X) of
    `CoarseNet`; empty where passes are recorded.
    """

    shape_logits: Tensor
    brightness_logits: Tensor
    features: Tensor


class Encoder(nn.Module):
    """What both encoders share: the check of sizes, and the layout in memory.

    Attributes
    ----------
    scale : int
        s, fine planes per coarse plane.
    divisor_zyx : tuple of int
        What the axes of the *fine* grid must be divisible by.
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
        estimate : Tensor, shape (N, 1, Z·s, Y, X), optional
            What deconvolution makes of the stack, in linear intensities, for a network with a
            channel for it.

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
        """The network itself."""
        raise NotImplementedError

    def encode_logits(self, image: Tensor, estimate: Tensor | None = None) -> Encoded:
        """The same without features, for a loss that does not depend on them."""
        return self.encode(image, estimate)._replace(features=image.new_empty(0))

    def _finish(self) -> None:
        # Convolutions on few channels are more than twice as fast with channels last.
        self.to(memory_format=torch.channels_last_3d)
