"""Accelerated Richardson-Lucy deconvolution, whose result the network is shown."""

import math
from typing import Any

import torch
from torch import Tensor

from tenet.networks.recording import replayed
from tenet.physics.blur import LOST, BandLimitedBlur, StridedBlur

#: First estimate of a deconvolution. One step removes most of its effect, but the effect on noise
#: stays for many steps. A tile's own mean would therefore affect voxels that are far from the
#: border of the tile.
START = 0.05
#: Fine voxels of a batch that is deconvolved on a GPU by replaying: with more the launches of its
#: steps do not matter, but the memory does.
MOST_REPLAYED = 2**24


def momentum(step: int) -> float:
    """How far ahead of the last estimate step 1, 2, … of an accelerated iteration starts.

    The distances are in units of the last change. They follow Nesterov's rule (Soviet Math. Dokl.
    27, 372, 1983), but for the first two steps, because the start is no estimate yet.
    """
    return max(step - 2, 0) / (step + 1)


def deconvolve(
    image: Tensor,
    blur: StridedBlur,
    *,
    steps: int,
    background: float,
    early: int | None = None,
    lost: float = LOST,
) -> Tensor:
    """Accelerated Richardson–Lucy deconvolution of a batch onto the fine grid.

    Each step starts ahead of the last estimate, in the direction it came from and further from step
    to step (`momentum`); twenty such steps go further than forty plain ones. The distance does not
    depend on the image, unlike with Biggs & Andrews (Appl. Opt. 36, 1766, 1997), so that tiles of a
    stack fit together. Where the detector is `saturated`, more light explains the image as well.

    Parameters
    ----------
    image : Tensor, shape (N, 1, Z, Y, X)
        Intensities in [0, 1].
    blur : StridedBlur
        Its fine shape is (Z·s, Y, X).
    steps : int
        At least 1.
    background : float
        Added to image and model: noise weighs little where the signal is below it. Above 0.
    early : int, optional
        The estimate after so many of the steps is returned as well: a wrong PSF has done less harm
        to it.
    lost : float
        What each blur may leave out; see `BandLimitedBlur`.

    Returns
    -------
    Tensor of float32, shape (N, 1, Z·s, Y, X); with `early` (N, 2, Z·s, Y, X), the last one first
        Not negative, in the units of `image`.

    Examples
    --------
    >>> from tenet.physics.optics import gaussian, psf_volume
    >>> psf = torch.from_numpy(psf_volume(gaussian(0.6, 0.3), (7, 5, 5), (0.2, 0.2, 0.2)))
    >>> blur = StridedBlur(psf, (12, 16, 16), scale=3)
    >>> point = torch.zeros(1, 1, 12, 16, 16)
    >>> point[0, 0, 7, 8, 8] = 1
    >>> image = blur(point).clamp(0, 1)
    >>> estimate = deconvolve(image, blur, steps=20, background=0.01)
    >>> estimate.shape
    torch.Size([1, 1, 12, 16, 16])
    >>> bool(estimate.max() > 2 * image.max())  # sharper than the image
    True
    """
    passed = BandLimitedBlur.of(blur, lost)
    numbers: dict[str, Any] = {"steps": steps, "background": background, "early": early}
    if image.is_cuda and len(image) * math.prod(blur.zyx_shape) <= MOST_REPLAYED:
        return replayed(_accelerated, image, *passed, **numbers)
    return _accelerated(image, *passed, **numbers)


