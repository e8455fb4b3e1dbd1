"""What a training step of the demo waits for: seconds of each part, at ×3 and ×10.

    python benchmarks/demo_step.py --repeats 5
    ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 \
        python benchmarks/demo_step.py --repeats 5    # as cores without AVX512 compute

A step simulates a crop with its margin, deconvolves the image, runs the encoder on image and
estimate, and goes back through the encoder. Prints CSV: scale, part, and the
least CPU seconds of several runs.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tenet.data.simulate import focused_psf_volume
from tenet.model.tenet import TENET
from tenet.networks.convolution import half_precision
from tenet.settings.load import load_experiment


def parts(scale: int) -> dict[str, Callable[[], Any]]:
    """The parts of a step of pre-training at a scale, on random data of the demo's sizes."""
    experiment = load_experiment(f"scale{scale}", overlays=["demo"])
    model = TENET(experiment.params)
    model.half_precision = experiment.pretrain_loop.half_precision
    section = experiment.pretrain_dataset
    z, y, x = section.cropsize
    margin = [2 * m for m in section.margin]
    microscope = model.microscope(torch.from_numpy(focused_psf_volume(experiment.params)))
    volume = torch.rand(1, 1, z + margin[0], y + margin[1], x + margin[2])
    image = torch.rand(1, 1, z // scale, y, x)
    blur = microscope.blur((z, y, x))
    estimate = model.deconvolve(image, blur)

    def encode() -> None:
        with half_precision(image.device, model.half_precision):
            encoded = model.encoder(image, estimate)
        (encoded.shape_logits.float().sum() + encoded.brightness_logits.float().sum()).backward()

    @torch.no_grad()
    def simulate() -> Tensor:
        return microscope.expose(volume)

    return {
        "simulate the image": simulate,
        f"deconvolve ({experiment.params.deconvolution_steps} steps)": lambda: model.deconvolve(
            image, blur
        ),
        "encoder, there and back": encode,
    }


def main() -> None:
    """Time each part alone, on one thread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    print("scale,part,cpu_s")
    for scale in (3, 10, 12):
        for name, work in parts(scale).items():
            work()
            seconds = []
            for _ in range(repeats):
                start = time.process_time()
                work()
                seconds.append(time.process_time() - start)
            print(f"{scale},{name},{min(seconds):.3f}", flush=True)


if __name__ == "__main__":
    main()
