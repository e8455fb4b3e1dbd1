"""Which raw intensities become 0 and 1 where fill, hot voxels or a large offset stand apart."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from tenet.data.crops import StackCrops
from tenet.errors import TenetError
from tenet.io.intensities import IntensityRange, intensity_range, normalise, warnings_of
from tenet.io.open import open_stack
from tenet.io.stack import Stack
from tenet.model.intensity import brightest_window, scaled, stack_range

SHAPE = (32, 96, 96)
DATA = Path(__file__).parents[3].parent / "shared" / "data"


def stack_of(folder: Path, array: NDArray[Any]) -> Stack:
    np.save(folder / "stack.npy", array)
    return open_stack(folder / "stack.npy")


@pytest.fixture(scope="module")
def base() -> NDArray[np.uint16]:
    """Blurred lines on a camera's offset of 400, with its noise."""
    rng = np.random.default_rng(0)
    image = np.zeros(SHAPE)
    image[14, 50, :], image[19, :, 40], image[24, 70, 10:80] = 1, 0.7, 0.5
    image = ndimage.gaussian_filter(image, (2.5, 1.3, 1.3))
    image *= 300 / image.max()
    return np.asarray(rng.poisson(image) * 10 + rng.normal(400, 10, SHAPE), np.uint16)


def with_borders(image: NDArray[Any]) -> NDArray[Any]:
    image[:, :30] = 0
    image[:, :, 84:] = 0
    return image


def with_blank_planes(image: NDArray[Any]) -> NDArray[Any]:
    image[:10] = 0
    return image


def rotated(image: NDArray[Any]) -> NDArray[Any]:
    """As a registration leaves it: borders are triangles, their edges interpolated."""
    return ndimage.rotate(image, 20, (1, 2), reshape=False, order=1)


def stopped_early(image: NDArray[Any]) -> NDArray[Any]:
    """As a recording into a file of full size leaves it."""
    image[:12] = image[12:24].copy()
    image[12:20] = image[24:].copy()
    return np.concatenate([image[:20], np.zeros((80, *SHAPE[1:]), image.dtype)])


@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
@pytest.mark.parametrize("damage", [with_borders, with_blank_planes, rotated, stopped_early])
def test_fill_does_not_set_the_range(
    tmp_path: Path, base: NDArray[Any], damage: Any, dtype: str
) -> None:
    expected = intensity_range(stack_of(tmp_path, base))
    image = damage(base.astype(dtype))
    found = intensity_range(stack_of(tmp_path, image))
    assert found.low == pytest.approx(expected.low, abs=3)
    assert found.high == pytest.approx(expected.high, rel=0.25)
    assert found.fill == 0
    assert found.fill_share == pytest.approx(np.mean(image == 0), abs=1e-3)
    assert normalise(image, found)[image == 0].max() == 0


def test_fill_does_not_lower_what_a_crop_must_hold(tmp_path: Path, base: NDArray[Any]) -> None:
    means = []
    for image in (base, np.concatenate([base, np.zeros_like(base)])):
        stack = stack_of(tmp_path, image)
        (mean,) = StackCrops(
            [stack], [intensity_range(stack)], (8, 32, 32), augment=False
        ).least_means
        means.append(mean)
    assert means[1] == pytest.approx(means[0], rel=0.02)


def thresholded(image: NDArray[Any]) -> NDArray[Any]:
    return np.where(image > 460, image, 0)


def one_bead(image: NDArray[Any]) -> NDArray[Any]:
    """Alone on an empty ground, cut off below a threshold."""
    bead = np.zeros(SHAPE)
    bead[16, 48, 48] = 1
    bead = ndimage.gaussian_filter(bead, (3, 2, 2))
    return np.where(bead > 0.3 * bead.max(), 1000 * bead / bead.max(), 0).astype(image.dtype)


def clipped_to_8_bits(image: NDArray[Any]) -> NDArray[Any]:
    return np.clip((image.astype(float) - 400) / 8, 0, 255).astype(np.uint8)


def counted(image: NDArray[Any]) -> NDArray[Any]:
    return np.random.default_rng(1).poisson((image.astype(float) - 350) / 500).astype(np.uint16)


@pytest.mark.parametrize("kind", [np.asarray, thresholded, one_bead, clipped_to_8_bits, counted])
@pytest.mark.parametrize("dtype", [None, "float32"])
def test_range_without_fill_is_that_of_all_voxels(
    tmp_path: Path, base: NDArray[Any], kind: Any, dtype: str | None
) -> None:
    """A background clipped at 0, or cut off below a threshold, is no fill."""
    image = kind(base)
    found = intensity_range(stack_of(tmp_path, image if dtype is None else image.astype(dtype)))
    ordered = np.sort(image, axis=None)
    low, high = (float(ordered[int(p * (image.size - 1))]) for p in (0.25, 0.9999))
    assert (found.low, found.high, found.fill, found.hot) == (low, high, None, None)


