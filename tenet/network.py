"""The encoders: 3-D U-Nets with one head for shape and one for brightness.

`JNet` is the published one and works on the fine grid throughout. `CoarseNet` works on the grid of
the data and makes fine planes of coarse ones at the end.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tenet.convolution import Conv, Triple
from tenet.errors import TenetError
from tenet.recording import Passes, free_memory


def hill(image: Tensor) -> Tensor:
    """Intensity transform 2√x / (1 + √x) of the network's *input*: [0, 1] -> [0, 1].

    It lifts dim structure; losses compare linear intensities.
    """
    root = image.clamp_min(0).sqrt()
    return 2 * root / (1 + root)


class Dropout(nn.Module):
    """Dropout that draws a byte instead of a float per element on the CPU.

    Drawing the floats takes as long there as a convolution. The probability is rounded to 1/256.
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

    Convolutions are 3³; or, if `flat`, the first one is in planes and the second along z, a fifth
    of the operations. With `checkpointed`, nothing but the input is kept for the backward pass.
    """

    checkpointed = False

    def __init__(self, channels: int, dropout: float, *, flat: bool = False) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm3d(channels)
        self.conv1 = Conv(channels, channels, (1, 3, 3) if flat else 3)
        self.bn2 = nn.BatchNorm3d(channels)
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
        """What norms see a second time is in their statistics already."""
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


def hasten_encoders(network: nn.Module, how: Literal["compiled", "recorded"] | None) -> None:
    """Choose how encoders that learn run in training.

    Parameters
    ----------
    network : module
        Whose encoders are meant.
    how : {"compiled", "recorded"}, optional
        By `torch.compile`, if there is a compiler; on a GPU their kernels are recorded as well. Or
        recorded as they are, on a GPU; see `tenet.recording.Passes`. Or, by default, as they are.
    """
    if how == "compiled":
        torch._dynamo.config.suppress_errors = True
    for module in network.modules():
        if isinstance(module, Encoder):
            module.fast = None
            if how is None or not any(parameter.requires_grad for parameter in module.parameters()):
                continue
            if how == "compiled":
                module.fast = torch.compile(module.encode, mode="reduce-overhead", dynamic=False)
            else:
                module.fast = Passes(module.encode_logits, module)
    if how is None:
        free_memory()


def blocks(channels: int, n: int, dropout: float, *, flat: bool = False) -> nn.Sequential:
    """`n` residual blocks in a row."""
    return nn.Sequential(*[ResidualBlock(channels, dropout, flat=flat) for _ in range(n)])


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
        self,
        channels: Sequence[int],
        attention: Sequence[bool],
        pools: Sequence[Triple],
        n_blocks: int,
        dropout: float,
        *,
        flat: bool = False,
    ) -> None:
        super().__init__()
        above, here = channels[0], channels[1]
        self.pool = pools[0]
        self.down = Conv(above, here, 1)
        self.enter = Conv(here, here, 1)
        self.before = blocks(here, n_blocks, dropout, flat=flat)
        self.attention = SelfAttention(here) if attention[1] else nn.Identity()
        self.deeper = (
            Level(channels[1:], attention[1:], pools[1:], n_blocks, dropout, flat=flat)
            if len(channels) > 2
            else nn.Identity()
        )
        self.after = blocks(here, n_blocks, dropout, flat=flat)
        self.up = Conv(here, above, 1)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        hidden = self.enter(F.relu(self.down(F.max_pool3d(x, self.pool))))
        hidden = self.after(self.deeper(self.attention(self.before(hidden))))
        # The 1³ convolution commutes with the interpolation and is cheaper before it.
        hidden = _upsample(self.up(hidden), self.pool)
        return x + F.relu(hidden, inplace=True)


def _upsample(x: Tensor, factors: Triple) -> Tensor:
    """Trilinear upsampling by whole factors, voxel centres aligned."""
    size = [n * factor for n, factor in zip(x.shape[2:], factors, strict=True)]
    # Back to half precision, where autocast on the CPU leaves it.
    return F.interpolate(x, size=size, mode="trilinear", align_corners=False).to(x.dtype)


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
    #: `encode`, compiled or recorded, while training makes use of it.
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


def _attention(attention: Sequence[bool], channels: Sequence[int]) -> Sequence[bool]:
    attention = attention or [False] * len(channels)
    if len(attention) != len(channels):
        raise TenetError(
            f"attn_list has {len(attention)} entries for {len(channels)} levels of channels"
        )
    return attention


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
    sees_estimate : bool
        Whether there is an input channel for a deconvolved stack.
    """

    def __init__(
        self,
        channels: Sequence[int],
        scale: int,
        *,
        n_blocks: int = 2,
        dropout: float = 0.5,
        attention: Sequence[bool] = (),
        sees_estimate: bool = False,
    ) -> None:
        super().__init__()
        attention = _attention(attention, channels)
        first, depth = channels[0], len(channels) - 1
        self.scale = scale
        self.divisor_zyx = (2**depth, 2**depth, 2**depth)
        self.stem = Conv(1 + sees_estimate, first, 7)
        self.stem_blocks = blocks(first, n_blocks, dropout)
        self.attention = SelfAttention(first) if attention[0] else nn.Identity()
        self.level = (
            Level(channels, attention, [(2, 2, 2)] * depth, n_blocks, dropout)
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
        fine = _upsample(image, (self.scale, 1, 1))
        if estimate is not None:
            fine = torch.cat([fine, estimate], dim=1)
        fine = fine.contiguous(memory_format=torch.channels_last_3d)
        features = self.level(self.attention(self.stem_blocks(self.stem(fine))))
        return Encoded(self.shape_head(features), self.brightness_head(features), features)


class CoarseNet(Encoder):
    """An encoder that works on the coarse grid and super-resolves last.

    An interpolated stack holds no more than the stack itself, so the U-Net runs on the coarse grid,
    s times cheaper, and its last convolution makes s fine planes of each coarse one. Residual
    blocks convolve in planes and along z in turns, a fifth of the operations of 3³ convolutions.
    Levels halve z only once the voxels have become as coarse laterally as axially.

    Parameters
    ----------
    channels, scale, n_blocks, dropout, attention, sees_estimate
        As for `JNet`.
    """

    def __init__(
        self,
        channels: Sequence[int],
        scale: int,
        *,
        n_blocks: int = 2,
        dropout: float = 0.5,
        attention: Sequence[bool] = (),
        sees_estimate: bool = False,
    ) -> None:
        super().__init__()
        attention = _attention(attention, channels)
        first, depth = channels[0], len(channels) - 1
        pools: list[Triple] = [(1 if 2 ** (i + 1) <= scale else 2, 2, 2) for i in range(depth)]
        self.scale = scale
        self.divisor_zyx = (scale * math.prod(pool[0] for pool in pools), 2**depth, 2**depth)
        self.stem = Conv(1 + scale * sees_estimate, first, 5)
        self.stem_blocks = blocks(first, n_blocks, dropout, flat=True)
        self.attention = SelfAttention(first) if attention[0] else nn.Identity()
        self.level = (
            Level(channels, attention, pools, n_blocks, dropout, flat=True)
            if depth
            else nn.Identity()
        )
        self.last_blocks = blocks(first, n_blocks, dropout, flat=True)
        self.head = Conv(first, 2 * scale, 3)
        self._finish()

    def encode(self, image: Tensor, estimate: Tensor | None = None) -> Encoded:  # noqa: D102
        if estimate is not None:
            # (N, 1, Z·s, Y, X) -> (N, s, Z, Y, X): the s planes of a coarse one become channels
            planes = estimate.unflatten(2, (image.shape[2], self.scale))[:, 0].movedim(2, 1)
            image = torch.cat([image, planes], dim=1)
        image = image.contiguous(memory_format=torch.channels_last_3d)
        coarse = self.level(self.attention(self.stem_blocks(self.stem(image))))
        coarse = self.last_blocks(coarse)
        planes = self.head(coarse)
        # (N, 2·s, Z, Y, X) -> (N, 2, Z·s, Y, X): s channels become neighbouring planes
        logits = planes.unflatten(1, (2, self.scale)).movedim(2, 3).flatten(2, 3)
        return Encoded(logits[:, :1], logits[:, 1:], coarse)


class AlignmentNet(nn.Module):
    """Makes a still stack of one whose planes moved, on the grid of the data.

    A network of the encoder's kind (stem, residual blocks, U-Net levels, one head), without
    upsampling. Levels halve y and x alone, as planes move in their own plane. The head adds to the
    stack's own logit, and starts at 0: a fresh network leaves a stack as it is.

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
        none = [False] * len(channels)
        self.level = Level(channels, none, pools, n_blocks, dropout) if depth else nn.Identity()
        last = Conv(first, 1, 3)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.head = nn.Sequential(*blocks(first, n_blocks, dropout), last)
        self.to(memory_format=torch.channels_last_3d)

    def forward(self, image: Tensor) -> Tensor:
        """What a stack of linear intensities would look like, had its planes not moved.

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
