"""Point spread functions from theory: how a microscope blurs a point.

Every function evaluates a model at given axial positions and radii, so that the same formula
serves the published coarse grid and a fine, continuous one.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import j0, j1, roots_legendre

from tenet.errors import TenetError
from tenet.metrics.widths import fwhm
from tenet.types import VoxelSize

Float = NDArray[np.floating]
Complex = NDArray[np.complexfloating]
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
    fill : float
        Radius at which the amplitude in the pupil has fallen to 1/e, as a part of the radius of the
        pupil: exp(-(ρ / fill)²). A laser beam that fills the pupil evenly has `inf`.
    spherical_waves : float
        Primary spherical aberration: the path 6ρ⁴ - 6ρ² + 1 (a Zernike polynomial; Born & Wolf,
        Principles of Optics, section 9.2) times so many wavelengths. Its sign says on which side of
        the focus the rings are.

    Examples
    --------
    >>> objective = Optics(NA=0.8, wavelength_um=0.91, photons=2)
    >>> objective._replace(NA=1.0).NA
    1.0
    >>> objective.symmetric, objective._replace(spherical_waves=0.2).symmetric
    (True, False)
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
    fill: float = math.inf
    spherical_waves: float = 0.0

    @property
    def symmetric(self) -> bool:
        """Whether nothing aberrates: the PSF is then even in z, with its focus at 0."""
        design = (self.ni0, self.ng0, self.tg0_um)
        return not (self.pZ_um or self.spherical_waves) and design == (self.ni, self.ng, self.tg_um)

    @property
    def rho_max(self) -> float:
        """Radius of the pupil that light passes: 1, or less where an index is below the NA."""
        return min(self.NA, self.ns, self.ni, self.ni0, self.ng, self.ng0) / self.NA

    def amplitude(self, rho: Float) -> Float:
        """Amplitude of the light over the pupil radius `rho`, 1 on the axis."""
        return np.exp(-((rho / self.fill) ** 2))

    def path_um(self, rho: Float, z_um: Float | float) -> Float:
        """Optical path over the pupil, compared with that of the design, for a stage at `z_um`."""

        def path(thickness: float | Float, index: float) -> Float:
            return thickness * np.sqrt(index**2 - (self.NA * rho) ** 2)

        gibson_lanni = (
            path(self.pZ_um, self.ns)
            + path(z_um + self.ti0_um, self.ni)
            - path(self.ti0_um, self.ni0)
            + path(self.tg_um, self.ng)
            - path(self.tg0_um, self.ng0)
        )
        spherical = self.spherical_waves * self.wavelength_um * (6 * rho**4 - 6 * rho**2 + 1)
        return gibson_lanni + spherical


def gibson_lanni(optics: Optics) -> RadialPSF:
    """Gibson–Lanni PSF: the diffraction integral over the pupil, for each plane and radius.

    An even pupil without aberration takes the published way, the Fourier–Bessel expansion; any
    other one Gauss–Legendre quadrature, which no steep phase defeats.

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
        If the NA or the fill is not positive, or the NA above the index of the immersion medium.

    Examples
    --------
    >>> psf = gibson_lanni(Optics(NA=0.8, wavelength_um=0.91, photons=2))
    >>> on_axis = psf(np.array([-2.0, 0.0, 2.0]), np.zeros(1))
    >>> on_axis.shape, float(on_axis.max())
    ((3, 1), 1.0)
    """
    if optics.NA <= 0:
        raise TenetError(f"NA is {optics.NA:g}; it must be above 0")
    if not optics.fill > 0:
        raise TenetError(f"the fill of the pupil is {optics.fill:g}; it must be above 0")
    if min(optics.ni, optics.ni0) < optics.NA:
        raise TenetError(
            f"NA {optics.NA:g} is above the immersion index {min(optics.ni, optics.ni0):g}: "
            "no objective can do that; check NA and ni"
        )
    published = optics.symmetric and math.isinf(optics.fill)
    field = _expanded(optics) if published else _integrated(optics)

    def psf(z_um: Float, r_um: Float) -> Float:
        amplitude = field(np.asarray(z_um, float)[:, None], np.asarray(r_um, float)[None])
        intensity = np.abs(amplitude) ** (2 * optics.photons)
        return intensity / intensity.max()

    return psf


def _expanded(optics: Optics) -> Callable[[Float, Float], Complex]:
    """The field by the fast Fourier–Bessel expansion.

    The pupil is fitted by Bessel functions of order 0, whose diffraction integrals are known in
    closed form (Li, Xue & Blu, J. Opt. Soc. Am. A 34, 1029, 2017; 100 basis functions, 1000 pupil
    samples).
    """
    na, wavelength, rho_max = optics.NA, optics.wavelength_um, optics.rho_max
    rho, basis, inverse, left = _bessel_fit(na, wavelength, rho_max)

    def field(z_um: Float, r_um: Float) -> Complex:
        pupil = np.exp(2j * np.pi / wavelength * optics.path_um(rho, z_um))
        coefficients = inverse @ (left @ pupil.T)
        beta = 2 * np.pi * na / wavelength * r_um
        basis_ = basis[:, None]
        integral = (
            rho_max
            * (
                basis_ * j1(basis_ * rho_max) * j0(beta * rho_max)
                - beta * j0(basis_ * rho_max) * j1(beta * rho_max)
            )
            / (basis_**2 - beta**2)
        )
        return coefficients.T @ integral

    return field


@lru_cache(maxsize=16)
def _bessel_fit(na: float, wavelength_um: float, rho_max: float) -> tuple[Float, ...]:
    """Pupil samples, basis, and the two factors of its inverse, once for all planes."""
    rho = np.linspace(0.0, rho_max, _N_PUPIL_SAMPLES)
    basis = na * (3 * np.arange(1, _N_BASIS + 1) - 2) * _SHORTEST_WAVELENGTH_UM / wavelength_um
    # Least squares by the singular values; what rounding has made of the least of them is left out.
    left, singular, right = np.linalg.svd(j0(rho[:, None] * basis), full_matrices=False)
    kept = singular > np.finfo(float).eps * _N_PUPIL_SAMPLES * singular[0]
    return rho, basis, right[kept].T / singular[kept], left[:, kept].T


def _integrated(optics: Optics) -> Callable[[Float, Float], Complex]:
    """The field by quadrature: ∫ amplitude · exp(2πi path / λ) · J₀(2π NA r ρ / λ) ρ dρ.

    Gauss–Legendre quadrature is exact to rounding once its nodes resolve the phase; their number
    follows from how many radians the phase runs over the pupil.
    """
    wave_number = 2 * np.pi / optics.wavelength_um

    def field(z_um: Float, r_um: Float) -> Complex:
        ends_um = np.array([[z_um.min()], [z_um.max()]])
        rim = np.linspace(0, optics.rho_max, _N_PUPIL_SAMPLES)
        phase = wave_number * np.abs(np.diff(optics.path_um(rim, ends_um))).sum(1).max()
        phase += wave_number * optics.NA * r_um.max()
        rho, weights = _legendre(2 ** math.ceil(math.log2(phase / 2 + 50)), optics.rho_max)
        light = optics.amplitude(rho) * rho * weights
        pupil = light * np.exp(1j * wave_number * optics.path_um(rho, z_um))
        waves = j0(wave_number * optics.NA * rho[:, None] * r_um)
        return pupil.real @ waves + 1j * (pupil.imag @ waves)

    return field


@lru_cache(maxsize=16)
def _legendre(nodes: int, most: float) -> tuple[Float, Float]:
    """Nodes and weights of Gauss–Legendre quadrature from 0 to `most`."""
    rho, weights = roots_legendre(nodes)
    return most / 2 * (rho + 1), most / 2 * weights


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


def focused(optics: Optics) -> RadialPSF:
    """The Gibson–Lanni PSF, shifted along z so that its maximum on the axis lies at 0.

    Aberration moves the focus; a user of the microscope would have focused on the structure. The
    maximum is sought between the foci of the zones of the pupil, and half a depth of focus beyond.

    Examples
    --------
    >>> psf = focused(Optics(NA=0.8, wavelength_um=0.92, pZ_um=50.0, ni=1.35))
    >>> z_um = np.linspace(-2, 2, 401)
    >>> bool(abs(z_um[psf(z_um, np.zeros(1)).argmax()]) < 0.02)
    True
    """
    psf = gibson_lanni(optics)
    if optics.symmetric:
        return psf
    least_um, most_um, depth_um = _caustic(optics)
    step_um = depth_um / 4
    z_um = np.arange(least_um - depth_um, most_um + depth_um, step_um)
    focus_um = float(z_um[int(np.argmax(psf(z_um, np.zeros(1))))])
    step_um /= 10
    z_um = focus_um + centred(23, step_um)
    on_axis = psf(z_um, np.zeros(1))[:, 0]
    best = 1 + int(np.argmax(on_axis[1:-1]))
    before, at, after = on_axis[best - 1 : best + 2]  # a parabola: the focus moves smoothly
    focus_um = float(z_um[best] + step_um * (after - before) / (2 * (2 * at - before - after)))
    return lambda z, r: psf(np.asarray(z) + focus_um, r)


def _caustic(optics: Optics) -> tuple[float, float, float]:
    """Least and greatest focus of a zone of the pupil, and the depth of focus; all in µm."""
    rho = np.linspace(0, optics.rho_max, _N_PUPIL_SAMPLES + 2)[1:-1]
    defocus = np.sqrt(optics.ni**2 - (optics.NA * rho) ** 2)  # path for each µm of the stage
    foci_um = -np.gradient(optics.path_um(rho, 0.0)) / np.gradient(defocus)
    light = optics.amplitude(rho) * rho
    spread = math.sqrt(np.cov(defocus, aweights=light))
    lit = optics.amplitude(rho) > 0.05
    return foci_um[lit].min(), foci_um[lit].max(), optics.wavelength_um / (2 * math.pi * spread)


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

    def axial(z_um: Float) -> Float:
        return psf(z_um, np.zeros(1))[:, 0]

    def lateral(r_um: Float) -> Float:
        return psf(np.zeros(1), np.abs(r_um))[0]

    return {
        "axial": _fwhm_um(axial, step_z / 4, 8001),
        "lateral": _fwhm_um(lateral, step_x / 8, 4001),
    }


def _fwhm_um(profile: Callable[[Float], Float], step_um: float, most: int) -> float:
    """Width of a profile about 0, on as few of at most so many samples as hold it."""
    samples = 251
    while True:
        values = profile(centred(samples, step_um))
        if samples == most or max(values[0], values[-1]) < values.max() / 10:
            return float(fwhm(values, step_um))
        samples = min(4 * samples - 3, most)
