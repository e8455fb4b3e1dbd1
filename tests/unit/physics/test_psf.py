"""The trainable PSF: its fit, its grids, and what may not move it."""

import math

import numpy as np
import pytest
import torch

from tenet.errors import TenetError
from tenet.physics.blur import StridedBlur, lookup_blur
from tenet.physics.optics import (
    Optics,
    focused,
    gaussian,
    gibson_lanni,
    lookup_radii,
    psf_fwhm_um,
    psf_volume,
)
from tenet.physics.psf import NeurIPSF, PSFSampling

SHAPE, VOXEL, SCALE = (61, 21, 21), (0.1, 0.1, 0.1), 5
MODEL = gaussian(0.8, 0.3)


def fitted(sampling: PSFSampling = "continuous", seed: int = 0) -> NeurIPSF:
    psf = NeurIPSF(SHAPE, VOXEL, SCALE, sampling=sampling)
    psf.fit(MODEL, np.random.default_rng(seed), target_error=1e-6)
    return psf


def test_fit_reaches_its_target() -> None:
    psf = NeurIPSF(SHAPE, VOXEL, SCALE, sampling="lookup")
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
    assert np.abs(volume - expected).max() < 0.003 * expected.max()
    assert np.abs(volume - expected).sum() < 0.003


@pytest.mark.parametrize("waves", [0.0, 0.3])
def test_tails_of_a_line_are_those_of_the_model(waves: float) -> None:
    """At 2, 3 and 4 half widths, before and behind the focus, where each voxel holds little."""
    shape, voxel = (201, 61, 61), (0.125, 0.12, 0.12)
    optics = Optics(0.8, 0.92, photons=2, fill=0.7, spherical_waves=waves)
    psf = NeurIPSF(shape, voxel, 8)
    psf.fit(focused(optics), np.random.default_rng(0))
    line = psf().detach().double().sum(2)[:, 30].numpy()
    expected = psf_volume(focused(optics), shape, voxel).astype(float).sum(2)[:, 30]
    half = int((expected > expected.max() / 2).sum()) // 2
    for n in (0, 1, 2, 3, 4):
        for side in (-1, 1):
            at = 100 + side * n * half
            assert line[at] == pytest.approx(expected[at], rel=0.01), (n, side)


def test_aberration_makes_the_psf_asymmetric_in_z_as_its_model_is() -> None:
    model = focused(Optics(0.8, 0.92, photons=2, spherical_waves=0.3))
    psf = NeurIPSF((81, 21, 21), VOXEL, 5)
    psf.fit(model, np.random.default_rng(0))
    volume, expected = psf().detach().numpy(), psf_volume(model, (81, 21, 21), VOXEL)
    assert np.abs(volume - expected).sum() < 0.01
    assert np.abs(volume - volume[::-1]).sum() > 0.1


def test_fit_that_cannot_succeed_says_so() -> None:
    psf = NeurIPSF(SHAPE, VOXEL, SCALE, sampling="lookup")
    with pytest.raises(TenetError, match=r"not 1e-12, in 2 attempts of 3 steps"):
        psf.fit(MODEL, np.random.default_rng(0), target_error=1e-12, steps=3, attempts=2)


def test_fit_depends_on_the_generator_alone() -> None:
    for sampling, name in (("lookup", "layers.1.weight"), ("continuous", "correction.1.weight")):
        torch.manual_seed(1)
        first = fitted(sampling, seed=3).state_dict()
        torch.manual_seed(2)
        again, other = (fitted(sampling, seed=seed).state_dict() for seed in (3, 4))
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert not torch.equal(first[name], other[name])


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
    with torch.no_grad():
        psf.network[4].weight.normal_(generator=torch.Generator().manual_seed(1))  # learned
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


# The published parameterisation, written once more as the description has it


