"""Richardson–Lucy against its own laws and against DIPlib."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from tenet.errors import TenetError
from tenet.metrics.segmentation import iou
from tenet.metrics.shapes import measure_bead
from tenet.paper.baselines import rltv as module
from tenet.paper.baselines import rltv_tuning as tuning
from tenet.paper.baselines import total_variation as regulariser
from tenet.paper.baselines.rltv import coarse_psf, rltv, rltv_iterates, rltv_paper, rltv_tiled
from tenet.paper.baselines.rltv_tuning import PublishedSettings, RLTVSettings, read_tuning, tune
from tenet.paper.baselines.total_variation import curvature, published_curvature, total_variation
from tenet.physics.blur import StridedBlur
from tenet.physics.optics import Optics, gibson_lanni, psf_volume

ISOTROPIC = (0.1, 0.1, 0.1)
DENDRITE_VOXEL_UM = (0.125, 0.12, 0.12)
DENDRITE = Path(__file__).parents[4] / "shared" / "data" / "dendrite_two_photon.tif"


def gaussian_psf(zyx_shape, sigma_zyx):
    lines = [
        torch.exp(-((torch.arange(n) - (n - 1) / 2) ** 2) / (2 * s**2))
        for n, s in zip(zyx_shape, sigma_zyx, strict=True)
    ]
    psf = lines[0][:, None, None] * lines[1][:, None] * lines[2]
    return psf / psf.sum()


def blurred(fine, psf, scale):
    return StridedBlur(psf, tuple(fine.shape), scale)(fine[None, None])[0, 0].clamp(min=0)


def poisson(image, photons, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.poisson(image * photons, generator=generator) / photons


@pytest.fixture(autouse=True)
def one_thread():
    """Small transforms are fastest on one thread, above all beside other tests."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def scene():
    """Boxes and a bright point in the dark, blurred in 3-D without stride, with photon noise."""
    fine = torch.zeros(48, 40, 40)
    fine[16:32, 16:22, 17:21] = 1
    fine[22:28, 26:29, 14:30] = 0.7
    fine[20, 13, 27] = 5
    psf = gaussian_psf((15, 9, 9), (3, 1.4, 1.4))
    return fine, psf, poisson(blurred(fine, psf, 1), 400)


@pytest.fixture(scope="module")
def strided_scene():
    """A box seen through every fourth plane, on a bright ground, with photon noise."""
    fine = torch.full((48, 32, 32), 0.2)
    fine[18:34, 12:20, 13:18] = 1
    psf = gaussian_psf((24, 9, 9), (4, 1.4, 1.4))
    return fine, psf, poisson(blurred(fine, psf, 4), 400)


# --- against an independent implementation -------------------------------------------------------


def by_diplib(image, psf, regularization, iterations):
    dip = pytest.importorskip("diplib")
    # Without "pad" DIPlib wraps around; the scenes end in the dark, where that is no light.
    result = dip.RichardsonLucy(
        dip.Image(image.numpy()), dip.Image(psf.numpy()), regularization, iterations, set()
    )
    return torch.as_tensor(np.array(result))


@pytest.mark.parametrize("iterations", [1, 15])
def test_without_stride_and_regularisation_it_is_diplibs(scene, iterations):
    _, psf, image = scene
    ours = rltv(
        image,
        psf,
        scale=1,
        iterations=iterations,
        tv_weight=0,
        fine_voxel_size_um=ISOTROPIC,
        initial=image,  # where DIPlib starts
    )
    theirs = by_diplib(image, psf, 0.0, iterations)
    assert (ours - theirs).norm() < 1e-5 * theirs.norm()


