"""How thick structures are, from volume and surface."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from tenet.metrics.thickness import mean_thickness


def cylinder(diameter: float, direction: NDArray[np.float64]) -> NDArray[np.bool_]:
    """A cylinder through a cube of 64 voxels."""
    place = np.indices((64, 64, 64)).reshape(3, -1).T - 31.5
    axis = direction / np.linalg.norm(direction)
    distance = np.linalg.norm(place - (place @ axis)[:, None] * axis, axis=1)
    return (distance <= diameter / 2).reshape(64, 64, 64)


@pytest.mark.parametrize("diameter", [3, 7, 14])
def test_the_thickness_of_cylinders_in_all_directions_is_their_diameter(diameter: float) -> None:
    directions = np.random.default_rng(0).normal(size=(24, 3))
    found = [mean_thickness(cylinder(diameter, direction)) for direction in directions]
    assert np.mean(found) == pytest.approx(diameter, rel=0.06)
    assert found == pytest.approx([diameter] * 24, rel=0.3)  # one that stands straight: 1.18


def test_a_ball_is_two_thirds_of_its_diameter_thick() -> None:
    z, y, x = np.indices((48, 48, 48)) - 23.5
    assert mean_thickness(z**2 + y**2 + x**2 <= 18**2) == pytest.approx(24, rel=0.02)


def test_no_structure_and_no_surface_have_no_thickness() -> None:
    empty = np.zeros((8, 8, 8), np.uint8)
    assert math.isnan(mean_thickness(empty))
    assert math.isnan(mean_thickness(empty + 1))