class Published:
    """Slow and literal: a table over planes and radii, its volume, and what it blurs."""

    def __init__(
        self, size_zyx: tuple[int, int, int], scale: int, axial: float, lateral: float
    ) -> None:
        self.size_zyx, self.scale, self.axial, self.lateral = size_zyx, scale, axial, lateral
        size_z, size_y, size_x = size_zyx
        planes = size_z // scale
        self.z_um = [(plane - (planes - 1) / 2) * axial for plane in range(planes)]
        corner = math.sqrt(((size_y + 1) / 2) ** 2 + ((size_x + 1) / 2) ** 2)
        self.r_um = [radius * lateral for radius in range(round(corner))]

    def coordinates(self) -> torch.Tensor:
        """|z| as a fraction of the half depth, and r from -1 on the axis to 1."""
        z = [abs(2 * plane / (len(self.z_um) - 1) - 1) for plane in range(len(self.z_um))]
        r = [2 * radius / (len(self.r_um) - 1) - 1 for radius in range(len(self.r_um))]
        return torch.tensor([[(depth, radius) for radius in r] for depth in z])

    def volume(self, table: torch.Tensor) -> torch.Tensor:
        _, size_y, size_x = self.size_zyx
        radius_index = torch.zeros(size_y, size_x, dtype=torch.int64)
        for y in range(size_y):
            for x in range(size_x):
                distance = self.lateral * math.hypot(y - (size_y - 1) / 2, x - (size_x - 1) / 2)
                index = round(distance / self.lateral)
                near = range(max(index - 1, 0), min(index + 2, len(self.r_um)))
                gaps = sorted((abs(self.r_um[radius] - distance), radius) for radius in near)
                assert len(gaps) == 1 or gaps[1][0] - gaps[0][0] > 1e-6 * self.lateral  # no tie
                radius_index[y, x] = gaps[0][1]
        coarse = table[:, radius_index][None, None]
        fine = torch.nn.functional.interpolate(coarse, self.size_zyx, mode="nearest")[0, 0]
        return fine / fine.sum()

    def blur(self, fine: torch.Tensor, volume: torch.Tensor) -> torch.Tensor:
        size_z, size_y, size_x = self.size_zyx
        padding = math.floor((size_z - (self.axial // self.lateral) + 1) / 2)
        return torch.nn.functional.conv3d(
            fine,
            volume[None, None],
            stride=(self.scale, 1, 1),
            padding=(padding, size_y // 2, size_x // 2),
        )


#: scale, axial and lateral step: exact ratios, and those whose floor is one less in floating point.
RATIOS = [
    (1, 0.3, 0.3), (2, 0.62, 0.31), (3, 1.0, 0.31), (3, 0.9, 0.3), (4, 1.4, 0.35), (5, 1.0, 0.2),
    (6, 0.6, 0.1), (7, 0.7, 0.1), (8, 2.0, 0.25), (9, 0.9, 0.1), (10, 0.5, 0.05), (12, 12, 1),
]  # fmt: skip


@pytest.mark.parametrize("size", range(3, 102, 2))
def test_lookup_is_the_published_parameterisation(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    for turn in range(5):
        scale, axial, lateral = RATIOS[(size // 2 + 5 * turn) % len(RATIOS)]
        other = (size, size, size, 3 + 2 * (size % 13), 51)[turn]
        planes = 3 + turn if scale > 1 else 2 * turn + 3  # of an even number one too many comes out
        size_zyx = (scale * planes + (size + turn) % scale, size, other)
        published = Published(size_zyx, scale, axial, lateral)
        torch.manual_seed(turn)
        psf = NeurIPSF(size_zyx, (axial / scale, lateral, lateral), scale, sampling="lookup")
        np.testing.assert_allclose(psf.z_um, published.z_um, atol=1e-9)
        np.testing.assert_allclose(psf.r_um, published.r_um, atol=1e-9)
        coordinates = published.coordinates()
        assert torch.allclose(psf.coordinates, coordinates, atol=1e-6)
        with torch.no_grad():
            psf.layers[1].weight.mul_(4)  # a form that differs from voxel to voxel
            volume = published.volume(
                psf.layers(coordinates.flatten(0, 1)).view(*coordinates.shape[:2])
            )
            assert torch.allclose(psf(), volume, rtol=1e-4, atol=0)
            shape = (2 * scale, 3, 4)
            fine = torch.rand(1, 1, *shape, generator=generator)
            blur = lookup_blur(volume, shape, scale, res_axial=axial, res_lateral=lateral)
            expected = published.blur(fine, volume)
            assert expected.shape[2] == 2
            assert torch.allclose(blur(fine), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "radii"),
    [
        (11, 8),
        (21, 16),
        (35, 25),
        (51, 37),
        (59, 42),
        (69, 49),
        (93, 66),
        (15, 11),
        (9, 7),
        (31, 23),
    ],
)
def test_number_of_published_radii(size: int, radii: int) -> None:
    assert lookup_radii(size, size) == radii
    assert len(NeurIPSF((30, size, size), VOXEL, 3, sampling="lookup").r_um) == radii


def test_every_pixel_has_a_published_radius() -> None:
    for size_y in range(1, 102, 2):
        for size_x in range(1, 102, 2):
            corner = math.hypot(size_y // 2, size_x // 2)
            assert lookup_radii(size_y, size_x) == lookup_radii(size_x, size_y) > round(corner)


# Where rounding in float32 decides: fine plane i lies where a coarse one begins.
@pytest.mark.parametrize(("size_z", "scale"), [(74, 3), (194, 3), (82, 5), (123, 5), (164, 5)])
def test_planes_are_repeated_as_torch_repeats_them(size_z: int, scale: int) -> None:
    planes = size_z // scale
    table = torch.arange(planes, dtype=torch.float32)[None, None]
    expected = torch.nn.functional.interpolate(table, size=size_z, mode="nearest")[0, 0]
    psf = NeurIPSF((size_z, 5, 5), VOXEL, scale, sampling="lookup")
    assert psf.plane_index.tolist() == expected.tolist()


@pytest.mark.parametrize("size", [11, 35, 59, 69, 93])
def test_continuous_reaches_beyond_every_pixel(size: int) -> None:
    """The number of radii of the published table cuts nothing off here."""
    corner_um = math.hypot(size // 2, size // 2) * 0.1
    psf = NeurIPSF((31, size, size), VOXEL, SCALE)
    assert psf.r_um[-1] >= corner_um
    assert float(psf.volume_coordinates[..., 1].max()) == pytest.approx(
        2 * corner_um / (0.1 * math.ceil(corner_um / 0.1)) - 1, abs=1e-6
    )


@pytest.mark.parametrize("shape", [(9, 5, 5), (12, 5, 5), (61, 1, 1)])
def test_a_psf_with_one_distance_or_radius_is_fitted(shape: tuple[int, int, int]) -> None:
    psf = NeurIPSF(shape, VOXEL, 5, sampling="lookup")
    psf.fit(MODEL, np.random.default_rng(0), target_error=1e-4)
    with torch.no_grad():
        assert torch.isfinite(psf()).all()
        assert (psf.radial() - psf.target(MODEL)).square().mean().item() <= 2e-4
