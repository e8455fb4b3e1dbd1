"""Richardson–Lucy deconvolution with total variation, straight onto the fine grid.

The estimate o lives on the fine grid, the stack y on the coarse one, A blurs and keeps every s-th
plane (`tenet.physics.blur.StridedBlur`)::

    o <- o · Aᵀ(y / (A o + b)) / (Aᵀ1 - (λ/s) div(∇o / √(|∇o|² + ε²)))

λ is divided by s because the mean of Aᵀ1 is 1/s. One λ therefore means the same for every s, and
for s = 1 the same as in the literature.

References
----------
Richardson, J. Opt. Soc. Am. 62, 55 (1972); Lucy, Astron. J. 79, 745 (1974);
Dey et al., Microsc. Res. Tech. 69, 260 (2006) for the total variation term;
Bertero & Boccacci, Astron. Astrophys. 437, 369 (2005) for light from outside of the image.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tenet.errors import TenetError
from tenet.paper.baselines.observation import Observation
from tenet.paper.baselines.total_variation import curvature, published_curvature, relative_spacing
from tenet.physics.blur import centred_planes
from tenet.physics.richardson_lucy import momentum
from tenet.types import Progress

Volume = Tensor | NDArray[Any]

EPSILON = 1e-3
_LEAST_DENOMINATOR = 0.5  # of Aᵀ1: through TV an iteration at most doubles a voxel
_LEAST_SENSITIVITY = 1e-3  # of the highest Aᵀ1: the image says nothing of voxels below
_LEAST_MODEL = 1e-6  # of the image's maximum: keeps FFT round-off out of the ratio


def rltv(
    image: Volume,
    psf: Volume,
    *,
    scale: int,
    iterations: int,
    tv_weight: float,
    fine_voxel_size_um: Sequence[float],
    background: float = 0.0,
    epsilon: float = EPSILON,
    initial: Volume | float | None = None,
    accelerated: bool = False,
    progress: Progress | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Deconvolve a coarse stack onto the fine grid.

    Parameters
    ----------
    image
        Coarse stack, shape (Z, Y, X), not negative.
    psf
        PSF on the fine grid, shape (planes, rows, columns), not negative, sum 1. Planes must be
        odd in number for an odd `scale` and even for an even one, rows and columns odd.
    scale
        s, fine planes per coarse plane.
    iterations
        Number of iterations, at least 1.
    tv_weight
        λ; 0 is plain Richardson–Lucy. From about 0.1 on, the iteration overshoots, because its
        total variation is one step late. The estimate then gets rougher instead of smoother.
    fine_voxel_size_um
        Voxel size (z, y, x) of the fine grid in µm. Gradients are per lateral (x) voxel, so that
        one λ means the same for every voxel size.
    background
        b, the intensity of a coarse voxel without any light from the sample.
    epsilon
        ε, in units of intensity per lateral voxel. Smaller gradients count as flat.
    initial
        First estimate: a number, or a volume of the output's shape. By default the mean of the
        image over the background.
    accelerated
        Whether each iteration starts ahead of the last estimate, by `richardson_lucy.momentum`, and
        blurs by `blur.BandLimitedBlur`, as long as its negative weights do no harm. Thirty such
        iterations go about as far as a hundred plain iterations, but the likelihood need not rise
        in each.
    progress
        Called as ``progress(done, iterations)`` after every iteration.
    device
        Where to compute; by default where the image is.

    Returns
    -------
    Tensor of float32, shape (Z·s, Y, X)
        Estimate in the image's units of intensity. An even area keeps its intensity.

    Raises
    ------
    TenetError
        If the image or the PSF is negative, not finite or of the wrong shape, the PSF does not sum
        to 1 or cannot be centred, a parameter is out of range, or the result is not finite.

    Notes
    -----
    The estimate extends half a PSF beyond the image on every side, because light reaches the image
    from outside. This margin is cut off in the end. A voxel that does not reach the image (Aᵀ1
    below 1e-3 of its maximum) stays at zero.

    The iteration needs weights that are not negative. `blur.BandLimitedBlur` rings where the PSF is
    cut off. Aᵀ may therefore amplify the ratios y / (A o + b) instead of averaging them, and bright
    places may make A o negative elsewhere. From there on the estimate would grow without bound. If
    the model of recorded light is not positive, the run begins again with all frequencies.
    """
    *_, (_, estimate) = rltv_iterates(
        image,
        psf,
        scale=scale,
        snapshots=(iterations,),
        tv_weight=tv_weight,
        fine_voxel_size_um=fine_voxel_size_um,
        background=background,
        epsilon=epsilon,
        initial=initial,
        accelerated=accelerated,
        progress=progress,
        device=device,
    )
    return _finite(estimate)


