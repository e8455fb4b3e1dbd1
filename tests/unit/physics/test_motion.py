import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from tenet.errors import TenetError
from tenet.physics.motion import (
    MotionParameters,
    MotionSettings,
    draw_displacement,
    fit_displacement,
    shift_planes,
)

STILL = MotionParameters(0.0, 0.0, 0.0, 1e9)


def blob(zyx_shape, centre_yx, sigma=2.0):
    _, size_y, size_x = zyx_shape
    y = torch.arange(size_y)[:, None] - centre_yx[0]
    x = torch.arange(size_x)[None] - centre_yx[1]
    plane = torch.exp(-(y**2 + x**2) / (2 * sigma**2))
    return plane.expand(1, 1, *zyx_shape).clone()


# Displacements


def test_schedule_runs_from_min_to_max_and_the_jitter_divisor_from_max_to_min():
    settings = MotionSettings((0.1, 0.2), (0.0, 2.0), (1.0, 3.0), (2.0, 10.0), max_step=60)
    assert settings.at(0) == MotionParameters(0.1, 0.0, 1.0, 10.0)
    assert settings.at(30) == pytest.approx(MotionParameters(0.15, 1.0, 2.0, 6.0))
    assert settings.at(60) == settings.at(1000) == MotionParameters(0.2, 2.0, 3.0, 2.0)
    at_once = MotionSettings(max_step=0)
    assert at_once.at(0) == MotionParameters(0.2, 2.0, 2.0, 2.0)


