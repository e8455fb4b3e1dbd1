"""The microscopes among which a search looks: length, tails and asymmetry of their PSFs."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tenet.metrics.widths import fwhm
from tenet.physics.optics import RadialPSF
from tenet.settings.schema import ModelParams

#: Part of the light of a line whose depth is the length of a PSF: of all such parts, the one that
#: best tells how long a PSF explains a stack, whatever its tails.
LENGTH_SHARE = 0.7
#: Least fill; PSFs of less look alike.
LEAST_FILL = 0.45
#: Largest aperture, as a part of the immersion index.
MOST_NA = 0.97
#: Samples along z on either side, and across.
_DEPTHS, _RADII = 200, 160


class Candidate(NamedTuple):
    """A microscope, in coordinates along which the quality of an explanation changes evenly.

    Attributes
    ----------
    length : float
        Logarithm of the length of the PSF, in units of that of the microscope as told.
    tails : float
        u / (1 + u / 4) with u = 1 / fill²; 0 for a pupil that is filled evenly.
    spherical : float
        Spherical aberration in waves.

    Examples
    --------
    >>> Candidate(0.0, Candidate.tails_of(0.7), 0.0).fill
    0.7
    """

    length: float
    tails: float = 0.0
    spherical: float = 0.0

    @property
    def fill(self) -> float | None:
        """Fill of the pupil; None: evenly."""
        return None if self.tails <= 0 else float((1 / self.tails - 1 / 4) ** 0.5)

    @staticmethod
    def tails_of(fill: float | None) -> float:
        """The coordinate `tails` of a fill."""
        return 0.0 if fill is None else 1 / (fill**2 + 1 / 4)


class Widths(NamedTuple):
    """What a PSF does, in µm; `tail` is the share of a line's light beyond two half widths."""

    axial: float
    lateral: float
    line: float
    tail: float


def microscope(told: ModelParams, candidate: Candidate) -> ModelParams:
    """The parameters of a candidate, whose voxels and grid are as told.

    The aperture is the one that gives the length, whatever fill and spherical aberration.
    """
    factor = math.exp(candidate.length)
    wanted = factor * _length(told)
    most = MOST_NA * min(told.ni, told.ni0)
    own = told.model_copy(update={"fill": candidate.fill, "spherical": candidate.spherical})
    for _ in range(6):  # lengths go with 1/NA², or nearly
        na = min(own.NA * math.sqrt(_length(own) / wanted), most)
        own = own.model_copy(update={"NA": max(na, 0.02)})
    return own


def _reach_um(params: ModelParams) -> float:
    """Depth beyond which there is a hundredth or so of a line's light."""
    effective = params.NA * min(1.0, params.fill or 1.0)
    return 8 * params.ni * params.wavelength / effective**2


def _line(psf: RadialPSF, reach_um: float, steps: int) -> tuple[NDArray, NDArray]:
    """Depths and the light there of a line across the axis; denser near the focus."""
    half = reach_um * (np.arange(steps + 1) / steps) ** 2
    z_um = np.concatenate([-half[:0:-1], half])
    r_um = reach_um * (np.arange(_RADII) / _RADII) ** 3
    return z_um, np.asarray(np.trapezoid(psf(z_um, r_um), r_um, axis=1))


def _length(params: ModelParams) -> float:
    """Depth in µm that holds `LENGTH_SHARE` of a line's light."""
    z_um, light = _line(params.model_psf(), _reach_um(params), _DEPTHS // 2)
    return _depth_holding(z_um, light, LENGTH_SHARE)


def _depth_holding(z_um: NDArray, light: NDArray, share: float) -> float:
    steps = np.diff(z_um) * (light[1:] + light[:-1]) / 2
    within = np.concatenate([[0], np.cumsum(steps)]) / steps.sum()
    low, high = np.interp([(1 - share) / 2, (1 + share) / 2], within, z_um)
    return float(high - low)


def widths(params: ModelParams) -> Widths:
    """Widths and tail of the PSF of a microscope.

    Examples
    --------
    >>> voxels = {"res_axial": 1.0, "res_lateral": 0.12, "scale": 8}
    >>> told = ModelParams(NA=0.8, wavelength=0.92, photons=2, psf_sampling="continuous", **voxels)
    >>> widths(told).tail < 0.04 < 0.15 < widths(told.model_copy(update={"fill": 0.4})).tail
    True
    """
    psf, reach_um = params.model_psf(), _reach_um(params)
    z_um, light = _line(psf, reach_um, _DEPTHS)
    even = np.linspace(-reach_um / 2, reach_um / 2, 2001)
    axial = fwhm(psf(even, np.zeros(1))[:, 0], even[1] - even[0])
    step_um = params.wavelength / params.NA / 200
    across = np.abs(np.arange(-800, 801)) * step_um / min(1.0, params.fill or 1.0)
    lateral = fwhm(psf(np.zeros(1), across)[0], across[0] - across[1])
    profile = np.interp(even, z_um, light)
    line = fwhm(profile, even[1] - even[0])
    focus_um = even[int(profile.argmax())]
    fine = np.linspace(-reach_um, reach_um, 8001)
    dense = np.interp(fine, z_um, light)
    tail = dense[np.abs(fine - focus_um) > line].sum() / dense.sum()
    return Widths(float(axial), float(lateral), float(line), float(tail))