@pytest.mark.skipif(not DATA.exists(), reason="the real stacks are not beside the repository")
@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("dendrite_two_photon", 1, 255),
        ("beads_confocal", 1, 109),
        ("psf_measured_na085", 231, 6956),
    ],
)
def test_range_of_real_stacks(name: str, low: float, high: float) -> None:
    found = intensity_range(open_stack(DATA / f"{name}.tif"))
    assert (found.low, found.high, found.fill, found.hot) == (low, high, None, None)


def with_hot_pixels(image: NDArray[Any]) -> NDArray[Any]:
    image[np.random.default_rng(2).random(image.shape) < 5e-4] = 65535
    return image


def with_warm_pixels(image: NDArray[Any]) -> NDArray[Any]:
    rng = np.random.default_rng(2)
    warm = rng.random(image.shape) < 5e-4
    image[warm] = rng.integers(12_000, 65_535, warm.sum())
    return image


def with_hot_pixels_of_the_camera(image: NDArray[Any]) -> NDArray[Any]:
    image[:, np.random.default_rng(2).random(image.shape[1:]) < 1e-3] = 65535
    return image


def with_hot_column(image: NDArray[Any]) -> NDArray[Any]:
    image[:, :, 60] = 65535
    return image


def with_hot_border(image: NDArray[Any]) -> NDArray[Any]:
    image[:, 0] = 65535
    return image


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize(
    "damage",
    [
        with_hot_pixels,
        with_warm_pixels,
        with_hot_pixels_of_the_camera,
        with_hot_column,
        with_hot_border,
    ],
)
def test_hot_voxels_do_not_set_the_range(
    tmp_path: Path, base: NDArray[Any], damage: Any, dtype: str
) -> None:
    expected = intensity_range(stack_of(tmp_path, base))
    image = damage(base.astype(dtype))
    hot = image > 10_000
    assert hot.sum() > 1e-4 * hot.size  # more than the percentile leaves out
    stack = stack_of(tmp_path, image)
    found = intensity_range(stack)
    assert found.low == pytest.approx(expected.low, abs=1)
    assert found.high == pytest.approx(expected.high, rel=0.05)
    assert found.hot_share == pytest.approx(hot.mean(), rel=0.1)
    # They are as dark as what surrounds them, in what the network sees and where it looks.
    plain = normalise(base, expected)
    assert np.abs(normalise(image, found) - plain).mean() < 2e-3
    assert normalise(image, found)[hot & (plain < 0.02)].max() < 0.2
    assert brightest_window(stack, found).mean() == pytest.approx(
        brightest_window(stack_of(tmp_path, base), expected).mean(), rel=0.1
    )


def test_fill_and_hot_voxels_of_a_stack_that_is_read_in_parts(tmp_path: Path) -> None:
    """A part of it has none of either."""
    rng = np.random.default_rng(0)
    image = rng.integers(380, 421, (150, 256, 256), dtype=np.uint16)
    image[20:24, 100:140, 100:200] = 900
    image[:12] = 0
    image[30][rng.random((256, 256)) < 0.02] = 60_000
    stack = stack_of(tmp_path, image)
    assert len(list(stack.slabs())) == 3
    found = intensity_range(stack)
    assert (found.low, found.high, found.fill, found.hot) == (390, 900, 0, 60_000)
    assert found.fill_share == 12 / 150
    assert found.hot_share == np.mean(image == 60_000)


@pytest.mark.parametrize("pixels", [1.5, 2.0, 3.0])
def test_small_beads_are_not_hot(tmp_path: Path, pixels: float) -> None:
    """A few bright voxels above a gap are light if their neighbours see it too."""
    rng = np.random.default_rng(0)
    image = np.zeros((24, 96, 96))
    image[8, 20, 30] = image[15, 60, 70] = image[12, 80, 20] = 1
    sigma = pixels / 2.355
    image = ndimage.gaussian_filter(image, (2 * sigma, sigma, sigma))
    counts = (image * 20_000 / image.max() + rng.normal(200, 5, image.shape)).astype(np.uint16)
    found = intensity_range(stack_of(tmp_path, counts))
    ordered = np.sort(counts, axis=None)
    assert found.hot is None
    assert found.high == ordered[int(0.9999 * (counts.size - 1))] > 1000


