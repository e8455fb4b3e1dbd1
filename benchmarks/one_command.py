"""Time and memory of `tenet enhance STACK`, beside a deconvolution of the same stack.

    python benchmarks/one_command.py STACK.tif Z_UM Y_UM X_UM [--threads 1]

The command is a process of its own: import, search of the PSF, calibration, enhancing, sheet. The
deconvolution is RLTV of 60 iterations on the same fine grid, with one PSF, not accelerated, without
reading and writing. Optics are NA 0.8, 0.92 µm, water, two photons.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from tenet.cli.device import choose_device
from tenet.io.intensities import normalise
from tenet.io.open import open_stack
from tenet.model.intensity import stack_range
from tenet.paper.baselines.rltv import rltv
from tenet.physics.blur import centred_planes
from tenet.physics.optics import psf_volume
from tenet.settings.load import load_experiment
from tenet.settings.own_stack import sample_experiment

ITERATIONS, TV_WEIGHT = 60, 0.003


def main() -> None:
    """Both, one after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stack", type=Path)
    parser.add_argument("voxel_um", type=float, nargs=3)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    optics = ["--na", "0.8", "--wavelength", "0.92", "--immersion", "1.33", "--photons", "2"]
    size = ["--voxel-size", *map(str, asked.voxel_um)]
    with tempfile.TemporaryDirectory() as out:
        words = ["enhance", str(asked.stack), *optics, *size, "--out", out]
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "tenet", *words, "--threads", str(asked.threads)], check=True
        )
        enhanced = time.perf_counter() - start
    gigabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    choose_device("cpu", asked.threads)
    stack = open_stack(asked.stack)
    z_um, y_um, x_um = asked.voxel_um
    params = sample_experiment(
        load_experiment("sample"), (z_um, y_um, x_um), where=str(asked.stack), na=0.8,
        wavelength_um=0.92, immersion_index=1.33, photons=2,
    ).params  # fmt: skip
    planes = centred_planes(params.size_z + 1, params.scale)
    shape = (planes, params.size_y, params.size_x)
    psf = torch.from_numpy(psf_volume(params.model_psf(), shape, params.fine_voxel_size_um))
    image = torch.from_numpy(normalise(stack.read(), stack_range(stack, "percentile")))
    start = time.perf_counter()
    rltv(
        image, psf, scale=params.scale, iterations=ITERATIONS, tv_weight=TV_WEIGHT,
        fine_voxel_size_um=params.fine_voxel_size_um,
    )  # fmt: skip
    deconvolved = time.perf_counter() - start
    print(
        f"tenet enhance: {enhanced:.0f} s, {gigabytes:.1f} GB; RLTV, {ITERATIONS} iterations: "
        f"{deconvolved:.0f} s; ratio {enhanced / deconvolved:.2f}, {asked.threads} threads"
    )


if __name__ == "__main__":
    main()
