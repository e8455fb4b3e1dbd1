"""The microscope found in a stack."""

import math
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from tenet.learn.losses import fitted, unscaled_reconstruction_loss
from tenet.learn.microscopes import Candidate, microscope, widths
from tenet.learn.search import LEAST, MOST, MOST_TRIED, UNIT, search, search_microscope
from tenet.physics.blur import StridedBlur
from tenet.physics.optics import psf_volume
from tenet.settings.schema import ModelParams

TOLD = ModelParams(
    NA=0.8,
    wavelength=0.92,
    photons=2,
    scale=3,
    res_axial=0.9,
    res_lateral=0.15,
    psf_sampling="continuous",
    noise="consistent",
    size_z=41,
    size_y=15,
    size_x=15,
)
GRID = (119, 63, 63)
#: Variance of an image: SLOPE · (signal + FLOOR).
SLOPE, FLOOR = 0.005, 0.01


def lines(seed: int) -> Tensor:
    """Thin lines across the axis, (1, 1, 60, 64, 64)."""
    rng = np.random.default_rng(seed)
    truth = torch.zeros(1, 1, 60, 64, 64)
    x = np.arange(64)
    for _ in range(6):
        z, y, slope = rng.integers(15, 45), rng.uniform(8, 56), rng.uniform(-0.6, 0.6)
        row = np.clip(np.rint(y + slope * (x - 32)), 0, 63).astype(int)
        truth[0, 0, z : z + 2, row, x] = float(rng.uniform(0.4, 1))
    return truth


def taken(truth: Tensor, params: ModelParams, seed: int) -> Tensor:
    """What a microscope makes of a structure, (1, 1, 20, 64, 64)."""
    psf = torch.from_numpy(psf_volume(params.model_psf(), GRID, params.fine_voxel_size_um))
    image = StridedBlur(psf, (60, 64, 64), 3)(truth)
    image = 0.9 * image / image.max()
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
    return (image + noise * (SLOPE * (image + FLOOR)).sqrt()).clamp(0, 1)


def bowl(true: Candidate, own: np.ndarray, scatter: float):
    """Losses of parts that each want something a little else than `true`."""
    rng = np.random.default_rng(1)
    wanted = np.array(true) + scatter * UNIT * rng.normal(size=(len(own), 3))

    def losses_of(candidate: Candidate) -> list[float]:
        distance = (np.array(candidate) - wanted) / UNIT
        return list(own + 0.01 * np.square(distance).sum(1))

    return losses_of


@pytest.mark.parametrize(
    "true", [Candidate(0.3, 1.2, 0.1), Candidate(-0.4, 0.3, 0.0), Candidate(0.6, 1.9, -0.15)]
)
def test_finds_the_least_of_a_bowl(true: Candidate) -> None:
    found = search(bowl(true, np.linspace(0, 3, 16), 0.2), Candidate(0.0))
    for axis, estimate in enumerate((found.length, found.tails, found.spherical)):
        assert estimate.value == pytest.approx(true[axis], abs=0.35 * UNIT[axis])
        assert estimate.low <= true[axis] + 0.1 * UNIT[axis]
        assert estimate.high >= true[axis] - 0.1 * UNIT[axis]
    assert found.gain > 2 * found.standard_error > 0
    assert len(found.tried) <= MOST_TRIED
    assert all(
        low <= value <= high
        for candidate, _ in found.tried
        for value, low, high in zip(candidate, LEAST, MOST, strict=True)
    )


def test_keeps_what_was_told_where_the_parts_disagree() -> None:
    found = search(bowl(Candidate(0.05, 0.1), np.zeros(16), 3.0), Candidate(0.0))
    assert found.candidate == Candidate(0.0)
    assert found.gain == 0
    assert found.length.error > 0.3 * UNIT[0]


@pytest.mark.parametrize("fill", [None, 0.7, 0.5])
def test_a_candidate_has_the_length_asked_for_whatever_its_fill(fill: float | None) -> None:
    told = microscope(TOLD, Candidate(0.0, Candidate.tails_of(fill)))
    longer = microscope(TOLD, Candidate(math.log(1.5), Candidate.tails_of(fill)))
    assert told.fill == pytest.approx(fill)
    ratio = widths(longer).line / widths(told).line
    assert ratio == pytest.approx(1.5, rel=0.08)  # as 1/NA², or nearly
    tails = widths(longer).tail / widths(told).tail
    assert tails == pytest.approx(1, abs=0.1)


