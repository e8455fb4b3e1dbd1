"""Where structure ends, by the light itself."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import EVERY
from torch import Tensor

from tenet.data.phantoms.store import open_phantoms
from tenet.enhance.enhance import enhance_array
from tenet.learn.calibrate import calibrate, measured, phantom_images
from tenet.metrics.segmentation import iou
from tenet.model.edges import WEIGHTS, neighbourhood, share_of_nearby, weighed
from tenet.model.store import EXPERIMENT, MODEL, TUNING, save_model
from tenet.model.tenet import TENET
from tenet.model.trained import TrainedModel
from tenet.settings.schema import Experiment, parse_experiment


def line(sigma: float, brightness: float = 1.0, background: float = 0.0) -> Tensor:
    """A line along x whose light falls as a Gaussian along z."""
    z = torch.arange(81.0) - 40
    profile = brightness * torch.exp(-0.5 * (z / sigma) ** 2) + background
    return profile[None, None, :, None, None].expand(1, 1, 81, 33, 33).contiguous()


@pytest.mark.parametrize("brightness", [0.1, 1.0, 20.0])
def test_a_thin_line_ends_where_its_light_is_half(brightness: float) -> None:
    """However bright the line is."""
    share = share_of_nearby(line(5.0, brightness), (21, 5, 5), 1e-4)[0, 0, :, 16, 16]
    wide = int((share >= 0.5).sum())
    assert wide == pytest.approx(2 * 5 * math.sqrt(2 * math.log(2)), abs=2)


def test_inside_a_thick_structure_all_light_is_near_the_most() -> None:
    light = torch.zeros(1, 1, 81, 33, 33)
    light[:, :, 20:60] = 0.8
    share = share_of_nearby(light, (21, 5, 5), 0.01)[0, 0, :, 16, 16]
    assert bool((share[24:56] > 0.95).all())
    assert bool((share[:16] == 0).all())


def test_noise_where_nothing_is_has_a_small_share() -> None:
    noise = 0.002 * torch.rand(1, 1, 40, 40, 40, generator=torch.Generator().manual_seed(0))
    assert float(share_of_nearby(noise, (9, 5, 5), 0.02).max()) < 0.1


def test_a_bright_rim_hides_nothing() -> None:
    """Deconvolution gathers light from beyond the stack at its border."""
    plain = torch.full((1, 1, 40, 40, 40), 0.5)
    rim = plain.clone()
    for axis in (2, 3, 4):
        rim.narrow(axis, 0, 1).fill_(5.0)
        rim.narrow(axis, 39, 1).fill_(5.0)
    assert bool((share_of_nearby(rim, (9, 5, 5), 0.01) > 0.9).all())


def test_the_share_turns_and_mirrors_with_the_stack() -> None:
    light = torch.rand(1, 1, 20, 24, 22, generator=torch.Generator().manual_seed(1))
    share = share_of_nearby(light, (7, 5, 3), 0.01)
    for axis in (2, 3, 4):
        mirrored = share_of_nearby(light.flip(axis), (7, 5, 3), 0.01).flip(axis)
        torch.testing.assert_close(mirrored, share, rtol=0, atol=1e-5)
    turned = share_of_nearby(light.transpose(3, 4), (7, 3, 5), 0.01).transpose(3, 4)
    torch.testing.assert_close(turned, share, rtol=0, atol=1e-5)


@pytest.mark.parametrize("zyx_shape", [(1, 4, 4), (3, 8, 8), (8, 28, 28)])
def test_stacks_smaller_than_the_neighbourhood(zyx_shape: tuple[int, int, int]) -> None:
    share = share_of_nearby(torch.ones(1, 1, *zyx_shape), (129, 9, 9), 0.01)
    assert share.shape[2:] == zyx_shape
    assert bool((share > 0.98).all())


def test_weights_move_probabilities_towards_the_light() -> None:
    probability = torch.tensor([0.0, 0.2, 0.5, 0.9, 1.0])
    same = torch.full((5,), 0.5)
    torch.testing.assert_close(weighed(probability, same, 16.0), probability, rtol=0, atol=2e-6)
    lit, dark = torch.ones(5), torch.zeros(5)
    assert bool((weighed(probability, lit, 8.0) > probability)[1:4].all())
    assert bool((weighed(probability, dark, 8.0) < probability)[1:4].all())
    assert bool(torch.isfinite(weighed(probability, lit, 16.0)).all())


def test_the_neighbourhood_is_that_of_the_psf_and_odd() -> None:
    network, _ = of_edges(True)
    wide = torch.ones(31, 9, 9)  # no half of its maximum on the grid
    for psf in (network.psf(), wide):
        sizes = neighbourhood(psf, network.params)
        assert all(size % 2 for size in sizes)
        assert all(size <= n + 2 for size, n in zip(sizes, psf.shape, strict=True))


def of_edges(edges: bool) -> tuple[TENET, Experiment]:
    torch.manual_seed(0)
    settings = parse_experiment({**EVERY, "params": EVERY["params"] | {"edges": edges}})
    return TENET(settings.params).eval(), settings


def test_the_calibration_chooses_the_weight_of_the_best_iou(
    phantom_folder: Path, tmp_path: Path
) -> None:
    network, settings = of_edges(True)
    record = calibrate(network, phantom_folder, tmp_path, settings.microscopes)
    pairs = phantom_images(
        network.microscope(), phantom_folder, settings.microscopes, noise=True, seed=0
    )
    means = {}
    for weight in WEIGHTS:
        network.edge_weight = weight
        means[weight] = max(
            np.mean([iou(enhance_array(network, image)[0] >= t, truth) for image, truth in pairs])
            for t in np.arange(201) / 200
        )
    assert record["iou"] == pytest.approx(max(means.values()), abs=2e-3)
    assert means[record["edge_weight"]] == pytest.approx(max(means.values()), abs=2e-3)
    assert len(list(open_phantoms(phantom_folder))) == record["n"]


def test_a_model_without_the_setting_is_left_alone(phantom_folder: Path) -> None:
    network, settings = of_edges(False)
    record = measured(network, phantom_folder, settings.microscopes)
    assert "edge_weight" not in record
    assert network.edge_weight == 0


def test_a_loaded_model_has_its_weight(phantom_folder: Path, tmp_path: Path) -> None:
    network, settings = of_edges(True)
    save_model(tmp_path, network, settings, {"kind": "pretrain"}, identity="x")
    record = calibrate(network, phantom_folder, tmp_path, settings.microscopes)
    assert (tmp_path / MODEL).exists()
    assert (tmp_path / EXPERIMENT).exists()
    assert TrainedModel.load(tmp_path).network.edge_weight == record["edge_weight"]


def test_the_model_of_the_package_gains_by_it() -> None:
    """On its phantoms, at the PSF of its settings: 0.65 without the edges of the light."""
    from tenet.model.shipped import shipped_model

    model = TrainedModel.load(shipped_model())
    assert model.calibration is not None
    assert model.calibration.iou is not None
    folder, microscopes = model.folder / TUNING, model.experiment.microscopes
    model.network.params = model.params.model_copy(update={"edges": False})
    assert measured(model.network, folder, microscopes)["iou"] < model.calibration.iou - 0.03