def _accelerated(
    image: Tensor,
    otf: Tensor,
    fine_waves: Tensor,
    coarse_waves: Tensor,
    *,
    steps: int,
    background: float,
    early: int | None,
) -> Tensor:
    """The steps of `deconvolve`, by a `BandLimitedBlur` of these parts."""
    blur = BandLimitedBlur(otf, fine_waves, coarse_waves)
    sensitivity = blur.adjoint(torch.ones_like(image[:1]))
    sensitivity = sensitivity.maximum(0.1 * sensitivity.amax())
    zyx_shape = (fine_waves.shape[1], *image.shape[3:])
    last = estimate = image.new_full((*image.shape[:2], *zyx_shape), START, dtype=torch.float32)
    top = saturated(image)
    kept: Tensor | None = None
    for step in range(1, steps + 1):
        ahead = torch.lerp(last, estimate, 1 + momentum(step)).clamp_min_(0)
        ratio = (image + background) / (blur(ahead).clamp_min_(0) + background)
        ratio = torch.where(top, ratio.clamp_min(1), ratio)
        correction = blur.adjoint(ratio).clamp_min_(0).div_(sensitivity)
        last, estimate = estimate, ahead.mul_(correction)
        kept = estimate if step == early else kept
    return estimate if kept is None else torch.cat([estimate, kept], 1)


@torch.no_grad()
def refined(
    estimate: Tensor, image: Tensor, blur: StridedBlur, *, steps: int, background: float
) -> Tensor:
    """An estimate whose brightness explains the image better; what is 0 stays 0.

    Accelerated steps as in `deconvolve`, which begin at the estimate. Beside the estimate there is
    light everywhere alike, which is estimated likewise.

    Parameters
    ----------
    estimate : Tensor, shape (N, 1, Z·s, Y, X)
        Not negative.
    image : Tensor, shape (N, 1, Z, Y, X)
    blur : StridedBlur
        Its fine shape is (Z·s, Y, X).
    steps : int
    background : float
        As in `deconvolve`.

    Examples
    --------
    >>> blur = StridedBlur(torch.ones(1, 1, 1), (2, 4, 4), scale=1)  # a PSF of one voxel
    >>> image = torch.full((1, 1, 2, 4, 4), 0.1)
    >>> image[0, 0, 1, 1, 1] = 0.7
    >>> start = (image > 0.5).float() * 0.3
    >>> found = refined(start, image, blur, steps=30, background=0.01)
    >>> round(found.sum().item(), 2), int((found > 0).sum())
    (0.6, 1)
    """
    passed = BandLimitedBlur.of(blur)
    sensitivity = passed.adjoint(torch.ones_like(image[:1]))
    sensitivity = sensitivity.maximum(0.1 * sensitivity.amax())
    top = saturated(image)
    axes = (1, 2, 3, 4)
    light = image.flatten(1).kthvalue(max(image[0].numel() // 20, 1), 1).values
    light = light.clamp_min(1e-3).view(-1, 1, 1, 1, 1)
    last = estimate
    for step in range(1, steps + 1):
        ahead = torch.lerp(last, estimate, 1 + momentum(step)).clamp_min_(0)
        seen = passed(ahead).clamp_min_(0) + light
        ratio = (image + background) / (seen + background)
        ratio = torch.where(top, ratio.clamp_min(1), ratio)
        correction = passed.adjoint(ratio).clamp_min_(0).div_(sensitivity)
        last, estimate = estimate, ahead.mul_(correction)
        light = light * ratio.mean(axes, keepdim=True)
    return estimate


def saturated(image: Tensor) -> Tensor:
    """Where a detector has cut each image (N, 1, Z, Y, X): the light there is at least this much.

    A detector that cuts leaves more voxels at the maximum than at the next value below it. So no
    voxel of an image that nothing cut is saturated, even if it has few grey levels, and no voxel of
    a constant image. Values within 1e-5 of the range count as one, because shifted planes are
    interpolated.

    Examples
    --------
    >>> image = torch.tensor([0.1, 0.3, 0.2, 0.5, 0.5, 0.5]).view(1, 1, 1, 1, 6)
    >>> saturated(image).flatten().tolist()
    [False, False, False, True, True, True]
    """
    axes = (1, 2, 3, 4)
    low, high = image.amin(axes, keepdim=True), image.amax(axes, keepdim=True)
    margin = 1e-5 * (high - low)
    top = image >= high - margin
    below = image.masked_fill(top, -math.inf)
    at_next = below >= below.amax(axes, keepdim=True) - margin
    most = top.sum(axes, keepdim=True) > (at_next & ~top).sum(axes, keepdim=True)
    return top & most & (image > low)
