"""The trainable PSF: its fit, its grids, and what may not move it."""

import math

import numpy as np
import pytest
import torch

from tenet.errors import TenetError
from tenet.imaging import StridedBlur
from tenet.optics import Optics, gaussian, gibson_lanni, psf_volume
from tenet.psf import NeurIPSF, PSFSampling
from tenet.simulation import psf_fwhm_um

SHAPE, VOXEL, SCALE = (61, 21, 21), (0.1, 0.1, 0.1), 5
MODEL = gaussian(0.8, 0.3)


def fitted(sampling: PSFSampling = "continuous", seed: int = 0) -> NeurIPSF:
    psf = NeurIPSF(SHAPE, VOXEL, SCALE, sampling=sampling)
    psf.fit(MODEL, np.random.default_rng(seed), target_error=1e-6)
    return psf


@pytest.mark.parametrize("sampling", ["lookup", "continuous"])
def test_fit_reaches_its_target(sampling: PSFSampling) -> None:
    psf = NeurIPSF(SHAPE, VOXEL, SCALE, sampling=sampling)
    error = psf.fit(MODEL, np.random.default_rng(1), target_error=1e-5)
    assert error <= 1e-5
    # The error told is that of the network as it now stands, in its own arithmetic.
    with torch.no_grad():
        actual = (psf.radial() - psf.target(MODEL)).square().mean().item()
    assert actual == pytest.approx(error, rel=0.05)


def test_fit_to_gibson_lanni_gives_its_volume() -> None:
    model = gibson_lanni(Optics(NA=0.7, wavelength_um=0.9))
    psf = NeurIPSF((81, 21, 21), VOXEL, SCALE)
    psf.fit(model, np.random.default_rng(0), target_error=1e-5)
    with torch.no_grad():
        volume = psf().numpy()
    expected = psf_volume(model, (81, 21, 21), VOXEL)
    assert np.abs(volume - expected).max() < 0.03 * expected.max()
    assert np.abs(volume - expected).sum() < 0.2


def test_fit_that_cannot_succeed_says_so() -> None:
    psf = NeurIPSF(SHAPE, VOXEL, SCALE)
    with pytest.raises(TenetError, match=r"not 1e-12, in 2 attempts of 3 steps"):
        psf.fit(MODEL, np.random.default_rng(0), target_error=1e-12, steps=3, attempts=2)


def test_fit_depends_on_the_generator_alone() -> None:
    torch.manual_seed(1)
    first = fitted(seed=3).state_dict()
    torch.manual_seed(2)
    again, other = fitted(seed=3).state_dict(), fitted(seed=4).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["layers.1.weight"], other["layers.1.weight"])


def test_nothing_but_the_fit_moves_batch_norm_statistics() -> None:
    psf = fitted()
    before = {name: value.clone() for name, value in psf.state_dict().items()}
    psf.train()
    psf()
    torch.nn.Sequential(psf).train()[0]()  # also as a part of something else
    psf.radial().sum().backward()
    after = psf.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_values_do_not_depend_on_the_mode() -> None:
    psf = fitted()
    with torch.no_grad():
        evaluated = psf.eval()().clone()
        assert torch.equal(psf.train()(), evaluated)


@pytest.mark.parametrize("sampling", ["lookup", "continuous"])
def test_volume_is_normalised_and_symmetric(sampling: PSFSampling) -> None:
    volume = fitted(sampling)().detach()
    assert volume.shape == SHAPE
    assert volume.sum().item() == pytest.approx(1, abs=1e-5)
    assert volume.min() >= 0
    # Nearest-neighbour repetition of coarse planes is only nearly even in z.
    for dim in (0, 1, 2) if sampling == "continuous" else (1, 2):
        assert torch.allclose(volume, volume.flip(dim), rtol=1e-5, atol=1e-9)
    assert torch.allclose(volume, volume.transpose(1, 2), rtol=1e-5, atol=1e-9)


