"""Bidirectional scans: the offset of odd rows is found to a tenth of a pixel, and shifted back."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from tenet.errors import TenetError
from tenet.io.open import open_stack
from tenet.io.picks import Parts
from tenet.io.scan_offset import find_scan_offset, without_scan_offset


def tissue(offset: float, noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Blurred structures of 6 × 65 × 90 voxels without and with an offset of the odd rows."""
    rng = np.random.default_rng(seed)
    points = (rng.random((6, 65, 130)) < 0.01).astype(np.float32)
    still = 2000 * gaussian_filter(points, (1, 1.5, 1.5))
    moved = still.copy()
    moved[:, 1::2] = shift(still[:, 1::2], (0, 0, offset), order=5)
    inside = slice(20, 110)
    noisy = moved[:, :, inside] + noise * rng.normal(size=moved[:, :, inside].shape)
    return still[:, :, inside], noisy.astype(np.float32)


@pytest.mark.parametrize("offset", [-7.0, -1.3, -0.2, 0.0, 0.45, 2.0, 5.7])
@pytest.mark.parametrize("noise", [0.0, 15.0])
def test_the_offset_is_found(offset: float, noise: float, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", tissue(offset, noise)[1])
    found = find_scan_offset(open_stack(tmp_path / "a.npy"))
    assert found == pytest.approx(offset, abs=0.15 if noise else 0.05)


@pytest.mark.parametrize("offset", [-3.0, 0.45, 2.3])
def test_rows_are_shifted_back(offset: float, tmp_path: Path) -> None:
    still, moved = tissue(offset)
    np.save(tmp_path / "a.npy", moved)
    (stack,) = Parts(scan_offset=offset).open(tmp_path / "a.npy")
    inner = np.s_[:, :, 10:-10]
    before = np.abs(moved - still)[inner].max()
    after = np.abs(stack.read() - still)[inner].max()
    assert after < (1e-4 if offset.is_integer() else 0.05) * before
    np.testing.assert_array_equal(stack.read()[:, ::2], moved[:, ::2])  # even rows stay
    assert stack.scan_offset_px == offset
    # The tenth of an offset that is left is found as such.
    assert abs(find_scan_offset(stack)) < 0.1


def test_a_crop_is_that_of_the_whole(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", tissue(1.4)[1])
    stack = without_scan_offset(open_stack(tmp_path / "a.npy"), "find")
    whole = stack.read()
    for y in (slice(0, 9), slice(3, 8), slice(4, 5)):
        crop = stack.read(slice(1, 3), y, slice(30, 60))
        np.testing.assert_allclose(crop, whole[1:3, y, 30:60], atol=1e-2)


def test_what_cannot_be_found_or_shifted_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.full((4, 9, 30), 7, np.uint8))
    with pytest.raises(TenetError, match="no scan offset can be found where nothing is seen"):
        find_scan_offset(open_stack(tmp_path / "flat.npy"))
    np.save(tmp_path / "a.npy", tissue(0)[1])
    stack = open_stack(tmp_path / "a.npy")
    for beyond in (13.0, float("nan")):
        with pytest.raises(TenetError, match="pixels is beyond 12"):
            without_scan_offset(stack, beyond)
    assert without_scan_offset(stack, None) is stack
    assert without_scan_offset(stack, 0.0) is stack
