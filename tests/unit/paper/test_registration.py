import numpy as np
import pytest
from scipy import ndimage

from tenet.errors import TenetError
from tenet.io.open import open_stack
from tenet.io.writing import write_ome_tiff
from tenet.paper.registration import register_folder, register_planes


def moved_stack(shifts, angles=None):
    """Planes of one smooth texture, each shifted (y, x) and turned about its middle."""
    rng = np.random.default_rng(0)
    texture = ndimage.gaussian_filter(rng.random((128, 128)), 3)
    texture = (texture - texture.min()) / np.ptp(texture)
    planes = []
    for (dy, dx), angle in zip(shifts, angles or [0.0] * len(shifts), strict=True):
        turned = ndimage.rotate(texture, angle, reshape=False, order=3, mode="reflect")
        planes.append(ndimage.shift(turned, (dy, dx), order=3, mode="reflect")[32:96, 32:96])
    return np.stack(planes).astype(np.float32)


SHIFTS = [(0, 0), (1.5, -1), (3, -2), (2, 1), (-1, 2), (0.5, 0.5)]


def test_shifts_of_planes_are_found():
    _, matrices = register_planes(moved_stack(SHIFTS), "translation")
    found = matrices[:, [1, 0], 2]  # where a place of the result lies in the plane, as y, x
    expected = np.array(SHIFTS)
    np.testing.assert_allclose(found - found.mean(0), expected - expected.mean(0), atol=0.15)


def test_planes_lie_on_one_another_afterwards():
    image = moved_stack(SHIFTS, angles=[0, 1, 2, 1, -1, 0])
    registered, matrices = register_planes(image)
    inside = (slice(None), slice(10, -10), slice(10, -10))
    before, after = image[inside].std(axis=0).mean(), registered[inside].std(axis=0).mean()
    assert after < 0.25 * before
    turn = np.degrees(np.arctan2(matrices[:, 0, 1], matrices[:, 0, 0]))
    assert np.abs(np.abs(turn - turn[0]) - np.abs([0, 1, 2, 1, 1, 0])).max() < 0.3
    assert registered.min() >= image.min()
    assert registered.max() <= image.max()


def test_a_stack_that_never_moved_stays():
    still = moved_stack([(0, 0)] * 4)
    registered, matrices = register_planes(still)
    np.testing.assert_allclose(registered[:, 4:-4, 4:-4], still[:, 4:-4, 4:-4], atol=1e-3)
    np.testing.assert_allclose(matrices, np.tile(np.eye(3), (4, 1, 1)), atol=1e-2)


def test_tilted_structures_are_not_pulled_upright():
    """A steady drift is what a tilted structure looks like: it stays, but near the ends."""
    drift = [(0.5 * plane, 0.0) for plane in range(20)]
    _, matrices = register_planes(moved_stack(drift), "translation", sigma_planes=1.5)
    assert np.abs(matrices[5:-5, :2, 2]).max() < 0.35  # of 4.75 px from the middle to an end


def test_folders_keep_their_names_sizes_and_tables(tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    (data / "noise").mkdir(parents=True)
    write_ome_tiff(data / "noise/07.ome.tif", moved_stack(SHIFTS), (2.0, 0.5, 0.5))
    (data / "rois.csv").write_text("roi\n")
    assert register_folder(data, out) == 1
    stack = open_stack(out / "noise/07.ome.tif")
    assert stack.zyx_shape == (6, 64, 64)
    assert stack.voxel_size_um == (2.0, 0.5, 0.5)
    assert (out / "rois.csv").read_text() == "roi\n"


def test_what_cannot_be_registered_is_refused(tmp_path):
    with pytest.raises(TenetError, match="cannot be registered"):
        register_planes(np.ones((1, 64, 64), dtype=np.float32))
    np.save(tmp_path / "00.npy", moved_stack(SHIFTS))
    with pytest.raises(TenetError, match="voxel size"):
        register_folder(tmp_path, tmp_path / "out")
