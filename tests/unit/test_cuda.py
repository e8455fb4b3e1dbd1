"""What a GPU computes is what the CPU computes, in training, inference and between them."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tenet.data.phantoms.store import open_phantoms
from tenet.enhance.enhance import enhance_array
from tenet.io.open import open_stack
from tenet.learn.finetune import RawData, finetune
from tenet.learn.losses import mrf_loss
from tenet.learn.pretrain import pretrain
from tenet.model.store import HISTORY, load_model
from tenet.model.tenet import TENET
from tenet.networks import recording
from tenet.networks.blocks import record_encoders
from tenet.paper.baselines.care import CARE, CARESettings
from tenet.paper.baselines.neuroclear import Neuroclear, NeuroclearSettings, neuroclear_terms
from tenet.paper.baselines.rltv import rltv
from tenet.physics.blur import StridedBlur
from tenet.physics.motion import fit_displacement, shift_planes
from tenet.physics.richardson_lucy import deconvolve
from tenet.settings.schema import Experiment, parse_experiment

CPU, GPU = torch.device("cpu"), torch.device("cuda")
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
MODEL: dict[str, Any] = {
    "NA": 0.7,
    "wavelength": 0.9,
    "res_lateral": 0.1,
    "res_axial": 0.4,
    "scale": 4,
    "blur_mode": "gaussian",
    "bet_z": 1.5,
    "bet_xy": 2.0,
    "size_z": 24,
    "size_y": 9,
    "size_x": 9,
    "psf_sampling": "continuous",
    "hidden_channels_list": [8, 16],
    "nblocks": 1,
    "dropout": 0.0,
    "deconvolution_steps": 12,
    "nipsf_loss_target": 1e-4,
    "poisson_weight": 0.05,
    "sig_eps": 0.02,
}
CROP = {"cropsize": [24, 16, 16], "I": 6}
LOOP = {"n_epochs": 3, "batch_size": 2, "lr": 0.01, "ema_decay": 0.9}


@pytest.fixture(autouse=True)
def exact_float32() -> Iterator[None]:
    """Convolutions in float32 itself, not in TensorFloat-32 as by default."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def experiment(precision: str = "float32", **params: Any) -> Experiment:
    loop = {**LOOP, "precision": precision}
    return parse_experiment(
        {
            "name": "tiny",
            "params": MODEL | params,
            "pretrain_dataset": {**CROP, "low": 0, "high": 2},
            "pretrain_val_dataset": {**CROP, "I": 2, "low": 2, "high": 3},
            "pretrain_loop": {**loop, "is_vibrate": True},
            "microscopes": {"count": 2, "na_spread": 0.2, "least_light": 0.5},
            "train_dataset": CROP,
            "val_dataset": {**CROP, "I": 2},
            "train_loop": {**loop, "ewc_batches": 2, "scan_stretch": True, "rehearsal_weight": 1.0},
            "align_params": None,
        }
    )


def model(**params: Any) -> TENET:
    made = TENET(experiment(**params).params)
    made.initialise(np.random.default_rng(0))
    return made


def relative_error(found: Tensor, wanted: Tensor) -> float:
    return float((found.cpu() - wanted).norm() / wanted.norm())


