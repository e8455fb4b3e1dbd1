"""The two scales of brightness: from 0 to 1 as published, and the logarithmic one without a top."""

from typing import Any

import pytest
import torch
from small_models import random_model
from torch import Tensor

from tenet.learn.losses import log_brightness_loss, luminance_prior, one_sided, reconstruction_loss
from tenet.model.tenet import BRIGHTEST, DIMMEST, TENET, log_scaled
from tenet.physics.richardson_lucy import saturated


def model(**params: Any) -> TENET:
    return random_model(network="coarse", sig_eps=0.01, **params)


def bright_balls() -> Tensor:
    """Two balls, one 50 times brighter than the other, and than a detector may show."""
    light = torch.zeros(1, 1, 48, 16, 16)
    light[..., 20:28, 2:6, 6:10] = 10.0
    light[..., 20:28, 10:14, 6:10] = 0.2
    return light


def test_a_logarithmic_brightness_reaches_20_and_still_learns_there() -> None:
    logits = torch.zeros(3, requires_grad=True)
    wanted = torch.tensor([0.02, 1.0, 20.0])
    log, optimiser = model(brightness="log"), torch.optim.Adam([logits], lr=0.1)
    for _ in range(300):
        optimiser.zero_grad()
        log_brightness_loss(log.brightness(logits), torch.ones(3), wanted).backward()
        optimiser.step()
    found = log.brightness(logits).detach()
    # The prior is weak: a standard deviation of 10 in log brightness.
    torch.testing.assert_close(found, wanted, rtol=0.05, atol=0)
    ends = log.brightness(torch.tensor([-30.0, 30.0]))
    torch.testing.assert_close(ends, torch.tensor([DIMMEST, BRIGHTEST]))


def test_the_encoder_corrects_the_estimate_by_factors() -> None:
    estimate = torch.full((1, 1, 4, 5, 6), 0.2)
    estimate[..., 2, 2, 2] = 4.0
    log = model(brightness="log")
    same = log.brightness(torch.zeros_like(estimate), estimate)
    assert float(same[..., 1, 1, 3]) == pytest.approx((26 * 0.2 + 4) / 27, rel=1e-4)
    assert float(same[..., 0, 0, 5]) == pytest.approx(0.2, rel=1e-4)
    more = log.brightness(torch.full_like(estimate, 0.1), estimate) / same
    assert 1.1 < float(more.min()) <= float(more.max()) < 1.3
    assert torch.isfinite(log.brightness(torch.zeros_like(estimate), 0 * estimate)).all()


def test_the_published_brightness_is_a_sigmoid() -> None:
    logits = torch.linspace(-5, 5, 11)
    assert torch.equal(model().brightness(logits), logits.sigmoid())


def test_a_factor_costs_the_same_for_what_is_dim_and_what_is_bright() -> None:
    def misfit(z: float, wanted: float) -> float:
        brightness = torch.tensor([z, 5.0])
        shape, label = torch.tensor([1.0, 0.0]), torch.tensor([wanted, 0.0])
        loss = log_brightness_loss(brightness, shape, label) - luminance_prior(brightness)
        return loss.item()

    costs = [misfit(2 * z, z) for z in (0.02, 0.2, 2.0, 10.0)]
    assert costs == pytest.approx([0.5 * torch.log(torch.tensor(2.0)).item() ** 2] * 4, rel=1e-4)
    assert misfit(0.1, 0.2) == pytest.approx(costs[0], rel=1e-4)


def test_the_prior_of_the_logarithmic_brightness_is_not_cut() -> None:
    """Log-normal: as far above 1 as below."""
    factors = torch.tensor([2.0, 5.0, 20.0])
    assert luminance_prior(factors).item() == pytest.approx(luminance_prior(1 / factors).item())


def test_an_edge_looks_alike_at_every_brightness_above_the_noise() -> None:
    sigma = 0.01
    inside = torch.tensor([0.1, 0.4, 2.0, 20.0])
    drop = log_scaled(inside, sigma) - log_scaled(inside / 2, sigma)
    torch.testing.assert_close(drop, drop[-1:].expand_as(drop), rtol=0.02, atol=0)
    noise = torch.tensor([-0.002, 0.002, 0.004])
    below = log_scaled(noise, sigma)
    torch.testing.assert_close(below / noise, (below / noise)[:1].expand(3), rtol=0.03, atol=0)
    assert float(log_scaled(torch.ones(()), sigma)) == pytest.approx(1)


@pytest.mark.parametrize("early", [None, 8])
@pytest.mark.parametrize("brightness", ["sigmoid", "log"])
def test_an_estimate_is_cut_where_brightness_is(brightness: str, early: int | None) -> None:
    small = model(brightness=brightness, deconvolution_steps=20, early_steps=early)
    with torch.no_grad():
        image = small.blur((48, 16, 16))(bright_balls()).clamp(0, 1)
    estimate = small.deconvolve(image)
    inside = estimate[:, :1][bright_balls() == 10]
    if brightness == "sigmoid":
        assert float(estimate.max()) == 1
    else:
        assert float(inside.mean()) > 2
    enhanced = small.enhance(image)["brightness"]
    assert enhanced.shape == bright_balls().shape
    assert torch.isfinite(enhanced).all()


def test_a_reconstruction_that_is_too_bright_has_a_gradient_unless_the_image_is_cut() -> None:
    """It would have none if it were cut at 1 as well."""
    small = model(brightness="log")
    shape = (bright_balls() > 0).float()
    with torch.no_grad():
        image = small.decode(shape, 5 * bright_balls()).clamp(0, 1)
    light = small.decode(shape, 10 * bright_balls()).detach().requires_grad_()
    assert float(light.detach().max()) > 2
    reconstruction_loss(one_sided(light, image), image, torch.full_like(image, 0.01)).backward()
    assert light.grad is not None
    assert not light.grad[saturated(image)].any()
    assert bool((light.grad[(image > 0.01) & (image < 1)] > 0).all())
    dim = 0.5 * image
    light = small.decode(shape, 10 * bright_balls()).detach().requires_grad_()
    reconstruction_loss(light, dim, torch.full_like(image, 0.01)).backward()
    assert light.grad is not None
    assert bool((light.grad[light > 1] > 0).all())
