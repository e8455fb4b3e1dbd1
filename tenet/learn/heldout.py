"""How well a PSF predicts voxels of a stack that its deconvolution has not seen.

The structure follows the PSF: from any PSF that is too short, deconvolution makes a structure that
is too long, which explains the stack as well, and some of its noise besides. A prediction of unseen
voxels gains nothing from explained noise, and a structure that is not right predicts them worse.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tenet.learn.losses import one_sided, unscaled_reconstruction_loss
from tenet.model.intensity import inside
from tenet.physics.blur import BandLimitedBlur, StridedBlur
from tenet.physics.richardson_lucy import START, momentum, saturated

#: Accelerated steps of the deconvolution. With 40 a short PSF with long tails explains a stack as
#: well as a long one without.
STEPS = 100
#: Share of the voxels that is held out, in squares of one plane.
HELD_OUT = 0.2
#: Size in rows and columns of the parts of windows whose losses are compared.
PART_YX = 40
#: Least share of the light of a line that falls on voxels which are seen, for a correction.
LEAST_SEEN = 0.05


class Noise(NamedTuple):
    """Variance of a stack: `slope` · (signal + `floor`), with intensities from 0 to 1."""

    slope: float
    floor: float

    def variance(self, signal: Tensor) -> Tensor:
        """Variance at each voxel of a noise-free image."""
        return self.slope * (signal.clamp_min(0) + self.floor)


def measured_noise(images: Sequence[Tensor]) -> Noise:
    """Noise of images, from what distinguishes each pixel from its four neighbours.

    An image that is sampled as finely as its blur asks for hardly differs from the mean of its
    neighbours but for noise. Where the image is 0 a detector may have cut the noise; such pixels do
    not count.

    Parameters
    ----------
    images : sequence of Tensor, shape (1, 1, Z, Y, X)
        Intensities from 0 to 1.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> signal = torch.linspace(0.1, 0.9, 100).expand(1, 1, 8, 100, 100)
    >>> noisy = signal + (0.01 * signal).sqrt() * torch.randn(signal.shape, generator=generator)
    >>> round(measured_noise([noisy]).slope, 3)
    0.01
    """
    signal, variance = [], []
    for image in images:
        centre = image[..., 1:-1, 1:-1]
        sides = (image[..., :-2, 1:-1], image[..., 2:, 1:-1])
        others = (image[..., 1:-1, :-2], image[..., 1:-1, 2:])
        around = torch.stack([*sides, *others])
        counted = (around.amin(0) > 0) & (centre > 0) & ~saturated(image)[..., 1:-1, 1:-1]
        mean = around.mean(0)
        signal.append(mean[counted])
        variance.append((centre - mean)[counted].square() / 1.25)
    level, square = torch.cat(signal).double(), torch.cat(variance).double()
    if len(level) < 100 or not square.mean() > 0:
        return Noise(1e-4, 0.1)
    # The median of bins of equal number: edges of structures are few.
    order = level.argsort()
    bins = [part for part in order.chunk(20) if len(part) >= 5]
    x = np.array([float(level[part].mean()) for part in bins])
    y = np.array([float(square[part].median()) / 0.455 for part in bins])
    weight = 1 / np.maximum(y, y.max() * 1e-3)
    slope, constant = np.polyfit(x, y, 1, w=weight) if len(x) > 1 else (0.0, y[0])
    slope = max(float(slope), 1e-6, float(y.mean()) * 1e-3)
    return Noise(slope, min(max(float(constant) / slope, 1e-3), 1.0))


class Window(NamedTuple):
    """A part of a stack, and where it is seen (1) and held out (0); both (1, 1, Z, Y, X)."""

    image: Tensor
    seen: Tensor

    @classmethod
    def draw(cls, image: Tensor, square: int, generator: torch.Generator) -> "Window":
        """Hold out random squares of so many pixels."""
        planes, rows, columns = image.shape[2:]
        drawn = torch.rand((planes, -(-rows // square), -(-columns // square)), generator=generator)
        seen = (drawn > HELD_OUT).float()
        seen = seen.repeat_interleave(square, 1).repeat_interleave(square, 2)
        return cls(image, seen[None, None, :, :rows, :columns].to(image))


@torch.no_grad()
def predicted(window: Window, blur: StridedBlur, noise: Noise) -> Tensor:
    """The image that the deconvolution of the seen voxels predicts, (1, 1, Z, Y, X).

    Accelerated Richardson–Lucy steps as in `deconvolve`, with a constant background that is
    estimated likewise.
    """
    image, seen = window
    passed = BandLimitedBlur.of(blur)
    reached = passed.adjoint(seen)
    reached = reached.maximum(LEAST_SEEN * reached.amax())
    known = seen.sum()
    background = torch.quantile(image[seen > 0][:1_000_000], 0.05).clamp_min(1e-4)
    top = saturated(image)
    last = estimate = image.new_full((1, 1, blur.zyx_shape[0], *image.shape[3:]), START)
    for step in range(1, STEPS + 1):
        ahead = torch.lerp(last, estimate, 1 + momentum(step)).clamp_min_(0)
        light = passed(ahead).clamp_min_(0) + background
        ratio = (image + noise.floor) / (light + noise.floor)
        ratio = torch.where(top, ratio.clamp_min(1), ratio) * seen
        last, estimate = estimate, ahead.mul_(passed.adjoint(ratio).clamp_min_(0).div_(reached))
        background = background * ratio.sum() / known
    return passed(estimate).clamp_min_(0) + background


def losses(window: Window, blur: StridedBlur, noise: Noise, border: int) -> list[float]:
    """Losses of the voxels held out, part by part, without so many rows and columns of border.

    The strength of the noise is what fits each part best, so that no part decides alone.
    """
    return _compared(window, one_sided(predicted(window, blur, noise), window.image), noise, border)


def losses_of_nothing(window: Window, noise: Noise, border: int) -> list[float]:
    """As `losses`, of the mean of the voxels that are seen: of an explanation without structure."""
    mean = window.image[window.seen > 0].mean()
    return _compared(window, mean.expand_as(window.image), noise, border)


def _compared(window: Window, explained: Tensor, noise: Noise, border: int) -> list[float]:
    image, seen = window
    rows, columns = (inside(n, border) for n in image.shape[-2:])
    inner = [_parts(volume[..., rows, columns]) for volume in (explained, image, seen)]
    found = []
    for part, of, known in zip(*inner, strict=True):
        held = known == 0
        if held.sum() < 2:
            continue
        a, b = part[held], of[held]
        found.append(unscaled_reconstruction_loss(a, b, noise.variance(a)).item())
    return found


def _parts(window: Tensor) -> list[Tensor]:
    """Parts of a window in rows and columns, at least two along each."""
    rows, columns = (max(2, round(n / PART_YX)) for n in window.shape[-2:])
    return [part for row in window.chunk(rows, -2) for part in row.chunk(columns, -1)]
