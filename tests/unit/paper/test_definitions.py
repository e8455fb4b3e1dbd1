"""The paper's definitions against balls, against the paper's own table of beads, and by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tenet.metrics.shapes import sphericity
from tenet.paper.evaluate.definitions import (
    BEAD_VOLUME_UM3,
    PAPER_METHODS,
    measure_published_bead,
    published_measures,
    published_quantity,
    published_z_xy_ratio,
    split_quantity,
)

RESOURCES = Path(__file__).parents[3] / "resources"
FINE = (0.05, 0.05, 0.05)


def soft_ball(radius_um: float = 1.0, half: int = 25, voxel_um: float = 0.05) -> np.ndarray:
    """Scores that fall from 1 to 0 over two voxels around the border of a ball."""
    z, y, x = np.mgrid[-half : half + 1, -half : half + 1, -half : half + 1] * voxel_um
    radius = np.sqrt(z**2 + y**2 + x**2)
    return np.clip(0.5 + (radius_um - radius) / (2 * voxel_um), 0, 1)


def bead_with_specks() -> np.ndarray:
    """A ball 31 voxels across in 120 planes, and 20 specks, each on an empty plane."""
    z, y, x = np.ogrid[:120, :31, :31]
    mask = (z - 60) ** 2 + (y - 15) ** 2 + (x - 15) ** 2 <= 15.5**2
    above, below = np.linspace(0, 43, 10).astype(int), np.linspace(77, 119, 10).astype(int)
    for index, plane in enumerate([*above, *below]):
        assert not mask[plane].any()
        mask[plane, index, 30 - index] = True
    return mask


def test_twenty_specks_add_twenty_planes_and_not_their_distance() -> None:
    mask = bead_with_specks()
    extent = np.ptp(np.argwhere(mask), axis=0) + 1
    assert extent[0] / extent[1:].mean() == pytest.approx(3.87, abs=0.005)  # the bounding box
    assert published_z_xy_ratio(mask, FINE) == pytest.approx(1.65, abs=0.005)
    assert published_z_xy_ratio(mask[45:76], FINE) == pytest.approx(1, abs=0.01)
    # Voxels that are twice as high make the ratio twice as large.
    assert published_z_xy_ratio(mask, (0.1, 0.05, 0.05)) == pytest.approx(3.30, abs=0.01)


def test_a_perfect_ball_is_round_on_its_scores_and_not_on_its_mask() -> None:
    score = soft_ball()
    bead = measure_published_bead(score, 0.5, FINE)
    assert bead["sphericity"] == pytest.approx(0.998, abs=5e-4)
    assert bead["volume_um3"] == np.count_nonzero(score > 0.5) * 0.05**3
    z, y, x = np.mgrid[-25:26, -25:26, -25:26]
    mask = z**2 + y**2 + x**2 <= 20**2
    assert sphericity(mask, FINE, smoothing_voxels=0) == pytest.approx(0.919, abs=5e-4)
    staircase = measure_published_bead(mask.astype(float), 0.5, FINE)
    assert staircase["sphericity"] == pytest.approx(0.92, abs=1e-3)


def test_the_surface_is_the_same_whatever_lies_far_from_it() -> None:
    score = soft_ball(0.6, half=20)
    wide = np.pad(score, 10)
    assert measure_published_bead(wide, 0.5, FINE) == pytest.approx(
        measure_published_bead(score, 0.5, FINE)
    )


def test_specks_count_in_volume_and_surface() -> None:
    score = soft_ball()
    alone = measure_published_bead(score, 0.5, FINE)
    score[2, 2, 2] = score[48, 48, 48] = 1
    with_specks = measure_published_bead(score, 0.5, FINE)
    assert with_specks["volume_um3"] - alone["volume_um3"] == pytest.approx(2 * 0.05**3)
    assert with_specks["sphericity"] < alone["sphericity"]
    assert with_specks["z_xy_ratio"] == pytest.approx(alone["z_xy_ratio"] * 41 / 39)


def test_only_what_is_above_the_threshold_counts() -> None:
    score = np.full((5, 5, 5), 0.5)
    score[2, 2, 2] = 0.6
    assert measure_published_bead(score, 0.5, (1, 1, 1))["volume_um3"] == 1


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_region_without_a_surface(level: float) -> None:
    bead = measure_published_bead(np.full((9, 9, 9), level), 0.5, FINE)
    assert bead["sphericity"] == 0
    if level == 0:
        assert bead == {"volume_um3": 0, "sphericity": 0, "z_xy_ratio": 0, "total_loss": 3}


def test_rltv_and_care_are_cut_at_a_share_of_each_regions_own_maximum() -> None:
    score = soft_ball()
    for method, share in (("rltv_paper", 0.2), ("care", 0.5)):
        name = published_quantity("volume_um3", share)
        expected = np.count_nonzero(score > share) * 0.05**3
        for gain in (0.3, 1.0, 40.0):  # a dim bead has the volume of a bright one
            found = published_measures(method, gain * score, FINE)
            assert found[name] == pytest.approx(expected)


def test_neuroclear_is_cut_at_a_share_of_65535_whatever_its_maximum() -> None:
    score = soft_ball()
    name = published_quantity("volume_um3", 0.7)
    for gain in (0.6, 0.9, 1.0):
        as_16_bit = np.floor(gain * score * 65535)
        found = published_measures("neuroclear", gain * score, FINE)
        # The image that the paper's code wrote, and its threshold.
        expected = np.count_nonzero(as_16_bit / 65535 > 0.7) * 0.05**3
        assert found[name] == pytest.approx(expected)
    assert expected > 0
    assert published_measures("neuroclear", 0.6 * score, FINE)[name] == 0


@pytest.mark.parametrize("method", ["tenet", "tenet_published"])
def test_tenet_is_cut_at_the_papers_fixed_probabilities(method: str) -> None:
    score = 0.9 * soft_ball()
    found = published_measures(method, score, FINE)
    assert len(found) == 2 * 4
    for threshold in (0.5, 0.8):
        volume = np.count_nonzero(score > threshold) * 0.05**3
        assert found[published_quantity("volume_um3", threshold)] == pytest.approx(volume)


def test_a_method_that_the_paper_has_no_numbers_of_is_not_measured() -> None:
    assert published_measures("pretrained", soft_ball(), FINE) == {}


def test_every_threshold_of_the_published_numbers_is_measured() -> None:
    numbers = pd.read_csv(RESOURCES / "published_values.csv")
    beads = numbers[numbers["figure"] == "fig3"]
    stated = set(zip(beads["method"], beads["condition"].str.removeprefix("thr"), strict=True))
    here = {
        (paper.name, f"{threshold:g}")
        for paper in PAPER_METHODS.values()
        for threshold in paper.thresholds
    }
    assert stated == here


def test_names_of_quantities_can_be_split() -> None:
    for quantity in ("volume_um3", "iou", "offset_z"):
        assert split_quantity(quantity) == (quantity, "")
        assert split_quantity(published_quantity(quantity, 0.5)) == (
            quantity,
            "_published_thr0.5",
        )


# The paper's measures of single beads -------------------------------------------------------------


@pytest.fixture(scope="module")
def paper_beads() -> pd.DataFrame:
    return pd.read_csv(RESOURCES / "bead_metrics_per_roi.csv")


def test_the_papers_losses_follow_from_its_measures(paper_beads: pd.DataFrame) -> None:
    parts = (
        (paper_beads["volume_um3"] / BEAD_VOLUME_UM3 - 1).abs()
        + (paper_beads["sphericity"] - 1).abs()
        + (paper_beads["z_xy_ratio"] - 1).abs()
    )
    np.testing.assert_allclose(parts, paper_beads["total_loss"], atol=3e-6)


def test_the_papers_means_are_over_thirty_regions(paper_beads: pd.DataFrame) -> None:
    numbers = pd.read_csv(RESOURCES / "published_values.csv")
    tenet = paper_beads[paper_beads["variant"] == "tenet"]
    assert len(tenet) == 30
    assert tenet.duplicated(["volume_um3", "sphericity", "z_xy_ratio"]).sum() == 1
    stated = numbers[(numbers["figure"] == "fig3") & (numbers["condition"] == "thr0.5")]
    stated = stated[stated["method"] == "TENET"].set_index("quantity")["value"]
    for quantity in ("volume_um3", "sphericity", "z_xy_ratio", "total_loss"):
        assert tenet[quantity].mean() == pytest.approx(stated[quantity], abs=2e-6)


def test_the_papers_volumes_are_whole_voxels_and_its_ratios_whole_planes_and_pixels(
    paper_beads: pd.DataFrame,
) -> None:
    voxels = paper_beads["volume_um3"] / 0.05**3
    np.testing.assert_allclose(voxels, voxels.round(), atol=0.01)
    planes = np.arange(20, 241)  # of the 240 of a region
    for bead in paper_beads.itertuples():
        pixels = np.pi * (planes / (2 * bead.z_xy_ratio)) ** 2
        rounding = 2 * pixels * 6e-7 / bead.z_xy_ratio  # of six decimals
        fits = np.abs(pixels - pixels.round()) <= rounding
        # A body of that many planes and that largest slice that has the bead's volume.
        filled = bead.volume_um3 / 0.05**3 / (planes * pixels)
        assert (fits & (filled > 0.15) & (filled <= 1)).any(), (bead.variant, bead.roi)
