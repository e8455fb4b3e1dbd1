"""The PSFs of pre-training: drawn about that of the settings, or of microscopes of every kind."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from tenet.data.simulate import focused_psf_volume
from tenet.errors import TenetError
from tenet.metrics.widths import fwhm
from tenet.model.tenet import TENET
from tenet.physics.microscope import Microscope
from tenet.settings.ranges import MOST_FREE
from tenet.settings.schema import FreeMicroscopes, Microscopes, ModelParams
from tenet.types import VoxelSize

#: How far the grid of a PSF of `microscopes.free` reaches along z, in full widths at half maximum.
HELD_WIDTHS = 2.5
#: Draws of a microscope after which its ranges are taken to exclude one another.
MOST_DRAWS = 2000


class DrawnPSF(NamedTuple):
    """The PSF that blurs an image, and the nominal PSF, which the network is shown.

    Both are on the fine grid of `scale`, for raw voxels of `voxel_size_um`.
    """

    true: Tensor
    nominal: Tensor
    scale: int
    voxel_size_um: VoxelSize


def psfs(params: ModelParams, microscopes: Microscopes, rng: Generator) -> list[DrawnPSF]:
    """Draw the PSFs of pre-training, each in focus, on the fine grid and with sum 1."""
    drawn = []
    for _ in range(microscopes.count):
        own_params = params
        if microscopes.free is not None:
            own_params = _free(params, microscopes.free, rng)
        factor = 1 + rng.uniform(-1, 1) * microscopes.na_spread
        depth = rng.uniform(0, 1) * microscopes.depth
        share = rng.uniform(0, microscopes.most_haze) if microscopes.most_haze else 0.0
        base = own_params.model_copy(update={"pZ": own_params.pZ + depth})
        own = _form(base, microscopes, rng)
        mistake = float(microscopes.told_length ** rng.uniform(-0.5, 0.5))
        towards = rng.uniform(0, microscopes.told_form)
        other = own if towards == 0 else _form(base, microscopes, rng)
        told = Form(*(a + towards * (b - a) for a, b in zip(own, other, strict=True)))
        true = _volume(base, factor, own)
        nominal = true if (mistake, told) == (1, own) else _volume(base, factor * mistake, told)
        true = torch.lerp(true, haze(true), share) if share else true
        drawn.append(DrawnPSF(true, nominal, base.scale, base.coarse_voxel_size_um))
    return drawn


def _free(params: ModelParams, ranges: FreeMicroscopes, rng: Generator) -> ModelParams:
    """Draw aperture, pixels, planes and photons, and a grid that holds most of the PSF."""
    for _ in range(MOST_DRAWS):
        na = float(np.exp(rng.uniform(*np.log(ranges.apertures))))
        photons = 1 if rng.random() < ranges.one_photon else 2
        optics = params.model_copy(
            update={"NA": na, "photons": photons} | ({"fill": None} if photons == 1 else {})
        )
        axial_um, lateral_um = _widths_um(optics)
        pixel_um = lateral_um / float(np.exp(rng.uniform(*np.log(ranges.pixels))))
        scale = int(rng.choice(ranges.scales))
        if ranges.planes[0] <= axial_um / (scale * pixel_um) <= ranges.planes[1]:
            break
    else:
        raise TenetError(
            f"microscopes.free: no PSF of {ranges.pixels} pixels across is {ranges.planes} planes "
            f"long at scales {ranges.scales}: widen pixels, planes or scales"
        )
    most_z, _, most_x = (n // 2 for n in MOST_FREE)
    half_z = min(math.ceil(HELD_WIDTHS * axial_um / pixel_um), most_z)
    cone = half_z * math.tan(math.asin(na / optics.ni))
    half_x = min(math.ceil(max(2 * lateral_um / pixel_um, cone)), most_x)
    return optics.model_copy(
        update={
            "scale": scale,
            "res_axial": scale * pixel_um,
            "res_lateral": pixel_um,
            "size_z": 2 * half_z + 1,
            "size_y": 2 * half_x + 1,
            "size_x": 2 * half_x + 1,
        }
    )


def _widths_um(optics: ModelParams) -> tuple[float, float]:
    """Full widths at half maximum of the model PSF along z and across."""
    psf = optics.focused_psf()
    reach_z = 4 * optics.ni * optics.wavelength / optics.NA**2
    reach_r = 2 * optics.wavelength / optics.NA
    z_um, r_um = np.linspace(-reach_z, reach_z, 401), np.linspace(-reach_r, reach_r, 401)
    axial = fwhm(psf(z_um, np.zeros(1))[:, 0], z_um[1] - z_um[0])
    lateral = fwhm(psf(np.zeros(1), np.abs(r_um))[0], r_um[1] - r_um[0])
    return float(axial), float(lateral)


class Form(NamedTuple):
    """The form of a PSF: 1 / fill, and primary spherical aberration in wavelengths."""

    emptiness: float
    spherical: float


def _form(params: ModelParams, microscopes: Microscopes, rng: Generator) -> Form:
    """Draw the form of a PSF about that of `params`."""
    emptiness = 1 / (params.fill or math.inf)
    if microscopes.least_fill is not None:
        emptiness = rng.uniform(0, 1 / microscopes.least_fill)
    return Form(emptiness, params.spherical + rng.uniform(-1, 1) * microscopes.most_spherical)


def _volume(params: ModelParams, factor: float, form: Form) -> Tensor:
    """A PSF of a form that is narrower than that of `params` by a factor, shorter by its square."""
    fill = 1 / form.emptiness if form.emptiness else None
    wider = (_defocus(fill) / _defocus(params.fill)) ** -0.5
    update = {
        "NA": min(params.NA * factor * wider, 0.98 * min(params.ni, params.ni0)),
        "fill": fill,
        "spherical": form.spherical,
        "bet_xy": params.bet_xy / factor,
        "bet_z": params.bet_z / factor**2,
    }
    return torch.from_numpy(focused_psf_volume(params.model_copy(update=update)))


def _defocus(fill: float | None) -> float:
    """Spread (standard deviation) of ρ² over the amplitude in a pupil, exp(-(ρ / fill)²).

    Close to focus, the intensity on the axis falls with the square of it, so a PSF is as long as
    1 / it.
    """
    if fill is None or fill > 10:
        return 12**-0.5
    return math.sqrt(fill**4 - 0.25 / math.sinh(0.5 / fill**2) ** 2)


def draw_microscope(
    model: TENET, psfs: Sequence[DrawnPSF], rng: Generator
) -> tuple[Microscope, Tensor | None]:
    """The model's microscope with one of some PSFs, and the nominal one; its own if none are."""
    if not psfs:
        return model.microscope(), None
    psf = psfs[int(rng.integers(len(psfs)))]
    microscope = model.microscope(psf.true)
    microscope = replace(microscope, scale=psf.scale, voxel_size_um=psf.voxel_size_um)
    return microscope, psf.nominal


def haze(psf: Tensor) -> Tensor:
    """Make a Gaussian over the grid of a PSF, a quarter of each axis wide, with sum 1.

    The Gaussian stands for scattered and strongly aberrated light, which no model PSF has.
    """
    total = torch.ones_like(psf)
    for axis, n in enumerate(psf.shape):
        distance = 4 * (torch.arange(n) - (n - 1) / 2) / n
        profile = torch.exp(-distance.square() / 2).to(psf)
        total = total * profile.view(*(n if a == axis else 1 for a in range(psf.ndim)))
    return total / total.sum()
