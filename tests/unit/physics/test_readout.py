"""What a detector's electronics add, by what is known of each effect."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tenet.physics.microscope import Microscope
from tenet.physics.noise import NoiseModel, Readout, saturating_gain


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_default_cuts_a_signal_off_at_0_and_at_the_ceiling_alone() -> None:
    signal = torch.linspace(-0.5, 1.5, 41)
    assert torch.equal(Readout()(signal, 0.8, generator()), signal.clamp(0, 0.8))


@pytest.mark.parametrize("bits", [8, 12])
@pytest.mark.parametrize("ceiling", [1.0, 0.3])
def test_rounding_makes_the_levels_of_its_bits_and_errs_by_half_of_one(bits, ceiling) -> None:
    signal = torch.rand((1, 1, 10, 60, 60), generator=generator(), dtype=torch.float64)
    image = Readout(levels=2.0**bits - 1)(signal, ceiling, None)
    step = ceiling / (2**bits - 1)
    levels = image / step
    torch.testing.assert_close(levels, levels.round(), atol=1e-6, rtol=0)
    assert int(levels.max().round()) == 2**bits - 1
    error = image - signal.clamp(max=ceiling)
    assert float(error.abs().max()) <= step / 2 * (1 + 1e-6)
    unsaturated = error[signal < ceiling]
    assert float(unsaturated.std()) == pytest.approx(step / 12**0.5, rel=0.03)


def test_each_image_has_its_own_levels_and_some_have_none() -> None:
    signal = torch.rand((2, 1, 4, 20, 20), generator=generator())
    levels = torch.tensor([3.0, 0.0]).view(2, 1, 1, 1, 1)
    image = Readout(levels=levels)(signal, 1.0, None)
    assert len(image[0].unique()) == 4
    assert torch.equal(image[1], signal[1])


def test_line_noise_is_the_same_along_a_row_and_has_its_spread() -> None:
    signal = torch.full((1, 1, 40, 100, 8), 0.5)
    image = Readout(row_gain=0.1)(signal, 1.0, generator())
    assert torch.equal(image, image[..., :1].expand_as(image))
    assert float(image[..., 0].std()) == pytest.approx(0.05, rel=0.05)
    image = Readout(row_offset=0.02)(signal, 1.0, generator())
    assert float(image[..., 0].std()) == pytest.approx(0.02, rel=0.05)
    assert float(image.mean()) == pytest.approx(0.5, abs=0.002)
    assert torch.equal(Readout(row_gain=0.1)(signal, 1.0, None), signal)


def test_an_offset_below_0_hides_half_of_the_noise_of_the_dark() -> None:
    microscope = Microscope(
        torch.ones(1, 1, 1), NoiseModel(1e-3, 0.02), 1, (1.0, 1.0, 1.0), readout=Readout(offset=0.1)
    )
    dark = torch.zeros(1, 1, 20, 50, 50)
    lifted = microscope.record(dark, generator()).detach()
    assert float(lifted.mean()) == pytest.approx(0.1, abs=0.001)
    assert float(lifted.std()) == pytest.approx(0.02, rel=0.02)  # nothing is cut off
    hidden = replace(microscope, readout=Readout()).record(dark, generator())
    assert float((hidden == 0).float().mean()) == pytest.approx(0.5, abs=0.01)


def test_the_readout_of_a_saturated_detector_stays_at_its_ceiling() -> None:
    signal = torch.full((1, 1, 2, 3, 4), 5.0)
    image = Readout(offset=-0.2, levels=255.0)(signal, 0.7, None)
    torch.testing.assert_close(image, torch.full_like(signal, 0.7))


@pytest.mark.parametrize("share", [0.0, 0.002, 0.05])
def test_the_gain_saturates_a_share_of_the_voxels(share) -> None:
    image = 7 * torch.rand((2, 1, 10, 50, 40), generator=generator()) ** 3
    image[1] *= 0.01
    shares = torch.full((2, 1, 1, 1, 1), share)
    bright = (saturating_gain(image, shares) * image >= 1 - 1e-6).flatten(1).sum(1)
    assert bright.tolist() == [max(int(share * 20000), 1)] * 2


def test_an_image_without_light_keeps_its_gain() -> None:
    gain = saturating_gain(torch.zeros(1, 1, 2, 3, 4), torch.full((1, 1, 1, 1, 1), 0.01))
    assert gain.flatten().tolist() == [1.0]


def test_drawn_readouts_keep_to_their_ranges_and_repeat_with_the_seed() -> None:
    def draw() -> Readout:
        return Readout.draw(
            500,
            np.random.default_rng(3),
            most_row_gain=0.1,
            most_row_offset=0.02,
            offset=(-0.1, 0.05),
            bits=(8, 12),
        )

    drawn = draw()
    assert drawn.levels.shape == (500, 1, 1, 1, 1)
    assert set(drawn.levels.flatten().tolist()) == {255.0, 4095.0}
    for values, low, high in (
        (drawn.row_gain, 0, 0.1), (drawn.row_offset, 0, 0.02), (drawn.offset, -0.1, 0.05)
    ):  # fmt: skip
        assert low <= float(values.min()) < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < float(values.max()) <= high
    assert torch.equal(draw().offset, drawn.offset)


def test_nothing_is_drawn_where_there_is_no_choice() -> None:
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    readout = Readout.draw(4, rng, offset=(0.1, 0.1))
    assert (readout.row_gain, readout.offset, readout.levels) == (0, 0.1, 0.0)
    assert rng.bit_generator.state == before