def test_mean_is_removed_and_the_bound_is_kept_even_with_wild_jitter():
    rng = np.random.default_rng(0)
    wild = MotionParameters(0.2, 2.0, 2.0, 0.05)  # 1/ν is often astronomic
    reached = 0
    for n_planes in (1, 2, 24, 80):
        for _ in range(50):
            d = draw_displacement(n_planes, wild, rng, max_displacement=8.0)
            assert d.shape == (n_planes, 2)
            assert d.dtype == torch.float32
            assert torch.isfinite(d).all()
            assert d.abs().max() <= 8.0001
            torch.testing.assert_close(d.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
            reached += int(d.abs().max() > 7.999)
    assert reached > 100


def test_nothing_moves_where_all_terms_vanish_and_one_plane_never_does():
    rng = np.random.default_rng(1)
    assert draw_displacement(20, STILL, rng).abs().max() < 1e-6
    assert draw_displacement(1, MotionSettings().at(60), rng).abs().max() == 0


def test_at_the_first_epoch_there_is_only_jitter_of_the_known_size():
    rng = np.random.default_rng(2)
    parameters = MotionSettings().at(0)
    assert parameters[:3] == (0, 0, 0)
    n = 20
    draws = torch.stack([draw_displacement(n, parameters, rng) for _ in range(4000)])
    # E[1/ν²] = 1 / ((α − 1)(α − 2)); removing the mean leaves (n − 1)/n of the variance.
    expected = 1 / (9 * 8) * (n - 1) / n
    assert draws.square().mean().item() == pytest.approx(expected, rel=0.05)


def test_drift_alone_is_a_straight_line_of_normal_slope():
    rng = np.random.default_rng(3)
    parameters = STILL._replace(b_sigma=0.2)
    draws = torch.stack([draw_displacement(11, parameters, rng) for _ in range(3000)])
    slopes = draws.diff(dim=1)
    torch.testing.assert_close(slopes, slopes[:, :1].expand_as(slopes), atol=1e-5, rtol=0)
    slopes = slopes[:, 0]
    assert slopes.std().item() == pytest.approx(0.2, rel=0.05)
    assert abs(slopes.mean().item()) < 4 * 0.2 / math.sqrt(6000)
    # y and x are independent.
    assert abs(np.corrcoef(slopes.T.numpy())[0, 1]) < 4 / math.sqrt(3000)


def test_periodic_motion_has_the_moments_of_its_gamma_amplitude():
    rng = np.random.default_rng(4)
    n = 400
    parameters = STILL._replace(amp_alpha=2.0, omega_alpha=50.0)
    draws = torch.stack([draw_displacement(n, parameters, rng) for _ in range(4000)])
    # At a fast oscillation the mean is nearly 0: variance E[A²]/2, with E[A²] = α(α + 1).
    assert draws.square().mean().item() == pytest.approx(2 * 3 / 2, rel=0.1)
    amplitude = draws.abs().amax(1)
    assert amplitude.mean().item() == pytest.approx(2.0, rel=0.1)


def test_periodic_motion_obeys_the_recurrence_of_one_frequency():
    rng = np.random.default_rng(5)
    d = draw_displacement(40, STILL._replace(amp_alpha=2.0, omega_alpha=2.0), rng).double()
    # x(t+1) + x(t−1) = 2 cos ω · x(t) holds for one cosine about a constant: after one difference.
    v = d.diff(dim=0)
    sums, middle = v[2:] + v[:-2], v[1:-1]
    cosine = (sums * middle).sum(0) / (2 * middle.square().sum(0))
    torch.testing.assert_close(sums, 2 * cosine * middle, atol=1e-4, rtol=0)
    assert cosine[0] != pytest.approx(cosine[1].item(), abs=1e-3)


def test_the_generator_alone_decides():
    parameters = MotionSettings().at(60)
    first, again, other = (
        draw_displacement(30, parameters, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b_sigma": (0.2, 0.1)}, "b_sigma"),
        ({"amp_alpha": (-1.0, 2.0)}, "amp_alpha"),
        ({"omega_alpha": (0.0, math.inf)}, "omega_alpha"),
        ({"noise_inv_var_alpha": (0.0, 10.0)}, "noise_inv_var_alpha"),
        ({"max_step": -1}, "max_step"),
        ({"max_displacement": 0.0}, "max_displacement"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(change, message):
    with pytest.raises(TenetError, match=message):
        MotionSettings(**change)


# Shifts


def test_zero_displacement_is_the_identity():
    volume = torch.rand(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(shift_planes(volume, torch.zeros(4, 2)), volume)


def test_shifts_by_whole_pixels_are_exact_and_replicate_the_border():
    volume = torch.rand(2, 2, 3, 6, 7, generator=torch.Generator().manual_seed(1))
    shifted = shift_planes(volume, torch.tensor([[0.0, 2.0], [-1.0, 0.0], [3.0, -9.0]]))
    assert torch.equal(shifted[:, :, 0, :, 2:], volume[:, :, 0, :, :-2])
    assert torch.equal(shifted[:, :, 0, :, :2], volume[:, :, 0, :, :1].expand(-1, -1, -1, 2))
    assert torch.equal(shifted[:, :, 1, :-1], volume[:, :, 1, 1:])
    assert torch.equal(shifted[:, :, 1, -1], volume[:, :, 1, -1])
    assert torch.equal(shifted[:, :, 2, 3:], volume[:, :, 2, :-3, -1:].expand(-1, -1, -1, 7))


def test_a_blob_moves_by_its_displacement():
    volume = blob((5, 48, 40), (23.3, 20.1)).double()
    displacement = draw_displacement(5, MotionSettings().at(60), np.random.default_rng(3))
    assert displacement.abs().max() > 0.5
    displacement = displacement.clamp(-6, 6)
    moved = shift_planes(volume, displacement.double())
    for axis, dim in enumerate((-2, -1)):
        position = torch.arange(volume.shape[dim], dtype=torch.float64)

        def centroid(v, position=position, other=-3 - dim):
            return (v[0, 0].sum(other) * position).sum(-1) / v[0, 0].sum((-2, -1))

        torch.testing.assert_close(
            centroid(moved) - centroid(volume), displacement[:, axis].double(), atol=1e-4, rtol=0
        )
    torch.testing.assert_close(moved.sum((-2, -1)), volume.sum((-2, -1)), rtol=1e-4, atol=0)


def test_interpolation_is_bilinear_as_in_grid_sample():
    generator = torch.Generator().manual_seed(2)
    volume = torch.rand(2, 2, 5, 9, 8, generator=generator, dtype=torch.float64)
    displacement = 6 * torch.rand(5, 2, generator=generator, dtype=torch.float64) - 3
    y = torch.arange(9) - displacement[:, :1]
    x = torch.arange(8) - displacement[:, 1:]
    grid = torch.stack(
        [
            (2 * x / 7 - 1)[:, None, :].expand(5, 9, 8),
            (2 * y / 8 - 1)[:, :, None].expand(5, 9, 8),
        ],
        dim=-1,
    )
    planes = volume.permute(2, 0, 1, 3, 4).reshape(5, 4, 9, 8)
    expected = functional.grid_sample(planes, grid, padding_mode="border", align_corners=True)
    expected = expected.reshape(5, 2, 2, 9, 8).permute(1, 2, 0, 3, 4)
    torch.testing.assert_close(shift_planes(volume, displacement), expected)


def test_gradients_reach_volume_and_displacement():
    generator = torch.Generator().manual_seed(3)
    volume = torch.rand(1, 2, 3, 5, 4, generator=generator, dtype=torch.float64)
    displacement = torch.tensor([[0.3, -1.2], [2.4, 0.7], [-0.6, 0.1]], dtype=torch.float64)
    volume.requires_grad_()
    displacement.requires_grad_()
    assert torch.autograd.gradcheck(shift_planes, (volume, displacement))


def test_the_type_of_the_volume_is_kept():
    volume = torch.rand(1, 1, 2, 4, 4).bfloat16()
    assert shift_planes(volume, torch.full((2, 2), 0.25)).dtype == torch.bfloat16


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_device_makes_no_difference():
    volume = torch.rand(1, 2, 6, 20, 20, generator=torch.Generator().manual_seed(4))
    displacement = draw_displacement(6, MotionSettings().at(60), np.random.default_rng(5))
    on_device = shift_planes(volume.cuda(), displacement)
    assert on_device.is_cuda
    torch.testing.assert_close(on_device.cpu(), shift_planes(volume, displacement))


def test_sizes_that_do_not_match_are_refused():
    with pytest.raises(TenetError, match=r"\(Z, 2\)"):
        shift_planes(torch.zeros(1, 1, 4, 5, 5), torch.zeros(3, 2))


# Finding it again ---------------------------------------------------------------------------------


def texture(planes: int, size: int = 48) -> torch.Tensor:
    """Smooth planes, each another one, in [0, 1]."""
    rough = torch.rand(1, planes, size, size, generator=torch.Generator().manual_seed(8))
    smooth = torch.nn.functional.avg_pool2d(rough, 7, 1, 3)
    smooth = torch.nn.functional.avg_pool2d(smooth, 7, 1, 3)[0]
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


def test_displacement_is_found_to_a_small_part_of_a_pixel() -> None:
    still = texture(5)
    truth = torch.tensor([[1.3, -0.4], [0.0, 0.0], [-2.1, 0.8], [0.25, 2.5], [-1.0, -1.0]])
    moved = shift_planes(still[None, None], truth)[0, 0]
    noisy = moved + 0.02 * torch.randn(moved.shape, generator=torch.Generator().manual_seed(1))
    for image, tolerance in ((moved, 0.1), (noisy, 0.15)):
        found = fit_displacement(image, still, steps=12)
        torch.testing.assert_close(found, -truth, rtol=0, atol=tolerance)


def test_empty_planes_stay_where_they_are() -> None:
    """Noise alone says nothing of a displacement, so the expectation, 0, decides."""
    generator = torch.Generator().manual_seed(2)
    noise = 0.01 * torch.randn(3, 32, 32, generator=generator)
    found = fit_displacement(noise, torch.zeros(3, 32, 32), expected_px=0.05)
    assert found.abs().max() < 0.1
    assert torch.equal(
        fit_displacement(torch.zeros(2, 9, 9), torch.zeros(2, 9, 9)), torch.zeros(2, 2)
    )
    with pytest.raises(TenetError, match="cannot lay"):
        fit_displacement(noise, noise[:2])