def test_continuous_follows_the_model_between_the_samples_of_lookup() -> None:
    """Each fine plane and radius has its own value, closer to the truth than the nearest sample."""
    truth = torch.from_numpy(psf_volume(MODEL, SHAPE, VOXEL))
    errors = {}
    for sampling in ("lookup", "continuous"):
        psf = fitted(sampling)
        volume = psf().detach()
        errors[sampling] = (volume - truth).abs().sum().item()
        column = volume[:, SHAPE[1] // 2, SHAPE[2] // 2]
        steps = column.diff().ne(0).sum().item()
        # 12 coarse planes, of which the middle two are alike.
        assert steps == {"lookup": SHAPE[0] // SCALE - 2, "continuous": SHAPE[0] - 1}[sampling]
    assert errors["continuous"] < 0.02
    assert errors["lookup"] > 5 * errors["continuous"]


def test_even_number_of_planes_puts_the_focus_between_two() -> None:
    psf = NeurIPSF((60, 21, 21), VOXEL, 4)
    psf.fit(MODEL, np.random.default_rng(0), target_error=1e-6)
    volume = psf().detach()
    assert torch.allclose(volume, volume.flip(0), rtol=1e-5, atol=1e-9)
    assert volume[29, 10, 10] == volume[30, 10, 10]
    assert volume[30, 10, 10] > volume[31, 10, 10]
    truth = torch.from_numpy(psf_volume(MODEL, (60, 21, 21), VOXEL))
    assert (volume - truth).abs().sum() < 0.02


def test_gradient_reaches_every_weight() -> None:
    psf = fitted()
    weights = torch.rand(SHAPE, generator=torch.Generator().manual_seed(0))
    (psf() * weights).sum().backward()
    for name, parameter in psf.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_volume_is_that_of_the_network_at_its_distance() -> None:
    """The value at any voxel is that of `radial` where both have a sample."""
    psf = fitted()
    radial, volume = psf.radial().detach(), psf().detach()
    centre = SHAPE[0] // 2, SHAPE[1] // 2, SHAPE[2] // 2
    ratio = volume[centre] / radial[0, 0]
    for z in (0, 6, 30):
        for r in (0, 3, 10):
            expected = radial[z // 2, 2 * r] * ratio  # every other plane, every half pixel
            assert volume[centre[0] + z, centre[1] + r, centre[2]].item() == pytest.approx(
                expected.item(), rel=1e-4
            )


def test_stretch_widens_the_volume_and_leaves_the_network_alone() -> None:
    psf = fitted()
    narrow, form = psf().detach(), psf.radial().detach()
    with torch.no_grad():
        psf.log_stretch.fill_(math.log(1.5))
    wide = psf().detach()
    assert float(wide.sum()) == pytest.approx(1, abs=1e-5)
    assert torch.equal(psf.radial(), form)
    before, after = (psf_fwhm_um(volume.numpy(), VOXEL) for volume in (narrow, wide))
    assert after["axial"] / before["axial"] == pytest.approx(1.5, rel=0.03)
    # Half the aperture: four times as long, twice as wide.
    assert after["lateral"] / before["lateral"] == pytest.approx(1.5**0.5, rel=0.03)


@pytest.mark.parametrize("stretch", [0.7, 1.0, 1.5])
def test_volume_of_an_objective_at_any_stretch(stretch: float) -> None:
    """An Airy disc of three pixels, between its pixels and beyond the grid as well."""
    model, shape, voxel = gibson_lanni(Optics(0.3, 0.5)), (83, 15, 15), (1 / 3, 0.31, 0.31)
    psf = NeurIPSF(shape, voxel, 3)
    psf.fit(model, np.random.default_rng(0), target_error=1e-6)
    with torch.no_grad():
        psf.log_stretch.fill_(math.log(stretch))
    truth = psf_volume(lambda z, r: model(z / stretch, r / stretch**0.5), shape, voxel)
    difference = psf().detach().numpy() - truth
    assert np.linalg.norm(difference) < 0.02 * np.linalg.norm(truth)


def test_stretch_is_found_from_an_image_of_a_known_object() -> None:
    """Only the blur is unknown: the gradient leads to its widths."""
    wider = 1.5
    psf, true = fitted(), psf_volume(gaussian(0.8 * wider, 0.3 * wider**0.5), SHAPE, VOXEL)
    generator = torch.Generator().manual_seed(0)
    fine = (torch.rand(1, 1, 60, 24, 24, generator=generator) > 0.999).float()
    image = StridedBlur(torch.from_numpy(true), (60, 24, 24), SCALE)(fine)
    optimiser = torch.optim.Adam([psf.log_stretch], lr=0.05)
    for _ in range(60):
        loss = (StridedBlur(psf(), (60, 24, 24), SCALE)(fine) - image).square().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(psf.log_stretch.detach().exp()) == pytest.approx(wider, rel=0.03)


def test_published_sampling_has_no_stretch() -> None:
    assert fitted("lookup").log_stretch is None
