from pathlib import Path

import numpy as np
import pytest

from tenet.data.phantoms.store import save_phantom
from tenet.io.atomic import save_json
from tenet.io.open import open_stack
from tenet.io.writing import write_ome_tiff
from tenet.paper.evaluate.structures import evaluate_cells, evaluate_profiles, thin_places

SCALE = 3
FINE = (0.5, 0.5, 0.5)
COARSE = (1.5, 0.5, 0.5)
TO_FWHM = 2.3548
ROOT = Path(__file__).parents[3]


def fibres(sigma_zx, zyx_shape=(72, 80, 80)):
    """Thin straight fibres along y, Gaussian in z and x (µm)."""
    z, _, x = np.ogrid[tuple(slice(n) for n in zyx_shape)]
    volume = np.zeros(zyx_shape, dtype=np.float32)
    for place in ((25, 24), (37, 56), (49, 34)):
        dz, dx = (z - place[0]) * FINE[0] / sigma_zx[0], (x - place[1]) * FINE[2] / sigma_zx[1]
        volume += np.exp(-(dz**2 + dx**2) / 2).astype(np.float32)
    ripple = 1 + 0.02 * np.cos(np.arange(zyx_shape[1]) / 2)  # so that there are local maxima
    return (volume * ripple[:, None]).astype(np.float32)


@pytest.fixture
def profiles(tmp_path):
    raw = fibres((3.0, 1.0))[1::SCALE]
    write_ome_tiff_at(tmp_path / "data/noise/00.ome.tif", raw, COARSE)
    for method, sigma in (("tenet", (1.0, 1.0)), ("rltv", (2.0, 1.0))):
        path = tmp_path / f"predictions/{method}/noise/00.ome.tif"
        write_ome_tiff_at(path, fibres(sigma), FINE)
        save_json(tmp_path / f"predictions/{method}/settings.json", {"threshold": 0.5})
    return tmp_path


def write_ome_tiff_at(path, volume, size_um):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_ome_tiff(path, volume, size_um)


def test_widths_of_thin_structures_are_found(profiles):
    places = thin_places(open_stack(profiles / "data/noise/00.ome.tif"), 9)
    assert set(places[:, 2]) <= {24, 34, 56}
    table = evaluate_profiles(
        "fig4_neurons", profiles / "predictions", profiles / "data", ["tenet", "rltv"], points=9
    )
    means = table.groupby(["method", "quantity"])["value"].mean()
    for method, axial in (("raw", 3.0), ("tenet", 1.0), ("rltv", 2.0)):
        assert means[method, "fwhm_z_um"] == pytest.approx(axial * TO_FWHM, rel=0.05)
        assert means[method, "fwhm_lateral_um"] == pytest.approx(TO_FWHM, rel=0.05)
        assert means[method, "axial_ratio"] == pytest.approx(axial, rel=0.07)


def test_profiles_with_a_known_truth_have_overlaps(profiles):
    truth = (fibres((1.0, 1.0)) >= 0.5).astype(np.uint8)
    (profiles / "phantoms").mkdir()
    save_phantom(profiles / "phantoms/00.zarr.zip", truth, truth.astype(np.float32))
    table = evaluate_profiles(
        "fig4_neurons",
        profiles / "predictions",
        profiles / "data",
        ["tenet", "rltv"],
        phantoms=profiles / "phantoms",
        points=9,
    )
    ious = table[table["quantity"] == "iou"].set_index("method")["value"]
    assert ious["tenet"] == 1
    assert ious["rltv"] < 0.7
    assert "truth" in set(table["method"])


def test_cells_are_counted_and_their_distance_to_the_tumour_known(tmp_path):
    shape = (48, 64, 64)
    grid = np.ogrid[tuple(slice(n) for n in shape)]

    def ball(centre, radius):
        return sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) <= radius**2

    cells = ball((24, 16, 16), 7) | ball((24, 46, 44), 7)
    tumour = np.zeros(shape, dtype=bool)
    tumour[:, :, :4] = True
    for name, mask in (("cells", cells), ("tumour", tumour)):
        path = tmp_path / name / "tenet/noise/00.ome.tif"
        write_ome_tiff_at(path, mask.astype(np.float32), (1, 1, 1))
        save_json(tmp_path / name / "tenet/settings.json", {"threshold": 0.5})
        (tmp_path / f"{name}_truth").mkdir()
        as_bytes = mask.astype(np.uint8)
        truth = tmp_path / f"{name}_truth/00.zarr.zip"
        save_phantom(truth, as_bytes, as_bytes.astype(np.float32))
    table, every, projections = evaluate_cells(
        "fig5_microglia",
        tmp_path / "cells",
        tmp_path / "tumour/tenet",
        ["tenet"],
        phantoms=tmp_path / "cells_truth",
        tumour_phantoms=tmp_path / "tumour_truth",
    )
    found = table.set_index(["method", "quantity"])["value"]
    assert found["tenet", "cells"] == found["truth", "cells"] == 2
    assert found["tenet", "tumour_distance_um"] == pytest.approx(27, abs=1)
    for method in ("tenet", "truth"):
        for letter, axis in (("z", 0), ("y", 1)):
            flat = projections[f"{method}_cells_{letter}"]
            assert set(np.unique(flat)) == {0, 1, 2}
            np.testing.assert_array_equal(flat > 0, cells.any(axis=axis))
            np.testing.assert_array_equal(
                projections[f"{method}_tumour_{letter}"], tumour.any(axis=axis)
            )
    assert found["tenet", "iou"] == 1
    assert found["tenet", "volume_um3"] == pytest.approx(4 / 3 * np.pi * 7**3, rel=0.03)
    distances = sorted(every[every["method"] == "tenet"]["tumour_distance_um"])
    assert distances == pytest.approx([16 - 3, 44 - 3], abs=1)
