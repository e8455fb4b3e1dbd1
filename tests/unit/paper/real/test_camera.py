"""An 8-bit detector: how much saturates, and the noise's variance and correlation."""

import numpy as np
import pytest
import torch

from tenet.paper.real.camera import DARK, GAIN, MOST_OFFSET, SATURATED, acquire

SHARP = torch.ones(1, 1, 1)


def test_even_light_has_noise_of_four_times_the_signal_shared_along_x() -> None:
    light = np.full((4, 200, 200), 0.4, np.float32)
    light[:, :2] = 1  # 1 % of the voxels
    levels = acquire(light, SHARP, 1, np.random.default_rng(0))[:, 5:].astype(float)
    offset = np.random.default_rng(0).uniform(0, MOST_OFFSET)
    signal = 0.4 * (255 - offset)
    assert levels.mean() == pytest.approx(offset + signal, rel=0.01)
    assert levels.var() == pytest.approx(GAIN * signal + DARK**2, rel=0.03)
    noise = levels - levels.mean()
    along_x = (noise[..., 1:] * noise[..., :-1]).mean() / noise.var()
    along_y = (noise[:, 1:] * noise[:, :-1]).mean() / noise.var()
    assert (along_x, along_y) == (pytest.approx(0.5, abs=0.02), pytest.approx(0, abs=0.02))


def test_two_voxels_of_a_thousand_saturate() -> None:
    light = np.random.default_rng(0).exponential(1, (8, 200, 200)).astype(np.float32)
    levels = acquire(light, SHARP, 1, np.random.default_rng(1))
    assert (levels == 255).mean() == pytest.approx(SATURATED, rel=0.2)
    assert levels.dtype == np.uint8


def test_the_offset_lifts_the_dark() -> None:
    light = np.zeros((4, 64, 64), np.float32)
    light[0, :8] = 1
    dark = [acquire(light, SHARP, 1, np.random.default_rng(s))[1:].mean() for s in range(6)]
    offsets = [np.random.default_rng(s).uniform(0, MOST_OFFSET) for s in range(6)]
    lifted = [offset > 6 for offset in offsets]
    for level, offset in np.array(list(zip(dark, offsets, strict=True)))[lifted]:
        assert level == pytest.approx(offset, abs=0.1)
    assert any(lifted)
