"""Point spread functions from theory: how a microscope blurs a point.

Every function evaluates a model at given axial positions and radii, so that the same formula
serves the published coarse grid and a fine, continuous one.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import j0, j1

from tenet.errors import TenetError
from tenet.metrics.widths import fwhm
from tenet.types import VoxelSize

Float = NDArray[np.floating]
# psf(z_um, r_um) -> intensities of shape (len(z_um), len(r_um)), at most 1
RadialPSF = Callable[[Float, Float], Float]

_N_BASIS = 100
_N_PUPIL_SAMPLES = 1000
_SHORTEST_WAVELENGTH_UM = 0.436  # of the Bessel basis, Li et al. 2017


class Optics(NamedTuple):
    """A microscope, as the Gibson–Lanni model sees it (lengths in µm).

    Attributes
    ----------
    NA : float
        Numerical aperture of the objective.
    wavelength_um : float
        Wavelength in vacuum.
    ns, ng0, ng, ni0, ni : float
        Refractive indices: specimen, coverslip and immersion medium; `0` marks design values.
    ti0_um, tg0_um, tg_um : float
        Working distance (design), coverslip thickness (design and real).
    pZ_um : float
        Depth of the point below the coverslip.
    photons : int
        1, or 2 for two-photon excitation, which squares the intensity.

    Examples
    --------
    >>> objective = Optics(NA=0.8, wavelength_um=0.91, photons=2)
    >>> objective._replace(NA=1.0).NA
    1.0
    """

    NA: float
    wavelength_um: float
    ns: float = 1.4
    ng0: float = 1.5
    ng: float = 1.5
    ni0: float = 1.33
    ni: float = 1.33
    ti0_um: float = 150.0
    tg0_um: float = 170.0
    tg_um: float = 170.0
    pZ_um: float = 0.0
    photons: Literal[1, 2] = 1


def gibson_lanni(optics: Optics) -> RadialPSF:
    """Gibson–Lanni PSF by the fast Fourier–Bessel expansion.

    The phase over the pupil is fitted by Bessel functions of order 0, whose diffraction integrals
    are known in closed form (Li, Xue & Blu, J. Opt. Soc. Am. A 34, 1029, 2017; 100 basis
    functions, 1000 pupil samples).

    Parameters
    ----------
    optics : Optics
        The microscope.

    Returns
    -------
    callable
        `psf(z_um, r_um)`: intensities, shape (planes, radii), for stage positions `z_um` (0 is the
        nominal focus) and radii `r_um` >= 0; the largest of them is 1.

    Raises
    ------
    TenetError
        If the NA is not positive, or above the refractive index of the immersion medium.

    Examples
    --------
    >>> psf = gibson_lanni(Optics(NA=0.8, wavelength_um=0.91, photons=2))
    >>> on_axis = psf(np.array([-2.0, 0.0, 2.0]), np.zeros(1))
    >>> on_axis.shape, float(on_axis.max())
    ((3, 1), 1.0)
    """
    if optics.NA <= 0:
        raise TenetError(f"NA is {optics.NA:g}; it must be above 0")
    if min(optics.ni, optics.ni0) < optics.NA:
        raise TenetError(
            f"NA {optics.NA:g} is above the immersion index {min(optics.ni, optics.ni0):g}: "
            "no objective can do that; check NA and ni"
        )
    na, wavelength = optics.NA, optics.wavelength_um
    rho_max = min(na, optics.ns, optics.ni, optics.ni0, optics.ng, optics.ng0) / na
    rho = np.linspace(0.0, rho_max, _N_PUPIL_SAMPLES)
    basis = na * (3 * np.arange(1, _N_BASIS + 1) - 2) * _SHORTEST_WAVELENGTH_UM / wavelength
    # Least squares by the singular values, found once for all planes; what rounding has made of
    # the least of them is left out.
    left, singular, right = np.linalg.svd(j0(rho[:, None] * basis), full_matrices=False)
    kept = singular > np.finfo(float).eps * _N_PUPIL_SAMPLES * singular[0]
    inverse = right[kept].T / singular[kept]
    left = left[:, kept].T

    def path(thickness: float | Float, index: float) -> Float:
        return thickness * np.sqrt(index**2 - (na * rho) ** 2)

    def psf(z_um: Float, r_um: Float) -> Float:
        path_difference = (
            path(optics.pZ_um, optics.ns)
            + path(np.asarray(z_um, float)[:, None] + optics.ti0_um, optics.ni)
            - path(optics.ti0_um, optics.ni0)
            + path(optics.tg_um, optics.ng)
            - path(optics.tg0_um, optics.ng0)
        )
        pupil = np.exp(2j * np.pi / wavelength * path_difference)
        coefficients = inverse @ (left @ pupil.T)
        beta = 2 * np.pi * na / wavelength * np.asarray(r_um, float)[None]
        basis_ = basis[:, None]
        integral = (
            rho_max
            * (
                basis_ * j1(basis_ * rho_max) * j0(beta * rho_max)
                - beta * j0(basis_ * rho_max) * j1(beta * rho_max)
            )
            / (basis_**2 - beta**2)
        )
        intensity = np.abs(coefficients.T @ integral) ** (2 * optics.photons)
        return intensity / intensity.max()

    return psf


def gaussian(beta_z_um: float, beta_xy_um: float) -> RadialPSF:
    """Gaussian PSF exp(-(r / beta_xy)² - (z / beta_z)²).

    Parameters
    ----------
    beta_z_um, beta_xy_um : float
        Distances at which the PSF has fallen to 1/e along z and r.

    Returns
    -------
    callable
        `psf(z_um, r_um)` -> intensities of shape (planes, radii).

    Raises
    ------
    TenetError
        If a width is not positive.

    Examples
    --------
    >>> psf = gaussian(beta_z_um=2.0, beta_xy_um=0.5)
    >>> psf(np.array([0.0, 2.0]), np.zeros(1)).round(2)  # in focus, and 2 µm out of it
    array([[1.  ],
           [0.37]])
    """
    if beta_z_um <= 0 or beta_xy_um <= 0:
        raise TenetError(f"Gaussian PSF widths must be above 0, not {beta_z_um:g}, {beta_xy_um:g}")

    def psf(z_um: Float, r_um: Float) -> Float:
        z, r = np.asarray(z_um, float)[:, None], np.asarray(r_um, float)[None]
        return np.exp(-((z / beta_z_um) ** 2) - (r / beta_xy_um) ** 2)

    return psf


def centred(n: int, step: float = 1.0) -> Float:
    """Positions of `n` samples `step` apart, symmetric about 0."""
    return (np.arange(n) - (n - 1) / 2) * step


def radii_px(size_y: int, size_x: int) -> Float:
    """Distance of every pixel of a (size_y, size_x) plane from its centre, in pixels."""
    return np.hypot(centred(size_y)[:, None], centred(size_x)[None])


def lookup_radii(size_y: int, size_x: int) -> int:
    """Number of radii, a pixel apart, of the published table of a PSF.

    The distance from the centre of a plane to a pixel beyond its corner, by Python's rounding; for
    a square √2·(size + 1)/2. It reaches the corner of every plane of odd sizes.
    """
    return round(math.hypot((size_y + 1) / 2, (size_x + 1) / 2))


def lookup_padding(size_z: int, res_axial: float, res_lateral: float) -> int:
    """Zero planes that the published code puts before and after the volume.

    ⌊(size_z - (res_axial // res_lateral) + 1) / 2⌋ with Python's floating floor division, in which
    0.5 // 0.05 is 9: the published geometry, kept for the published weights.
    """
    return int((size_z - (res_axial // res_lateral) + 1) // 2)


def refocused(psf: RadialPSF, reach_um: float, precision_um: float) -> RadialPSF:
    """A PSF shifted along z so that its maximum on the axis lies at 0.

    Aberration moves the focus; a user of the microscope would have focused on the structure.

    Parameters
    ----------
    psf : callable
        `psf(z_um, r_um)`.
    reach_um : float
        How far from 0 the maximum is looked for.
    precision_um : float
        How closely it is found, to a tenfold.
    """
    step_um, focus_um = reach_um / 200, 0.0
    z_um = centred(401, step_um)
    # First far and coarse, then between the neighbours of what was found.
    while True:
        focus_um += z_um[int(np.argmax(psf(z_um + focus_um, np.zeros(1))[:, 0]))]
        if step_um < precision_um:
            break
        step_um /= 10
        z_um = centred(21, step_um)
    return lambda z, r: psf(np.asarray(z) + focus_um, r)


def psf_volume(
    psf: RadialPSF, zyx_shape: tuple[int, int, int], voxel_size_um: tuple[float, float, float]
) -> NDArray[np.float32]:
    """Sample a radial PSF on a voxel grid centred on the point.

    Parameters
    ----------
    psf : callable
        `psf(z_um, r_um)`, as made by `gibson_lanni` or `gaussian`.
    zyx_shape : tuple of int
        Size of the grid; an even size puts the point between two samples.
    voxel_size_um : tuple of float
        Step along z, y, x; y and x must be equal.

    Returns
    -------
    ndarray of float32, shape `zyx_shape`
        Sums to 1.

    Examples
    --------
    >>> volume = psf_volume(gaussian(2.0, 0.5), (15, 7, 7), (0.31, 0.31, 0.31))
    >>> volume.shape, round(float(volume.sum()), 3)
    ((15, 7, 7), 1.0)
    """
    size_z, size_y, size_x = zyx_shape
    radii, index = np.unique(radii_px(size_y, size_x), return_inverse=True)
    table = psf(centred(size_z, voxel_size_um[0]), radii * voxel_size_um[2])
    volume = table[:, index.reshape(size_y, size_x)]
    return (volume / volume.sum()).astype(np.float32)


def psf_fwhm_um(psf: NDArray[np.floating], voxel_size_um: VoxelSize) -> dict[str, float]:
    """Axial and lateral full width at half maximum of a PSF volume, in µm.

    Examples
    --------
    >>> volume = psf_volume(gaussian(2.0, 0.5), (41, 15, 15), (0.2, 0.2, 0.2))
    >>> {axis: round(width, 1) for axis, width in psf_fwhm_um(volume, (0.2, 0.2, 0.2)).items()}
    {'axial': 3.3, 'lateral': 0.8}
    """
    z, y, x = np.unravel_index(int(np.argmax(psf)), psf.shape)
    return {
        "axial": float(fwhm(psf[:, y, x], voxel_size_um[0])),
        "lateral": float(fwhm(psf[z, y, :], voxel_size_um[2])),
    }


def model_fwhm_um(psf: RadialPSF, fine_voxel_size_um: VoxelSize) -> dict[str, float]:
    """Axial and lateral full width at half maximum of a model PSF, however wide, in µm."""
    step_z, _, step_x = fine_voxel_size_um
    z_um, r_um = centred(8001, step_z / 4), centred(4001, step_x / 8)
    return {
        "axial": float(fwhm(psf(z_um, np.zeros(1))[:, 0], step_z / 4)),
        "lateral": float(fwhm(psf(np.zeros(1), np.abs(r_um))[0], step_x / 8)),
    }