def test_the_start_of_the_search_is_the_microscope_as_told() -> None:
    told = TOLD.model_copy(update={"fill": 0.7, "spherical": 0.1})
    start = microscope(told, Candidate(0.0, Candidate.tails_of(0.7), 0.1))
    assert (start.NA, start.fill) == pytest.approx((told.NA, 0.7))


def test_widths_of_a_gaussian_beam() -> None:
    """Kogelnik & Li: z_R = π w₀² n / λ; two photons see half the maximum at 0.64 z_R."""
    beam = TOLD.model_copy(update={"NA": 0.9, "fill": 0.4})
    effective = 0.9 * 0.4  # the amplitude in the pupil falls to 1/e there: NA of the beam
    rayleigh_um = 0.92 * 1.33 / (math.pi * effective**2)
    found = widths(beam)
    assert found.axial == pytest.approx(2 * rayleigh_um * math.sqrt(math.sqrt(2) - 1), rel=0.05)
    assert found.lateral == pytest.approx(
        math.sqrt(2 * math.log(2)) / 2 * math.sqrt(2) * 0.92 / (math.pi * effective), rel=0.05
    )


def explained(images: list[Tensor], truths: list[Tensor]) -> Callable[[ModelParams], list[float]]:
    """Losses of four parts of each image by a microscope, where the structure is known."""

    def losses_by(params: ModelParams) -> list[float]:
        psf = torch.from_numpy(psf_volume(params.model_psf(), GRID, params.fine_voxel_size_um))
        blur = StridedBlur(psf, (60, 64, 64), 3)
        losses = []
        for image, truth in zip(images, truths, strict=True):
            light = fitted(blur(truth), image)
            for rows in (slice(0, 32), slice(32, 64)):
                for columns in (slice(0, 32), slice(32, 64)):
                    part = (..., rows, columns)
                    variance = SLOPE * (light[part].clamp_min(0) + FLOOR)
                    loss = unscaled_reconstruction_loss(light[part], image[part], variance)
                    losses.append(loss.item())
        return losses

    return losses_by


@pytest.mark.parametrize("fill", [None, 0.7, 0.45])
@pytest.mark.parametrize("spherical", [0.0, 0.2])
def test_the_microscope_of_a_known_structure_is_found(fill: float | None, spherical: float) -> None:
    true = microscope(TOLD, Candidate(0.25, Candidate.tails_of(fill), spherical))
    truths = [lines(seed) for seed in range(3)]
    images = [taken(truth, true, seed) for seed, truth in enumerate(truths)]
    found = search_microscope(explained(images, truths), [10.0] * 12, TOLD, 0.0)
    own, wanted = widths(found.params), widths(true)
    assert own.axial == pytest.approx(wanted.axial, rel=0.05)
    assert own.lateral == pytest.approx(wanted.lateral, rel=0.05)
    assert own.tail == pytest.approx(wanted.tail, rel=0.1)
    assert found.params.spherical == pytest.approx(spherical, abs=0.05)
    axial = found.record["axial_fwhm_um"]
    assert axial["low"] <= wanted.axial * 1.02
    assert axial["high"] >= wanted.axial * 0.98
    assert found.messages[0].startswith("PSF found: z_R ")


def test_a_stack_without_structure_tells_nothing() -> None:
    """A microscope must explain more than the mean does."""
    rng = np.random.default_rng(0)
    explains = list(rng.normal(size=12))
    found = search_microscope(lambda params: explains, explains, TOLD, 0.0)
    assert found.params == TOLD
    assert any(message.startswith("note: no PSF explains") for message in found.messages)


def test_a_saturated_stack_is_warned_of() -> None:
    found = search_microscope(lambda params: [0.0, 1.0], [1.0, 2.0], TOLD, 0.06)
    assert "6 % of the voxels are saturated" in found.messages[-1]


def test_a_psf_at_the_end_of_the_range_is_warned_of() -> None:
    """With the numbers, and with what to check."""
    rng = np.random.default_rng(0)
    own = rng.normal(size=12)

    def longer_is_better(params: ModelParams) -> list[float]:
        return list(own - np.log(widths(params).axial))

    found = search_microscope(longer_is_better, list(own + 10), TOLD, 0.0)
    assert any(
        re.search(r"2\.7 times as long as the one told.*0\.4 to 2\.7 times.*voxel size", message)
        for message in found.messages
    )
