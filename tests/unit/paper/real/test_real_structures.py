"""Real structures on a fine grid: volumes, places of tips, and files that cannot be read."""

import gzip

import numpy as np
import pytest

from tenet.errors import TenetError
from tenet.paper.real.structures import (
    DECADES,
    PIECES,
    Dendrites,
    covered,
    read_vessels,
    vessel_scene,
)

EM_UM, FINE_UM = (0.064, 0.064, 0.08), (0.125, 0.12, 0.12)


def cubes(count: int = 8) -> Dendrites:
    """Cubes of 12 voxels on a diagonal, each with a tip in its first voxel."""
    labels = np.zeros((12 * count,) * 3, np.uint8)
    tips = {}
    for number in range(count):
        start = 12 * number
        labels[(slice(start, start + 12),) * 3] = number + 1
        tips[number + 1] = (np.full((1, 3), start) + 0.5) * EM_UM
    return Dendrites(labels, EM_UM, tips)


def nifti(volume: np.ndarray) -> bytes:
    """A NIfTI-1 file of unsigned bytes."""
    header = np.zeros(176, "<i2")
    header[[0, 20, 35]] = 348, 3, 2
    header[21:24] = volume.shape
    return header.tobytes() + volume.astype(np.uint8).tobytes(order="F")


def test_another_grid_keeps_the_volume() -> None:
    z, y, x = np.indices((100, 100, 80)) - np.array([50, 50, 40]).reshape(3, 1, 1, 1)
    ball = (z * EM_UM[0]) ** 2 + (y * EM_UM[1]) ** 2 + (x * EM_UM[2]) ** 2 <= 2.0**2
    fine = covered(ball.astype(np.float32), EM_UM, FINE_UM)
    exact = 4 / 3 * np.pi * 2.0**3
    assert fine.sum() * np.prod(FINE_UM) == pytest.approx(ball.sum() * np.prod(EM_UM), rel=1e-5)
    assert (fine >= 0.5).sum() * np.prod(FINE_UM) == pytest.approx(exact, rel=0.01)


def test_a_scene_is_of_whole_coarse_planes_and_its_tips_lie_in_its_shape() -> None:
    for seed in range(8):
        scene = cubes().scene(np.random.default_rng(seed), FINE_UM, scale=8)
        assert len(scene.shape) % 8 == 0
        assert PIECES[0] <= len(scene.tips_um) <= PIECES[1]
        near = [scene.light[tuple((tip / FINE_UM).astype(int))] for tip in scene.tips_um]
        assert min(near) > 0
        brightness = scene.light[scene.light > 0]
        assert scene.light.max() == pytest.approx(1)
        assert np.median(brightness) > 10**-DECADES


def test_a_scene_has_the_volume_of_its_pieces() -> None:
    scene = cubes().scene(np.random.default_rng(3), FINE_UM, scale=8)
    volume = len(scene.tips_um) * 12**3 * np.prod(EM_UM)
    assert scene.shape.sum() * np.prod(FINE_UM) == pytest.approx(volume, rel=0.1)


def test_vessels_are_read_in_their_order_of_axes(tmp_path) -> None:
    tree = np.zeros((4, 5, 6), bool)
    tree[3, 0, 0] = tree[0, 4, 5] = True
    for name, data in (("v.nii", nifti(tree)), ("v.nii.gz", gzip.compress(nifti(tree)))):
        (tmp_path / name).write_bytes(data)
        assert np.array_equal(read_vessels(tmp_path / name), tree)


def test_files_that_hold_no_structures_are_named(tmp_path) -> None:
    cut = tmp_path / "cut.nii"
    cut.write_bytes(nifti(np.ones((4, 5, 6)))[:-1])
    other = tmp_path / "other.nii"
    other.write_bytes(b"text")
    for path in (cut, other, tmp_path / "missing.nii.gz"):
        with pytest.raises(TenetError, match=path.name):
            read_vessels(path)
    with pytest.raises(TenetError, match=r"missing\.npz"):
        Dendrites.read(tmp_path / "missing.npz", tmp_path / "tips.csv")


def test_a_part_of_a_tree_keeps_the_share_of_a_straight_vessel() -> None:
    tree = np.zeros((70, 70, 70), bool)
    tree[:, 30:40, 30:40] = True  # 3.5 µm wide
    scene = vessel_scene(tree, np.random.default_rng(0), FINE_UM, scale=8)
    across = scene.shape.sum() * np.prod(FINE_UM) / 3.5**2
    assert 15 < across < 20  # µm: the length of the part, along z or across, with rounded edges
    assert set(np.unique(scene.light)) <= {0.0, 1.0}


def test_a_tree_that_is_too_small_or_empty_is_refused() -> None:
    for tree in (np.ones((9, 9, 9), bool), np.zeros((70, 70, 70), bool)):
        with pytest.raises(TenetError, match="no part"):
            vessel_scene(tree, np.random.default_rng(0), FINE_UM, scale=8)
