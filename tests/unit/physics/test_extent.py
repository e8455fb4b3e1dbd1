"""Size of a PSF's grid, from the light of a line."""

import numpy as np
import pytest

from tenet.physics.extent import line_extent
from tenet.physics.optics import Optics, focused, gaussian

VOXEL = (0.2, 0.1, 0.1)


def test_planes_of_a_gaussian_beam_follow_from_its_law() -> None:
    """∫ (1 + u²)^(-3/2) from -U to U is U/√(1 + U²) of the whole; here across nothing is lost."""
    z_r, w_0 = 1.0, 0.3

    def beam(z_um: np.ndarray, r_um: np.ndarray) -> np.ndarray:
        width2 = 1 + (z_um[:, None] / z_r) ** 2
        return width2**-2 * np.exp(-4 * r_um**2 / (w_0**2 * width2))

    for share in (0.9, 0.95, 0.98):
        (planes, rows, columns), held = line_extent(beam, VOXEL, share, (401, 301, 301))
        reach_um = (planes / 2) * VOXEL[0]
        assert rows == columns
        assert planes % 2 == rows % 2 == 1
        assert share <= held < share + 0.005
        assert reach_um / np.hypot(reach_um, z_r) == pytest.approx(share, abs=0.02)
        assert reach_um / np.hypot(reach_um, z_r) >= share


def test_a_gaussian_psf_needs_few_voxels() -> None:
    """99.5 % lie within 2.8 standard deviations along one axis: a little more for two axes."""
    (planes, _, columns), held = line_extent(gaussian(1.0, 0.4), VOXEL)
    assert held >= 0.995
    assert 2.7 <= planes / 2 * VOXEL[0] / (1.0 / 2**0.5) <= 3.5
    assert 2.7 <= columns / 2 * VOXEL[1] / (0.4 / 2**0.5) <= 3.5


def test_less_fill_and_aberration_need_more_planes() -> None:
    even = Optics(0.8, 0.92, photons=2)
    planes = [
        line_extent(focused(optics), (0.125, 0.12, 0.12)).zyx_shape[0]
        for optics in (even, even._replace(fill=1.0), even._replace(fill=0.7))
    ]
    assert planes == sorted(planes)
    assert planes[2] > 2 * planes[0]
    aberrated = even._replace(spherical_waves=0.3)
    assert line_extent(focused(aberrated), (0.125, 0.12, 0.12)).zyx_shape[0] > planes[0]


def test_where_no_grid_holds_the_light_it_says_what_is_held() -> None:
    one_photon = focused(Optics(0.3, 0.5))
    (planes, rows, columns), held = line_extent(one_photon, (1 / 3, 0.31, 0.31), most=(101, 31, 31))
    assert held < 0.9
    assert planes <= 101
    assert rows == columns <= 31
