"""Where structure ends, by the light itself, beside what the network says.

A thin bright structure and a thick dim one look alike behind a long PSF, and a network that has
learned with both gives both a high probability. The deconvolved stack tells them apart a little: it
falls within a structure from its middle on where the structure is thin, and at its border where it
is thick. So the probability is weighed against the deconvolved light of a voxel, as a share of the
most light near it.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from tenet.physics.optics import psf_fwhm_um
from tenet.settings.schema import ModelParams
from tenet.types import Triple

#: Weights that a calibration chooses from; 0 leaves the probability as it is.
WEIGHTS = (0.0, 4.0, 8.0, 16.0)
#: Share of the most light near a voxel that speaks neither for structure nor against it.
HALF = 0.5
#: Standard deviation of what noise is smoothed by, in fine voxels.
SMOOTHING = 1.0
#: Nothing is sure to more than this, so that equal numbers come of a probability and of its logit.
SUREST = 1e-6


def neighbourhood(psf: Tensor, params: ModelParams) -> Triple:
    """Fine voxels along z, y and x within which light is compared: odd numbers.

    Half of the PSF (FWHM) along z, and the whole along y and x.

    Parameters
    ----------
    psf : Tensor, shape (Z, Y, X)
        On the fine grid of `params`.

    Examples
    --------
    >>> from tenet.physics.optics import gaussian, psf_volume
    >>> import tenet
    >>> params = tenet.load_experiment("sample").params
    >>> psf = torch.from_numpy(psf_volume(gaussian(2.0, 0.5), (41, 15, 15), (0.2, 0.2, 0.2)))
    >>> even = params.model_copy(update={"res_axial": 0.2, "res_lateral": 0.2, "scale": 1})
    >>> neighbourhood(psf, even)
    (9, 5, 5)
    """
    widths = psf_fwhm_um(psf.detach().cpu().numpy(), params.fine_voxel_size_um)
    reach_um = widths["axial"] / 2, widths["lateral"], widths["lateral"]
    voxels = zip(reach_um, params.fine_voxel_size_um, psf.shape, strict=True)
    z, y, x = (2 * round(min(um / size, n) / 2) + 1 for um, size, n in voxels)
    return z, y, x


def share_of_nearby(
    estimate: Tensor, zyx_size: Triple, background: float, smoothing: float = SMOOTHING
) -> Tensor:
    """Light of each voxel as a share of the most light in its neighbourhood, between 0 and 1.

    Deconvolution gathers at the border what came from beyond. So voxels that are nearer to the
    border than half of the neighbourhood have the share of the next one inside. TorchScript can
    compile this function.

    Parameters
    ----------
    estimate : Tensor, shape (N, 1, Z, Y, X)
        Deconvolved light, not negative.
    zyx_size : tuple of int
        The neighbourhood in voxels, odd.
    background : float
        Light that counts as none, so that noise where nothing is has a small share.
    smoothing : float
        Standard deviation, in voxels, of what noise is smoothed by.

    Examples
    --------
    >>> light = torch.zeros(1, 1, 15, 15, 15)
    >>> light[..., 7, 7, 6:9] = torch.tensor([0.2, 1.0, 0.2])
    >>> share = share_of_nearby(light, (5, 5, 5), 0.01)[0, 0, 7, 7]
    >>> bool(share[7] > 0.8), bool(share[5] < 0.4)
    (True, True)
    """
    shape = estimate.shape[2:]
    rims = [min(size // 2, shape[axis] // 4) for axis, size in enumerate(zyx_size)]
    inner = estimate
    for axis, rim in enumerate(rims):
        inner = inner.narrow(2 + axis, rim, inner.shape[2 + axis] - 2 * rim)
    light = _smoothed(inner, [smoothing, smoothing, smoothing])
    most = light
    for axis, size in enumerate(zyx_size):
        kernel, padding = [1, 1, 1], [0, 0, 0]
        kernel[axis], padding[axis] = size, size // 2
        most = functional.max_pool3d(most, kernel, [1, 1, 1], padding)
    # Without steps in it, the most light leaves no steps in the shape.
    most = _smoothed(most, [size / 4 for size in zyx_size])
    share = (light / (most + background)).clamp(0, 1)
    z, y, x = rims
    return functional.pad(share, [x, x, y, y, z, z], mode="replicate")


def weighed(probability: Tensor, share: Tensor, weight: float) -> Tensor:
    """Probability of structure, lower where the light is less than half of the most nearby.

    The logit of the probability and `weight` times (share − ½) are added.

    Examples
    --------
    >>> even = torch.full((3,), 0.5)
    >>> weighed(even, torch.tensor([0.0, 0.5, 1.0]), 4.0)
    tensor([0.1192, 0.5000, 0.8808])
    """
    return torch.sigmoid(probability.logit(SUREST) + weight * (share - HALF))


def _smoothed(volume: Tensor, zyx_sigma: list[float]) -> Tensor:
    """Convolve with Gaussians along the axes; what is beyond the border is as at the border."""
    for axis, sigma in enumerate(zyx_sigma):
        reach = math.ceil(3 * sigma)
        at = torch.arange(-reach, reach + 1, device=volume.device, dtype=volume.dtype)
        kernel = torch.exp(-0.5 * (at / sigma) ** 2)
        shape, padding = [1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]
        shape[2 + axis] = 2 * reach + 1
        padding[4 - 2 * axis] = padding[5 - 2 * axis] = reach
        padded = functional.pad(volume, padding, mode="replicate")
        volume = functional.conv3d(padded, (kernel / kernel.sum()).view(shape))
    return volume
