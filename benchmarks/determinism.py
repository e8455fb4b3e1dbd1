"""How far equal work with equal seeds is apart: again, with other threads, on other processors.

    python benchmarks/determinism.py [--quick]

Draws phantoms, pre-trains a small model of every microscope on them, and enhances a simulated stack
with the model of the package, whose PSF is found on the way; each time in a process of its own:
twice with one thread, with two threads, and with one thread where the libraries may not use AVX512,
as on a processor without it. Prints the largest differences from the first process. Training is in
float32; a result is made in float32, and as `tenet enhance` makes it: in bfloat16 where the
processor multiplies it. `--quick` trains for less and takes the PSF as told: for the tests.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tenet.data.phantoms.kinds import TrainingPhantomSettings
from tenet.data.phantoms.sets import generate_set
from tenet.data.phantoms.store import open_phantoms
from tenet.enhance.enhance import enhance_array
from tenet.io.array import stack_in_memory
from tenet.io.intensities import intensity_range, normalise
from tenet.io.optics import Optics
from tenet.learn.serve import serve
from tenet.model.shipped import shipped_model
from tenet.model.trained import TrainedModel
from tenet.physics.optics import psf_fwhm_um
from tenet.settings.load import load_experiment
from tenet.settings.own_stack import sample_experiment
from tenet.settings.schema import parse_experiment
from tenet.tasks.pretrain import pretrain

VOXEL_UM, OPTICS = (0.6, 0.12, 0.12), Optics(0.8, 0.92, 1.33, 2)
#: Environments of the processes after the first, which has one thread.
ONE: dict[str, str] = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
TWO = dict.fromkeys(ONE, "2")
WITHOUT_AVX512 = ONE | {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}
RUNS: dict[str, Mapping[str, str]] = {
    "again": ONE, "two threads": TWO, "without AVX512": WITHOUT_AVX512,
}  # fmt: skip
PHANTOMS, WEIGHTS, PSF = "phantom", "weight of a pre-training", "width of the PSF (µm)"
WEIGHTS_RMS = "weight of a pre-training (root mean square)"
SHAPE, OTHERWISE = "probability in a result", "voxels segmented otherwise (share)"
IN_FLOAT32 = "probability in a result, networks in float32"


def settings(quick: bool) -> dict[str, Any]:
    """Settings of a small model of every microscope."""
    params = {
        "network": "cells", "NA": 0.8, "wavelength": 0.92, "photons": 2, "fill": 0.7,
        "res_lateral": 0.12, "res_axial": 0.36, "scale": 3, "psf_light": 0.95,
        "size_z": 31, "size_y": 9, "size_x": 9, "hidden_channels_list": [4, 8], "nblocks": 1,
        "dropout": 0.0, "psf_sampling": "continuous", "deconvolution_steps": 4, "early_steps": 2,
        "noise": "consistent", "poisson_weight": 0.05, "sig_eps": 0.02, "choose_threshold": True,
    }  # fmt: skip
    crops, epochs = (4, 1) if quick else (40, 5)
    return {
        "name": "small",
        "params": params,
        "microscopes": {
            "count": 4,
            "free": {"scales": [1, 2, 3, 4, 6], "pixels": [1.5, 3], "planes": [0.8, 10]},
        },
        "pretrain_dataset": {"cropsize": [12, 16, 16], "I": crops, "low": 0, "high": 2},
        "pretrain_val_dataset": {"cropsize": [12, 16, 16], "I": 2, "low": 2, "high": 3},
        "pretrain_loop": {
            "n_epochs": epochs,
            "lr": 0.01,
            "batch_size": 1,
            "warmup_epochs": 0,
            "precision": "float32",
        },
    }


def work(folder: Path, *, quick: bool) -> None:
    """Do the work, and keep what became of it in `folder`."""
    phantoms = TrainingPhantomSettings(
        zyx_shape=(24, 40, 40), n_objects=(8, 8), line_length=(15, 30), line_thickness=(4, 4),
        solid_radius=(3, 5), elastic_sigma=1, elastic_spacing=10,
    )  # fmt: skip
    generate_set(phantoms, folder / "phantoms", count=3, seed=5)
    model = folder / "model"
    pretrain(parse_experiment(settings(quick)), folder / "phantoms", model)
    trained = TrainedModel.load(model).network
    learned = torch.cat([weight.flatten() for weight in trained.encoder.parameters()])
    # A line that rises through the planes, and a dim one across, seen with the noise of counts.
    light = np.full((10, 48, 48), 20.0)
    for step in range(10):
        light[step, 20:24, 4 * step : 4 * step + 12] += 400
    light[4:6, 34:37] += 120
    stack = stack_in_memory(np.random.default_rng(1).poisson(light).astype(np.uint16))
    box = TrainedModel.load(shipped_model())
    if quick:
        told = sample_experiment(
            load_experiment("box"), VOXEL_UM, where="line", na=OPTICS.na,
            wavelength_um=OPTICS.wavelength_um, immersion_index=None, photons=OPTICS.photons,
        ).params  # fmt: skip
        network, threshold, range_ = box.network.for_microscope(told), 0.45, intensity_range(stack)
    else:
        served = serve(box, stack, VOXEL_UM, OPTICS)
        network, threshold, range_ = served.model.network, served.model.threshold, served.range_
    image = normalise(stack.read(), range_)
    shape, _ = enhance_array(network, image)
    network.half_precision = False
    in_float32, _ = enhance_array(network, image)
    with torch.no_grad():
        psf_um = psf_fwhm_um(network.psf().numpy(), network.params.fine_voxel_size_um)
    volumes = [phantom.read(*(slice(None),) * 3) for phantom in open_phantoms(folder / "phantoms")]
    np.savez(
        folder / "made.npz",
        weights=learned.detach().numpy(),
        phantoms=np.stack([brightness for _, brightness in volumes]),
        shape=shape,
        in_float32=in_float32,
        threshold=threshold,
        psf_um=list(psf_um.values()),
    )


def run(folder: Path, environment: Mapping[str, str], *, quick: bool) -> dict[str, np.ndarray]:
    """Do the work in a process of its own, and return what became of it."""
    folder.mkdir(parents=True)
    command = [sys.executable, __file__, "--work", str(folder), *(["--quick"] if quick else [])]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    with np.load(folder / "made.npz") as made:
        return dict(made)


def differences(made: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, float]:
    """Largest differences of what two processes made."""

    def most(name: str) -> float:
        equal = made[name] == first[name]
        return float(np.abs(np.where(equal, 0, made[name] - first[name])).max())

    segmented = [each["shape"] >= each["threshold"] for each in (made, first)]
    return {
        PHANTOMS: most("phantoms"),
        WEIGHTS: most("weights"),
        WEIGHTS_RMS: float(np.sqrt(np.square(made["weights"] - first["weights"]).mean())),
        PSF: most("psf_um"),
        IN_FLOAT32: most("in_float32"),
        SHAPE: most("shape"),
        OTHERWISE: float(np.mean(segmented[0] != segmented[1])),
    }


def measure(folder: Path, *, quick: bool) -> dict[str, dict[str, float]]:
    """Do the work in each environment, and compare."""
    first = run(folder / "first", ONE, quick=quick)
    return {
        name: differences(run(folder / name.replace(" ", "_"), environment, quick=quick), first)
        for name, environment in RUNS.items()
    }


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        work(asked.work, quick=asked.quick)
        return
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), quick=asked.quick)
    print(f"processor: {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}")
    print(f"| largest difference of a | {' | '.join(found)} |\n|---|{'---|' * len(found)}")
    for what in next(iter(found.values())):
        print(f"| {what} | {' | '.join(f'{run[what]:.2g}' for run in found.values())} |")


if __name__ == "__main__":
    main()
