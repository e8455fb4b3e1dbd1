import numpy as np
import pytest
import tifffile

from tenet.errors import TenetError
from tenet.io.intensities import intensity_range
from tenet.io.levels import LevelsWriter, write_levels
from tenet.io.open import open_stack
from tenet.io.writing import write_ome_tiff

VOXEL = (0.33, 0.31, 0.31)
LEVELS = {255: "uint8", 1023: "uint16", 65535: "uint16"}


@pytest.fixture
def scores() -> np.ndarray:
    return np.random.default_rng(0).random((5, 300, 270), dtype=np.float32)


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("highest", [0.4, 1.0, 7.5])
def test_no_score_changes_by_more_than_half_a_step(tmp_path, scores, levels, highest) -> None:
    scores *= np.float32(highest) / scores.max()
    write_levels(tmp_path / "a.ome.tif", scores, VOXEL, "shape", levels)
    stored = open_stack(tmp_path / "a.ome.tif", channel=0)
    assert stored.dtype == LEVELS[levels]
    assert stored.step == pytest.approx(max(highest, 1) / levels)
    assert stored.voxel_size_um == VOXEL
    error = np.abs(stored.read().astype(float) - scores)
    assert error.max() <= 0.5001 * stored.step
    assert stored.read().max() == pytest.approx(scores.max(), abs=0.5001 * stored.step)


def test_crops_and_ends_of_the_range_are_exact(tmp_path, scores) -> None:
    scores[0], scores[1], scores[2] = 0, 1, 0.5
    write_levels(tmp_path / "a.ome.tif", scores, VOXEL, "shape", 255)
    stored = open_stack(tmp_path / "a.ome.tif")
    whole = stored.read()
    assert set(np.unique(whole[0])) == {0.0}
    assert set(np.unique(whole[1])) == {1.0}
    assert (whole[2] >= np.float32(0.5)).all()  # as before it was rounded
    np.testing.assert_array_equal(
        stored.read(slice(1, 4), slice(200, 290), slice(250, 270)), whole[1:4, 200:290, 250:270]
    )


def test_scores_of_a_segmentation_take_a_small_part_of_their_floats(tmp_path) -> None:
    z, y, x = np.ogrid[-10:10, -100:100, -100:100]
    away = np.sqrt(4.0 * z**2 + y**2 + x**2)
    ball = (1 / (1 + np.exp(away - 15))).astype(np.float32)
    write_levels(tmp_path / "a.ome.tif", ball, VOXEL, "shape", 255)
    assert (tmp_path / "a.ome.tif").stat().st_size < ball.nbytes / 40


def test_blocks_add_up_before_they_are_rounded(tmp_path) -> None:
    path = tmp_path / "folder/a.ome.tif"
    third = np.full((1, 2, 8, 8), 1 / 3, np.float32)
    with LevelsWriter(path, (3, 8, 8), VOXEL, "shape", 255) as writer:
        for _ in range(3):
            writer.add((1, 0, 0), third)
        assert not path.exists()
    assert [file.name for file in path.parent.iterdir()] == ["a.ome.tif"]
    found = open_stack(path, channel=0).read()
    assert found.shape == (3, 8, 8)
    np.testing.assert_array_equal(found[1:], 1)
    np.testing.assert_array_equal(found[0], 0)


def test_a_failure_leaves_nothing(tmp_path, scores) -> None:
    path = tmp_path / "a.ome.tif"
    scores[3, 2, 2] = np.nan
    with pytest.raises(TenetError, match="NaN or infinite values in planes 3"):
        write_levels(path, scores, VOXEL, "shape", 255)
    with pytest.raises(ValueError, match="65536 levels"):
        write_levels(path, scores, VOXEL, "shape", 65536)
    scores[3, 2, 2] = -0.1
    with pytest.raises(TenetError, match="plane 3 of the result has negative values"):
        write_levels(path, scores, VOXEL, "shape", 255)
    writer = LevelsWriter(path, (3, 8, 8), VOXEL, "shape", 255)
    with pytest.raises(TenetError, match="NaN or infinite values in planes 1 to 2"), writer:
        writer.add((1, 0, 0), np.full((1, 2, 8, 8), np.nan, np.float32))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RuntimeError):
        writer.add((0, 0, 0), np.ones((1, 3, 8, 8), np.float32))


@pytest.mark.parametrize("step", ["nan", "0", "-1", "one", "inf"])
def test_a_step_that_is_no_number_is_refused(tmp_path, step) -> None:
    path = tmp_path / "a.ome.tif"
    metadata = {"axes": "ZYX", "MapAnnotation": {"tenet_step": step}}
    tifffile.imwrite(path, np.ones((3, 8, 8), np.uint8), ome=True, metadata=metadata)
    with pytest.raises(TenetError, match=f"tenet_step is {step!r}"):
        open_stack(path)


def test_planes_that_are_not_compressed_can_be_mapped(tmp_path, scores) -> None:
    for compressed in (True, False):
        path = tmp_path / f"{compressed}.ome.tif"
        write_levels(path, scores, VOXEL, "intensity", 65535, compressed=compressed)
        assert open_stack(path).step == 1 / 65535
    with tifffile.TiffFile(tmp_path / "False.ome.tif") as file:
        assert file.series[0].dataoffset is not None
    one, other = (open_stack(tmp_path / f"{name}.ome.tif").read() for name in (True, False))
    np.testing.assert_array_equal(one, other)


def test_the_intensity_range_is_that_of_the_values_and_not_of_the_levels(tmp_path, scores) -> None:
    write_levels(tmp_path / "a.ome.tif", scores, VOXEL, "intensity", 65535)
    write_ome_tiff(tmp_path / "b.ome.tif", scores, VOXEL, ["intensity"])
    levels, floats = (intensity_range(open_stack(tmp_path / f"{n}.ome.tif")) for n in "ab")
    assert (levels.low, levels.high) == pytest.approx((floats.low, floats.high), abs=1 / 65535)