def test_total_variation_does_what_diplibs_does(scene):
    # DIPlib divides the estimate by 1 - λ div(∇o/|∇o|) first and updates what comes out, takes
    # central differences and has no ε. The effect of the term, not its every voxel, must agree.
    _, psf, image = scene
    weight, iterations = 0.03, 15
    settings = {
        "scale": 1,
        "iterations": iterations,
        "fine_voxel_size_um": ISOTROPIC,
        "initial": image,
    }
    plain = rltv(image, psf, tv_weight=0, **settings)
    smooth = rltv(image, psf, tv_weight=weight, **settings)
    theirs = by_diplib(image, psf, weight, iterations)
    our_effect, their_effect = smooth - plain, theirs - plain
    cosine = (our_effect * their_effect).sum() / our_effect.norm() / their_effect.norm()
    assert cosine > 0.9
    assert our_effect.norm() == pytest.approx(float(their_effect.norm()), rel=0.35)
    assert total_variation(smooth) < 0.95 * total_variation(plain)
    assert total_variation(theirs) < 0.95 * total_variation(plain)


# --- its own laws --------------------------------------------------------------------------------


@pytest.mark.parametrize("band_limited", [False, True])
def test_operator_and_adjoint_agree_and_the_middle_is_seen_by_one_in_s(strided_scene, band_limited):
    _, psf, image = strided_scene
    observation = module.Observation(psf, image.shape, 4, band_limited=band_limited)
    generator = torch.Generator().manual_seed(1)
    fine = torch.rand(observation.fine_shape_zyx, generator=generator)
    coarse = torch.rand(image.shape, generator=generator)
    left = (observation.forward(fine) * coarse).sum(dtype=torch.float64)
    right = (fine * observation.adjoint(coarse)).sum(dtype=torch.float64)
    assert float(left) == pytest.approx(float(right), rel=1e-5)
    sensitivity = observation.inside(observation.adjoint(torch.ones_like(image)))
    assert sensitivity[24, 16, 16] == pytest.approx(1 / 4, rel=1e-2)


def test_light_from_outside_is_modelled(strided_scene):
    # An even field comes out even up to the border, where zero padding would brighten it.
    _, psf, _ = strided_scene
    even = torch.full((8, 24, 24), 0.5)
    result = rltv(
        even, psf, scale=4, iterations=20, tv_weight=0, fine_voxel_size_um=ISOTROPIC, initial=0.4
    )
    assert result.allclose(torch.tensor(0.5), atol=5e-3)  # 1e-3 of the sensitivity is cut off


@pytest.mark.parametrize("background", [0.0, 0.1])
def test_likelihood_rises_with_every_iteration(strided_scene, background, monkeypatch):
    _, psf, image = strided_scene
    image = image + background
    observation = module.Observation(psf, image.shape, 4, band_limited=False)
    # The likelihood is that of the whole estimate: keep its margin.
    monkeypatch.setattr(module.Observation, "inside", lambda self, fine: fine)
    iterates = rltv_iterates(
        image,
        psf,
        scale=4,
        snapshots=range(1, 13),
        tv_weight=0,
        fine_voxel_size_um=ISOTROPIC,
        background=background,
    )
    log_likelihood = []
    for _, estimate in iterates:
        model = observation.forward(estimate).double() + background
        log_likelihood.append(float((image.double() * model.log() - model).sum()))
    assert len(log_likelihood) == 12
    assert np.all(np.diff(log_likelihood) > 0)


def test_flux_is_conserved(scene):
    # Far from the border every photon is seen, so each iteration keeps the sum of the image.
    _, psf, image = scene
    for iterations, estimate in rltv_iterates(
        image, psf, scale=1, snapshots=(1, 5, 20), tv_weight=0, fine_voxel_size_um=ISOTROPIC
    ):
        assert estimate.sum() == pytest.approx(float(image.sum()), rel=1e-2), iterations
    strided = image[1::3]
    psf = gaussian_psf((15, 9, 9), (3, 1.4, 1.4))
    estimate = rltv(strided, psf, scale=3, iterations=20, tv_weight=0, fine_voxel_size_um=ISOTROPIC)
    assert estimate.sum() == pytest.approx(3 * float(strided.sum()), rel=1e-2)


def test_curvature_is_the_negative_gradient_of_total_variation():
    generator = torch.Generator().manual_seed(2)
    volume = torch.rand((6, 7, 8), generator=generator, dtype=torch.float64).requires_grad_()
    spacing, epsilon = (3.0, 1.0, 1.0), 0.05
    squares = torch.full((6, 7, 8), epsilon**2, dtype=torch.float64)
    for dim in range(3):
        slope = volume.diff(dim=dim) / spacing[dim]
        padding = [0, 0] * (2 - dim) + [0, 1]
        squares = squares + torch.nn.functional.pad(slope, padding) ** 2
    (gradient,) = torch.autograd.grad(squares.sqrt().sum(), volume)
    assert curvature(volume.detach(), spacing, epsilon).allclose(-gradient)


