"""What a segmentation reaches and adds, for shapes whose answer is known."""

import numpy as np
import pytest

from tenet.paper.real.measures import false_share, reached, tail_share

SIZE_UM = (0.125, 0.12, 0.12)


def ball(radius_um: float) -> np.ndarray:
    centres = [(np.arange(n) + 0.5) * size for n, size in zip((64, 64, 64), SIZE_UM, strict=True)]
    z, y, x = np.meshgrid(*centres, indexing="ij")
    return (z - 4) ** 2 + (y - 4) ** 2 + (x - 4) ** 2 <= radius_um**2


def test_a_ball_reaches_tips_near_its_surface_and_no_others() -> None:
    # Centres of voxels lie up to half a diagonal, 0.11 µm, inside of the surface.
    near = np.array([[4 + 1.25, 4, 4], [4, 4 - 1.2, 4], [4, 4, 4 + 1.2], [4, 4, 4]])
    far = np.array([[4 + 1.4, 4, 4], [4, 4 - 1.4, 4], [4, 4 + 1.1, 4 + 1.1]])
    assert reached(ball(1.0), near, SIZE_UM) == len(near)
    assert reached(ball(1.0), far, SIZE_UM) == 0


def test_tips_at_the_border_of_the_volume_are_reached_from_within() -> None:
    mask = np.zeros((8, 8, 8), bool)
    mask[0, 0, 0] = mask[7, 7, 7] = True
    tips = np.array([[0.0, 0, 0], [0.99, 0.95, 0.95], [0.0, 0.95, 0]])
    assert reached(mask, tips, SIZE_UM) == 2


def test_a_shifted_slab_is_false_by_what_sticks_out() -> None:
    truth = np.zeros((64, 8, 8), bool)
    truth[16:32] = True
    assert false_share(truth, truth, SIZE_UM) == 0
    assert false_share(np.roll(truth, 2, 0), truth, SIZE_UM) == 0  # 0.25 µm
    assert false_share(np.roll(truth, 6, 0), truth, SIZE_UM) == pytest.approx(4 / 16)
    assert false_share(np.zeros_like(truth), truth, SIZE_UM) == 0


def test_tails_of_a_square_and_of_a_gaussian() -> None:
    square = np.zeros((101, 3, 3))
    square[40:61] = 1
    assert tail_share(square) == 0
    z = np.linspace(-10, 10, 2001)
    gaussian = np.exp(-(z**2) / 2)[:, None, None]
    assert tail_share(gaussian) == pytest.approx(0.0185, abs=0.001)  # beyond 2.355 SD