def rltv_iterates(
    image: Volume,
    psf: Volume,
    *,
    scale: int,
    snapshots: Sequence[int],
    tv_weight: float,
    fine_voxel_size_um: Sequence[float],
    background: float = 0.0,
    epsilon: float = EPSILON,
    initial: Volume | float | None = None,
    accelerated: bool = False,
    progress: Progress | None = None,
    device: torch.device | str | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Yield (iterations, estimate) at each of several numbers of iterations of one run.

    Parameters
    ----------
    snapshots
        Rising numbers of iterations. The run ends at the last number.

    Yields
    ------
    tuple of int and Tensor of float32, shape (Z·s, Y, X)
        Number of iterations and estimate, which may be not finite.

    See Also
    --------
    rltv : the other parameters, and the errors raised.
    """
    steps = list(snapshots)
    if not steps or steps[0] < 1 or any(b <= a for a, b in pairwise(steps)):
        raise TenetError(f"iterations must be rising numbers from 1 on, got {steps}")
    if not 0 <= tv_weight < np.inf:
        raise TenetError(f"the weight of total variation must not be negative, got {tv_weight}")
    if not epsilon > 0:
        raise TenetError(f"epsilon must be positive, got {epsilon}")
    spacing = relative_spacing(fine_voxel_size_um)

    def penalty(estimate: Tensor) -> Tensor:
        return curvature(estimate, spacing, epsilon).mul_(-tv_weight / scale)

    return _iterates(
        as_volume(image, "image", device),
        psf,
        scale=scale,
        snapshots=steps,
        penalty=penalty if tv_weight > 0 else None,
        background=background,
        initial=initial,
        accelerated=accelerated,
        progress=progress,
    )


def rltv_tiled(
    image: Volume,
    psf: Volume,
    *,
    scale: int,
    tile_yx: tuple[int, int] = (256, 256),
    background: float = 0.0,
    progress: Progress | None = None,
    device: torch.device | str | None = None,
    **settings: Any,
) -> Tensor:
    """Deconvolve a stack too large for memory, in tiles of all its planes.

    Each tile is deconvolved with a halo of half the PSF, which is cut off afterwards. Each tile
    starts from the mean of the whole stack.

    Parameters
    ----------
    tile_yx
        Rows and columns of a tile without its halo.
    progress
        Called as ``progress(done, tiles)`` after every tile.
    device
        Device of the tiles; the result is on the device of the image.
    settings
        The other keyword arguments of `rltv`.

    Returns
    -------
    Tensor of float32, shape (Z·s, Y, X)

    See Also
    --------
    rltv : the other parameters, and the errors raised.
    """
    if min(tile_yx) < 1:
        raise TenetError(f"a tile needs rows and columns, got {tile_yx}")
    stack = as_volume(image, "image", None)
    planes, rows, columns = stack.shape
    halo_y, halo_x = psf.shape[1] // 2, psf.shape[2] // 2
    start = {"initial": _mean_level(stack, background)} | settings
    result = stack.new_zeros((planes * scale, rows, columns))
    corners = [(y, x) for y in range(0, rows, tile_yx[0]) for x in range(0, columns, tile_yx[1])]
    for done, (y, x) in enumerate(corners, start=1):
        top, left = max(y - halo_y, 0), max(x - halo_x, 0)
        bottom, right = min(y + tile_yx[0], rows), min(x + tile_yx[1], columns)
        tile = rltv(
            stack[:, top : bottom + halo_y, left : right + halo_x],
            psf,
            scale=scale,
            background=background,
            device=device,
            **start,
        )
        result[:, y:bottom, x:right] = tile[:, y - top : bottom - top, x - left : right - left]
        if progress is not None:
            progress(done, len(corners))
    return result


def rltv_paper(
    image: Volume,
    psf: Volume,
    *,
    scale: int,
    iterations: int = 10,
    tv_weight: float = 0.1,
    background: float = 0.0,
    published_term: bool = True,
    progress: Progress | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Deconvolve as for the published figures: on the coarse grid, then repeat planes.

    10 iterations with λ = 0.1 from the image itself, gradients per voxel without regard to the
    voxel's shape, then nearest-neighbour upsampling in z.

    Parameters
    ----------
    image
        Coarse stack, shape (Z, Y, X), not negative.
    psf
        PSF on the *fine* grid, as for `rltv`; planes are summed to the coarse grid.
    published_term
        Whether the total variation term is that of the published tool, or the right one.

    Returns
    -------
    Tensor of float32, shape (Z·s, Y, X)

    See Also
    --------
    rltv : the other parameters, and the errors raised.

    Notes
    -----
    10 and 0.1 are the defaults of DeconvolutionLab2 (Sage et al., Methods 115, 28, 2017). The term
    of that tool has the wrong sign, 1 + λ div in the denominator, and takes the same one-sided
    difference twice, which shifts div by a voxel. Waves shorter than four voxels change sign within
    that voxel, and are damped. Longer waves are sharpened, whereas the right term smooths them.

    One published defect is not repeated: a PSF of even size shifted the result by half a slice.
    """
    if not 0 <= tv_weight < np.inf:
        raise TenetError(f"the weight of total variation must not be negative, got {tv_weight}")
    if iterations < 1:
        raise TenetError(f"iterations must be at least 1, got {iterations}")
    stack = as_volume(image, "image", device)

    def penalty(estimate: Tensor) -> Tensor:
        if published_term:
            return published_curvature(estimate).mul_(tv_weight)
        return curvature(estimate, (1.0, 1.0, 1.0), EPSILON).mul_(-tv_weight)

    *_, (_, estimate) = _iterates(
        stack,
        coarse_psf(_as_psf(psf, scale, stack.device), scale),
        scale=1,
        snapshots=[iterations],
        penalty=penalty if tv_weight > 0 else None,
        background=background,
        initial=stack,
        accelerated=False,
        progress=progress,
    )
    return _finite(estimate).repeat_interleave(scale, dim=0)


def _finite(estimate: Tensor) -> Tensor:
    if bool(estimate.isfinite().all()):
        return estimate
    raise TenetError(
        "RLTV diverged, its result is not finite: take fewer iterations or a lower weight of the "
        "total variation"
    )


def coarse_psf(psf: Tensor, scale: int) -> Tensor:
    """PSF on the coarse grid: the sum over each coarse plane's `scale` fine planes.

    Parameters
    ----------
    psf
        Fine PSF, shape (planes, rows, columns), with as many planes as centre it (odd for an odd
        `scale`, even for an even one).
    scale
        s, fine planes per coarse plane.

    Returns
    -------
    Tensor, shape (odd number of planes, rows, columns)
        Its sum is that of `psf`; its middle plane is centred where `psf` is.
    """
    half = -(-(psf.shape[0] - scale) // (2 * scale)) if psf.shape[0] > scale else 0
    margin = ((2 * half + 1) * scale - psf.shape[0]) // 2
    padded = functional.pad(psf, (0, 0, 0, 0, margin, margin))
    return padded.unflatten(0, (2 * half + 1, scale)).sum(1)


# ---------------------------------------------------------------------------------------------
# The iteration
# ---------------------------------------------------------------------------------------------


@torch.no_grad()
def _iterates(
    image: Tensor,
    psf: Volume,
    *,
    scale: int,
    snapshots: list[int],
    penalty: Callable[[Tensor], Tensor] | None,
    background: float,
    initial: Volume | float | None,
    accelerated: bool,
    progress: Progress | None,
) -> Iterator[tuple[int, Tensor]]:
    """Run the iteration and yield copies of the estimate at `snapshots`.

    `penalty` returns the term that the regularisation adds to Aᵀ1 in the denominator.
    """
    run = partial(_run, image, psf, scale, penalty, background, initial, accelerated=accelerated)
    done = 0
    for band_limited in (True, False) if accelerated else (False,):
        for iteration, estimate in run(steps=snapshots[-1], band_limited=band_limited):
            if iteration > done and progress is not None:
                progress(iteration, snapshots[-1])
            if iteration > done and iteration in snapshots:
                yield iteration, estimate.clone()
            done = max(done, iteration)
        if done == snapshots[-1]:
            return


def _run(
    image: Tensor,
    psf: Volume,
    scale: int,
    penalty: Callable[[Tensor], Tensor] | None,
    background: float,
    initial: Volume | float | None,
    *,
    accelerated: bool,
    steps: int,
    band_limited: bool,
) -> Iterator[tuple[int, Tensor]]:
    """Yield each iteration. A band-limited run ends if its model of recorded light is dark."""
    if background < 0:
        raise TenetError(f"the background must not be negative, got {background}")
    psf = _as_psf(psf, scale, image.device)
    observation = Observation(psf, image.shape, scale, band_limited=band_limited)
    sensitivity = observation.adjoint(torch.ones_like(image))
    seen = sensitivity > _LEAST_SENSITIVITY * sensitivity.max()
    sensitivity.clamp_(min=_LEAST_SENSITIVITY * float(sensitivity.max()))
    estimate = _first_estimate(image, observation, scale, background, initial).mul_(seen)
    least_model = _LEAST_MODEL * max(float(image.max()), 1e-30)
    recorded, last = image > 0, estimate
    for iteration in range(1, steps + 1):
        ahead = estimate.clone()
        if accelerated:
            ahead = torch.lerp(last, estimate, 1 + momentum(iteration)).clamp_(min=0)
        model = observation.forward(ahead).add_(background)
        if band_limited and not bool((model > least_model)[recorded].all()):
            return
        model.clamp_(min=least_model)
        correction = observation.adjoint(torch.div(image, model, out=model)).clamp_(min=0)
        denominator = sensitivity
        if penalty is not None:
            denominator = penalty(ahead).add_(sensitivity)
            torch.maximum(denominator, _LEAST_DENOMINATOR * sensitivity, out=denominator)
        last, estimate = estimate, ahead.mul_(correction.div_(denominator)).mul_(seen)
        yield iteration, observation.inside(estimate)


def _first_estimate(
    image: Tensor,
    observation: Observation,
    scale: int,
    background: float,
    initial: Volume | float | None,
) -> Tensor:
    """Positive first estimate on the fine grid with its margin."""
    if initial is None:
        initial = _mean_level(image, background)
    if isinstance(initial, int | float):
        return image.new_full(observation.fine_shape_zyx, float(initial))
    inner = as_volume(initial, "first estimate", image.device)
    expected = (image.shape[0] * scale, *image.shape[1:])
    if tuple(inner.shape) != expected:
        raise TenetError(f"the first estimate must have shape {expected}, got {tuple(inner.shape)}")
    margin_z, margin_y, margin_x = observation.margin_zyx
    padding = (margin_x, margin_x, margin_y, margin_y, margin_z, margin_z)
    return functional.pad(inner[None, None], padding, mode="replicate")[0, 0]


def _mean_level(image: Tensor, background: float) -> float:
    """Mean of the image over the background; positive, because the iteration cannot leave zero."""
    return max(float(image.mean(dtype=torch.float64)) - background, 1e-6)


def as_volume(volume: Volume, name: str, device: torch.device | str | None) -> Tensor:
    """Float32 tensor (Z, Y, X) on `device`; `name` names the volume in errors.

    Raises
    ------
    TenetError
        If it has no three axes or no voxels, or is not finite and at least 0 everywhere.
    """
    tensor = torch.as_tensor(volume, device=device).float()
    if tensor.ndim != 3 or tensor.numel() == 0:
        raise TenetError(f"the {name} must have shape (Z, Y, X), got {tuple(tensor.shape)}")
    if not (bool(tensor.isfinite().all()) and bool((tensor >= 0).all())):
        raise TenetError(f"the {name} must be finite and not negative: clip it at 0 first")
    return tensor


def _as_psf(psf: Volume, scale: int, device: torch.device) -> Tensor:
    """PSF as a tensor, checked to sum to 1 and to have a centre on the grid."""
    if scale < 1:
        raise TenetError(f"the scale must be at least 1, got {scale}")
    kernel = as_volume(psf, "PSF", device)
    planes = kernel.shape[0]
    if planes != centred_planes(planes, scale):
        raise TenetError(
            f"a PSF of {planes} planes cannot be centred for scale {scale}: "
            f"use {centred_planes(planes, scale)}"
        )
    total = float(kernel.sum(dtype=torch.float64))
    if abs(total - 1) > 1e-3:
        raise TenetError(f"the PSF must sum to 1, but sums to {total:.4g}: divide it by its sum")
    return kernel
