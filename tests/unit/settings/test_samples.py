"""Settings for a stack of one's own: the scale, the crops and what is too small."""

import pytest

from tenet.errors import TenetError
from tenet.settings.load import load_experiment
from tenet.settings.own_stack import LEAST_PLANES, fitted_to, sample_experiment, uneven_voxels
from tenet.settings.schema import Experiment


@pytest.fixture(scope="module")
def base() -> Experiment:
    # A Gaussian PSF, whose width is known at once.
    return load_experiment("sample", settings={"params": {"blur_mode": "gaussian"}})


@pytest.mark.parametrize(
    ("ratio", "scale"),
    [(1, 1), (1.4, 1), (1.5, 2), (2.5, 3), (3.5, 4), (4.5, 5), (3.4, 3), (10.5, 11), (32.4, 32)],
)
@pytest.mark.parametrize("pixel_um", [0.1, 0.31, 0.12])
def test_the_scale_is_rounded_half_up(
    base: Experiment, ratio: float, scale: int, pixel_um: float
) -> None:
    size_um = (ratio * pixel_um, pixel_um, pixel_um)
    params = sample_experiment(base, size_um, where="a.tif").params
    assert params.scale == scale
    said = uneven_voxels(params)
    assert (said is None) == (abs(ratio / scale - 1) < 0.02)
    if ratio == 2.5 and pixel_um == 0.31:
        assert "2.5 pixels apart" in str(said)
        assert "0.258 × 0.31 × 0.31 µm" in str(said)


@pytest.mark.parametrize("scale", range(1, 33))
@pytest.mark.parametrize("planes", [16, 32, 300])
def test_crops_fit_the_stack_at_every_scale(base: Experiment, scale: int, planes: int) -> None:
    found = sample_experiment(
        base, (0.3 * scale, 0.3, 0.3), where="a.tif", zyx_shape=(planes, 100, 300)
    )
    free = sample_experiment(base, (0.3 * scale, 0.3, 0.3), where="a.tif")
    for name in ("train_dataset", "val_dataset"):
        crop, wanted = getattr(found, name).cropsize, getattr(free, name).cropsize
        divisor = found.params.divisor_zyx
        room = (planes * scale, 100, 300)
        assert crop == tuple(
            min(n, size // d * d) for n, size, d in zip(wanted, room, divisor, strict=True)
        )
        assert min(crop) > 0
    assert found.pretrain_dataset == free.pretrain_dataset


def test_a_stack_of_32_planes_is_learned_from(base: Experiment) -> None:
    found = sample_experiment(base, (1, 0.31, 0.31), where="a.tif", zyx_shape=(32, 512, 512))
    assert found.train_dataset.cropsize == found.val_dataset.cropsize == (96, 112, 112)


@pytest.mark.parametrize("zyx_shape", [(4, 512, 512), (7, 512, 512), (32, 15, 512), (32, 512, 9)])
def test_a_stack_too_small_is_told_what_is_needed(
    base: Experiment, zyx_shape: tuple[int, int, int]
) -> None:
    with pytest.raises(TenetError, match="at least 8 planes of 16 × 16 pixels") as error:
        sample_experiment(base, (1, 0.31, 0.31), where="a.tif", zyx_shape=zyx_shape)
    assert str(error.value).startswith("a.tif: ")
    with pytest.raises(TenetError, match=f"at least {LEAST_PLANES} planes"):
        sample_experiment(base, (2.4, 0.3, 0.3), where="a.tif", zyx_shape=(7, 64, 64))


def test_fixed_crops_shrink_to_the_smallest_stack_and_never_grow() -> None:
    beads = load_experiment("fig3_beads")
    assert fitted_to(beads, [(31, 512, 512)] * 2) == beads
    assert beads.train_dataset.cropsize == (240, 112, 112)
    found = fitted_to(beads, [(31, 512, 100), (18, 512, 512)])
    assert found.train_dataset.cropsize == found.val_dataset.cropsize == (180, 112, 96)
    assert found.pretrain_dataset == beads.pretrain_dataset
    with pytest.raises(TenetError, match=r"^the smallest stack: 5 planes .* at least 8 planes"):
        fitted_to(beads, [(5, 512, 512)])


@pytest.mark.parametrize(
    ("size_um", "optics", "said"),
    [
        ((1000, 310, 310), {}, "is it nm"),
        ((0.001, 0.00031, 0.00031), {}, "is it mm"),
        ((20, 0.1, 0.1), {}, "at most 32"),
        ((1, 0.3, 0.4), {}, "not square"),
        ((1, 0.31, 0.31), {"na": 2.0}, "no objective can do that"),
        ((1, 0.31, 0.31), {"wavelength_um": -1.0}, "wavelength"),
    ],
)
def test_what_no_microscope_records_is_refused(
    base: Experiment, size_um: tuple[float, float, float], optics: dict[str, float], said: str
) -> None:
    with pytest.raises(TenetError, match=said) as error:
        sample_experiment(base, size_um, where="a.tif", **optics)  # type: ignore[arg-type]
    assert str(error.value).startswith("a.tif: ")
    assert "\n" not in str(error.value)


def test_two_photons_come_from_a_beam_that_underfills_the_pupil() -> None:
    """A laser is told with a fill of 0.7, and a lamp or a camera has an even pupil."""
    base = load_experiment("sample")

    def fill(base: Experiment, photons: int | None) -> float | None:
        return sample_experiment(base, (1, 0.25, 0.25), where="a", photons=photons).params.fill

    assert [fill(base, photons) for photons in (None, 2, 1)] == [0.7, 0.7, None]
    confocal = load_experiment("sample", settings={"params": {"photons": 1, "fill": 1.2}})
    assert fill(confocal, 1) == 1.2


def test_the_fill_of_own_stacks_is_theirs_alone() -> None:
    for name in ("fig3_beads", "fig4_neurons", "fig5_microglia"):
        experiment = load_experiment(name, overlays=["demo"])
        assert experiment.params.fill is None
        assert experiment.pretrain_loop.frozen_norm == 0
        assert experiment.microscopes.most_saturated == experiment.microscopes.most_smear == 0
