"""Total variation Σ |∇o| of a volume, and the curvature by which it is lowered."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tenet.errors import TenetError

_SLAB_VOXELS, _LEAST_SLAB = 2**19, 8  # voxels and planes at a time: the cache


def relative_spacing(voxel_size_um: Sequence[float]) -> tuple[float, float, float]:
    """Voxel size (z, y, x) in units of the lateral (x) one.

    Raises
    ------
    TenetError
        If these are not three positive numbers.
    """
    if len(voxel_size_um) != 3 or not all(0 < size < np.inf for size in voxel_size_um):
        raise TenetError(f"a voxel size is three positive numbers (z, y, x), got {voxel_size_um}")
    z, y, x = voxel_size_um
    return (z / x, y / x, 1.0)


def curvature(volume: Tensor, spacing: tuple[float, float, float], epsilon: float) -> Tensor:
    """div(∇o / √(|∇o|² + ε²)), the negative gradient of the total variation.

    Differences are forward differences, and 0 across the border. The divergence is minus their
    adjoint. On the CPU the volume is worked through slab by slab, because the speed of memory
    limits the work. The result of a plane depends on its neighbours alone.

    Parameters
    ----------
    volume : Tensor, shape (Z, Y, X)
        The estimate o.
    spacing : tuple of float
        Voxel size (z, y, x) in units of the lateral one, as of `relative_spacing`.
    epsilon : float
        Positive, in the units of o. Differences far below ε are smoothed, and not kept as edges.

    Returns
    -------
    Tensor, shape (Z, Y, X)
    """
    planes = len(volume)
    each = max(_SLAB_VOXELS // volume[0].numel(), _LEAST_SLAB)
    if volume.device.type != "cpu" or planes <= each:
        return _curvature_at_once(volume, spacing, epsilon)
    result = torch.empty_like(volume)
    for first in range(0, planes, each):
        last, before = min(first + each, planes), max(first - 1, 0)
        slab = _curvature_at_once(volume[before : last + 1], spacing, epsilon)
        result[first:last] = slab[first - before : last - before]
    return result


def _curvature_at_once(
    volume: Tensor, spacing: tuple[float, float, float], epsilon: float
) -> Tensor:
    divergence = torch.zeros_like(volume)
    for dim, flux in enumerate(_unit_gradient(volume, spacing, epsilon)):
        flux.div_(spacing[dim])
        divergence.narrow(dim, 0, flux.shape[dim]).add_(flux)
        divergence.narrow(dim, 1, flux.shape[dim]).sub_(flux)
    return divergence


def published_curvature(volume: Tensor) -> Tensor:
    """Compute the published div: forward differences of forward differences, shifted by a voxel.

    At each end one of the two differences is missing, and counts as zero.

    Parameters
    ----------
    volume : Tensor, shape (Z, Y, X)
        The estimate; voxels count as cubes.

    Returns
    -------
    Tensor, shape (Z, Y, X)
    """
    divergence = torch.zeros_like(volume)
    for dim, flux in enumerate(_unit_gradient(volume, (1.0, 1.0, 1.0), 1e-6)):
        length = flux.shape[dim]
        divergence.narrow(dim, 0, length).sub_(flux)
        divergence.narrow(dim, 0, length - 1).add_(flux.narrow(dim, 1, length - 1))
    return divergence


def _unit_gradient(
    volume: Tensor, spacing: tuple[float, float, float], epsilon: float
) -> list[Tensor]:
    """∇o / √(|∇o|² + ε²) by forward differences; each axis is one voxel shorter."""
    differences = [volume.diff(dim=dim).div_(spacing[dim]) for dim in range(3)]
    weight = torch.full_like(volume, epsilon**2)
    for dim, difference in enumerate(differences):
        weight.narrow(dim, 0, difference.shape[dim]).addcmul_(difference, difference)
    weight.rsqrt_()
    for dim, difference in enumerate(differences):
        difference.mul_(weight.narrow(dim, 0, difference.shape[dim]))
    return differences


def total_variation(volume: Tensor, fine_voxel_size_um: Sequence[float] = (1.0, 1.0, 1.0)) -> float:
    """Total variation Σ |∇o| of a volume (Z, Y, X), with gradients per lateral voxel.

    Raises
    ------
    TenetError
        As `relative_spacing`.
    """
    spacing = relative_spacing(fine_voxel_size_um)
    squares = torch.zeros_like(volume)
    for dim in range(3):
        difference = volume.diff(dim=dim).div_(spacing[dim])
        squares.narrow(dim, 0, volume.shape[dim] - 1).addcmul_(difference, difference)
    return float(squares.sqrt_().sum(dtype=torch.float64))
