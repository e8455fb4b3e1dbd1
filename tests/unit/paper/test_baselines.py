"""CARE and Neuroclear: that each does, on an easy case, what its paper says."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from tenet.enhance.restore import restore_array
from tenet.errors import TenetError
from tenet.io.intensities import IntensityRange
from tenet.io.open import open_stack
from tenet.io.stack import Stack
from tenet.model.store import MODEL, save_tensors
from tenet.paper.baselines.care import CARE, CARESettings, as_axial, axial_profile
from tenet.paper.baselines.learned import Assumed, LearnedBaseline, upsample
from tenet.paper.baselines.neuroclear import (
    LATERAL,
    XZ,
    YZ,
    Neuroclear,
    NeuroclearSettings,
    linear_network,
    projections,
    slices,
)
from tenet.physics.blur import StridedBlur
from tenet.physics.noise import NoiseModel

SCALE = 4
SMALL_CARE = CARESettings(
    channels_2d=(16, 32, 64),
    crop=32,
    batch_size=4,
    steps_per_epoch=50,
    n_epochs=8,
    lr=1e-3,
    schedule="cosine",
)
#: So short a game is won by chance unless the cycle counts for much: with these, all of twelve
#: first weights ended well, on processors that round differently.
SMALL_NEUROCLEAR = NeuroclearSettings(
    channels_3d=(16, 32),
    linear_channels=4,
    discriminator_channels=16,
    cycle_weight=20,
    batch_size=1,
    discriminator_layers=2,
    crop=24,
    steps_per_epoch=60,
    n_epochs=2,
    lr=1e-3,
    ema_decay=0.95,
)
SMALL = {CARE: SMALL_CARE, Neuroclear: SMALL_NEUROCLEAR}


def gaussian_psf(sigma_z: float, planes: int = 26) -> torch.Tensor:
    """Blur along z alone, centred for an even scale."""
    z = torch.arange(planes, dtype=torch.float64) - (planes - 1) / 2
    line = torch.exp(-(z**2) / (2 * sigma_z**2)).float()
    return (line / line.sum())[:, None, None]


def balls(seed: int, zyx_shape: tuple[int, int, int] = (64, 64, 64)) -> NDArray[np.float32]:
    """Soft balls that look the same along every axis."""
    rng = np.random.default_rng(seed)
    volume = np.zeros(zyx_shape, dtype=np.float32)
    grid = np.ogrid[tuple(slice(n) for n in zyx_shape)]
    for _ in range(60):
        centre, radius = rng.uniform(0, zyx_shape), rng.uniform(2, 4)
        distance = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True))
        volume = np.maximum(volume, (distance <= radius**2).astype(np.float32))
    return ndimage.gaussian_filter(volume, 0.6)


@pytest.fixture(scope="module")
def assumed() -> Assumed:
    return Assumed(SCALE, gaussian_psf(2.5), NoiseModel(2e-3, 2e-3).requires_grad_(False))


@pytest.fixture(scope="module")
def acquired(
    tmp_path_factory: pytest.TempPathFactory, assumed: Assumed
) -> list[tuple[Stack, IntensityRange]]:
    """Three stacks of balls, blurred along z and sampled every fourth plane."""
    folder, data = tmp_path_factory.mktemp("stacks"), []
    for seed in range(3):
        path = folder / f"{seed}.npy"
        np.save(path, acquire(balls(seed), assumed))
        data.append((open_stack(path), IntensityRange(0.0, 1.0, "none")))
    return data


Learn = Callable[[type[LearnedBaseline]], LearnedBaseline]


@pytest.fixture(scope="module")
def learned(
    tmp_path_factory: pytest.TempPathFactory,
    acquired: list[tuple[Stack, IntensityRange]],
    assumed: Assumed,
) -> Learn:
    """A method, trained for seconds when it is first asked for."""

    @cache
    def learn(kind: type[LearnedBaseline]) -> LearnedBaseline:
        folder = tmp_path_factory.mktemp(kind.name)
        return kind.learn(SMALL[kind], acquired, assumed, folder, device=torch.device("cpu"))

    return learn


def acquire(volume: NDArray[np.float32], assumed: Assumed) -> NDArray[np.float32]:
    blur = StridedBlur(assumed.psf, volume.shape, assumed.scale)
    return blur(torch.from_numpy(volume)[None, None])[0, 0].clamp(0, 1).numpy()


def lateral_and_axial_detail(volume: NDArray[np.float32]) -> tuple[float, float]:
    """Power at wavelengths of 4 to 10 voxels along x and along z, of the inside."""
    inside = volume[8:-8, 8:-8, 8:-8]
    inside = inside - inside.mean()
    power = np.abs(np.fft.fftn(inside)) ** 2
    n = inside.shape[0]
    band = slice(round(n / 10), round(n / 4))
    return float(power[:, :, band].sum()), float(power[band].sum())


@pytest.mark.parametrize("scale", [3, 4])
def test_upsampling_keeps_the_place_of_planes(scale: int) -> None:
    coarse = torch.arange(8.0)[None, None, :, None, None].expand(1, 1, 8, 2, 3)
    fine = upsample(coarse, scale)[0, 0, :, 0, 0]
    middle = (scale - 1) / 2
    inside = torch.arange(scale, 7 * scale)
    torch.testing.assert_close(fine[inside], (inside - middle) / scale)


@pytest.mark.parametrize("scale", [3, 4, 10])
def test_lateral_slices_made_axial_are_what_the_microscope_makes(scale: int) -> None:
    planes = 25 if scale % 2 else 26
    profile = axial_profile(gaussian_psf(4.0, planes).expand(-1, 3, 3))
    rows, columns = 12 * scale, 5
    sharp = torch.rand(2, 1, rows, columns)
    sharp[:, :, : 2 * scale] = sharp[:, :, -2 * scale :] = 0  # what lies outside is not known
    blur = StridedBlur(profile[:, None, None], (rows, columns, 1), scale)
    coarse = blur(sharp[..., None])
    expected = upsample(coarse, scale)[..., 0]
    torch.testing.assert_close(as_axial(sharp, profile, scale, None), expected)


def test_slices_and_projections() -> None:
    volume = torch.rand(1, 1, 6, 8, 10)
    assert slices(volume, LATERAL).shape == (6, 1, 8, 10)
    assert slices(volume, XZ).shape == (8, 1, 6, 10)
    assert slices(volume, YZ).shape == (10, 1, 6, 8)
    torch.testing.assert_close(slices(volume, YZ)[3, 0], volume[0, 0, :, :, 3])
    slabs = projections(volume, XZ, 3)
    assert slabs.shape == (2, 1, 6, 10)
    torch.testing.assert_close(slabs[1, 0], volume[0, 0, :, 3:6].amax(1))


def test_linear_network_is_linear() -> None:
    network, one, other = linear_network(4), torch.rand(1, 1, 9, 9, 9), torch.rand(1, 1, 9, 9, 9)
    both = network(2 * one - 3 * other)
    torch.testing.assert_close(both, 2 * network(one) - 3 * network(other), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", [CARE, Neuroclear])
def test_tiles_cover_stacks_of_any_size(kind: type[LearnedBaseline]) -> None:
    network = kind(SMALL[kind], 3).eval()
    image = np.random.default_rng(0).random((21, 50, 37), dtype=np.float32)
    restored = restore_array(network, image)
    assert restored.shape == (1, 63, 50, 37)
    assert np.isfinite(restored).all()
    assert restored.min() >= 0


def test_care_undoes_a_known_axial_blur(learned: Learn, assumed: Assumed) -> None:
    truth = balls(99)
    image = acquire(truth, assumed)
    restored = restore_array(learned(CARE), image)[0]
    linear = upsample(torch.from_numpy(image)[None, None], SCALE)[0, 0].numpy()
    inside = (slice(8, -8),) * 3
    error, before = (np.abs(v - truth)[inside].mean() for v in (restored, linear))
    assert error < 0.5 * before
    wide, narrow = lateral_and_axial_detail(linear), lateral_and_axial_detail(restored)
    assert wide[1] / wide[0] < 0.2  # blurred along z
    assert narrow[1] / narrow[0] > 2 * wide[1] / wide[0]


def test_neuroclear_brings_the_axial_spectrum_closer_to_the_lateral_one(
    learned: Learn, assumed: Assumed
) -> None:
    image = acquire(balls(99), assumed)
    linear = upsample(torch.from_numpy(image)[None, None], SCALE)[0, 0].numpy()
    before = lateral_and_axial_detail(linear)
    after = lateral_and_axial_detail(restore_array(learned(Neuroclear), image)[0])
    assert abs(np.log(after[1] / after[0])) < 0.7 * abs(np.log(before[1] / before[0]))


@pytest.mark.parametrize("kind", [CARE, Neuroclear])
def test_what_is_restored_lies_where_the_truth_lies(
    kind: type[LearnedBaseline], learned: Learn, assumed: Assumed
) -> None:
    truth = balls(99)
    restored = restore_array(learned(kind), acquire(truth, assumed))[0]
    shift, _, _ = phase_cross_correlation(truth, restored, upsample_factor=20, normalization=None)
    assert np.abs(shift).max() < 0.5


def test_a_shift_is_measured_and_undone(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    network = CARE(SMALL_CARE, SCALE).eval()
    image = ndimage.zoom(balls(5), (1 / SCALE, 1, 1), order=1).clip(0, 1)
    network.shift_zyx = torch.tensor([3.0, -2.0, 1.5])
    shifted = restore_array(network, image)[0]
    network.restore_fine = lambda fine: torch.from_numpy(shifted)[None, None]  # type: ignore
    network.register([image])
    torch.testing.assert_close(network.shift_zyx, torch.tensor([-3.0, 2.0, -1.5]), atol=0.3, rtol=0)
    assert network.registered
    # Farther than any training moves a result: it shows something else, and says so.
    elsewhere = np.roll(shifted, 10, axis=0)
    # So does what is dark where the image is bright, wherever it lies.
    inverted = 1 - upsample(torch.from_numpy(image)[None, None], SCALE)[0, 0].numpy()
    for wrong in (elsewhere, inverted):
        network.restore_fine = lambda fine, wrong=wrong: torch.from_numpy(wrong)[None, None]  # type: ignore
        network.register([image])
        assert not network.registered
        assert not network.shift_zyx.any()
        assert "no registration" in capsys.readouterr().out
    assert network.correlation < -0.5


@pytest.mark.parametrize("kind", [CARE, Neuroclear])
def test_results_show_what_the_image_shows(kind: type[LearnedBaseline], learned: Learn) -> None:
    network = learned(kind)
    assert network.registered
    assert network.correlation > 0.3


def test_the_blur_that_neuroclear_learns_starts_as_none(assumed: Assumed) -> None:
    """But for the published random weights: with these alone it shows nothing of the image."""
    image = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    for seed in range(4):
        network = Neuroclear._initial(SMALL_NEUROCLEAR, assumed, seed)
        with torch.no_grad():
            blurred = network.blur(image)
        both = torch.stack([image.flatten(), blurred.flatten()])
        assert torch.corrcoef(both)[0, 1] > 0.8


def test_a_training_that_ends_the_wrong_way_round_is_done_again(
    acquired: list[tuple[Stack, IntensityRange]],
    assumed: Assumed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = SMALL_NEUROCLEAR.model_copy(update={"n_epochs": 1, "steps_per_epoch": 1})
    original, firsts = Neuroclear.restore_fine, []

    def inverted_at_first(self: Neuroclear, fine: torch.Tensor) -> torch.Tensor:
        weights = next(self.sharpen.parameters()).flatten()[0].item()
        if weights not in firsts:
            firsts.append(weights)
        return 1 - fine if len(firsts) == 1 else fine + 0 * original(self, fine)

    monkeypatch.setattr(Neuroclear, "restore_fine", inverted_at_first)
    network = Neuroclear.learn(settings, acquired, assumed, tmp_path, device=torch.device("cpu"))
    assert network.registered
    assert network.trainings == len(firsts) == 2


def test_an_interrupted_second_training_does_not_repeat_the_first(
    acquired: list[tuple[Stack, IntensityRange]],
    assumed: Assumed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Stop(Exception):
        pass

    settings = SMALL_NEUROCLEAR.model_copy(update={"n_epochs": 1, "steps_per_epoch": 1})
    judge, failed = Neuroclear.judge, tmp_path / "failed.json"

    def interrupted(self: Neuroclear, name: str, planes: torch.Tensor) -> torch.Tensor:
        if failed.exists():
            raise Stop
        return judge(self, name, planes)

    def learn() -> Neuroclear:
        return Neuroclear.learn(settings, acquired, assumed, tmp_path, device=torch.device("cpu"))

    monkeypatch.setattr(Neuroclear, "restore_fine", lambda self, fine: 1 - fine)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Neuroclear, "judge", interrupted)
        with pytest.raises(Stop):
            learn()
    monkeypatch.setattr(Neuroclear, "restore_fine", lambda self, fine: fine)
    network = learn()  # the first would be good now, but it is not done again
    assert network.trainings == 2
    assert network.registered


@pytest.mark.parametrize("kind", [CARE, Neuroclear])
def test_saved_baselines_load_and_say_what_they_are(
    kind: type[LearnedBaseline], tmp_path: Path
) -> None:
    network = kind(SMALL[kind], 3).eval()
    network.save(tmp_path, {"threshold": 0.25})
    again, record = kind.load(tmp_path, torch.device("cpu"))
    assert record["threshold"] == 0.25
    assert record["parameters"] == sum(p.numel() for p in network.parameters())
    image = np.random.default_rng(0).random((16, 32, 32), dtype=np.float32)
    np.testing.assert_array_equal(restore_array(again, image), restore_array(network, image))
    other = {CARE: Neuroclear, Neuroclear: CARE}[kind]
    with pytest.raises(TenetError, match="holds"):
        other.load(tmp_path, torch.device("cpu"))
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(TenetError, match="train again"):
        kind.load(tmp_path, torch.device("cpu"))


def test_an_interrupted_baseline_ends_with_the_same_weights(
    acquired: list[tuple[Stack, IntensityRange]], assumed: Assumed, tmp_path: Path
) -> None:
    settings = SMALL_NEUROCLEAR.model_copy(update={"n_epochs": 2, "steps_per_epoch": 2})

    class Stop(Exception):
        pass

    def learn(folder: Path) -> Neuroclear:
        return Neuroclear.learn(settings, acquired, assumed, folder, device=torch.device("cpu"))

    whole = learn(tmp_path / "whole").state_dict()
    calls = 0
    original = Neuroclear.judge

    def interrupted(self: Neuroclear, name: str, planes: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if (tmp_path / "cut/checkpoint.pt").exists():
            raise Stop
        return original(self, name, planes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Neuroclear, "judge", interrupted)
        with pytest.raises(Stop):
            learn(tmp_path / "cut")
    assert calls
    resumed = learn(tmp_path / "cut").state_dict()
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, msg=name)


@pytest.mark.parametrize("kind", [CARE, Neuroclear])
def test_stacks_that_are_too_small_are_refused(
    kind: type[LearnedBaseline], assumed: Assumed, tmp_path: Path
) -> None:
    path = tmp_path / "small.npy"
    np.save(path, np.random.default_rng(0).random((3, 3, 40), dtype=np.float32))
    data = [(open_stack(path), IntensityRange(0.0, 1.0, "none"))]
    with pytest.raises(TenetError, match="needs"):
        kind.learn(SMALL[kind], data, assumed, tmp_path / "model", device=torch.device("cpu"))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (torch.full((1,), float("nan")), "last.bias is not finite"),
        (torch.zeros(1, dtype=torch.int64), "last.bias is no tensor of floating-point numbers"),
        (3.0, "last.bias is no tensor of floating-point numbers"),
    ],
)
def test_weights_that_are_no_finite_floats_are_refused(tmp_path, value, reason):
    network = CARE(CARESettings(channels_2d=(2, 4)), 2)
    network.save(tmp_path, {})
    save_tensors(tmp_path / MODEL, network.state_dict() | {"last.bias": value})
    with pytest.raises(TenetError) as error:
        CARE.load(tmp_path, torch.device("cpu"))
    assert str(error.value) == f"{tmp_path / MODEL}: {reason}; train again"
