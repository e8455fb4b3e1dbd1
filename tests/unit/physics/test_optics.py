"""Point spread functions of theory: normalisation, symmetry, widths."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import j0, j1

from tenet.errors import TenetError
from tenet.physics.optics import (
    Optics,
    centred,
    focused,
    gaussian,
    gibson_lanni,
    psf_volume,
    radii_px,
)

BEADS = Optics(NA=0.7, wavelength_um=0.9)


def width_at_half(position: NDArray[np.float64], profile: NDArray[np.float64]) -> float:
    """Full width at half maximum of a single peak, by linear interpolation."""
    peak = int(profile.argmax())
    left = np.interp(0.5 * profile[peak], profile[: peak + 1], position[: peak + 1])
    right = np.interp(-0.5 * profile[peak], -profile[peak:], position[peak:])
    return float(right - left)


@pytest.mark.parametrize("model", [gibson_lanni(BEADS), gaussian(0.7, 0.2)])
@pytest.mark.parametrize("shape", [(21, 15, 15), (20, 15, 11)])
def test_volume_sums_to_1_and_is_symmetric(model, shape: tuple[int, int, int]) -> None:
    volume = psf_volume(model, shape, (0.25, 0.1, 0.1))
    assert volume.shape == shape
    assert volume.sum(dtype=np.float64) == pytest.approx(1, abs=1e-5)
    assert volume.min() >= 0
    for axis in (1, 2):
        np.testing.assert_allclose(volume, np.flip(volume, axis), rtol=1e-5, atol=1e-12)
    if shape[1] == shape[2]:
        np.testing.assert_allclose(volume, volume.swapaxes(1, 2), rtol=1e-5, atol=1e-12)
    peak = np.unravel_index(volume.argmax(), shape)
    assert peak[1:] == (shape[1] // 2, shape[2] // 2)


def test_gaussian_falls_to_1_over_e() -> None:
    psf = gaussian(2.0, 0.5)
    assert psf(np.array([0.0]), np.array([0.0]))[0, 0] == 1
    np.testing.assert_allclose(
        psf(np.array([0.0, 2.0, -2.0]), np.array([0.0, 0.5])),
        np.exp([[0, -1], [-1, -2], [-1, -2]]),
    )


def test_gaussian_volume_has_the_right_moments() -> None:
    # exp(-(z/β)²) has variance β²/2.
    volume = psf_volume(gaussian(1.0, 0.4), (81, 41, 41), (0.125, 0.1, 0.1))
    for axis, beta, step in ((0, 1.0, 0.125), (1, 0.4, 0.1), (2, 0.4, 0.1)):
        others = tuple({0, 1, 2} - {axis})
        position = centred(volume.shape[axis], step)
        profile = volume.sum(axis=others)
        assert (profile * position).sum() == pytest.approx(0, abs=1e-5)
        assert (profile * position**2).sum() == pytest.approx(beta**2 / 2, rel=1e-3)


def test_two_photons_square_the_intensity() -> None:
    z, r = np.linspace(-4, 4, 17), np.linspace(0, 2, 11)
    one = gibson_lanni(BEADS)(z, r)
    two = gibson_lanni(BEADS._replace(photons=2))(z, r)
    np.testing.assert_allclose(two, one**2, rtol=1e-9, atol=1e-15)
    assert width_at_half(z, two[:, 0]) < width_at_half(z, one[:, 0])


def test_gibson_lanni_is_largest_at_focus_and_even_there() -> None:
    # pZ = 0 and design values throughout: no aberration, so the focus is at 0.
    z = np.linspace(-5, 5, 41)
    profile = gibson_lanni(BEADS)(z, np.array([0.0]))[:, 0]
    assert profile.max() == 1
    assert z[profile.argmax()] == 0
    np.testing.assert_allclose(profile, profile[::-1], rtol=1e-6)


@pytest.mark.parametrize("na", [0.3, 0.5, 0.7])
def test_axial_width_is_that_of_theory(na: float) -> None:
    """On the axis |∫ exp(2πi z/λ √(n² - NA²ρ²)) ρ dρ|², integrated by brute force."""
    optics = BEADS._replace(NA=na)
    # Scalar theory to first order: 0.886 λ / (n - √(n² - NA²)).
    theory = 0.886 * 0.9 / (1.33 - np.sqrt(1.33**2 - na**2))
    z = np.linspace(-theory, theory, 401)
    profile = gibson_lanni(optics)(z, np.array([0.0]))[:, 0]
    assert width_at_half(z, profile) == pytest.approx(theory, rel=0.02)
    rho = (np.arange(4000) + 0.5) / 4000
    phase = 2 * np.pi / 0.9 * z[:, None] * np.sqrt(1.33**2 - (na * rho) ** 2)
    amplitude = (np.exp(1j * phase) * rho).mean(axis=1)
    expected = np.abs(amplitude) ** 2 / (np.abs(amplitude) ** 2).max()
    np.testing.assert_allclose(profile, expected, atol=2e-3)


@pytest.mark.parametrize("na", [0.3, 0.7])
def test_lateral_width_is_that_of_the_airy_disc(na: float) -> None:
    r = np.linspace(0, 0.61 * 0.9 / na * 1.2, 400)
    profile = gibson_lanni(BEADS._replace(NA=na))(np.array([0.0]), r)[0]
    # FWHM 0.5145 λ/NA; first zero at 0.61 λ/NA.
    half = np.interp(-0.5, -profile, r)
    assert 2 * half == pytest.approx(0.5145 * 0.9 / na, rel=0.02)
    assert r[profile.argmin()] == pytest.approx(0.61 * 0.9 / na, rel=0.02)


def test_depth_below_the_coverslip_moves_the_focus() -> None:
    z, r = np.linspace(-110, 10, 1201), np.array([0.0])
    at_coverslip = gibson_lanni(BEADS._replace(ns=1.33))(z, r)[:, 0]
    # Without a step in refractive index, depth is only a shift of the stage.
    matched = gibson_lanni(BEADS._replace(ns=1.33, pZ_um=90.0))(z, r)[:, 0]
    np.testing.assert_allclose(matched[:201], at_coverslip[900:1101], atol=1e-4)
    # With one the stage moves by pZ·ni/ns for paraxial rays.
    deep = gibson_lanni(BEADS._replace(pZ_um=90.0))(z, r)[:, 0]
    assert z[deep.argmax()] == pytest.approx(-90 * 1.33 / 1.4, rel=0.03)


def test_grids_are_centred() -> None:
    np.testing.assert_allclose(centred(4, 0.5), [-0.75, -0.25, 0.25, 0.75])
    np.testing.assert_allclose(centred(3), [-1, 0, 1])
    radii = radii_px(3, 5)
    assert radii[1, 2] == 0
    assert radii[0, 0] == pytest.approx(np.hypot(1, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"NA": -0.7}, "must be above 0"),
        ({"NA": 0.0}, "must be above 0"),
        ({"NA": 1.4}, r"NA 1\.4 is above the immersion index 1\.33"),
        ({"NA": 1.2, "ni": 1.0}, "above the immersion index 1:"),
        ({"NA": 1.2, "ni0": 1.0}, "above the immersion index 1:"),
    ],
)
def test_impossible_objectives_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(TenetError, match=message):
        gibson_lanni(BEADS._replace(**change))


@pytest.mark.parametrize("widths", [(0.0, 1.0), (1.0, -1.0)])
def test_gaussian_widths_must_be_positive(widths: tuple[float, float]) -> None:
    with pytest.raises(TenetError, match="above 0"):
        gaussian(*widths)


# A real pupil: filled in part, aberrated

SMALL = Optics(NA=0.6, wavelength_um=0.9, fill=0.3)
WAIST_UM = SMALL.wavelength_um / (np.pi * SMALL.NA * SMALL.fill)
RAYLEIGH_UM = np.pi * WAIST_UM**2 * SMALL.ni / SMALL.wavelength_um


def test_little_fill_makes_a_gaussian_beam() -> None:
    """I² ~ w⁻⁴ exp(-4r²/w²) with w² = w₀²(1 + (z/z_R)²), and one photon its root."""
    z, r = np.linspace(-2, 2, 9) * RAYLEIGH_UM, np.linspace(0, 2.5, 11) * WAIST_UM
    width = WAIST_UM * np.sqrt(1 + (z[:, None] / RAYLEIGH_UM) ** 2)
    beam = (WAIST_UM / width) ** 2 * np.exp(-2 * (r / width) ** 2)
    np.testing.assert_allclose(gibson_lanni(SMALL)(z, r), beam, atol=0.01)
    two = gibson_lanni(SMALL._replace(photons=2))(z, r)
    np.testing.assert_allclose(two, beam**2, atol=0.01)


def test_line_in_a_gaussian_beam_falls_to_the_power_of_three_halves() -> None:
    """Two photons, light of a line across the axis: far out it exceeds that of an even pupil."""
    z, y = np.array([0.0, 0.5, 1.0, 2.0, 3.0]) * RAYLEIGH_UM, np.linspace(0, 12 * WAIST_UM, 600)
    line = gibson_lanni(SMALL._replace(photons=2))(z, y).sum(1)
    np.testing.assert_allclose(line / line[0], (1 + (z / RAYLEIGH_UM) ** 2) ** -1.5, atol=0.01)


@pytest.mark.parametrize("fill", [50.0, np.inf])
def test_much_fill_is_the_airy_disc_and_the_square_of_a_sinc(fill: float) -> None:
    optics = Optics(NA=0.3, wavelength_um=0.5, fill=fill)
    r, z = np.linspace(0, 4, 41), np.linspace(-30, 30, 41)
    v = 2 * np.pi * optics.NA * r[1:] / optics.wavelength_um
    airy = np.append(1, (2 * j1(v) / v) ** 2)
    np.testing.assert_allclose(gibson_lanni(optics)(np.zeros(1), r)[0], airy, atol=2e-3)
    paraxial = np.sinc(optics.NA**2 * z / (2 * optics.ni * optics.wavelength_um)) ** 2
    np.testing.assert_allclose(gibson_lanni(optics)(z, np.zeros(1))[:, 0], paraxial, atol=0.03)


@pytest.mark.parametrize("fill", [0.4, 1.0, np.inf])
@pytest.mark.parametrize("waves", [0.0, 0.5])
def test_every_plane_holds_the_same_energy(fill: float, waves: float) -> None:
    """One photon; a free pupil loses little beyond the radius looked at."""
    optics = Optics(NA=0.5, wavelength_um=0.9, fill=fill, spherical_waves=waves)
    r = np.arange(0, 120, 0.1)
    energy = gibson_lanni(optics)(np.array([-15.0, -4.0, 0.0, 6.0, 12.0]), r) @ r
    np.testing.assert_allclose(energy / energy[2], 1, rtol=0.02)


@pytest.mark.parametrize("fill", [0.5, np.inf])
def test_opposite_aberrations_mirror_each_other(fill: float) -> None:
    plus = Optics(NA=0.3, wavelength_um=0.5, fill=fill, spherical_waves=0.4)
    z, r = np.linspace(-20, 20, 41), np.linspace(0, 3, 20)
    one, other = (gibson_lanni(o)(z, r) for o in (plus, plus._replace(spherical_waves=-0.4)))
    np.testing.assert_allclose(one, other[::-1], rtol=1e-9, atol=1e-12)
    assert np.abs(one - one[::-1]).max() > 0.01


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"fill": 0.3},
        {"fill": 0.7, "spherical_waves": 1.0},
        {"spherical_waves": -2.0, "NA": 0.1, "photons": 1},
        {"pZ_um": 30.0},
    ],
)
def test_pupil_is_integrated_as_by_brute_force(change: dict[str, float]) -> None:
    optics = Optics(NA=0.8, wavelength_um=0.92, photons=2)._replace(**change)
    z, r = np.linspace(-25, 25, 21), np.linspace(0, 8, 33)
    rho, step = np.linspace(0, 1, 20_001, retstep=True)
    weight = np.full(rho.shape, step)
    weight[[0, -1]] /= 2
    pupil = optics.amplitude(rho) * np.exp(
        2j * np.pi / optics.wavelength_um * optics.path_um(rho, z[:, None])
    )
    waves = j0(2 * np.pi * optics.NA / optics.wavelength_um * rho[:, None] * r)
    expected = np.abs((pupil * rho * weight) @ waves) ** (2 * optics.photons)
    np.testing.assert_allclose(gibson_lanni(optics)(z, r), expected / expected.max(), atol=1e-6)


@pytest.mark.parametrize("change", [{"spherical_waves": 1.0}, {"fill": 0.5, "pZ_um": 80.0}])
def test_focus_of_an_aberrated_pupil_is_at_0(change: dict[str, float]) -> None:
    optics = Optics(NA=0.8, wavelength_um=0.92, photons=2)._replace(**change)
    z = np.linspace(-40, 40, 8001)
    assert z[focused(optics)(z, np.zeros(1)).argmax()] == pytest.approx(0, abs=0.0101)


@pytest.mark.parametrize("fill", [0.0, -1.0, math.nan])
def test_fill_must_be_positive(fill: float) -> None:
    with pytest.raises(TenetError, match="fill"):
        gibson_lanni(BEADS._replace(fill=fill))
