"""Tables of predictions whose quality is known, of duplicates and folds, and of intervals."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tenet.data.phantoms.store import save_phantom
from tenet.errors import TenetError
from tenet.io.writing import write_ome_tiff
from tenet.metrics.shapes import BEAD_VOLUME_UM3
from tenet.metrics.thresholds import threshold_grid
from tenet.paper.evaluate.beads import bead_region, evaluate_beads, read_rois, true_centre
from tenet.paper.evaluate.definitions import published_quantity
from tenet.paper.evaluate.segmentation import evaluate_segmentation
from tenet.paper.evaluate.summary import SUMMARY_COLUMNS, summary_table, sweep_intervals
from tenet.paper.evaluate.tables import (
    COLUMNS,
    SWEEP_COLUMNS,
    read_acquisition,
    read_metrics,
)

PUBLISHED = Path(__file__).parents[3] / "resources/published_values.csv"
SIZE_UM = (1 / 3, 0.31, 0.31)
BEAD_UM = (0.1, 0.1, 0.1)


def ball(shape: tuple, centre: tuple, radius: float) -> np.ndarray:
    squares = (
        (g - c) ** 2 for g, c in zip(np.ogrid[tuple(map(slice, shape))], centre, strict=True)
    )
    return sum(squares) <= radius**2


def predict(path: Path, score: np.ndarray, size_um: tuple, threshold: float | None = None) -> None:
    """A prediction of one channel (intensity) or, for TENET, of shape and brightness."""
    path.parent.mkdir(parents=True, exist_ok=True)
    score = score.astype(np.float32)
    if "tenet" in path.parts:
        score = np.stack([score, np.zeros_like(score)])
        write_ome_tiff(path, score, size_um, ["shape", "brightness"])
    else:
        write_ome_tiff(path, score, size_um, ["intensity"])
    if threshold is not None:
        settings = {"threshold": threshold, "method": "any"}
        (path.parent / "settings.json").write_text(json.dumps(settings))


# Segmentation -------------------------------------------------------------------------------------


@pytest.fixture
def segmented(tmp_path: Path) -> Path:
    """Two phantoms of 32 planes (30 after acquisition): TENET is the truth, RLTV is shifted."""
    for name in ("00", "01"):
        truth = ball((32, 24, 24), (15, 12, 11), 7 + int(name))
        save_phantom(tmp_path / f"phantoms/{name}.zarr.zip", truth, truth.astype(np.float32))
        for part, gain in (("noise", 3.0), ("no_noise", 6.0)):
            top = tmp_path / "predictions"
            predict(top / f"tenet/{part}/{name}.ome.tif", truth[:30], SIZE_UM)
            shifted = gain * np.roll(truth, 2, axis=2)[:30]
            predict(top / f"rltv/{part}/{name}.ome.tif", shifted, SIZE_UM)
    for method, threshold in (("tenet", 0.5), ("rltv", 4.0)):
        settings = {"threshold": threshold}
        (tmp_path / f"predictions/{method}/settings.json").write_text(json.dumps(settings))
    return tmp_path


def value(table: pd.DataFrame, **where: str) -> float:
    chosen = table[np.logical_and.reduce([table[k] == v for k, v in where.items()])]
    assert len(chosen) == 1
    return float(chosen["value"].iloc[0])


def test_truth_scores_one_and_a_shifted_ball_as_computed(segmented: Path) -> None:
    table, sweep = evaluate_segmentation(
        "fig2_phantoms", segmented / "predictions", segmented / "phantoms"
    )
    assert tuple(table.columns) == COLUMNS
    assert tuple(sweep.columns) == SWEEP_COLUMNS
    assert len(table) == 2 * 2 * (6 + 5)  # parts, images, quantities of TENET and of RLTV
    for part in ("noise", "no_noise"):
        for quantity in ("iou", "dice", "average_precision", "oracle_iou"):
            where = {"part": part, "image": "01", "quantity": quantity}
            assert value(table, method="tenet", **where) == 1
    truth = ball((30, 24, 24), (15, 12, 11), 8)
    shifted = np.roll(truth, 2, axis=2)
    expected = (truth & shifted).sum() / (truth | shifted).sum()
    assert 0.5 < expected < 0.9
    rltv = {"method": "rltv", "image": "01"}
    assert value(table, part="no_noise", quantity="iou", **rltv) == pytest.approx(expected)
    dice = 2 * expected / (1 + expected)
    assert value(table, part="no_noise", quantity="dice", **rltv) == pytest.approx(dice)
    # With noise the scores, 3 at most, do not reach the threshold 4; in hindsight they would.
    assert value(table, part="noise", quantity="iou", **rltv) == 0
    oracle = value(table, part="noise", quantity="oracle_iou", **rltv)
    assert oracle == pytest.approx(expected)
    assert value(table, part="noise", quantity="threshold", **rltv) == 4


def test_tenets_iou_is_also_taken_at_the_papers_threshold(segmented: Path) -> None:
    top = segmented / "predictions"
    truth = ball((30, 24, 24), (15, 12, 11), 7)
    wide = ball((30, 24, 24), (15, 12, 11), 9)
    score = 0.3 * wide + 0.5 * truth
    for part in ("noise", "no_noise"):
        predict(top / f"tenet/{part}/00.ome.tif", score, SIZE_UM)
        predict(top / f"rltv_paper/{part}/00.ome.tif", score, SIZE_UM)
        predict(top / f"rltv_paper/{part}/01.ome.tif", score, SIZE_UM)
    for method in ("tenet", "rltv_paper"):
        (top / method / "settings.json").write_text('{"threshold": 0.2}')
    table, _ = evaluate_segmentation("fig2_phantoms", top, segmented / "phantoms")
    where = {"part": "noise", "image": "00"}
    at_paper = published_quantity("iou", 0.5)
    assert value(table, method="tenet", quantity=at_paper, **where) == 1
    fair = value(table, method="tenet", quantity="iou", **where)
    assert fair == pytest.approx(truth.sum() / wide.sum())
    # The paper takes the best threshold of each image for all others.
    assert at_paper not in set(table[table["method"] == "rltv_paper"]["quantity"])


def test_sweep_has_the_same_thresholds_for_every_image_of_a_method(segmented: Path) -> None:
    _, sweep = evaluate_segmentation(
        "fig2_phantoms", segmented / "predictions", segmented / "phantoms"
    )
    for method, highest in (("tenet", 1.0), ("rltv", 6.0)):
        rows = sweep[sweep["method"] == method]
        np.testing.assert_allclose(sorted(rows["threshold"].unique()), threshold_grid(highest))
        assert (rows.groupby(["part", "image", "quantity"]).size() > 200).all()
    at_one = sweep[(sweep["method"] == "tenet") & (sweep["threshold"] == 1) & (sweep["value"] < 1)]
    assert at_one.empty


def test_only_the_methods_asked_for_are_evaluated(segmented: Path) -> None:
    table, sweep = evaluate_segmentation(
        "fig2_phantoms", segmented / "predictions", segmented / "phantoms", ["rltv"]
    )
    assert set(table["method"]) == set(sweep["method"]) == {"rltv"}


def test_missing_or_misfitting_predictions_are_refused(segmented: Path) -> None:
    arguments = ("fig2_phantoms", segmented / "predictions", segmented / "phantoms")
    lost = segmented / "predictions/rltv/noise/01.ome.tif"
    kept = lost.read_bytes()
    lost.unlink()
    with pytest.raises(TenetError, match=r"rltv/noise/01.*missing"):
        evaluate_segmentation(*arguments)
    predict(lost, np.zeros((15, 24, 24)), SIZE_UM)  # on the coarse grid
    with pytest.raises(TenetError, match="not what the image was simulated from"):
        evaluate_segmentation(*arguments)
    lost.write_bytes(kept)
    for threshold in ("null", '"0.5"', "true", "[1]"):
        text = f'{{"threshold": {threshold}}}'
        (segmented / "predictions/tenet/settings.json").write_text(text)
        with pytest.raises(TenetError, match="threshold: Input should be a valid number"):
            evaluate_segmentation(*arguments)
    (segmented / "predictions/tenet/settings.json").write_text("[" * 100_000)
    with pytest.raises(TenetError, match=r"settings\.json: nested"):
        evaluate_segmentation(*arguments)
    (segmented / "predictions/tenet/settings.json").unlink()
    with pytest.raises(TenetError, match=r"settings\.json"):
        evaluate_segmentation(*arguments)
    with pytest.raises(TenetError, match="no such folder"):
        evaluate_segmentation("fig2_phantoms", segmented / "none", arguments[2])


# Beads --------------------------------------------------------------------------------------------

SHAPE, SCALE = (60, 60, 60), 10
CENTRE = (29.5, 30, 28)  # fine grid: coarse plane 2.5
ROWS = "roi,image,z,y,x,fold\n0,0,2.5,30,28,0\n1,4,2.5,30,28,1\n2,4,2.5,30,28,0\n"


@pytest.fixture
def beads(tmp_path: Path) -> Path:
    """Beads of 2 µm; ROI 2 repeats ROI 1; each fold's model fails on the other's image."""
    (tmp_path / "rois.csv").write_text(ROWS)
    bead = ball(SHAPE, CENTRE, 10)
    nothing = np.zeros(SHAPE)
    top = tmp_path / "predictions"
    for fold, image, other in ((0, "00", "04"), (1, "04", "00")):
        predict(top / f"tenet/fold{fold}/{image}.ome.tif", bead, BEAD_UM, 0.5)
        predict(top / f"tenet/fold{fold}/{other}.ome.tif", nothing, BEAD_UM)
    long = np.zeros(SHAPE)
    for shift in (-6, -3, 0, 3, 6):
        long = np.maximum(long, ball(SHAPE, (CENTRE[0] + shift, *CENTRE[1:]), 10))
    for image in ("00", "04"):
        predict(top / f"rltv/all/{image}.ome.tif", 7 * long, BEAD_UM, 2.0)
    return tmp_path


def test_an_ideal_bead_has_the_values_of_theory(beads: Path) -> None:
    table, _ = evaluate_beads(
        "fig3_beads", beads / "predictions", beads / "rois.csv", SCALE, width=60
    )
    assert tuple(table.columns) == COLUMNS
    expected = {
        "volume_um3": (BEAD_VOLUME_UM3, 0.02),
        "sphericity": (1, 0.02),
        "z_xy_ratio": (1, 0.02),  # of voxels 1/10 of the radius
        "total_loss": (0, 0.05),
        "offset_z": (0, 1e-6),
        "offset_y": (0, 1e-6),
        "offset_x": (0, 1e-6),
    }
    for quantity, (ideal, tolerance) in expected.items():
        found = value(table, method="tenet", roi=0, quantity=quantity)
        assert found == pytest.approx(ideal, abs=tolerance * max(ideal, 1)), quantity
    # Lines through the bead are boxes: 20 samples along z, 19 along y and x, half a voxel off the
    # centre. The Gaussian that fits such a box of 60 samples best is 0.875 times as wide.
    for axis in "zyx":
        found = value(table, method="tenet", roi=0, quantity=f"fwhm_{axis}_um")
        assert found == pytest.approx(0.875 * (2.0 if axis == "z" else 1.9), abs=0.01)
    # The bead drawn out along z by 6 voxels either way is longer, and no sphere.
    assert value(table, method="rltv", roi=0, quantity="z_xy_ratio") > 1.3
    assert value(table, method="rltv", roi=0, quantity="fwhm_z_um") > 2.3
    # By the paper's definition the surface is that of the scores. These are a mask, a staircase.
    by_paper = published_quantity("sphericity", 0.5)
    assert value(table, method="tenet", roi=0, quantity=by_paper) < 0.95
    assert not table[table["method"] == "rltv"]["quantity"].str.contains("published").any()


def test_by_the_papers_definitions_a_bead_that_is_listed_twice_counts_twice(beads: Path) -> None:
    arguments = ("fig3_beads", beads / "predictions", beads / "rois.csv", SCALE)
    table, sweep = evaluate_beads(*arguments, width=60)
    tenet = table[table["method"] == "tenet"]
    assert list(tenet[tenet["quantity"] == "volume_um3"]["roi"]) == [0, 1]
    twice = tenet[tenet["quantity"] == published_quantity("volume_um3", 0.5)]
    assert list(twice["roi"]) == [0, 1, 2]
    assert list(twice["part"]) == ["fold0", "fold1", "fold1"]
    assert twice["value"].tolist() == pytest.approx([ball(SHAPE, CENTRE, 10).sum() * 1e-3] * 3)
    assert not sweep["quantity"].str.contains("published").any()


def test_a_bead_is_measured_once_and_in_its_own_fold(beads: Path) -> None:
    table, sweep = evaluate_beads(
        "fig3_beads", beads / "predictions", beads / "rois.csv", SCALE, width=60
    )
    table = table[~table["quantity"].str.contains("published")]
    assert set(table["roi"]) == set(sweep["roi"]) == {0, 1}
    parts = table[table["method"] == "tenet"].groupby("roi")["part"].unique()
    assert [list(part) for part in parts] == [["fold0"], ["fold1"]]
    # The other fold's prediction of the same image is empty and would give 0.
    volumes = table[(table["method"] == "tenet") & (table["quantity"] == "volume_um3")]["value"]
    assert (volumes > 4).all()
    assert set(table[table["method"] == "rltv"]["part"]) == {"all"}


def test_only_beads_of_the_folds_that_were_trained_are_measured(beads: Path) -> None:
    shutil.rmtree(beads / "predictions/tenet/fold1")
    arguments = ("fig3_beads", beads / "predictions", beads / "rois.csv", SCALE)
    with pytest.raises(TenetError, match="predict"):
        evaluate_beads(*arguments, width=60)
    table, sweep = evaluate_beads(*arguments, folds=[0], width=60)
    assert set(table["roi"]) == set(sweep["roi"]) == {0}
    assert set(table["method"]) == {"tenet", "rltv"}
    with pytest.raises(TenetError, match=r"no bead is in the folds \[7\]"):
        evaluate_beads(*arguments, folds=[7], width=60)


def test_sweep_covers_the_range_of_a_methods_scores(beads: Path) -> None:
    _, sweep = evaluate_beads(
        "fig3_beads", beads / "predictions", beads / "rois.csv", SCALE, width=60
    )
    for method, top in (("tenet", 1), ("rltv", 7)):
        rows = sweep[(sweep["method"] == method) & (sweep["quantity"] == "volume_um3")]
        np.testing.assert_allclose(
            np.sort(rows["threshold"].unique()), np.linspace(0.05, 0.95, 19) * top
        )
    # Scores of 0 and 1 have the same volume at every threshold between.
    volumes = sweep[(sweep["method"] == "tenet") & (sweep["quantity"] == "volume_um3")]["value"]
    assert volumes.nunique() == 1


def test_region_is_clipped_and_its_centre_stays_on_the_bead() -> None:
    region = bead_region((2, 10, 50), (60, 60, 60), SCALE, planes=4, width=40)
    assert region.crop == (slice(0, 40), slice(0, 30), slice(30, 60))
    # Coarse plane 2 is centred on fine plane 2·10 + 4.5.
    assert region.centre_zyx == (24.5, 10, 20)
    full = bead_region((15, 256, 256), (310, 512, 512), SCALE)
    assert [s.stop - s.start for s in full.crop] == [240, 128, 128]
    small = bead_region((6, 80, 80), (120, 160, 160), SCALE)
    assert [s.stop - s.start for s in small.crop] == [120, 80, 80]
    with pytest.raises(TenetError, match="outside"):
        bead_region((2, 10, 512), (60, 60, 60), SCALE)


def test_true_centre_of_a_simulated_bead_replaces_the_rounded_one(tmp_path: Path) -> None:
    empty = np.zeros((20, 8, 8))
    attributes = {"centres_zyx": [[6.7, 3.2, 4.4], [17.0, 3.0, 4.0]]}
    save_phantom(tmp_path / "03.zarr.zip", empty > 0, empty, attributes=attributes)
    roi = {"image": 3, "z": 0, "y": 3, "x": 4}
    found = true_centre(tmp_path, roi, SCALE)
    assert found == pytest.approx(((6.7 - 4.5) / 10, 3.2, 4.4))
    assert true_centre(None, roi, SCALE) == (0, 3, 4)
    with pytest.raises(TenetError, match="no bead"):
        true_centre(tmp_path, {**roi, "y": 7}, SCALE)


def test_real_beads_are_counted_once() -> None:
    table = read_rois(PUBLISHED.with_name("bead_rois.csv"))
    raw = pd.read_csv(PUBLISHED.with_name("bead_rois.csv"))
    assert len(raw) == 30
    assert len(table) == 29
    assert not table.duplicated(["image", "z", "y", "x"]).any()


def test_wrong_beads_are_refused(beads: Path) -> None:
    arguments = ("fig3_beads", beads / "predictions", beads / "rois.csv", SCALE)
    with pytest.raises(TenetError, match=r"voxels of .* not"):
        evaluate_beads(*arguments, voxel_size_um=(0.05, 0.05, 0.05))
    (beads / "predictions/tenet/fold1/04.ome.tif").unlink()
    with pytest.raises(TenetError, match="no images of number 4"):
        evaluate_beads(*arguments)
    (beads / "rois.csv").write_text("roi,image,z,y,x\n0,0,2,30,28\n")
    with pytest.raises(TenetError, match="lacks the columns fold"):
        evaluate_beads(*arguments)


# Tables beside the figures ------------------------------------------------------------------------


def long_table(experiment: str, part: str, quantity: str, rows: list) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "experiment": experiment,
                "part": part,
                "method": method,
                "image": image,
                "roi": roi,
                "quantity": quantity,
                "value": value,
            }
            for method, image, roi, value in rows
        ]
    )


def summary_row(summary: pd.DataFrame, **where: str) -> pd.Series:
    chosen = summary[np.logical_and.reduce([summary[k] == v for k, v in where.items()])]
    assert len(chosen) == 1
    return chosen.iloc[0]


def test_summary_of_figure_2_has_intervals_and_published_numbers() -> None:
    phantoms = [("tenet", i, "", v) for i, v in enumerate((0.2, 0.4, 0.6))]
    rltv = [("rltv_paper", i, "", v) for i, v in enumerate((0.1, 0.2, 0.3))]
    tables = [
        long_table("fig2_phantoms", "noise", "iou", phantoms + rltv),
        long_table("fig2_phantoms", "noise", "oracle_iou", phantoms + rltv),
        long_table("fig2_angle00", "no_noise", "iou", [("tenet", 0, "", 0.5)]),
        long_table("fig2_angle00", "no_noise", "threshold", [("tenet", 0, "", 0.5)]),
    ]
    budgets = {"tenet": "fine-tuned on 10 crops"}
    summary = summary_table("fig2", tables, PUBLISHED, np.random.default_rng(0), budgets=budgets)
    assert tuple(summary.columns) == SUMMARY_COLUMNS
    assert set(summary[summary["method"] == "tenet"]["budget"]) == {"fine-tuned on 10 crops"}
    assert set(summary[summary["method"] != "tenet"]["budget"]) == {""}
    empty = summary[["value", "low", "high", "published"]].isna().any(axis=1)
    assert (summary["note"] != "").equals(empty)  # a reason wherever a cell is empty
    assert "threshold" not in set(summary["quantity"])
    row = summary_row(summary, condition="phantoms_noise", method="tenet", quantity="iou")
    assert row["value"] == pytest.approx(0.4)
    assert 0.2 <= row["low"] < 0.4 < row["high"] <= 0.6
    assert row["n"] == 3
    assert row["published"] == pytest.approx(0.351897)
    # The paper's IoU of RLTV is that of the best threshold, and stands beside the like.
    where = {"condition": "phantoms_noise", "method": "rltv_paper"}
    assert np.isnan(summary_row(summary, quantity="iou", **where)["published"])
    oracle = summary_row(summary, quantity="oracle_iou", **where)
    assert oracle["published"] == pytest.approx(0.225576)
    angle = summary_row(summary, condition="angle00_no_noise")
    assert angle["published"] == pytest.approx(0.137178)
    assert np.isnan(angle["low"])  # one image says nothing of the spread
    assert angle["n"] == 1


def test_gains_are_paired() -> None:
    ours = [("tenet", i, "", v) for i, v in enumerate((0.7, 0.8))]
    rltv = [("rltv", i, "", v) for i, v in enumerate((0.6, 0.6))]
    published = [("tenet_published", i, "", v) for i, v in enumerate((0.2, 0.4))]
    table = long_table("quality_matched", "noise", "iou", ours + rltv + published)
    summary = summary_table("quality", [table], PUBLISHED, np.random.default_rng(0))
    where = {"condition": "matched", "method": "tenet_published"}
    assert summary_row(summary, quantity="iou", **where)["value"] == pytest.approx(0.3)
    assert summary_row(summary, quantity="iou_gain", **where)["value"] == pytest.approx(0.45)
    gain = summary_row(summary, quantity="iou_gain", condition="matched", method="rltv")
    assert gain["value"] == pytest.approx(0.15)
    assert gain["low"] == pytest.approx(0.1)
    assert set(summary["condition"]) == {"matched", "all"}


def test_intervals_resample_images_not_beads() -> None:
    # Four beads in each of three images, alike within an image: the spread is that of three values.
    rows = [("tenet", image, 4 * image + k, 4.0 + image) for image in range(3) for k in range(4)]
    one_each = [("tenet", image, image, 4.0 + image) for image in range(3)]
    clustered, single = (
        summary_row(
            summary_table(
                "fig3",
                [long_table("fig3_beads", "all", "volume_um3", given)],
                PUBLISHED,
                np.random.default_rng(0),
            ),
            quantity="volume_um3",
        )
        for given in (rows, one_each)
    )
    assert clustered["n"] == 12
    assert (clustered["low"], clustered["high"]) == (single["low"], single["high"])
    assert clustered["published"] == pytest.approx(4.003383)
    assert clustered["condition"] == "beads"


def ablation_tables(n_images: int, spread: float) -> list[pd.DataFrame]:
    """Two beads in each image; the ablation is worse by 0.1, more or less by `spread`."""
    beads = [(i, 2 * i + k, 0.2 + 0.3 * i) for i in range(n_images) for k in range(2)]
    reference = [("tenet", i, roi, value) for i, roi, value in beads]
    changed = [("tenet", i, roi, v + 0.1 + spread * (-1) ** i) for i, roi, v in beads]
    return [
        long_table("fig3_beads", "fold0", "total_loss", reference),
        long_table("supp_no_vq", "fold0", "total_loss", changed),
    ]


def difference_of(n_images: int, spread: float) -> pd.Series:
    tables = ablation_tables(n_images, spread)
    summary = summary_table("supp", tables, PUBLISHED, np.random.default_rng(0))
    return summary_row(summary, quantity="total_loss_difference", condition="no_vq")


def test_ablations_are_compared_bead_by_bead() -> None:
    # Images differ by far more than the ablation, which a comparison of the means would not see.
    row = difference_of(6, 0.02)
    assert row["value"] == pytest.approx(0.1)
    assert 0.08 <= row["low"] <= 0.1 <= row["high"] <= 0.12
    assert row["n"] == 12
    row = difference_of(6, 0.3)
    assert row["low"] < 0 < row["high"]


def test_few_images_show_no_difference_of_an_ablation() -> None:
    row = difference_of(5, 0.0)
    assert row["value"] == pytest.approx(0.1)
    assert np.isnan(row["low"])
    assert np.isnan(row["high"])
    assert "fewer than 6 images" in row["note"]


def test_several_stacks_of_tissue_give_intervals_over_stacks() -> None:
    widths = [("tenet", image, k, 2.0 + image) for image in range(3) for k in range(8)]
    ious = [("tenet", image, "", 0.8 + 0.1 * image) for image in range(3)]
    ious += [("rltv", image, "", 0.75 + 0.05 * image) for image in range(3)]
    tables = [
        long_table("fig4_neurons", "", "axial_ratio", widths),
        long_table("fig4_neurons", "", "iou", ious),
    ]
    summary = summary_table("fig4", tables, PUBLISHED, np.random.default_rng(0))
    row = summary_row(summary, quantity="axial_ratio", method="tenet")
    assert row["n"] == 24
    assert row["high"] - row["low"] > 1  # of 24 places it would be half of that
    gain = summary_row(summary, quantity="iou_gain", method="rltv")
    assert gain["value"] == pytest.approx(0.1)
    assert 0.049 < gain["low"] < 0.1 < gain["high"] < 0.151
    tables = [table[table["image"] == 0] for table in tables]
    summary = summary_table("fig4", tables, PUBLISHED, np.random.default_rng(0))
    row = summary_row(summary, quantity="axial_ratio", method="tenet")
    assert "places of one stack" in row["note"]


def test_missing_values_are_left_out_and_counted_out() -> None:
    rows = [("rltv_paper", 0, 0, 2.5), ("rltv_paper", 1, 1, np.nan), ("rltv_paper", 2, 2, 3.5)]
    name = published_quantity("z_xy_ratio", 0.2)
    tables = [
        long_table("fig3_beads", "all", "fwhm_z_um", rows),
        long_table("fig3_beads", "all", name, rows),
    ]
    summary = summary_table("fig3", tables, PUBLISHED, np.random.default_rng(0))
    row = summary_row(summary, quantity="fwhm_z_um")
    assert (row["value"], row["n"]) == (3.0, 2)
    row = summary_row(summary, condition="beads_published_thr0.2")
    assert (row["quantity"], row["published"]) == ("z_xy_ratio", 3.027)


def test_widths_of_the_psf_over_folds_and_the_true_ones(tmp_path: Path) -> None:
    for fold, learned in ((0, 3.0), (1, 4.0)):
        text = f"which,axis,fwhm_um\ninitial,axial,2.5\nlearned,axial,{learned}\n"
        (tmp_path / f"psf{fold}.csv").write_text(text)
    record = {"microscope": {}, "fwhm_um": {"axial": 3.6, "lateral": 0.9}}
    (tmp_path / "acquisition.json").write_text(json.dumps(record))
    summary = summary_table(
        "fig3",
        [long_table("fig3_beads", "all", "volume_um3", [("tenet", 0, 0, 4.0)])],
        PUBLISHED,
        np.random.default_rng(0),
        psfs=[tmp_path / "psf0.csv", tmp_path / "psf1.csv"],
        acquisition=tmp_path / "acquisition.json",
    )
    widths = summary[summary["quantity"] == "psf_axial_fwhm_um"].set_index("condition")
    assert widths["value"].to_dict() == {"initial": 2.5, "learned": 3.5, "true": 3.6}
    assert widths["n"].to_dict() == {"initial": 2, "learned": 2, "true": 1}
    assert (widths.loc["learned", "low"], widths.loc["learned", "high"]) == (3, 4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "nested"),
        ('{"microscope": {}}', "fwhm_um: Field required; simulate again"),
        ('{"microscope": {}, "fwhm_um": [1, 2]}', "fwhm_um: Input should be an object"),
        (
            '{"microscope": {}, "fwhm_um": {"axial": "3"}}',
            "fwhm_um.axial: Input should be",
        ),
    ],
)
def test_acquisitions_of_others(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "acquisition.json").write_text(text)
    with pytest.raises(TenetError, match=said):
        read_acquisition(tmp_path / "acquisition.json")


HEADER = "experiment,part,method,image,roi,quantity,value\n"
ROW = "fig2_phantoms,noise,tenet,00,,iou,{}\n"


def test_tables_of_metrics_may_lack_values(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(HEADER + ROW.format(0.5) + ROW.format(""))
    assert read_metrics(tmp_path / "m.csv")["value"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ROW.format(1) * 2, "lacks the columns"),
        ((HEADER + ROW.format(1)).replace(",", ";"), "lacks the columns"),
        (HEADER + ROW.format(1) + HEADER, "row 2 has 'value' under value"),
        (HEADER + ROW.format('"0,5"'), "row 1 has '0,5' under value"),
        (HEADER + ROW.format("9" * 400), "row 1 has '9999"),
        (HEADER + ROW.format("inf"), "row 1 has 'inf'"),
    ],
)
def test_tables_that_hold_no_metrics(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(TenetError, match=said):
        read_metrics(tmp_path / "m.csv")


def test_sweep_means_are_over_beads_and_intervals_over_images() -> None:
    rng = np.random.default_rng(3)
    rows = [
        {"method": "tenet", "image": i, "threshold": t, "quantity": "q", "value": i + 10 * t}
        for i in (0, 0, 0, 1)
        for t in (0.1, 0.2)
    ]
    found = sweep_intervals(pd.DataFrame(rows), rng).set_index("threshold")
    assert found.loc[0.1, "value"] == pytest.approx(1.25)
    assert found.loc[0.2, "value"] == pytest.approx(2.25)
    # All resamples of two images: only the first, only the second, both.
    assert (found.loc[0.1, "low"], found.loc[0.1, "high"]) == (1, 2)