@pytest.mark.parametrize(
    ("dtype", "offset"), [("uint32", 2**31), ("int64", 2**40), ("float64", 1e9)]
)
def test_a_large_offset_loses_nothing(
    tmp_path: Path, base: NDArray[Any], dtype: str, offset: float
) -> None:
    expected = intensity_range(stack_of(tmp_path, base))
    plain = normalise(base, expected)
    stack = stack_of(tmp_path, base.astype(dtype) + np.dtype(dtype).type(offset))
    found = intensity_range(stack)
    assert (found.low - offset, found.high - offset) == (expected.low, expected.high)
    np.testing.assert_array_equal(stack.read() + (stack.offset - offset), base)
    np.testing.assert_allclose(normalise(stack.read(), found), plain, atol=1e-6)
    assert IntensityRange.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert intensity_range(stack, "minmax").high == offset + int(base.max())


def test_fill_beside_a_large_offset(tmp_path: Path, base: NDArray[Any]) -> None:
    image = base.astype(np.int64) + 2**31
    image[:, :30] = 0
    found = intensity_range(stack_of(tmp_path, image))
    assert found.fill == 0
    assert found.fill_share == 30 / 96
    assert found.low - 2**31 == pytest.approx(intensity_range(stack_of(tmp_path, base)).low, abs=1)


@pytest.mark.parametrize("dtype", ["uint32", "int32", "int64", "float64"])
def test_ordinary_stacks_have_no_offset(tmp_path: Path, base: NDArray[Any], dtype: str) -> None:
    for image in (base, np.zeros_like(base), base * 0.001, base * np.float64(1e5)):
        stack = stack_of(tmp_path, image.astype(dtype))
        assert stack.offset == 0
        np.testing.assert_array_equal(stack.read(), image.astype(dtype).astype(np.float32))


def test_counts_are_not_taken_for_normalised_intensities(
    tmp_path: Path, base: NDArray[Any]
) -> None:
    stack = stack_of(tmp_path, base)
    with pytest.raises(TenetError, match=rf"{base.min()} to {base.max()}.*percentile") as error:
        stack_range(stack, "none")
    assert str(error.value).startswith(f"{stack.path}: ")
    for fine in (base / 65535, base > 500):
        assert stack_range(stack_of(tmp_path, fine), "none") == IntensityRange(0, 1, "none")
    with pytest.raises(TenetError, match="0 to 1"):
        stack_range(stack_of(tmp_path, base / 65535 - 0.1), "none")


def test_the_range_says_what_was_left_out(tmp_path: Path, base: NDArray[Any]) -> None:
    image = with_hot_column(base.copy())
    image[:10] = 0
    said = intensity_range(stack_of(tmp_path, image)).describe()
    assert "percentile 25 to 99.99" in said
    assert "31 % of 0 left out as fill" in said
    assert "0.72 % from 65535 on left out as hot" in said
    assert "\n" not in said
    saturated = intensity_range(stack_of(tmp_path, np.minimum(base, 800)))
    assert saturated.saturated
    assert saturated.saturated_share == pytest.approx(np.mean(base >= 800))
    assert "saturated" in saturated.describe()
    assert scaled(saturated, 0.5).saturated_share == saturated.saturated_share


def test_doubtful_results_are_warned_of() -> None:
    plain = IntensityRange(0, 1, "percentile 25 to 99.99")
    assert warnings_of(plain) == warnings_of(plain, 0.01) == []
    saturated = IntensityRange(0, 1, "percentile 25 to 99.99", True, 0.012)
    (said,) = warnings_of(saturated, 0.5)
    assert "1.2 % of the voxels are saturated" in said
    _, untrusted = warnings_of(dataclasses.replace(saturated, saturated_share=0.06))
    assert "more than 5 % saturated" in untrusted
    (empty,) = warnings_of(plain, 0.0)
    assert "nearly nothing is segmented (0 % of the voxels)" in empty
    (whole,) = warnings_of(plain, 0.998)
    assert whole.startswith("100 % of the voxels are segmented")
    (full,) = warnings_of(plain, 0.6)
    assert "60 % of the voxels are segmented" in full


@pytest.mark.parametrize(
    "damage",
    [{"low": "1"}, {"low": None}, {"high": [2]}, {"saturated": 1}, {"fill": "0"}],
)
def test_a_damaged_record_of_a_range_is_refused(damage: dict[str, Any]) -> None:
    record = {"low": 1, "high": 2, "method": "minmax", "saturated": False}
    assert IntensityRange.from_dict(record) == IntensityRange(1, 2, "minmax")
    with pytest.raises(TenetError, match="low, high and method"):
        IntensityRange.from_dict(record | damage)