def test_total_variation_falls_and_noise_with_it(strided_scene):
    fine, psf, image = strided_scene
    settings = {"scale": 4, "iterations": 40, "fine_voxel_size_um": ISOTROPIC}
    results = [rltv(image, psf, tv_weight=w, **settings) for w in (0.0, 0.003, 0.01)]
    roughness = [total_variation(result) for result in results]
    assert roughness[0] > roughness[1] > roughness[2]
    assert (results[2] - fine).norm() < (results[0] - fine).norm()


@pytest.mark.parametrize("scale", [1, 3, 4, 10])
def test_a_centred_bead_comes_out_centred(scale):
    # Odd and even strides; the published variant must not be half a slice off either.
    shape = (6 * scale, 25, 25) if scale > 4 else (40 // scale * scale, 25, 25)
    middle = [(n - 1) / 2 for n in shape]
    grid = torch.meshgrid(*[torch.arange(n) for n in shape], indexing="ij")
    radius = sum((g - m) ** 2 for g, m in zip(grid, middle, strict=True)).sqrt()
    bead = (radius <= 5).float()
    psf = gaussian_psf((20 + scale % 2, 9, 9), (4, 1.4, 1.4))
    image = blurred(bead, psf, scale)
    restored = rltv(
        image, psf, scale=scale, iterations=20, tv_weight=0.003, fine_voxel_size_um=ISOTROPIC
    )
    paper = rltv_paper(image, psf, scale=scale)
    for result in (restored, paper):
        assert result.shape == bead.shape
        measured = measure_bead(result.numpy(), 0.3 * float(result.max()), ISOTROPIC)
        assert np.abs(measured.offset_zyx).max() < 0.5
        assert measured.volume_um3 > 0
    interpolated = image.repeat_interleave(scale, dim=0)
    assert (restored - bead).norm() < 0.8 * (interpolated - bead).norm()


def test_snapshots_are_the_iterates_of_shorter_runs(strided_scene):
    _, psf, image = strided_scene
    settings = {"scale": 4, "tv_weight": 0.01, "fine_voxel_size_um": (0.3, 0.1, 0.1)}
    done = []
    iterates = dict(
        rltv_iterates(
            image, psf, snapshots=(2, 5), progress=lambda *step: done.append(step), **settings
        )
    )
    assert done == [(i, 5) for i in range(1, 6)]
    for iterations in (2, 5):
        single = rltv(image, psf, iterations=iterations, **settings)
        assert torch.equal(iterates[iterations], single)
        assert single.dtype == torch.float32


def test_tiles_join_without_a_seam(strided_scene):
    _, psf, _ = strided_scene
    generator = torch.Generator().manual_seed(3)
    fine = (torch.rand((24, 60, 50), generator=generator) > 0.97).float()
    image = blurred(fine, psf, 4)
    settings = {
        "scale": 4,
        "iterations": 10,
        "tv_weight": 0.003,
        "fine_voxel_size_um": ISOTROPIC,
    }
    whole = rltv(image, psf, **settings)
    tiled = rltv_tiled(image, psf, tile_yx=(32, 25), **settings)
    assert tiled.shape == whole.shape
    assert (tiled - whole).norm() < 0.05 * whole.norm()
    one_tile = rltv_tiled(image, psf, tile_yx=(64, 64), **settings)
    assert one_tile.allclose(whole, rtol=1e-3, atol=1e-4)


def two_photon_psf(planes: int, side: int) -> torch.Tensor:
    """NA 0.8, two photons, cut off where it still shines, on voxels of 0.125 × 0.12 × 0.12 µm."""
    optics = Optics(NA=0.8, wavelength_um=0.92, photons=2)
    return torch.from_numpy(
        psf_volume(gibson_lanni(optics), (planes, side, side), DENDRITE_VOXEL_UM)
    ).float()


def saturated_noise() -> torch.Tensor:
    """A stack (6, 24, 24) of grains, most of which are cut at 1."""
    grains = torch.rand(6, 24, 24, generator=torch.Generator().manual_seed(0)) ** 4
    return (grains / 0.05).clamp(max=1)


def dendrite() -> torch.Tensor:
    """A part of a real stack, cut at 0 and at 255: (12, 80, 80) in [0, 1]."""
    if not DENDRITE.exists():
        pytest.skip(f"needs {DENDRITE}")
    raw = tifffile.imread(DENDRITE)[18:30, 60:140, 60:140].astype(np.float32)
    return torch.from_numpy(((raw - 4) / 251).clip(0, 1))


@pytest.mark.parametrize(
    ("stack", "psf_shape", "tv_weight", "iterations"),
    [(saturated_noise, (96, 15), 0.0, 60), (dendrite, (96, 31), 0.003, 30)],
)
def test_acceleration_does_not_diverge_where_the_psf_is_cut_off(
    stack, psf_shape, tv_weight, iterations
):
    image, psf = stack(), two_photon_psf(*psf_shape)
    result = rltv(
        image,
        psf,
        scale=8,
        iterations=iterations,
        tv_weight=tv_weight,
        fine_voxel_size_um=DENDRITE_VOXEL_UM,
        accelerated=True,
    )
    assert result.isfinite().all()
    # It is what all frequencies give: they have no negative weights.
    spacing = (0.125 / 0.12, 1.0, 1.0)
    *_, (_, whole) = module._run(
        image,
        psf,
        8,
        lambda o: curvature(o, spacing, module.EPSILON).mul_(-tv_weight / 8),
        0.0,
        None,
        accelerated=True,
        steps=iterations,
        band_limited=False,
    )
    torch.testing.assert_close(result, whole, rtol=1e-4, atol=1e-4)


def test_iterations_before_and_after_beginning_again_are_each_told_once():
    done = []
    iterates = rltv_iterates(
        saturated_noise(),
        two_photon_psf(96, 15),
        scale=8,
        snapshots=(2, 60),
        tv_weight=0.0,
        fine_voxel_size_um=DENDRITE_VOXEL_UM,
        accelerated=True,
        progress=lambda *step: done.append(step),
    )
    assert [iteration for iteration, _ in iterates] == [2, 60]
    assert done == [(i, 60) for i in range(1, 61)]


# A first estimate beyond what float32 can blur: its result is infinite or not a number.
BEYOND = 3e38


def test_a_result_that_is_not_finite_is_an_error(strided_scene):
    _, psf, image = strided_scene
    with pytest.raises(TenetError, match="its result is not finite: take fewer"):
        rltv(
            image,
            psf,
            scale=4,
            iterations=1,
            tv_weight=0.0,
            fine_voxel_size_um=ISOTROPIC,
            initial=BEYOND,
        )


# --- the published variant -----------------------------------------------------------------------


@pytest.mark.parametrize(("planes", "scale"), [(15, 1), (15, 3), (16, 4), (20, 12), (4, 10)])
def test_coarse_psf_keeps_light_and_centre(planes, scale):
    psf = gaussian_psf((planes, 5, 5), (planes / 6, 1, 1))
    coarse = coarse_psf(psf, scale)
    assert coarse.shape[0] % 2 == 1
    assert coarse.sum() == pytest.approx(1, rel=1e-5)
    assert coarse.allclose(coarse.flip(0), atol=1e-7)


def test_published_variant_repeats_planes_of_the_coarse_result(strided_scene):
    _, psf, image = strided_scene
    right = rltv_paper(image, psf, scale=4, published_term=False)
    coarse = rltv(
        image,
        coarse_psf(psf, 4),
        scale=1,
        iterations=10,
        tv_weight=0.1,
        fine_voxel_size_um=(1, 1, 1),
        initial=image,
    )
    for plane in range(4):
        assert torch.equal(right[plane::4], coarse)
    published = rltv_paper(image, psf, scale=4)
    assert (published - right).norm() > 0.01 * right.norm()
    with pytest.raises(TenetError, match="iterations"):
        rltv_paper(image, psf, scale=4, iterations=0)
    with pytest.raises(TenetError, match="weight"):
        rltv_paper(image, psf, scale=4, tv_weight=-0.1)


def test_curvature_slab_by_slab_is_the_same(monkeypatch):
    volume = torch.rand(37, 9, 8, generator=torch.Generator().manual_seed(0))
    spacing = (3.0, 1.0, 1.0)
    whole = regulariser._curvature_at_once(volume, spacing, 1e-3)
    monkeypatch.setattr(regulariser, "_SLAB_VOXELS", 10 * 72)
    assert torch.equal(curvature(volume, spacing, 1e-3), whole)


def test_published_curvature_is_the_right_one_a_voxel_further():
    # Along one axis alone both are differences of the sign of the slope.
    generator = torch.Generator().manual_seed(4)
    line = torch.rand(12, generator=generator)
    volume = line[:, None, None].expand(12, 3, 3).contiguous()
    right = curvature(volume, (1.0, 1.0, 1.0), 1e-6)[:, 1, 1]
    published = published_curvature(volume)[:, 1, 1]
    assert published[:-2].allclose(right[1:-1], atol=1e-3)
    assert right.abs().max() == pytest.approx(2, abs=1e-3)


@pytest.mark.parametrize(("period", "published_damps"), [(2, True), (12, False)])
def test_published_term_sharpens_coarse_waves_and_damps_only_the_finest(period, published_damps):
    # A wave is damped where the denominator is high at its crests.
    wave = torch.cos(2 * torch.pi * torch.arange(48) / period)[:, None, None].expand(48, 4, 4)
    inner = slice(12, 36)
    published = (published_curvature(wave) * wave)[inner].sum()
    right = (-curvature(wave, (1.0, 1.0, 1.0), 1e-6) * wave)[inner].sum()
    assert right > 0
    assert (published > 0) == published_damps
    assert published.abs() > 0.1 * right


# --- tuning --------------------------------------------------------------------------------------


def test_tuning_reports_what_the_chosen_settings_reach(strided_scene):
    fine, psf, image = strided_scene
    truth = fine > 0.5
    done = []
    settings, table = tune(
        [(image, truth), (image.flip(1), truth.flip(1))],
        psf,
        scale=4,
        fine_voxel_size_um=ISOTROPIC,
        tv_weights=(0.0, 0.01),
        iterations=(2, 20),
        progress=lambda *step: done.append(step),
    )
    assert done == [(i, 4) for i in range(1, 5)]
    assert len(table) == 4
    assert settings.score == table["iou"].max()
    assert settings.iterations == 20
    restored = rltv(
        image,
        psf,
        scale=4,
        iterations=settings.iterations,
        tv_weight=settings.tv_weight,
        accelerated=True,
        fine_voxel_size_um=ISOTROPIC,
    )
    reached = iou((restored >= settings.threshold).numpy(), truth.numpy())
    assert reached == pytest.approx(settings.score, abs=0.02)
    assert reached > 0.7


@pytest.mark.parametrize("spoilt", [{20}, {2, 20}])
def test_tuning_never_chooses_what_is_not_finite(strided_scene, spoilt, monkeypatch):
    fine, psf, image = strided_scene
    real = tuning.rltv_iterates

    def spoiling(*args, **kwargs):
        for iterations, estimate in real(*args, **kwargs):
            if iterations in spoilt:
                estimate[0, 0, 0] = float("nan")
            yield iterations, estimate

    monkeypatch.setattr(tuning, "rltv_iterates", spoiling)
    settings = {"scale": 4, "fine_voxel_size_um": ISOTROPIC, "tv_weights": (0.0,)}
    pairs = [(image, fine > 0.5)]
    if spoilt == {2, 20}:
        with pytest.raises(TenetError, match="no setting of RLTV gives a finite result"):
            tune(pairs, psf, iterations=(2, 20), **settings)
    else:
        chosen, table = tune(pairs, psf, iterations=(2, 20), **settings)
        assert chosen.iterations == 2
        assert table["iterations"].tolist() == [2]


GOOD = {
    "rltv": {"iterations": 20, "tv_weight": 0.01, "threshold": 0.2, "score": 0.5},
    "rltv_paper": {"threshold": 0.3, "score": 0.4},
    "table": [],
}


def test_tuning_is_read(tmp_path):
    path = tmp_path / "tuned.json"
    path.write_text(json.dumps(GOOD))
    chosen = read_tuning(path)
    assert chosen.rltv == RLTVSettings(20, 0.01, 0.2, 0.5)
    assert chosen.rltv_paper == PublishedSettings(0.3, 0.4)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no such file"),
        ("[]", "a JSON object is needed"),
        ("{", "is not JSON"),
        ("[" * 100_000, "nested"),
        (json.dumps(GOOD | {"rltv": GOOD["rltv"] | {"iterations": 10**17}}), "rltv.iterations"),
        (json.dumps(GOOD | {"rltv": GOOD["rltv"] | {"tv_weight": -1}}), "rltv.tv_weight"),
        (json.dumps(GOOD | {"rltv": GOOD["rltv"] | {"threshold": "0.5"}}), "rltv.threshold"),
        (json.dumps(GOOD | {"rltv": {"tv_weight": 0.01}}), "rltv.iterations: Field required"),
        (json.dumps(GOOD | {"rltv_paper": {"threshold": "high", "score": 1}}), "paper.threshold"),
    ],
)
def test_tuning_that_cannot_be_read_is_one_line(tmp_path, content, reason):
    path = tmp_path / "tuned.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(TenetError, match=reason) as error:
        read_tuning(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_bad_input_is_named(strided_scene):
    _, psf, image = strided_scene
    good = {"scale": 4, "iterations": 1, "tv_weight": 0.0, "fine_voxel_size_um": ISOTROPIC}
    for volume, kernel, change, message in (
        (image - 1, psf, {}, "image must be finite and not negative"),
        (image[0], psf, {}, "image must have shape"),
        (image, psf * 2, {}, "sum to 1"),
        (image, psf, {"scale": 3}, "cannot be centred"),
        (image, psf, {"scale": 0}, "scale"),
        (image, psf, {"iterations": 0}, "iterations"),
        (image, psf, {"tv_weight": -0.1}, "weight"),
        (image, psf, {"epsilon": 0.0}, "epsilon"),
        (image, psf, {"background": -1.0}, "background"),
        (image, psf, {"fine_voxel_size_um": (1, 1)}, "voxel size"),
        (image, psf, {"initial": image}, "first estimate"),
    ):
        with pytest.raises(TenetError, match=message):
            rltv(volume, kernel, **(good | change))


def test_thirty_accelerated_iterations_go_as_far_as_a_hundred_plain_ones() -> None:
    """In likelihood and against the truth, with and without total variation."""
    rng = np.random.default_rng(4)
    psf = gaussian_psf((13, 9, 9), (2.5, 1.2, 1.2))
    truth = torch.zeros(36, 30, 30)
    for z, y, x in rng.integers(6, 24, (12, 3)):
        truth[z, y, x] = 20
    blur = StridedBlur(psf, (36, 30, 30), 3)
    image = torch.poisson(50 * blur(truth[None, None])[0, 0] + 1, torch.Generator().manual_seed(0))

    def likelihood(estimate: torch.Tensor) -> float:
        model = blur(estimate[None, None])[0, 0].clamp_min(0) + 1
        return float((image * model.log() - model).sum())

    for weight in (0.0, 0.003):
        plain, fast = (
            rltv(
                image,
                psf,
                scale=3,
                iterations=iterations,
                tv_weight=weight,
                fine_voxel_size_um=ISOTROPIC,
                background=1,
                accelerated=accelerated,
            )
            for iterations, accelerated in ((100, False), (30, True))
        )
        start = likelihood(torch.full_like(plain, float(plain.mean())))
        gained = likelihood(fast) - start
        assert gained > 0.99 * (likelihood(plain) - start) > 0
        errors = [(estimate / 50 - truth).square().mean() for estimate in (fast, plain)]
        assert errors[0] < 1.05 * errors[1]
