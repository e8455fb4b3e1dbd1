"""A model of every microscope: fitted to a stack, and what is said of it."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from small_models import EVERY as SETTINGS

from tenet.errors import TenetError
from tenet.io.open import open_stack
from tenet.learn.microscopes import widths
from tenet.learn.serve import Served, ToldOptics, _binned, coarser, serve
from tenet.metrics.widths import fwhm
from tenet.model.store import TUNING
from tenet.model.trained import TrainedModel
from tenet.settings.schema import parse_experiment
from tenet.tasks.enhance import Reading, enhance
from tenet.tasks.pretrain import pretrain

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("every")
    pretrain(parse_experiment(SETTINGS), phantom_folder, folder, tuning=phantom_folder)
    return folder


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dim line across a stack of 10 planes."""
    counts = np.random.default_rng(0).poisson(20, (10, 32, 28)).astype(np.uint16)
    counts[4:6, 15:18] += 400
    path = tmp_path_factory.mktemp("raw") / "cells.tif"
    tifffile.imwrite(path, counts)
    return path


def served(folder: Path, raw: Path, step_um: float, optics: ToldOptics | None = None) -> Served:
    """Fit the model to pixels of 0.2 µm, with the PSF as told."""
    model, stack = TrainedModel.load(folder), open_stack(raw)
    return serve(model, stack, (step_um, 0.2, 0.2), optics or ToldOptics(), find_psf=False)


@pytest.mark.parametrize(("step_um", "scale"), [(0.2, 1), (0.5, 3), (0.8, 4), (1.2, 6)])
def test_a_model_takes_planes_pixels_and_optics_of_a_stack(
    folder: Path, raw: Path, step_um: float, scale: int
) -> None:
    model, found = served(folder, raw, step_um, ToldOptics(0.6, 0.8, 1.4, 2))
    params = model.params
    assert params.scale == scale
    assert params.coarse_voxel_size_um == (step_um, 0.2, 0.2)
    assert (params.NA, params.wavelength, params.ni, params.photons) == (0.6, 0.8, 1.4, 2)
    assert found["fine_voxel_size_um"] == pytest.approx([step_um / scale, 0.2, 0.2])
    assert found["told"] == found["found"]
    assert found["psf"] is None
    # The network has the weights of the model, and the PSF is that of the optics, on its own grid.
    trained = TrainedModel.load(folder).network
    for name, weight in trained.encoder.state_dict().items():
        assert torch.equal(model.network.encoder.state_dict()[name], weight)
    with torch.no_grad():
        across = model.network.psf()
    _, rows, columns = across.shape
    width = fwhm(across[across.shape[0] // 2, rows // 2].numpy(), 0.2)
    assert 0.36 * 0.8 / 0.6 < width < 0.52 * 0.8 / 0.6  # two photons, even and empty pupils
    assert columns % 2 == 1


def test_a_numerical_aperture_that_is_not_told_is_guessed_from_the_pixels(
    folder: Path, raw: Path
) -> None:
    model, found = served(folder, raw, 0.8)
    # Two-photon PSFs are 0.36 λ / NA wide, and pixels a third to a quarter of that.
    assert found["told"]["NA"] == pytest.approx(0.36 * 0.92 / (3.5 * 0.2))
    assert found["told"]["NA"] == model.told.NA
    assert model.told.wavelength == 0.92


def test_a_model_is_calibrated_for_each_microscope(folder: Path, raw: Path) -> None:
    sharp, _ = served(folder, raw, 0.4, ToldOptics(1.0))
    blurred, _ = served(folder, raw, 0.4, ToldOptics(0.4))
    assert sharp.calibration is not None
    assert blurred.calibration is not None
    # The blur dims what is thin.
    assert sharp.calibration.signal_level is not None
    assert blurred.calibration.signal_level is not None
    assert sharp.calibration.signal_level > blurred.calibration.signal_level


def test_planes_farther_apart_than_was_learned_are_refused(folder: Path, raw: Path) -> None:
    with pytest.raises(TenetError, match=r"planes are 10 pixels apart.*at most 6: bin the pixels"):
        served(folder, raw, 2.0)


def test_a_model_without_its_phantoms_is_refused(folder: Path, raw: Path, tmp_path: Path) -> None:
    (folder / TUNING).rename(tmp_path / "away")
    try:
        with pytest.raises(TenetError, match="has no folder tuning: pre-train with --tuning again"):
            served(folder, raw, 0.8)
    finally:
        (tmp_path / "away").rename(folder / TUNING)


def test_what_was_found_lies_beside_the_result(folder: Path, raw: Path, tmp_path: Path) -> None:
    reading = Reading([raw], voxel_size_um=(0.8, 0.2, 0.2))
    written = list(enhance(reading, folder, tmp_path, optics=ToldOptics(0.6), device=CPU))
    assert [path.name for path in written] == ["cells.ome.tif", "cells.json"]
    result = open_stack(written[0], channel=0)
    assert result.zyx_shape == (40, 32, 28)
    assert result.voxel_size_um == pytest.approx((0.2, 0.2, 0.2))
    found = json.loads(written[1].read_text())
    assert found["told"]["NA"] == 0.6
    assert found["psf"]["axial_fwhm_um"]["value"] > 0
    assert found["psf"]["messages"]
    assert 0 <= found["calibration"]["threshold"] <= 1
    assert found["intensities"]["high"] > found["intensities"]["low"]


def test_a_guess_of_the_aperture_is_said(
    folder: Path, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reading = Reading([raw], voxel_size_um=(0.8, 0.2, 0.2))
    list(enhance(reading, folder, tmp_path, find_psf=False, device=CPU))
    assert "cells.tif: NA 0.47 is guessed from the pixels: give --na" in capsys.readouterr().err


def test_larger_pixels_leave_the_microscope_as_it_is(folder: Path, raw: Path) -> None:
    params = served(folder, raw, 1.2, ToldOptics(0.6)).model.params
    binned = coarser(params, 2)
    assert binned.coarse_voxel_size_um == pytest.approx((1.2, 0.4, 0.4))
    assert (params.scale, binned.scale) == (6, 3)
    assert widths(binned) == pytest.approx(widths(params))
    ramp = torch.arange(12.0).expand(1, 1, 3, 9, 12)  # 4 pixels are left of 9 rows, 6 of 12 columns
    assert torch.equal(_binned(ramp, 2, (1, 2, 2))[0, 0, 0], torch.arange(0.5, 12, 2).expand(4, 6))


def test_optics_of_a_model_of_one_microscope_are_refused(
    phantom_folder: Path, raw: Path, tmp_path: Path
) -> None:
    one = SETTINGS | {"microscopes": {"count": 0}, "pretrain_loop": {"n_epochs": 1}}
    pretrain(parse_experiment(one), phantom_folder, tmp_path / "one")
    reading = Reading([raw], voxel_size_um=(0.36, 0.12, 0.12))
    for asked in ({"optics": ToldOptics(0.6)}, {"find_psf": False}):
        with pytest.raises(TenetError, match="was trained for one microscope: leave --na"):
            list(enhance(reading, tmp_path / "one", tmp_path, device=CPU, **asked))
    assert list(tmp_path.glob("cells*")) == []
