"""What an encoder is told of a stack besides its voxels: the PSF, the planes and the structures.

Behind a PSF of many planes, a thin bright line and a thick dim one look alike. Whoever images them
knows how thick they are, and how long the PSF is follows from the optics.
"""

import torch
from torch import Tensor

#: Numbers that `numbers` gives of each image.
COUNT = 5


def equivalent_widths(psf: Tensor) -> tuple[float, float]:
    """Length along z and width across of a PSF, in fine voxels.

    The equivalent width of a profile p is (Σp)² / Σp². The profile along z is the light of a line
    across the axis; that across is a row of the PSF in focus.

    Parameters
    ----------
    psf : Tensor, shape (planes, rows, columns)

    Examples
    --------
    >>> psf = torch.zeros(9, 7, 7)
    >>> psf[2:6, 3, 2:5] = 1
    >>> equivalent_widths(psf)
    (4.0, 3.0)
    """
    line = psf.detach().double().sum(2)[:, psf.shape[1] // 2]
    across = psf[int(line.argmax()), psf.shape[1] // 2].detach().double()
    length, width = (float(p.sum().square() / p.square().sum()) for p in (line, across))
    return length, width


def mean_thickness(shape: Tensor) -> Tensor:
    """Mean thickness of structures in voxels, as of cylinders: four volumes over the surface.

    Faces of voxels make a surface 3/2 times as large as it is, on average over all directions.
    Faces at the border are no surface. The mean weighs structures by their surface.

    Parameters
    ----------
    shape : Tensor, shape (N, 1, Z, Y, X)
        0 or 1.

    Returns
    -------
    Tensor, shape (N,)
        NaN where there is no structure, or no surface.

    Examples
    --------
    >>> y, x = torch.meshgrid(torch.arange(41) - 20, torch.arange(41) - 20, indexing="ij")
    >>> cylinder = (y**2 + x**2 <= 6.5**2).float().expand(1, 1, 30, -1, -1)
    >>> round(mean_thickness(cylinder).item())  # 13, and more because it stands straight
    16
    """
    inside = shape > 0.5
    faces = sum(inside.diff(dim=dim).flatten(1).sum(1) for dim in (2, 3, 4))
    volume = inside.flatten(1).sum(1)
    thickness = 6 * volume / faces
    return torch.where(torch.isfinite(thickness) & (volume > 0), thickness, torch.nan)


def numbers(psf: Tensor, scale: int, thickness: Tensor) -> Tensor:
    """What an encoder is told, as numbers of the order of 1.

    Parameters
    ----------
    psf : Tensor, shape (planes, rows, columns)
        On the fine grid.
    scale : int
        Fine planes per recorded one.
    thickness : Tensor, shape (N,)
        Mean thickness of the structures in pixels; NaN: not known.

    Returns
    -------
    Tensor, shape (N, 5)
    """
    length, width = equivalent_widths(psf)
    known = torch.isfinite(thickness)
    of_psf = torch.tensor([length / 8, width / 4, scale / 4], device=thickness.device).log2()
    of_structure = torch.where(known, (thickness / 5).log2(), 0.0)
    microscope = of_psf.expand(len(thickness), -1)
    return torch.cat([microscope, torch.stack([known.float(), of_structure.float()], 1)], 1)
