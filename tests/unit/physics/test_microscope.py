"""The microscope: what it makes of a sharp volume, and that nobody else has a formula for it."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tenet.physics import microscope as module
from tenet.physics.blur import StridedBlur, lookup_blur
from tenet.physics.microscope import Microscope
from tenet.physics.noise import NoiseModel


@pytest.fixture
def microscope() -> Microscope:
    psf = torch.rand((9, 5, 5), generator=torch.Generator().manual_seed(0))
    return Microscope(psf / psf.sum(), NoiseModel(0.1, 0.02), 3, (0.9, 0.3, 0.3))


@pytest.fixture
def luminance() -> torch.Tensor:
    return 3 * torch.rand((2, 1, 12, 16, 14), generator=torch.Generator().manual_seed(1))


def generator(seed: int = 2) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_light_is_blurred_and_sampled_and_the_detector_cuts_it(
    microscope: Microscope, luminance: torch.Tensor
) -> None:
    image = microscope.expose(luminance)
    blurred = StridedBlur(microscope.psf, (12, 16, 14), 3)(luminance)
    assert blurred.max() > 1
    assert torch.equal(image, blurred.clamp_min(0))
    assert torch.equal(microscope.record(image, None), blurred.clamp(0, 1))
    assert image.shape == (2, 1, 4, 16, 14)


def test_the_published_sampling_has_the_published_geometry(
    microscope: Microscope, luminance: torch.Tensor
) -> None:
    published = replace(microscope, sampling="lookup")
    blur = lookup_blur(microscope.psf, (12, 16, 14), 3, res_axial=0.9, res_lateral=0.3)
    assert torch.equal(published.expose(luminance), blur(luminance).clamp_min(0))


def test_noise_grows_with_its_strength_and_is_drawn_by_the_generator(
    microscope: Microscope,
) -> None:
    image = torch.full((2, 1, 20, 40, 40), 0.5)
    strength = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1, 1)
    seen = replace(microscope, noise_strength=strength).record(image, generator())
    spread = 0.1 * 0.5 + 0.02
    assert float(seen[0].detach().std()) == pytest.approx(spread, rel=0.02)
    assert float(seen[1].detach().std()) == pytest.approx(2 * spread, rel=0.02)
    assert torch.equal(seen[0], microscope.record(image, generator())[0])
    assert torch.equal(microscope.record(image, None), image)


def test_a_slow_detector_passes_noise_on_along_lines(microscope: Microscope) -> None:
    """The noise is as strong as without; neighbours share s / (1 + s²) of its variance."""
    image = torch.full((3, 1, 20, 60, 60), 0.5)
    smears = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1, 1)
    seen = replace(microscope, noise_smear=smears).record(image, generator()).detach()[:, 0]
    alone = microscope.record(image, generator()).detach()[:, 0]
    torch.testing.assert_close(seen[0], alone[0])
    for stack, smear in zip(seen, smears.flatten().tolist(), strict=True):
        noise = stack - stack.mean()
        variance = noise.square().mean()
        assert float(noise.std()) == pytest.approx(0.1 * 0.5 + 0.02, rel=0.02)
        along, across, deep = (
            float((noise * noise.roll(1, axis)).mean() / variance) for axis in (2, 1, 0)
        )
        assert along == pytest.approx(smear / (1 + smear**2), abs=0.02)
        assert abs(across) < 0.02
        assert abs(deep) < 0.02


def test_each_detector_saturates_at_its_own_ceiling(
    microscope: Microscope, luminance: torch.Tensor
) -> None:
    ceiling = torch.tensor([0.3, 0.6]).view(2, 1, 1, 1, 1)
    cut = replace(microscope, ceiling=ceiling)
    for noise in (None, generator()):
        image = cut.acquire(luminance, noise)
        assert image.amax((1, 2, 3, 4)).tolist() == pytest.approx([0.3, 0.6])
    free, seen = microscope.acquire(luminance, generator()), cut.acquire(luminance, generator())
    assert torch.equal(seen, free.minimum(ceiling))


def test_noise_does_not_bring_light_far_above_the_ceiling_below_it(microscope: Microscope) -> None:
    """The detector cuts what the noise was added to, not the light before."""
    seen = microscope.record(torch.full((1, 1, 20, 40, 40), 3.0), generator())
    assert float((seen == 1).float().mean()) > 0.999


def test_gradients_reach_the_psf(microscope: Microscope, luminance: torch.Tensor) -> None:
    psf = microscope.psf.clone().requires_grad_()
    replace(microscope, psf=psf).expose(0.1 * luminance).sum().backward()
    assert psf.grad is not None
    assert float(psf.grad.abs().sum()) > 0


def test_no_other_module_images_a_volume_by_itself() -> None:
    """Blurring, then keeping to [0, 1], or drawing noise: that is the microscope's alone."""
    house = Path(module.__file__).parents[1]
    own = {house / "physics/microscope.py", house / "physics/noise.py"}
    for path in {*house.rglob("*.py")} - own - {*(house / "paper").rglob("*.py")}:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"noise\.sample\(|blur\(.*\)\(.*\)\.clamp\(", text), path
