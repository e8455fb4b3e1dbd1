"""Each loss against its formula, written out the slow way."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tenet.errors import TenetError
from tenet.learn.ewc import ElasticWeights
from tenet.learn.losses import (
    SHAPE_LOSSES,
    bce_dice_loss,
    bce_loss,
    brightness_loss,
    fitted,
    luminance_prior,
    mrf_loss,
    mse_loss,
    one_sided,
    reconstruction_loss,
    soft_dice_loss,
    unscaled_reconstruction_loss,
)
from tenet.model.tenet import psf_loss, quantisation_loss

ENERGIES = [(-0.5, 0.5, 1.0, -1.0), (-1.0, 0.0, 0.0, -1.0), (0.3, 0.7, -0.2, 0.9)]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


# Markov random field


def slow_mrf(
    shape: np.ndarray, l00: float, l01: float, l10: float, l11: float, dilation: int
) -> float:
    """27 shifted copies, as in the definition."""
    d = dilation
    padded = np.pad(shape, d)
    size_z, size_y, size_x = shape.shape
    copies, weights = [], []
    for offset in itertools.product((-1, 0, 1), repeat=3):
        z, y, x = (d + d * o for o in offset)
        copies.append(padded[z : z + size_z, y : y + size_y, x : x + size_x])
        weights.append(1 / math.hypot(*offset) if any(offset) else 0.0)
    empty = np.prod([1 - n for n in copies], axis=0)
    total = 0.0
    for n, w in zip(copies, weights, strict=True):
        energy = (
            l00 * (1 - shape) * (1 - n)
            + l01 * (1 - shape) * n
            + l10 * shape * empty
            + l11 * shape * (1 - empty)
        )
        total += w * energy.sum()
    return total / (27 * shape.size)


@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("energies", ENERGIES)
@pytest.mark.parametrize("binary", [False, True])
def test_mrf_is_the_27_fold_sum(
    energies: tuple[float, float, float, float], dilation: int, binary: bool
) -> None:
    volume = random(7, 6, 5)
    if binary:
        volume = (volume > 0.8).float()
    expected = slow_mrf(volume.double().numpy(), *energies, dilation)
    value = mrf_loss(volume[None, None], *energies, dilation=dilation)
    assert value.item() == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_mrf_tells_an_isolated_voxel_from_a_supported_one() -> None:
    """With x binary, a voxel supports itself: P is 0 in the object, so l10 never counts there."""
    alone = torch.zeros(1, 1, 9, 9, 9)
    alone[..., 4, 4, 4] = 1
    total = 6 + 12 / math.sqrt(2) + 8 / math.sqrt(3)
    scale = 27 * 9**3
    assert mrf_loss(alone, 0, 0, 1, 0).item() == 0
    assert mrf_loss(alone, 0, 0, 0, 1).item() == pytest.approx(total / scale, rel=1e-5)
    # l01 counts each background neighbour once, weighted by 1 / distance.
    assert mrf_loss(alone, 0, 1, 0, 0).item() == pytest.approx(total / scale, rel=1e-5)


def test_mrf_dilation_looks_further() -> None:
    pair = torch.zeros(1, 1, 11, 11, 11)
    pair[..., 5, 5, 5] = 1
    pair[..., 5, 5, 7] = 1
    scale = 27 * 11**3
    total = 6 + 12 / math.sqrt(2) + 8 / math.sqrt(3)
    near, far = (mrf_loss(pair, 0, 1, 0, 0, dilation=d).item() * scale for d in (1, 2))
    assert near == pytest.approx(2 * total, rel=1e-5)
    # Two voxels apart they are neighbours of each other, and no longer background.
    assert far == pytest.approx(2 * (total - 1), rel=1e-5)


@pytest.mark.parametrize("dilation", [1, 2])
def test_mrf_gradient(dilation: int) -> None:
    """Finite and right, also where 1 - x is exactly 0 (a logarithm would give infinity)."""
    volume = random(1, 1, 4, 3, 3).double()
    volume[..., 1, 1, :] = 1
    volume[..., 2, 1, 1] = 0
    volume.requires_grad_()

    def loss(x: Tensor) -> Tensor:
        return mrf_loss(x, 0.3, 0.7, -0.2, 0.9, dilation=dilation)

    assert torch.autograd.gradcheck(loss, (volume,), atol=1e-8)


# Intensities


def test_reconstruction_is_a_gaussian_likelihood() -> None:
    image, mean, variance = random(50), random(50, seed=1), 0.1 + random(50, seed=2)
    expected = -torch.distributions.Normal(mean, variance.sqrt()).log_prob(image)
    constant = 0.5 * math.log(2 * math.pi)
    value = reconstruction_loss(mean, image, variance).item()
    assert value == pytest.approx(expected.mean().item() - constant, rel=1e-5)


def test_reconstruction_of_unknown_noise_is_the_best_over_its_strengths() -> None:
    image, mean, variance = random(50), random(50, seed=1), 0.1 + random(50, seed=2)
    found = unscaled_reconstruction_loss(mean, image, variance).item()
    strengths = torch.logspace(-2, 2, 4001)
    known = [reconstruction_loss(mean, image, factor * variance).item() for factor in strengths]
    assert found == pytest.approx(min(known), abs=1e-5)
    for factor in (0.2, 7.0):
        again = unscaled_reconstruction_loss(mean, image, factor * variance).item()
        assert again == pytest.approx(found, abs=1e-5)


def test_what_a_detector_cut_costs_on_one_side_alone() -> None:
    image = torch.tensor([0.0, 0.0, 0.2, 0.4, 0.4, 0.4]).view(1, 1, 1, 1, 6)
    light = torch.tensor([-0.1, 0.1, 0.3, 0.9, 0.41, 0.3]).view_as(image).requires_grad_()
    seen = one_sided(light, image)
    loss = reconstruction_loss(seen, image, 0.01 + 0.1 * seen)
    loss.backward()
    assert light.grad is not None
    silent = (light.grad == 0).flatten().tolist()
    assert silent == [True, False, False, True, True, False]
    assert float(light.grad.flatten()[-1]) < 0  # it wants more light
    exact = reconstruction_loss(image, image, 0.01 + 0.1 * image)
    free = one_sided(image + torch.tensor([0, 0, 0, 5.0, 5.0, 5.0]), image)
    assert reconstruction_loss(free, image, 0.01 + 0.1 * free) == exact


def test_gain_and_background_are_found_beside_what_is_saturated() -> None:
    light = 3 * random(2, 1, 4, 20, 20).square()
    image = torch.cat([0.4 * light[:1] + 0.05, 0.1 * light[1:]])
    cut = torch.cat([image[:1].clamp_max(0.6), image[1:]])
    assert float((cut[0] == 0.6).float().mean()) > 0.1
    torch.testing.assert_close(fitted(light, cut), image, rtol=1e-4, atol=1e-5)
    # A background below 0 is none: the gain is then that of the light alone.
    dark = (image[1:] - 0.02).clamp_min(0)
    gain = (light[1:] * dark).sum() / light[1:].square().sum()
    torch.testing.assert_close(fitted(light[1:], dark), gain * light[1:])
    nothing = torch.zeros(1, 1, 2, 3, 3)
    assert torch.isfinite(fitted(nothing, nothing)).all()
    assert torch.isfinite(fitted(nothing, random(1, 1, 2, 3, 3))).all()


def test_a_background_does_not_lengthen_the_psf() -> None:
    """Light that no structure sends would else be explained by a PSF with long tails."""
    points = torch.zeros(1, 1, 24, 8, 8)
    points[..., 12, 4, 4] = 1
    image = by_length(points, 1.0) + 0.05

    def misfit(length: float, explain: Callable[[Tensor, Tensor], Tensor]) -> float:
        return float(F.mse_loss(explain(by_length(points, length), image), image))

    def alone(light: Tensor, seen: Tensor) -> Tensor:
        return light * (light * seen).sum() / light.square().sum()

    lengths = [0.8, 0.9, 1.0, 1.1, 1.2, 1.5]
    assert min(lengths, key=lambda length: misfit(length, fitted)) == 1.0
    assert min(lengths, key=lambda length: misfit(length, alone)) > 1.0


def by_length(points: Tensor, length: float) -> Tensor:
    """Points blurred along z by a Gaussian of 2 planes times a length."""
    z = torch.arange(-11.0, 12)
    profile = torch.exp(-((z / (2 * length)) ** 2) / 2)
    return F.conv3d(points, (profile / profile.sum()).view(1, 1, -1, 1, 1), padding=(11, 0, 0))


def test_luminance_prior() -> None:
    brightness = torch.tensor([1.0, math.exp(-1), math.exp(-3)])
    assert luminance_prior(brightness).item() == pytest.approx((0 + 1 + 9) / 3 / 200, rel=1e-5)
    zero = torch.zeros(3, requires_grad=True)
    luminance_prior(zero).backward()
    assert zero.grad is not None
    assert torch.isfinite(zero.grad).all()
    brightness.requires_grad_()
    luminance_prior(brightness).backward()
    assert brightness.grad is not None
    assert (brightness.grad <= 0).all()  # it draws brightness up to 1


def test_brightness_loss_counts_only_where_the_object_is() -> None:
    brightness, label = torch.tensor([0.5, 0.9]), torch.tensor([0.3, 0.0])
    shape = torch.tensor([1.0, 0.0])
    prior = luminance_prior(brightness).item()
    value = brightness_loss(brightness, shape, label).item()
    assert value == pytest.approx(prior + 0.5 * 0.2**2 / 2, rel=1e-5)


def test_quantisation_moves_the_shape_alone() -> None:
    shape = torch.tensor([0.2, 0.9], requires_grad=True)
    quantised = torch.tensor([0.0, 1.0], requires_grad=True)
    loss = quantisation_loss(shape, quantised)
    loss.backward()
    assert loss.item() == pytest.approx((0.04 + 0.01) / 2, rel=1e-5)
    assert quantised.grad is None
    assert shape.grad is not None
    assert torch.allclose(shape.grad, torch.tensor([0.2, -0.1]))


def test_psf_loss() -> None:
    assert psf_loss(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 0.0]])).item() == 2.5


# Segmentation


def test_cross_entropy_takes_logits() -> None:
    logits, label = 4 * random(60) - 2, (random(60, seed=1) > 0.5).float()
    expected = F.binary_cross_entropy(logits.sigmoid(), label)
    assert bce_loss(logits, label).item() == pytest.approx(expected.item(), rel=1e-5)
    # Sure and wrong: finite, where a probability would have been rounded to 0.
    assert bce_loss(torch.tensor([-200.0]), torch.ones(1)).item() == pytest.approx(200)


def test_soft_dice() -> None:
    label = torch.tensor([1.0, 1.0, 0.0, 0.0])
    assert soft_dice_loss(label, label).item() == pytest.approx(0)
    half = torch.tensor([1.0, 0.0, 1.0, 0.0])
    assert soft_dice_loss(half, label).item() == pytest.approx(1 - 3 / 5)
    assert soft_dice_loss(torch.zeros(4), torch.zeros(4)).item() == 0
    logits = 4 * random(4) - 2
    both = bce_loss(logits, label) + soft_dice_loss(logits.sigmoid(), label)
    assert bce_dice_loss(logits, label).item() == pytest.approx(both.item())
    expected = (logits.sigmoid() - label).square().mean().item()
    assert mse_loss(logits, label).item() == pytest.approx(expected, rel=1e-5)


def test_published_strings_are_looked_up() -> None:
    assert SHAPE_LOSSES["nn.BCELoss()"] is bce_loss
    assert SHAPE_LOSSES["nn.MSELoss()"] is mse_loss
    assert "nn.L1Loss()" not in SHAPE_LOSSES


# Elastic weights


class Mean(nn.Module):
    """A Gaussian of unit variance with an unknown mean."""

    def __init__(self, mean: float) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor([mean]))
        self.unused = nn.Parameter(torch.zeros(2))
        self.frozen = nn.Parameter(torch.zeros(2), requires_grad=False)

    def loss(self, sample: Tensor) -> Tensor:
        """Negative log-likelihood; its gradient is mean - sample."""
        return 0.5 * (self.mean - sample).square().sum()


def test_fisher_is_the_mean_of_squared_gradients() -> None:
    model = Mean(1.0)
    samples = [torch.tensor([value]) for value in (0.0, 1.0, 4.0)]
    elastic = ElasticWeights.estimate(model, (model.loss(sample) for sample in samples))
    # Gradients 1, 0, -3: squares 1, 0, 9. The square of the mean would be 4/9.
    assert elastic.fisher["mean"].item() == pytest.approx(10 / 3)
    assert torch.equal(elastic.fisher["unused"], torch.zeros(2))
    assert "frozen" not in elastic.fisher
    assert model.mean.grad is None


def test_fisher_of_a_gaussian_mean_is_1() -> None:
    """The known answer: 1 / variance, however many samples."""
    model = Mean(0.0)
    samples = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    elastic = ElasticWeights.estimate(model, (model.loss(sample) for sample in samples))
    assert elastic.fisher["mean"].item() == pytest.approx(1, rel=0.06)


def test_elastic_loss() -> None:
    model = Mean(1.0)
    elastic = ElasticWeights(
        {"mean": torch.tensor([1.0]), "unused": torch.zeros(2)},
        {"mean": torch.tensor([6.0]), "unused": torch.tensor([0.0, 2.0])},
    )
    assert elastic.loss(model).item() == 0
    with torch.no_grad():
        model.mean += 2
        model.unused += 1
    assert elastic.loss(model).item() == pytest.approx(0.5 * (6 * 4 + 2 * 1) / 3)
    elastic.loss(model).backward()
    assert model.mean.grad is not None
    assert model.mean.grad.item() == pytest.approx(6 * 2 / 3)  # towards θ*


def test_elastic_weights_keep_their_own_copy() -> None:
    model = Mean(1.0)
    elastic = ElasticWeights.estimate(model, [model.loss(torch.tensor([0.0]))])
    with torch.no_grad():
        model.mean += 1
    assert elastic.parameters["mean"].item() == 1


def test_elastic_weights_without_batches_or_with_other_names() -> None:
    with pytest.raises(TenetError, match="at least one batch"):
        ElasticWeights.estimate(Mean(0.0), [])
    with pytest.raises(TenetError, match="different weights"):
        ElasticWeights({"a": torch.zeros(1)}, {"b": torch.zeros(1)})