def volume(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


# Physics and losses


def test_forward_model_its_transpose_and_its_gradients() -> None:
    psf, fine, coarse = volume(24, 9, 9), volume(2, 1, 48, 40, 36), volume(2, 1, 12, 40, 36, seed=1)
    psf = psf / psf.sum()
    results = []
    for device in (CPU, GPU):
        kernel, moved = (t.to(device).requires_grad_() for t in (psf, fine))
        blur = StridedBlur(kernel, (48, 40, 36), 4)
        image = blur(moved)
        gradients = torch.autograd.grad((image * coarse.to(device)).sum(), [kernel, moved])
        results.append([image.detach(), blur.adjoint(coarse.to(device)).detach(), *gradients])
    for wanted, found in zip(*results, strict=True):
        assert found.is_cuda
        assert relative_error(found, wanted) < 1e-5
    # The gradient of <A x, y> with respect to x is the transpose of A applied to y.
    assert relative_error(results[1][3], results[1][1].cpu()) < 1e-5


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[recording._Recorder]:
    """Recordings of a test's own."""
    own = recording._Recorder({}, {})
    monkeypatch.setattr(recording, "_recorder", own)
    yield own
    recording.stop()


def test_deconvolution(recorder: recording._Recorder) -> None:
    """Recorded and replayed, with another image and another PSF of the same shape, and as it is."""
    psf, image = volume(2, 24, 9, 9).square(), volume(2, 2, 1, 12, 40, 36)
    psf = psf / psf.sum((1, 2, 3), keepdim=True)

    def estimate(number: int, device: torch.device) -> Tensor:
        blur = StridedBlur(psf[number].to(device), (48, 40, 36), 4)
        return deconvolve(image[number].to(device), blur, steps=20, background=0.02)

    wanted = [estimate(number, CPU) for number in (0, 1)]
    replayed = [estimate(number, GPU) for number in (0, 1, 0)]
    assert torch.equal(replayed[0], replayed[2])
    assert len(recorder.recordings) == 1
    with recording.as_it_is():
        as_it_is = [estimate(number, GPU) for number in (0, 1)]
    for number in (0, 1):
        assert relative_error(as_it_is[number], wanted[number]) < 1e-4
        assert relative_error(replayed[number], wanted[number]) < 1e-4


def doubled(numbers: Tensor, *, plus: float) -> Tensor:
    return 2 * numbers + plus


def test_so_many_are_recorded_and_the_rest_is_computed(
    recorder: recording._Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "MOST", 2)
    for round_ in range(2):
        for length in (1, 2, 3):
            numbers = torch.full((length,), float(round_), device=GPU)
            found = recording.replayed(doubled, numbers, plus=length)
            torch.testing.assert_close(found, 2 * numbers + length)
    assert len(recorder.recordings) == 2


def test_what_is_recorded_in_inference_mode_serves_outside_of_it(
    recorder: recording._Recorder,
) -> None:
    with torch.inference_mode():
        recording.replayed(doubled, torch.zeros(3, device=GPU), plus=1)
    found = recording.replayed(doubled, torch.ones(3, device=GPU), plus=1)
    assert found.tolist() == [3, 3, 3]
    assert len(recorder.recordings) == 1


def test_what_cannot_be_recorded_is_computed(
    recorder: recording._Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here as it waits for the device; afterwards nothing is recorded, and a line says so."""

    def waiting(numbers: Tensor) -> Tensor:
        return numbers * float(numbers.sum())

    numbers = torch.tensor([1.0, 2.0], device=GPU)
    assert recording.replayed(waiting, numbers).tolist() == [3, 6]
    assert recording.replayed(doubled, numbers, plus=0).tolist() == [2, 4]
    assert recorder.stopped
    assert not recorder.recordings
    assert capsys.readouterr().err.startswith("nothing is recorded on cuda")


def test_richardson_lucy_with_total_variation() -> None:
    psf, image = volume(24, 9, 9).square(), volume(12, 40, 36)
    options: dict[str, Any] = {"scale": 4, "iterations": 15, "tv_weight": 0.01}
    options["fine_voxel_size_um"] = (0.1, 0.1, 0.1)
    found, wanted = (
        rltv(image, psf / psf.sum(), accelerated=True, device=device, **options)
        for device in (GPU, CPU)
    )
    assert found.is_cuda
    assert relative_error(found, wanted) < 1e-3


def test_markov_random_field_and_its_gradient() -> None:
    shape = volume(1, 1, 12, 20, 20)
    results = []
    for device in (CPU, GPU):
        moved = shape.to(device).requires_grad_()
        loss = mrf_loss(moved, -0.5, 0.5, 1.0, -1.0)
        results.append((loss.detach(), *torch.autograd.grad(loss, moved)))
    for wanted, found in zip(*results, strict=True):
        assert relative_error(found, wanted) < 1e-5


def test_displacement_of_planes_is_found() -> None:
    still = torch.nn.functional.avg_pool2d(volume(8, 80, 80), 5, 1, 2)
    displacement = torch.from_numpy(np.random.default_rng(0).uniform(-2, 2, (8, 2))).float()
    moved = shift_planes(still[None, None].to(GPU), displacement.to(GPU))[0, 0]
    found = fit_displacement(moved, still.to(GPU)).cpu()
    wanted = fit_displacement(moved.cpu(), still)
    torch.testing.assert_close(found, wanted, atol=1e-2, rtol=0)


# The network


@pytest.mark.parametrize("network", ["jnet", "coarse"])
def test_encoder_and_its_gradients(network: str) -> None:
    """To the accuracy of float32; batch norms divide small numbers, so gradients to less."""
    image, on_cpu = volume(2, 1, 8, 24, 24), model(network=network).train()
    weights = {}
    outputs = {}
    for device in (CPU, GPU):
        moved = on_cpu.to(device)
        moved.zero_grad()
        enhanced = moved.enhance(image.to(device))
        outputs[device] = (
            enhanced["shape_probability"].detach().cpu(),
            enhanced["brightness"].detach().cpu(),
        )
        (enhanced["shape_probability"].mean() + enhanced["brightness"].square().mean()).backward()
        weights[device] = torch.cat(
            [p.grad.flatten().cpu() for p in moved.encoder.parameters() if p.grad is not None]
        )
    for wanted, found in zip(outputs[CPU], outputs[GPU], strict=True):
        assert relative_error(found, wanted) < 1e-3
    assert relative_error(weights[GPU], weights[CPU]) < 1e-2


@pytest.mark.parametrize("network", ["jnet", "coarse"])
@pytest.mark.parametrize("half", [False, True])
def test_recorded_encoder_learns_as_it_does_otherwise(network: str, half: bool) -> None:
    """Weights and statistics of norms, with one and with two calls before a backward pass."""
    images, made = volume(3, 1, 1, 8, 24, 24).to(GPU), model(network=network).to(GPU).train()
    made.half_precision = half
    states = []
    for recorded in (False, True):
        tried = copy.deepcopy(made)
        record_encoders(tried, recorded)
        optimiser = torch.optim.SGD(tried.encoder.parameters(), lr=0.1)
        for step in range(4):
            optimiser.zero_grad(set_to_none=True)
            seen = [tried.enhance(image) for image in images[: 1 + step // 2]]
            losses = [one["shape_probability"].mean() + one["brightness"].mean() for one in seen]
            torch.stack(losses).square().sum().backward()
            optimiser.step()
            with torch.no_grad():
                tried.eval().enhance(images[2])
            tried.train()
        states.append(tried.encoder.state_dict())
    passes = tried.encoder.fast
    assert isinstance(passes, recording.Passes)
    assert [len(known) for known in passes.passes.values()] == [2]
    torch.testing.assert_close(states[1], states[0], atol=1e-3, rtol=1e-3)
    changed = states[0]["stem.weight"] - made.encoder.state_dict()["stem.weight"]
    assert changed.norm() > 10 * (states[1]["stem.weight"] - states[0]["stem.weight"]).norm()


def test_dropout_differs_from_replay_to_replay() -> None:
    network = model(network="coarse", dropout=0.5).to(GPU).train()
    record_encoders(network, True)
    image = volume(1, 1, 8, 24, 24).to(GPU)
    results = []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        enhanced = network.enhance(image)
        results.append(enhanced["shape_probability"].detach().clone())
        enhanced["shape_probability"].mean().backward()
        network.zero_grad(set_to_none=True)
    assert torch.equal(results[0], results[2])
    assert not torch.equal(results[0], results[1])


@pytest.mark.parametrize("network", ["jnet", "coarse"])
def test_half_precision_is_near_full_precision(network: str) -> None:
    image, network_on_gpu = volume(1, 1, 8, 32, 32).to(GPU), model(network=network).to(GPU).eval()
    shapes = []
    for half in (False, True):
        network_on_gpu.half_precision = half
        with torch.no_grad():
            shapes.append(network_on_gpu.enhance(image)["shape_probability"].cpu())
    assert shapes[1].dtype == torch.float32
    assert float((shapes[1] - shapes[0]).abs().max()) < 0.03


# Training


@pytest.fixture(scope="module")
def pretrained(
    phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[torch.device, Path]:
    """The same training on both, in float32."""
    folders = {}
    for device in (CPU, GPU):
        folders[device] = tmp_path_factory.mktemp(device.type)
        torch.backends.cudnn.allow_tf32 = False
        pretrain(experiment(network="coarse"), phantom_folder, folders[device], device=device)
    return folders


def losses(folder: Path) -> list[float]:
    head, *rows = (folder / HISTORY).read_text().splitlines()
    return [float(row.split(",")[head.split(",").index("validation")]) for row in rows]


def test_pretraining_draws_the_same_and_learns_the_same(
    pretrained: dict[torch.device, Path],
) -> None:
    cpu, gpu = (losses(pretrained[device]) for device in (CPU, GPU))
    assert gpu[-1] < gpu[0]
    np.testing.assert_allclose(gpu[0], cpu[0], rtol=0.02)
    np.testing.assert_allclose(gpu[-1], cpu[-1], rtol=0.1)


def test_interrupted_training_goes_on(
    pretrained: dict[torch.device, Path], phantom_folder: Path, tmp_path: Path
) -> None:
    """Stopped after an epoch, and gone on with from the checkpoint, optimiser on the GPU."""
    from tenet.learn import loop

    settings = experiment(network="coarse")
    finish, epochs = loop._Run.finish_epoch, []

    def stop_after_the_first(run: Any, *args: Any, **kwargs: Any) -> None:
        finish(run, *args, **kwargs)
        epochs.append(run.epoch)
        if len(epochs) == 1:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Run, "finish_epoch", stop_after_the_first)
        with pytest.raises(KeyboardInterrupt):
            pretrain(settings, phantom_folder, tmp_path, device=GPU)
        pretrain(settings, phantom_folder, tmp_path, device=GPU)
    assert epochs == [1, 2, 3]
    np.testing.assert_allclose(losses(tmp_path), losses(pretrained[GPU]), rtol=0.02)


def test_fine_tuning_in_half_precision(
    pretrained: dict[torch.device, Path], phantom_folder: Path, tmp_path: Path
) -> None:
    """The PSF is scanned, all is trained, and a CPU reads the weights."""
    stacks = []
    for index, phantom in enumerate(open_phantoms(phantom_folder)[:2]):
        _, brightness = phantom.read(slice(0, 24), slice(0, 40), slice(0, 40))
        counts = 100 + 3000 * brightness.reshape(6, 4, 40, 40).mean(1)
        np.save(tmp_path / f"{index}.npy", counts.astype(np.uint16))
        stacks.append(open_stack(tmp_path / f"{index}.npy"))
    data = RawData.prepare(stacks, stacks[:1], "percentile")
    settings = experiment("bfloat16", network="coarse")
    common: dict[str, Any] = {"data": data, "phantoms": phantom_folder, "device": GPU}
    finetune(settings, pretrained[GPU], tmp_path / "model", mode="all", **common)
    before, after = (load_model(f)[0].state_dict() for f in (pretrained[GPU], tmp_path / "model"))
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved >= {"encoder", "psf", "noise"}
    assert all(np.isfinite(losses(tmp_path / "model")))


@pytest.mark.parametrize("make", [CARE, Neuroclear])
def test_steps_of_baselines(make: Any) -> None:
    settings = {CARE: CARESettings(), Neuroclear: NeuroclearSettings()}[make]
    torch.manual_seed(0)
    network = make(settings, 10).to(GPU).train()
    if make is CARE:
        loss = network(torch.rand(4, 1, 64, 64, device=GPU)).mean()
    else:
        crop = torch.rand(1, 1, 36, 36, 36, device=GPU)
        terms = neuroclear_terms(network, crop, np.random.default_rng(0))
        loss = torch.stack(list(terms.values())).sum()
    loss.backward()
    missing = [name for name, p in network.named_parameters() if p.grad is None]
    assert not missing
    assert torch.isfinite(loss)


# Inference


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(3).random((8, 160, 96), dtype=np.float32)


def test_tiles_of_a_stack(pretrained: dict[torch.device, Path], image: np.ndarray) -> None:
    options: dict[str, Any] = {"tile_zyx_shape": (8, 80, 96), "overlap_zyx": (2, 24, 24)}
    network, _ = load_model(pretrained[CPU])
    wanted = enhance_array(network, image, **options)
    found = enhance_array(network, image, device="cuda", **options)  # "cuda": all there are
    for one, other in zip(found, wanted, strict=True):
        assert np.abs(one - other).max() < 1e-3


def test_a_gpu_with_little_memory_does_it_in_halves(
    pretrained: dict[torch.device, Path], image: np.ndarray
) -> None:
    network, _ = load_model(pretrained[CPU])
    large = np.tile(image, (1, 6, 6))
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    wanted = enhance_array(network, large, tile_zyx_shape=large.shape, device="cuda")
    taken = torch.cuda.max_memory_allocated() - before
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info()[1]
    limit = torch.cuda.memory_reserved() + 0.5 * taken
    sizes: list[int] = []
    forward = network.encoder.forward

    def noting(*inputs: Any) -> Any:
        sizes.append(inputs[0].numel())
        return forward(*inputs)

    network.encoder.forward = noting  # type: ignore[method-assign]
    torch.cuda.set_per_process_memory_fraction(limit / total)
    try:
        found = enhance_array(network, large, tile_zyx_shape=large.shape, device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert len(sizes) > 2
    for one, other in zip(found, wanted, strict=True):
        assert np.abs(one - other).max() < 0.02
