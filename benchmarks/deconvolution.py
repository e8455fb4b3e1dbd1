"""What sixty steps with all axial frequencies of the PSF, and with those it passes, take and reach.

    python benchmarks/deconvolution.py

One thread, in turns; noisy images of points, with the optics of the demo. Then a training step of
the light encoder in float32 and in bfloat16, and which of them this CPU is given.
"""

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

import tenet.networks.convolution
from tenet.model.tenet import TENET
from tenet.physics.blur import LOST, BandLimitedBlur, StridedBlur, centred_planes
from tenet.physics.optics import psf_volume
from tenet.physics.richardson_lucy import deconvolve
from tenet.settings.load import load_experiment

CROP, ROUNDS = (120, 48, 48), 5


def fastest(actions: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Least seconds of each action, in turns."""
    seconds = {name: float("inf") for name in actions}
    for _ in range(ROUNDS):
        for name, action in actions.items():
            started = time.perf_counter()
            action()
            seconds[name] = min(seconds[name], time.perf_counter() - started)
    return seconds


def likeness(estimate: Tensor, truth: Tensor) -> float:
    """Correlation."""
    return float(torch.corrcoef(torch.stack([estimate.flatten(), truth.flatten()]))[0, 1])


def frequencies(name: str) -> None:
    """Print a line about one microscope."""
    params = load_experiment(name, overlays=["demo"]).params
    shape = (centred_planes(params.size_z, params.scale), params.size_y, params.size_x)
    psf = torch.from_numpy(psf_volume(params.model_psf(), shape, params.fine_voxel_size_um))
    blur = StridedBlur(psf, CROP, params.scale)
    generator = torch.Generator().manual_seed(0)
    points = (torch.rand(1, 1, *CROP, generator=generator) > 0.999).float()
    truth = functional.max_pool3d(points, 3, 1, 1)
    image = blur(truth) / blur(truth).max()
    noise = torch.randn(image.shape, generator=generator)
    image = (image + noise * (0.1 * image + 0.01)).clamp(0, 1)
    passed = BandLimitedBlur.of(blur)
    times = fastest(
        {
            "all": lambda: blur.adjoint(blur(truth)),
            "passed": lambda: passed.adjoint(passed(truth)),
        }
    )
    every, few = (
        likeness(deconvolve(image, blur, steps=60, background=0.01, lost=lost), truth)
        for lost in (0.0, LOST)
    )
    print(
        f"{name}: {len(passed.fine_waves) // 2} of {blur._n[0] // 2 + 1} frequencies, "
        f"{times['passed'] / times['all']:.2f} of the time of a blur and its transpose, "
        f"likeness to the truth {few:.3f} (all: {every:.3f})"
    )


def precision(name: str, batch: int) -> None:
    """Print a line about a training step of the encoder."""
    params = load_experiment(name, overlays=["demo"]).params
    model = TENET(params).train()
    model.half_precision = True
    image = torch.rand(batch, 1, CROP[0] // params.scale, *CROP[1:])
    estimate = torch.rand(batch, 1, *CROP)
    rule = tenet.networks.convolution.faster_in_float32

    def step(faster: Callable[[torch.device], bool]) -> None:
        tenet.networks.convolution.faster_in_float32 = faster
        enhanced = model(image, estimate=estimate, reconstruct=False)
        loss = enhanced["shape_logits"].float().square().mean()
        (loss + enhanced["brightness_logits"].float().mean()).backward()

    kinds = {"bfloat16": lambda device: False, "float32": lambda device: True}
    times = fastest({kind: partial(step, faster) for kind, faster in kinds.items()})
    tenet.networks.convolution.faster_in_float32 = rule
    chosen = "float32" if rule(torch.device("cpu")) else "bfloat16"
    print(
        f"{name}, batch of {batch}: {times['float32']:.3f} s in float32, "
        f"{times['float32'] / times['bfloat16']:.2f} of that in bfloat16; {chosen} is chosen"
    )


def main() -> None:
    """Print both."""
    torch.set_num_threads(1)
    with torch.inference_mode():
        for name in ("scale3", "scale10", "scale12"):
            frequencies(name)
    for name in ("scale3", "scale10"):
        for batch in (2, 1):
            precision(name, batch)


if __name__ == "__main__":
    main()
