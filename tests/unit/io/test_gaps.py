"""NaN where nothing was recorded: filled for the methods, and 0 in the results."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from tenet.data.crops import StackCrops
from tenet.enhance.restore import restore_stack
from tenet.enhance.tiles import Tile, tile_plan
from tenet.errors import TenetError
from tenet.io.array import stack_in_memory
from tenet.io.intensities import IntensityRange
from tenet.io.open import open_stack
from tenet.io.picks import Parts
from tenet.io.scan_offset import find_scan_offset
from tenet.io.stack import Stack

SHAPE = (9, 40, 33)


@pytest.fixture
def whole() -> np.ndarray:
    return np.random.default_rng(0).random(SHAPE, np.float32)


def with_gaps(whole: np.ndarray) -> np.ndarray:
    """A stack as registration leaves it: borders of their own in each plane, and two planes."""
    image = whole.copy()
    for plane in range(SHAPE[0]):
        image[plane, : plane // 2] = np.nan
        image[plane, :, SHAPE[2] - plane % 3 :] = np.nan
    image[4:6] = np.nan
    image[2, 20, 10] = np.nan
    return image


def opened(path: Path, image: np.ndarray) -> Stack:
    tifffile.imwrite(path, image, metadata={"axes": "ZYX"})
    (stack,) = Parts().open(path)
    return stack


def test_gaps_are_filled_from_the_nearest_voxel_of_the_plane(
    whole: np.ndarray, tmp_path: Path
) -> None:
    image = with_gaps(whole)
    stack = opened(tmp_path / "cells.tif", image)
    read = stack.read()
    assert np.isfinite(read).all()
    seen = ~np.isnan(image)
    np.testing.assert_array_equal(stack.seen(), seen)
    np.testing.assert_array_equal(read[seen], whole[seen])
    assert stack.unseen_share == pytest.approx((~seen).mean(), abs=1e-12)
    assert read[8, 0, 10] == whole[8, 4, 10]  # four rows of NaN above
    assert read[8, 20, 32] == whole[8, 20, 30]  # two columns beside
    np.testing.assert_array_equal(read[4], read[3])  # whole planes
    np.testing.assert_array_equal(read[5], read[6])
    assert read[2, 20, 10] in whole[2, [19, 21, 20, 20], [10, 10, 9, 11]]


def test_a_voxel_does_not_depend_on_the_crop(whole: np.ndarray, tmp_path: Path) -> None:
    stack = opened(tmp_path / "cells.tif", with_gaps(whole))
    crop = slice(3, 8), slice(0, 3), slice(20, 33)
    np.testing.assert_array_equal(stack.read(*crop), stack.read()[crop])
    np.testing.assert_array_equal(stack.seen(*crop), stack.seen()[crop])


def test_each_time_point_has_its_own_gaps(whole: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "series.ome.tif"
    series = np.stack([whole, with_gaps(whole)])
    tifffile.imwrite(path, series, photometric="minisblack", metadata={"axes": "TZYX"})
    stack = Parts(time=0).open(path)[0]
    assert stack.unseen_share == 0
    other = stack.at(0, 1, "_t001")
    np.testing.assert_array_equal(other.seen(), ~np.isnan(series[1]))
    assert np.isfinite(other.read()).all()


def test_integers_and_arrays(whole: np.ndarray) -> None:
    image = with_gaps(whole)
    array = stack_in_memory(image)
    np.testing.assert_array_equal(array.seen(), ~np.isnan(image))
    whole_numbers = stack_in_memory((100 * whole).astype(np.uint16))
    assert whole_numbers.unseen_share == 0
    assert whole_numbers.seen(slice(0, 2)).shape == (2, 40, 33)


def test_what_is_nowhere_recorded_or_infinite_is_refused(tmp_path: Path) -> None:
    nothing = opened(tmp_path / "nothing.tif", np.full(SHAPE, np.nan, np.float32))
    with pytest.raises(TenetError, match=r"nothing\.tif: every intensity is NaN"):
        nothing.read(slice(0, 1))
    with pytest.raises(TenetError, match="infinite"):
        stack_in_memory(np.full(SHAPE, np.inf, np.float32))


class Repeated:
    """Every plane three times: a method that restores nothing, and sees all of its context."""

    scale, channels, workers = 3, ("intensity",), 1

    def tiles(self, zyx_shape: tuple[int, int, int]) -> list[Tile]:
        return tile_plan(zyx_shape, (5, 16, 16), (2, 4, 4), (1, 1, 1))

    def restore(self, shown_zyx: np.ndarray, tile: Tile) -> np.ndarray:
        assert np.isfinite(shown_zyx).all()
        return np.maximum(shown_zyx, 0.1).repeat(3, axis=0)[None]


@pytest.mark.parametrize("suffix", ["ome.tif", "ome.zarr"])
def test_results_are_0_where_nothing_was_recorded(
    suffix: str, whole: np.ndarray, tmp_path: Path
) -> None:
    image = with_gaps(whole)
    stack = opened(tmp_path / "cells.tif", image)
    range_ = IntensityRange(0, 1, "as they are")
    out = restore_stack(
        Repeated(), stack, range_, tmp_path / f"out.{suffix}", voxel_size_um=(1, 1, 1)
    )
    expected = np.where(np.isnan(image), 0, np.maximum(whole, 0.1)).repeat(3, axis=0)
    np.testing.assert_allclose(open_stack(out).read(), expected, atol=1e-6)


def test_nothing_is_learned_where_nothing_was_recorded(whole: np.ndarray) -> None:
    image = whole.copy()
    image[:, :12] = np.nan
    stack, range_ = stack_in_memory(image), IntensityRange(0, 1, "as they are")
    crops = StackCrops([stack], [range_], (4, 16, 16), augment=False)
    rows = {
        row.tobytes()
        for row in np.lib.stride_tricks.sliding_window_view(whole, 16, 2).reshape(-1, 16)
    }
    rng = np.random.default_rng(1)
    for _ in range(20):
        crop = crops.draw(rng)
        assert all(row.tobytes() in rows for row in crop.reshape(-1, 16))
        # Filled rows would repeat the first row that was recorded.
        assert (crop[:, 0] != crop[:, 1]).any()


def test_a_scan_offset_is_found_beside_gaps() -> None:
    rng = np.random.default_rng(0)
    smooth = np.cumsum(rng.normal(size=(4, 64, 96)), axis=2)
    smooth = np.repeat(smooth[:, ::8], 8, axis=1)
    image = smooth.copy()
    image[:, 1::2] = np.roll(image[:, 1::2], 2, axis=2)
    image[:, :, :6] = image[:, :, -6:] = np.nan
    assert find_scan_offset(stack_in_memory(image)) == pytest.approx(2, abs=0.3)
