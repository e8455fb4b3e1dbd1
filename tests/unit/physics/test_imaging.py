"""The forward model: geometry, adjoint, SciPy, flux and noise."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.signal import fftconvolve
from torch import Tensor

from tenet.errors import TenetError
from tenet.model.tenet import TENET
from tenet.physics.blur import BandLimitedBlur, StridedBlur, centred_planes, lookup_blur
from tenet.physics.noise import NoiseModel
from tenet.physics.optics import Optics, focused, gaussian, lookup_padding, psf_volume
from tenet.physics.richardson_lucy import START, deconvolve, saturated
from tenet.settings.load import load_experiment
from tenet.settings.schema import parse_params

Triple = tuple[int, int, int]

# (PSF, fine volume, scale): even and odd scales, odd and prime sizes, a volume smaller than the PSF
GEOMETRIES: list[tuple[Triple, Triple, int]] = [
    ((9, 5, 5), (24, 12, 10), 3),
    ((8, 5, 7), (24, 11, 13), 4),
    ((9, 3, 5), (17, 7, 11), 1),
    ((10, 5, 5), (40, 9, 8), 10),
    ((21, 15, 11), (9, 7, 5), 3),
    ((31, 3, 3), (5, 2, 2), 5),
    ((7, 5, 5), (23, 8, 8), 3),  # 23 planes: two are left over
    ((1, 1, 1), (6, 3, 3), 3),
]


def random(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def by_scipy(psf: Tensor, fine: Tensor, scale: int) -> np.ndarray:
    """Full convolution with zeros outside, then the voxels on which the PSF is centred."""
    full = fftconvolve(fine.double().numpy(), psf.double().numpy(), mode="full")
    size_z, size_y, size_x = psf.shape
    planes = fine.shape[0] // scale
    first = ((size_z - 1) + (scale - 1)) // 2
    y, x = size_y // 2, size_x // 2
    sampled = full[first : first + planes * scale : scale]
    return sampled[:, y : y + fine.shape[1], x : x + fine.shape[2]]


@pytest.mark.parametrize(("psf_shape", "shape", "scale"), GEOMETRIES)
def test_equals_convolution_by_scipy(psf_shape: Triple, shape: Triple, scale: int) -> None:
    psf, fine = random(psf_shape, 0), random(shape, 1)
    coarse = StridedBlur(psf, shape, scale)(fine[None, None])[0, 0]
    expected = by_scipy(psf, fine, scale)
    assert coarse.shape == (shape[0] // scale, *shape[1:])
    np.testing.assert_allclose(coarse, expected, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize(("psf_shape", "shape", "scale"), GEOMETRIES)
def test_adjoint_by_inner_product(psf_shape: Triple, shape: Triple, scale: int) -> None:
    blur = StridedBlur(random(psf_shape, 0), shape, scale)
    fine = random((2, 1, *shape), 1) - 0.5
    coarse = random((2, 1, shape[0] // scale, *shape[1:]), 2) - 0.5
    left = (blur(fine) * coarse).sum().item()
    right = (fine * blur.adjoint(coarse)).sum().item()
    size = blur(fine).norm().item() * coarse.norm().item()
    assert abs(left - right) < 1e-5 * size
    # Autograd's transpose is the same operator.
    fine.requires_grad_()
    (blur(fine) * coarse).sum().backward()
    assert fine.grad is not None
    assert torch.allclose(fine.grad, blur.adjoint(coarse), atol=1e-5 * fine.grad.abs().max().item())


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 10, 12])
def test_a_point_lands_on_the_plane_around_it(scale: int) -> None:
    """Fine planes i·s … i·s + s - 1 belong to coarse plane i, and light spreads evenly about it."""
    planes, size_z = 6, centred_planes(5 * scale, scale)
    z = np.arange(size_z) - (size_z - 1) / 2
    profile = torch.from_numpy(np.exp(-((z / scale) ** 2))).float()
    psf = torch.zeros(size_z, 3, 3)
    psf[:, 1, 1] = profile / profile.sum()
    shape = (planes * scale, 5, 5)
    blur = StridedBlur(psf, shape, scale)
    for fine_plane in range(2 * scale, 4 * scale):
        fine = torch.zeros(1, 1, *shape)
        fine[0, 0, fine_plane, 2, 3] = 1
        coarse = blur(fine)[0, 0]
        assert coarse[:, 2, 3].argmax() == fine_plane // scale
        # Coarse plane i samples the profile at its own centre, (i + ½)·s - ½.
        distance = np.arange(planes) * scale + (scale - 1) / 2 - fine_plane
        expected = np.exp(-((distance / scale) ** 2)) / profile.sum().item()
        expected[np.abs(distance) > (size_z - 1) / 2] = 0
        np.testing.assert_allclose(coarse[:, 2, 3], expected, atol=1e-6)
        coarse[:, 2, 3] = 0
        assert coarse.abs().max() < 1e-6


@pytest.mark.parametrize("scale", [1, 3, 4])
def test_flux_is_kept_inside_the_volume(scale: int) -> None:
    """A constant stays what it is, and all coarse planes together see all light: s times."""
    size_z = centred_planes(9, scale)
    psf = random((size_z, 5, 5), 0)
    psf /= psf.sum()
    shape = (12 * scale, 16, 16)
    blur = StridedBlur(psf, shape, scale)
    constant = blur(torch.ones(1, 1, *shape))[0, 0]
    border = math.ceil(size_z / 2 / scale)
    inside = constant[border:-border, 2:-2, 2:-2]
    assert torch.allclose(inside, torch.ones(()), atol=1e-5)
    assert (constant <= 1 + 1e-5).all()
    # A uniform slab of one coarse plane, deep inside: every fine plane is sampled with all phases.
    fine = torch.zeros(1, 1, *shape)
    fine[:, :, 6 * scale : 7 * scale, 6:10, 6:10] = random((1, 1, 1, 4, 4), 1)
    assert blur(fine).sum().item() * scale == pytest.approx(fine.sum().item(), rel=1e-4)


def test_gradient_flows_to_the_psf() -> None:
    shape = (12, 7, 6)
    psf, fine = random((5, 3, 3), 0).requires_grad_(), random((1, 1, *shape), 1)
    StridedBlur(psf, shape, 3)(fine)[0, 0, 2, 3, 3].backward()
    assert psf.grad is not None
    # Coarse plane 2 is centred on fine plane 7: the derivative is the mirrored neighbourhood.
    expected = fine[0, 0, 5:10, 2:5, 2:5].flip(0, 1, 2)
    assert torch.allclose(psf.grad, expected, atol=1e-5)


@pytest.mark.parametrize(("psf", "scale"), [((4, 3, 3), 3), ((3, 3, 3), 4)])
def test_psf_that_cannot_be_centred_is_refused(psf: Triple, scale: int) -> None:
    with pytest.raises(TenetError, match=f"use {psf[0] - 1}"):
        StridedBlur(torch.ones(psf), (12, 5, 5), scale)


def test_even_rows_are_refused() -> None:
    with pytest.raises(TenetError, match="both must be odd"):
        StridedBlur(torch.ones(3, 4, 3), (12, 5, 5), 3)


# The published geometry


@pytest.mark.parametrize(
    ("size_z", "axial", "lateral", "padding"),
    # 0.5 // 0.05 is 9 in floating point; 1.0 // 0.31 is 3; 12 // 1 is 12
    [(201, 0.5, 0.05, 96), (201, 1.0, 0.31, 99), (61, 12, 1, 25)],
)
def test_lookup_padding(size_z: int, axial: float, lateral: float, padding: int) -> None:
    assert lookup_padding(size_z, axial, lateral) == padding


@pytest.mark.parametrize(
    ("size_z", "scale", "axial", "lateral", "shape"),
    [(61, 10, 0.5, 0.05, (40, 9, 8)), (31, 3, 1.0, 0.31, (24, 8, 9)), (21, 12, 12, 1, (48, 6, 6))],
)
def test_lookup_is_strided_cross_correlation(
    size_z: int, scale: int, axial: float, lateral: float, shape: Triple
) -> None:
    psf = random((size_z, 5, 3), 0)
    # The published PSF is symmetric in the plane, where the two operations are the same.
    psf = psf + psf.flip(1) + psf.flip(2) + psf.flip(1, 2)
    fine = random((1, 1, *shape), 1)
    blur = lookup_blur(psf, shape, scale, res_axial=axial, res_lateral=lateral)
    padding = lookup_padding(size_z, axial, lateral)
    expected = torch.nn.functional.conv3d(
        fine, psf[None, None], stride=(scale, 1, 1), padding=(padding, 2, 1)
    )
    coarse = blur(fine)
    assert coarse.shape == expected.shape
    assert torch.allclose(coarse, expected, rtol=1e-4, atol=1e-5)
    probe = random(tuple(coarse.shape), 2)
    left, right = (coarse * probe).sum().item(), (fine * blur.adjoint(probe)).sum().item()
    assert left == pytest.approx(right, rel=1e-4)


@pytest.mark.parametrize("scale", [3, 10])
def test_model_chooses_the_geometry(scale: int) -> None:
    settings = {
        "NA": 0.7, "wavelength": 0.9, "res_lateral": 0.1, "res_axial": 0.1 * scale, "scale": scale,
        "size_z": 41, "size_y": 11, "size_x": 11, "hidden_channels_list": [2],
    }  # fmt: skip
    shape = (12 * scale, 12, 12)
    fine = torch.zeros(1, 1, *shape)
    fine[:, :, 6 * scale : 7 * scale] = 1
    model = TENET(parse_params({**settings, "psf_sampling": "continuous"}))
    model.initialise(np.random.default_rng(0))
    with torch.no_grad():
        coarse = model.blur(shape)(fine)[0, 0, :, 6, 6]
    # A slab that is one coarse plane blurs evenly to both sides.
    assert coarse.argmax() == 6
    assert torch.allclose(coarse[1:12], coarse[1:12].flip(0), atol=1e-5)


# Noise


def test_noise_has_the_mean_and_variance_drawn() -> None:
    noise = NoiseModel(0.1, 0.02)
    generator = torch.Generator().manual_seed(0)
    for signal in (0.3, 0.5):  # far enough from 0 and 1 that nothing is clipped
        image = torch.full((200_000,), signal)
        with torch.no_grad():
            noisy = noise.sample(image, generator)
        spread = 0.1 * signal + 0.02
        assert noisy.mean().item() == pytest.approx(signal, abs=4 * spread / math.sqrt(2e5))
        assert noisy.std().item() == pytest.approx(spread, rel=0.01)


def test_noise_is_clipped_and_depends_on_its_generator() -> None:
    noise = NoiseModel(0.5, 0.5)
    image = torch.linspace(0, 1, 1000)

    def draw(seed: int) -> Tensor:
        with torch.no_grad():
            return noise.sample(image, torch.Generator().manual_seed(seed))

    assert draw(0).min() == 0
    assert draw(0).max() == 1
    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))


def test_variance_that_is_scored() -> None:
    image = torch.tensor([0.0, 0.5, 1.0])
    published = NoiseModel(0.1, 0.02).variance(image)
    consistent = NoiseModel(0.1, 0.02, "consistent").variance(image)
    assert torch.allclose(published, torch.tensor([0.02, 0.07, 0.12]))
    assert torch.allclose(consistent, torch.tensor([0.02, 0.07, 0.12]) ** 2)


def test_noise_never_falls_under_its_floor() -> None:
    noise = NoiseModel(0.1, 0.1)
    with torch.no_grad():
        noise.logit_a.fill_(-50)
        noise.logit_sigma.fill_(-50)
    assert noise.a.item() == pytest.approx(NoiseModel.smallest)
    assert noise.sigma.item() == pytest.approx(NoiseModel.smallest)


@pytest.mark.parametrize("value", [1e-3, 0.01, 0.1])
def test_noise_starts_where_it_can_be_learned(value: float) -> None:
    """Also at the smallest value, where the experiments on beads begin."""
    noise = NoiseModel(value, value)
    assert noise.a.item() == pytest.approx(value, rel=1e-4)
    noise.variance(torch.ones(3)).sum().backward()
    assert noise.logit_a.grad is not None
    assert noise.logit_a.grad.item() > 0
    assert noise.logit_sigma.grad is not None
    assert noise.logit_sigma.grad.item() > 0


# Deconvolution


def test_without_padding_the_inner_voxels_are_the_same() -> None:
    psf, fine = random((9, 7, 5), 0), random((1, 1, 24, 31, 29), 1)
    plain = StridedBlur(psf, (24, 31, 29), 3)
    bare = StridedBlur(psf, (24, 31, 29), 3, inner_only=True)
    inner = (..., slice(3, -3), slice(2, -2))
    torch.testing.assert_close(bare(fine)[inner], plain(fine)[inner], rtol=1e-5, atol=1e-5)
    coarse = torch.zeros(1, 1, 8, 31, 29)
    coarse[inner] = random((1, 1, 8, 25, 25), 2)
    torch.testing.assert_close(bare.adjoint(coarse), plain.adjoint(coarse), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("psf_shape", "shape", "scale"), GEOMETRIES)
def test_with_all_frequencies_band_limited_blur_is_the_blur(
    psf_shape: Triple, shape: Triple, scale: int
) -> None:
    blur = StridedBlur(random(psf_shape, 0), shape, scale)
    passed = BandLimitedBlur.of(blur, lost=0)
    fine = random((2, 1, *shape), 1)
    coarse = random(tuple(blur(fine).shape), 2)
    torch.testing.assert_close(passed(fine), blur(fine), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(passed.adjoint(coarse), blur.adjoint(coarse), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["scale3", "scale10", "scale12"])
@pytest.mark.parametrize("lost", [0.01, 0.03, 0.1])
def test_band_limited_blur_loses_no_more_than_it_says(name: str, lost: float) -> None:
    """Of the image of white noise, seen with the optics of the paper."""
    params = load_experiment(name, overlays=["demo"]).params
    model = TENET(params)
    psf = psf_volume(params.model_psf(), model.psf.zyx_shape, params.fine_voxel_size_um)
    blur = StridedBlur(torch.from_numpy(psf), (180, 40, 40), params.scale)
    passed = BandLimitedBlur.of(blur, lost)
    noise = torch.randn(1, 1, 180, 40, 40, generator=torch.Generator().manual_seed(0))
    weights = torch.randn(blur(noise).shape, generator=torch.Generator().manual_seed(1))
    forth, back = (passed(noise) * weights).sum(), (noise * passed.adjoint(weights)).sum()
    torch.testing.assert_close(forth, back, rtol=1e-4, atol=1e-3)
    difference = float((passed(noise) - blur(noise)).norm() / blur(noise).norm())
    assert difference < 1.1 * lost
    frequencies = len(passed.fine_waves) // 2
    assert lost < 0.03 or frequencies < 180 / 4


def test_long_tails_cost_band_limited_blurs_little() -> None:
    """A Gaussian beam on a grid that holds its tails, and on one four times as short."""
    beam = focused(Optics(0.8, 0.92, photons=2, fill=0.7))
    voxel_size_um, crop = (0.125, 0.12, 0.12), (128, 64, 64)
    work = []
    for shape in ((60, 15, 15), (268, 37, 37), (400, 101, 101)):
        blur = StridedBlur(torch.from_numpy(psf_volume(beam, shape, voxel_size_um)), crop, 8)
        passed = BandLimitedBlur.of(blur)
        work.append(passed.otf.numel())
        fine = torch.zeros(1, 1, *crop)
        fine[..., 60:68, :8, :] = 1  # a shaft at the border
        exact = blur(fine)
        assert float((passed(fine) - exact).abs().max()) < 0.02 * float(exact.max())
    assert max(work) < 1.6 * work[0]


def blurred_points(seed: int) -> tuple[Tensor, StridedBlur]:
    """A noise-free image (1, 1, 8, 20, 20) of points on a fine grid three times as fine in z."""
    z, yx = torch.arange(-10.0, 11), torch.arange(-4.0, 5)
    psf = torch.exp(-((z / 4) ** 2))[:, None, None] * torch.exp(-((yx / 1.5) ** 2))[:, None]
    psf = psf * torch.exp(-((yx / 1.5) ** 2))
    fine = (random((1, 1, 24, 20, 20), seed) > 0.997).float()
    blur = StridedBlur(psf / psf.sum(), (24, 20, 20), 3)
    return blur(fine).clamp_min(0), blur


def misfit(estimate: Tensor, image: Tensor, blur: StridedBlur) -> float:
    return float((blur(estimate) - image).norm() / image.norm())


def test_accelerated_steps_go_further_than_twice_as_many_plain_ones() -> None:
    image, blur = blurred_points(0)
    one, two, many = (
        misfit(deconvolve(image, blur, steps=n, background=1e-4, lost=0), image, blur)
        for n in (1, 20, 60)
    )
    plain = torch.full((1, 1, *blur.zyx_shape), float(image.mean()))
    sensitivity = blur.adjoint(torch.ones_like(image)).clamp_min(1e-3)
    for _ in range(40):
        plain = plain * blur.adjoint(image / blur(plain).clamp_min(1e-6)) / sensitivity
    assert many < two < misfit(plain, image, blur) < one
    assert many < 0.02


def test_first_step_is_richardson_lucy() -> None:
    image, blur = blurred_points(1)
    image = image / image.max()
    flat = torch.full((1, 1, *blur.zyx_shape), START)
    sensitivity = blur.adjoint(torch.ones_like(image))
    sensitivity = sensitivity.clamp_min(0.1 * float(sensitivity.max()))
    expected = flat * blur.adjoint((image + 0.01) / (blur(flat) + 0.01)) / sensitivity
    estimate = deconvolve(image, blur, steps=1, background=0.01, lost=0)
    torch.testing.assert_close(estimate, expected, rtol=1e-4, atol=1e-6)


def test_the_early_estimate_is_that_of_fewer_steps() -> None:
    image, blur = blurred_points(1)
    both = deconvolve(image, blur, steps=12, early=5, background=0.01)
    for channel, steps in enumerate((12, 5)):
        one = deconvolve(image, blur, steps=steps, background=0.01)
        torch.testing.assert_close(both[:, channel : channel + 1], one)


def test_a_saturated_detector_is_not_explained_by_dimmer_objects() -> None:
    image, blur = blurred_points(1)
    truth = (random((1, 1, 24, 20, 20), 1) > 0.997).float()
    top = 0.3 * float(image.max())
    barely = image.clamp_max(top)
    barely.flatten()[-1] = 1.001 * top
    errors = [
        float((deconvolve(seen, blur, steps=40, background=1e-3) - truth).norm())
        # That one voxel is a little brighter than all others leaves them unsaturated.
        for seen in (image, image.clamp_max(top), barely)
    ]
    assert errors[0] < errors[1] < errors[2]
    assert errors[1] - errors[0] < 0.5 * (errors[2] - errors[0])


def test_saturated_is_the_maximum_of_each_image_and_nothing_of_a_constant_one() -> None:
    image = random((2, 1, 4, 5, 6), 0)
    image[0] = image[0].clamp_max(0.6)
    top = saturated(image)
    assert torch.equal(top[0], image[0] == image[0].max())
    assert int(top[0].sum()) > 20
    assert not top[1].any()  # one voxel is the brightest, but nothing cut it
    assert not saturated(torch.zeros(1, 1, 3, 3, 3)).any()
    assert not saturated(torch.full((1, 1, 3, 3, 3), 0.5)).any()
    # Planes that were shifted are interpolated, to rounding.
    assert torch.equal(saturated(image * 0.3 + image * 0.7), top)


def test_a_dim_image_of_few_grey_levels_is_not_saturated() -> None:
    """Noise of 8 bits: many voxels share the highest value, and more the one below."""
    normal = torch.randn(1, 1, 8, 30, 30, generator=torch.Generator().manual_seed(0))
    levels = (20 + 2 * normal).round()
    high = levels.max()
    assert int((levels == high).sum()) > 1 or int((levels == high - 1).sum()) > 1
    assert not saturated(levels / 255).any()
    cut = levels.clamp_max(21)
    assert torch.equal(saturated(cut / 255), cut == 21)


def shaft_and_spine(ratio: float) -> tuple[Tensor, Tensor, StridedBlur]:
    """A shaft `ratio` times brighter than a ball 1 µm beside it; the ball, and a two-photon blur.

    The shaft is 0.8 µm thick, the ball 0.6 µm, voxels 0.125 µm, and planes 0.5 µm apart.
    """
    psf = torch.from_numpy(psf_volume(gaussian(1.0, 0.25), (28, 9, 9), (0.125,) * 3))
    z, y, x = torch.meshgrid(
        *[0.125 * (torch.arange(float(n)) - n // 2) for n in (64, 64, 32)], indexing="ij"
    )
    y = y + 1.5
    ball = z**2 + (y - 0.4 - 1.0 - 0.3) ** 2 + x**2 < 0.3**2
    light = torch.where(ball, 1 / ratio, (z**2 + y**2 < 0.4**2).float())
    return light[None, None], ball[None, None], StridedBlur(psf, (64, 64, 32), 4)


@pytest.mark.parametrize("share", [0.0, 0.002, 0.01])
def test_a_spine_beside_a_shaft_50_times_brighter_keeps_its_light(share: float) -> None:
    """However much of the shaft is saturated."""
    light, ball, blur = shaft_and_spine(50)
    image = blur(light).clamp_min(0)
    ceiling = image.quantile(1 - share)
    image = (image / ceiling).clamp_max(1)
    estimate = deconvolve(image, blur, steps=60, background=1e-3)
    assert float(estimate.min()) >= 0
    near = F.max_pool3d(ball.float(), (9, 5, 5), 1, (4, 2, 2)) > 0
    assert float(estimate[near].sum()) == pytest.approx(float(light[ball].sum() / ceiling), rel=0.1)
    shaft = light == 1
    assert float(estimate[shaft].mean()) > 0.6 / float(ceiling)  # brighter than the detector says


def test_what_iterations_leave_out_costs_no_likeness_to_the_truth() -> None:
    image, blur = blurred_points(5)
    truth = (random((1, 1, 24, 20, 20), 5) > 0.997).float()
    likeness = [
        float(torch.corrcoef(torch.stack([estimate.flatten(), truth.flatten()]))[0, 1])
        for estimate in (
            deconvolve(image, blur, steps=60, background=0.01, lost=lost) for lost in (0, 0.03)
        )
    ]
    assert likeness[0] > 0.5
    assert likeness[1] > likeness[0] - 0.02


def test_stacks_of_a_batch_are_deconvolved_on_their_own() -> None:
    (first, blur), (second, _) = blurred_points(2), blurred_points(3)
    both = deconvolve(torch.cat([first, 0.1 * second]), blur, steps=8, background=0.01)
    alone = [deconvolve(i, blur, steps=8, background=0.01) for i in (first, 0.1 * second)]
    torch.testing.assert_close(both, torch.cat(alone), rtol=1e-3, atol=1e-5)


def test_an_empty_stack_stays_empty() -> None:
    image, blur = blurred_points(4)
    estimate = deconvolve(0 * image, blur, steps=60, background=0.01)
    assert (estimate >= 0).all()
    assert float(estimate.max()) < 1e-5


def test_a_part_of_a_stack_is_deconvolved_as_in_the_whole_but_near_its_border() -> None:
    """However bright the rest is: far away it leaves no trace, not even in what noise became."""
    z, yx = torch.arange(-3.5, 4), torch.arange(-3.0, 4)
    across = torch.exp(-((yx / 1.7) ** 2))
    psf = torch.exp(-((z / 2.8) ** 2))[:, None, None] * across[:, None] * across
    psf = psf / psf.sum()
    image = 0.02 + 0.02 * random((1, 1, 10, 16, 128), 5)
    image[..., 100:] += 0.9
    whole, part = (
        deconvolve(seen, StridedBlur(psf, (20, 16, seen.shape[-1]), 2), steps=60, background=0.01)
        for seen in (image, image[..., :80])
    )
    difference = (whole[..., :80] - part).abs() / part.max()
    assert float(difference[..., :48].max()) < 1e-3
    assert float(difference[..., 70:].max()) > 1e-2
