"""What an encoder is told: widths of a PSF, planes, and the thickness of structures."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import EVERY, heard
from torch import Tensor

from tenet.data.phantoms.store import open_phantoms
from tenet.learn.pretrain import Simulator
from tenet.model.tenet import TENET
from tenet.model.told import COUNT, equivalent_widths, mean_thickness, numbers
from tenet.physics.blur import StridedBlur
from tenet.physics.optics import gaussian, psf_volume
from tenet.settings.schema import Microscopes, PhantomDataset, parse_experiment

UNKNOWN = torch.tensor([math.nan])


def psf_of(axial: float, lateral: float) -> Tensor:
    """A Gaussian PSF that falls to 1/e at these distances, in voxels."""
    return torch.from_numpy(psf_volume(gaussian(axial, lateral), (101, 25, 25), (1, 1, 1)))


@pytest.mark.parametrize(("axial", "lateral"), [(3, 2), (8, 3), (16, 4)])
def test_the_equivalent_width_of_a_gaussian_is_that_of_its_square(
    axial: float, lateral: float
) -> None:
    found = equivalent_widths(psf_of(axial, lateral))
    # (Σp)² / Σp² of exp(-(z / b)²) is √(2π) b.
    share = math.sqrt(2 * math.pi)
    assert found == pytest.approx((share * axial, share * lateral), rel=0.01)


def cylinder(diameter: float, direction: tuple[float, float, float]) -> Tensor:
    """A cylinder through a cube of 64 voxels."""
    place = np.indices((64, 64, 64)).reshape(3, -1).T - 31.5
    axis = np.array(direction) / np.linalg.norm(direction)
    distance = np.linalg.norm(place - (place @ axis)[:, None] * axis, axis=1)
    inside = (distance <= diameter / 2).reshape(1, 1, 64, 64, 64)
    return torch.from_numpy(inside).float()


@pytest.mark.parametrize("diameter", [3, 7, 14])
def test_the_thickness_of_cylinders_in_all_directions_is_their_diameter(diameter: float) -> None:
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(24, 3))
    found = [float(mean_thickness(cylinder(diameter, (z, y, x)))) for z, y, x in directions]
    assert np.mean(found) == pytest.approx(diameter, rel=0.06)
    assert found == pytest.approx([diameter] * 24, rel=0.3)  # one that stands straight: 1.18


def test_no_structure_has_no_thickness_and_images_are_told_apart() -> None:
    one = cylinder(8, (1, 2, 2))
    volumes = torch.cat([torch.zeros_like(one), one, torch.ones_like(one)])
    none, thickness, full = mean_thickness(volumes).tolist()
    assert math.isnan(none)
    assert math.isnan(full)
    assert thickness == pytest.approx(float(mean_thickness(one)))


def test_a_thickness_that_is_not_known_is_told_as_such() -> None:
    told = numbers(psf_of(8, 3), 4, torch.tensor([math.nan, 5.0, 10.0]))
    assert told.shape == (3, COUNT)
    assert told[:, 3:].tolist() == [[0, 0], [1, 0], [1, 1]]
    assert torch.equal(told[0, :3], told[1, :3])
    longer = numbers(psf_of(16, 3), 4, UNKNOWN)
    assert (longer - told[:1])[0, :3].tolist() == pytest.approx([1, 0, 0], abs=0.01)


def model(**params: object) -> TENET:
    torch.manual_seed(0)
    settings = {**EVERY, "params": EVERY["params"] | {"is_told": True} | params}
    return heard(TENET(parse_experiment(settings).params).eval())


@torch.no_grad()
def test_the_network_makes_something_else_of_what_it_is_told() -> None:
    own = model()
    image = torch.rand(1, 1, 6, 16, 16, generator=torch.Generator().manual_seed(0))
    blur = own.blur((6 * own.params.scale, 16, 16))
    estimate = own.deconvolve(image)
    unknown = own.enhance(image, blur, estimate=estimate)["shape_logits"]
    torch.testing.assert_close(own.enhance(image, estimate=estimate)["shape_logits"], unknown)
    thick = own.enhance(image, estimate=estimate, thickness=torch.tensor([8.0]))["shape_logits"]
    assert not torch.allclose(thick, unknown)
    # In µm, the settings tell the same.
    size_um = 8 * own.params.res_lateral
    known = model(structure_um=size_um).enhance(image, estimate=estimate)["shape_logits"]
    torch.testing.assert_close(known, thick)
    # Before any training, nothing that is told counts.
    for modulation in own.encoder.modulations:
        modulation.factors.reset_parameters()
    silent = own.enhance(image, estimate=estimate, thickness=torch.tensor([8.0]))["shape_logits"]
    assert torch.equal(silent, own.enhance(image, estimate=estimate)["shape_logits"])


@torch.no_grad()
def test_the_network_is_told_the_psf_of_the_blur() -> None:
    own = model()
    image = torch.rand(1, 1, 6, 16, 16, generator=torch.Generator().manual_seed(0))
    estimate = own.deconvolve(image)
    unknown = own.enhance(image, estimate=estimate)["shape_logits"]
    # A longer PSF, whose deconvolution would be the same.
    psf = own.psf()
    longer = torch.nn.functional.interpolate(psf[None, None], scale_factor=(3, 1, 1))[0, 0]
    other = StridedBlur(longer / 3, (6 * own.params.scale, 16, 16), own.params.scale, first=0)
    said = own.enhance(image, other, estimate=estimate)["shape_logits"]
    assert not torch.allclose(said, unknown)


def test_crops_are_told_their_thickness_within_the_spread_as_often_as_asked(
    phantom_folder: Path,
) -> None:
    size = {"cropsize": (12, 16, 16), "I": 1, "low": 0, "high": 2, "mask": False}
    dataset = PhantomDataset.model_validate(size)
    volumes = open_phantoms(phantom_folder)[:2]
    own = model()
    scale, rng = own.params.scale, np.random.default_rng(0)

    def told(**ranges: float) -> list[float]:
        simulator = Simulator(volumes, dataset, scale, microscopes=Microscopes(**ranges))
        drawn = simulator.draw(1, rng)
        true = mean_thickness(drawn[0]).item()
        batches = [simulator.batch(own.microscope(), drawn, 0, rng) for _ in range(200)]
        return [batch.thickness.item() / true for batch in batches]

    assert all(math.isnan(ratio) for ratio in told())
    ratios = np.array(told(told_thickness=0.4, thickness_spread=1.5))
    known = ratios[~np.isnan(ratios)]
    assert 0.3 < len(known) / len(ratios) < 0.5
    assert 1 / 1.5 <= known.min() < 0.75
    assert 1.35 < known.max() <= 1.5
