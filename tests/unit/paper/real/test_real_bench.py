"""The bench of real structures: its beams, what is compared on the fine grid, and its summary."""

import numpy as np
import pandas as pd
import pytest

from tenet.errors import TenetError
from tenet.paper.real.beams import BEAMS, RLTV_REACH_UM
from tenet.paper.real.bench import measures
from tenet.paper.real.measures import tail_share
from tenet.paper.real.methods import interpolated
from tenet.paper.real.structures import Scene
from tenet.paper.real.summary import PSF, RESULTS, summary
from tenet.paper.tasks.real_summary import summarise
from tenet.physics.optics import psf_fwhm_um
from tenet.settings.load import load_experiment


@pytest.fixture(scope="module")
def told():
    return load_experiment("sample").params


def test_a_narrower_beam_blurs_more_and_an_aberrated_one_leans(told) -> None:
    psfs = {name: beam.psf(told, RLTV_REACH_UM).numpy() for name, beam in BEAMS.items()}
    lengths = [psf_fwhm_um(psfs[name], told.fine_voxel_size_um)["axial"]
               for name in ("uniform", "fill07", "fill04")]  # fmt: skip
    assert lengths == sorted(lengths)
    assert lengths[2] > 1.8 * lengths[0]
    assert tail_share(psfs["fill07"]) > 1.2 * tail_share(psfs["uniform"])
    for name, psf in psfs.items():
        assert psf.sum() == pytest.approx(1, abs=1e-4)
        lean = np.abs(psf - psf[::-1]).sum()
        assert (lean > 0.1) == name.endswith("aberrated"), name


def test_interpolation_keeps_coarse_planes_in_their_place() -> None:
    scale, planes = 8, 6
    ramp = np.arange(planes, dtype=np.float32)[:, None, None] * np.ones((1, 2, 2), np.float32)
    fine = interpolated(ramp, scale)
    centre = (np.arange(planes * scale) - (scale - 1) / 2) / scale  # in coarse planes
    assert np.allclose(fine[:, 0, 0], np.clip(centre, 0, planes - 1))


def test_a_perfect_score_reaches_all_and_adds_nothing(told) -> None:
    shape = np.zeros((16, 16, 16), bool)
    shape[4:12, 4:12, 4:12] = True
    scene = Scene(shape, shape.astype(np.float32), np.full((3, 3), 1.0))
    found = measures(shape.astype(np.float32), 0.5, scene, told)
    assert (found["iou"], found["reached"], found["false_share"]) == (1, 3, 0)


def results() -> pd.DataFrame:
    rows = [
        ("dendrites", "fill07", "tenet", 0, 0.4, 2, 4, 0.1),
        ("dendrites", "fill07", "tenet", 1, 0.6, 6, 6, 0.3),
        ("vessels", "fill07", "tenet", 0, 0.8, 0, 0, 0.0),
    ]
    names = ["kind", "beam", "method", "seed", "iou", "reached", "tips", "false_share"]
    return pd.DataFrame(rows, columns=names)


def test_a_summary_counts_stacks_and_tips() -> None:
    table = summary(results(), ["kind", "beam", "method"]).set_index(["kind", "quantity"])
    assert table.loc[("dendrites", "iou"), "value"] == pytest.approx(0.5)
    assert table.loc[("dendrites", "iou"), "n"] == 2
    tips = table.loc[("dendrites", "tips_reached")]
    assert (tips["value"], tips["n"]) == (pytest.approx(0.8), 10)
    assert (tips["low"], tips["high"]) == (pytest.approx(0.5), pytest.approx(1.0))
    assert ("vessels", "tips_reached") not in table.index
    assert np.isnan(table.loc[("vessels", "iou"), "low"])  # one stack tells no spread


def test_the_table_begins_with_the_mean_over_all_beams(tmp_path) -> None:
    folder = tmp_path / "dendrites_fill07"
    folder.mkdir()
    results().to_csv(folder / RESULTS, index=False)
    pd.DataFrame([{"kind": "dendrites", "beam": "fill07", "true_z_um": 2.5}]).to_csv(
        folder / PSF, index=False
    )
    table, psfs, figure = (tmp_path / name for name in ("real.csv", "psf.csv", "real.png"))
    summarise([folder], table, psfs, [figure])
    written = pd.read_csv(table)
    assert list(written["beam"].unique()) == ["every", "fill07"]
    assert figure.stat().st_size > 1000
    with pytest.raises(TenetError, match="run tenet evaluate real"):
        summarise([tmp_path], table, psfs, [])
