"""Total variation on a grid, and what deconvolution needs of it.

    TV(o) = Σ |∇o|,  its negative gradient div(∇o / √(|∇o|² + ε²))

with forward differences, zero across the border, in units of the lateral voxel.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tenet.errors import TenetError

Spacing = tuple[float, float, float]
AXES = (-3, -2, -1)

EPSILON = 1e-3
LEAST_DENOMINATOR = 0.5  # of Aᵀ1: through TV an iteration at most doubles a voxel


def curvature(volume: Tensor, spacing: Spacing, epsilon: float = EPSILON) -> Tensor:
    """div(∇o / √(|∇o|² + ε²)), the negative gradient of the total variation.

    Parameters
    ----------
    volume : Tensor, shape (…, Z, Y, X)
    spacing : tuple of float
        Steps of the grid along z, y and x; see `relative_spacing`.
    epsilon : float
        ε, in units of intensity per lateral voxel: what is flatter counts as flat.

    Returns
    -------
    Tensor, shape (…, Z, Y, X)
        The divergence is minus the adjoint of the forward differences.
    """
    divergence = torch.zeros_like(volume)
    for dim, step, flux in zip(AXES, spacing, unit_gradient(volume, spacing, epsilon), strict=True):
        flux.div_(step)
        divergence.narrow(dim, 0, flux.shape[dim]).add_(flux)
        divergence.narrow(dim, 1, flux.shape[dim]).sub_(flux)
    return divergence


def unit_gradient(volume: Tensor, spacing: Spacing, epsilon: float) -> list[Tensor]:
    """∇o / √(|∇o|² + ε²) by forward differences; each axis one shorter than the volume."""
    differences = [volume.diff(dim=dim).div_(step) for dim, step in zip(AXES, spacing, strict=True)]
    weight = torch.full_like(volume, epsilon**2)
    for dim, difference in zip(AXES, differences, strict=True):
        weight.narrow(dim, 0, difference.shape[dim]).addcmul_(difference, difference)
    weight.rsqrt_()
    for dim, difference in zip(AXES, differences, strict=True):
        difference.mul_(weight.narrow(dim, 0, difference.shape[dim]))
    return differences


def total_variation(volume: Tensor, fine_voxel_size_um: Sequence[float] = (1.0, 1.0, 1.0)) -> float:
    """Total variation Σ |∇o| of a volume (Z, Y, X), with gradients per lateral voxel."""
    spacing = relative_spacing(fine_voxel_size_um)
    squares = torch.zeros_like(volume)
    for dim, step in zip(AXES, spacing, strict=True):
        difference = volume.diff(dim=dim).div_(step)
        squares.narrow(dim, 0, volume.shape[dim] - 1).addcmul_(difference, difference)
    return float(squares.sqrt_().sum(dtype=torch.float64))


def relative_spacing(voxel_size_um: Sequence[float]) -> Spacing:
    """Voxel size in units of the lateral (x) one."""
    if len(voxel_size_um) != 3 or not all(0 < size < np.inf for size in voxel_size_um):
        raise TenetError(f"a voxel size is three positive numbers (z, y, x), got {voxel_size_um}")
    z, y, x = voxel_size_um
    return (z / x, y / x, 1.0)
