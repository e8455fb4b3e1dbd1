"""What a job of the paper takes of memory, per fine voxel of its largest stack.

    python benchmarks/memory.py STEP Z,Y,X

STEP is cells, segmentation, simulate, rltv, rltv_paper, angle or register. The volume is made up: a
voxel of twenty is bright, or, for cells, there are balls with processes. Prints the largest memory
of the process before the step and at its end; from two sizes follow the bytes of a voxel.
"""

import math
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from tenet.data.phantoms.kinds import AnglePhantomSettings
from tenet.data.phantoms.sets import generate_set
from tenet.data.phantoms.store import save_phantom
from tenet.data.simulate import focused_psf_volume, simulate_acquisitions
from tenet.io.atomic import save_json
from tenet.io.levels import write_levels
from tenet.paper.baselines.rltv import rltv_paper, rltv_tiled
from tenet.paper.evaluate.segmentation import evaluate_segmentation
from tenet.paper.morphology import distances_um, label_cells, measure_cells
from tenet.paper.registration import register_planes
from tenet.settings.load import load_experiment
from tenet.types import Triple

EXPERIMENTS = Path(__file__).parents[1] / "config/experiments"
SIZE_UM = (0.33, 0.31, 0.31)


def peak_mib() -> int:
    """Largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def prepare(shape: tuple[int, ...], folder: Path) -> None:
    """Write a phantom and a prediction of it."""
    rng = np.random.default_rng(0)
    bright = (rng.random(shape, dtype=np.float32) > 0.95).astype(np.uint8)
    save_phantom(folder / "phantoms/00.zarr.zip", bright, bright.astype(np.float32))
    score = rng.random(shape, dtype=np.float32)
    write_levels(folder / "results/tenet/noise/00.ome.tif", score, SIZE_UM, "shape", 16383)
    save_json(folder / "results/tenet/settings.json", {"threshold": 0.5})


def cells(shape: tuple[int, ...]) -> Callable[[], object]:
    """Balls with a radius of 6 µm and a process of 80 µm, 6 in 10⁶ voxels, and a tumour."""
    rng = np.random.default_rng(0)
    mask, tumour = np.zeros(shape, bool), np.zeros(shape, bool)
    tumour[:, :, : shape[2] // 8] = True
    ball = sum(n**2 for n in np.ogrid[-8:9, -8:9, -8:9]) <= 36
    for _ in range(int(6e-6 * math.prod(shape))):
        centre = [int(rng.integers(8, n - 9)) for n in shape]
        mask[tuple(slice(c - 8, c + 9) for c in centre)] |= ball
        process = [slice(c - 1, c + 1) for c in centre]
        axis = int(rng.integers(3))
        process[axis] = slice(max(centre[axis] - 40, 0), centre[axis] + 40)
        mask[tuple(process)] = True

    def step() -> None:
        table = measure_cells(label_cells(mask, (1, 1, 1)), (1, 1, 1))
        distances_um(table[["z_um", "y_um", "x_um"]].to_numpy(float), tumour, (1, 1, 1))

    return step


def main() -> None:
    """Run one step and print its memory."""
    torch.set_num_threads(1)
    name = sys.argv[1]
    z, y, x = (int(n) for n in sys.argv[2].split(","))
    shape = (z, y, x)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if name in ("segmentation", "simulate"):  # in a process of its own, whose peak is not ours
            words = [sys.executable, __file__, "prepare", sys.argv[2], temporary]
            subprocess.run(words, check=True)
        run = chosen(name, shape, folder)
        before = peak_mib()
        run()
        print(f"{name} {shape}: {math.prod(shape):.3g} voxels, {before} -> {peak_mib()} MiB")


def chosen(name: str, shape: Triple, folder: Path) -> Callable[[], object]:
    """The step of a name, with all that it needs."""
    settings = load_experiment("fig2_phantoms", folder=EXPERIMENTS)
    params = settings.params
    rng = np.random.default_rng(0)
    if name == "cells":
        return cells(shape)
    if name == "segmentation":
        return lambda: evaluate_segmentation("x", folder / "results", folder / "phantoms")
    if name == "simulate":
        return lambda: simulate_acquisitions(settings, folder / "phantoms", folder / "stacks")
    if name == "angle":
        lines = AnglePhantomSettings(zyx_shape=shape, n_lines=20, angle_deg=45.0)
        return lambda: generate_set(lines, folder / "lines", count=1, seed=0)
    coarse = (shape[0] // params.scale, *shape[1:])
    image = rng.random(coarse, dtype=np.float32)
    if name == "register":
        return lambda: register_planes(image, "translation")
    psf, stack = torch.from_numpy(focused_psf_volume(params)), torch.from_numpy(image)
    if name == "rltv_paper":
        return lambda: rltv_paper(stack, psf, scale=params.scale, iterations=2)
    return lambda: rltv_tiled(
        stack,
        psf,
        scale=params.scale,
        iterations=2,
        tv_weight=0.003,
        fine_voxel_size_um=params.fine_voxel_size_um,
        accelerated=True,
    )


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(tuple(int(n) for n in sys.argv[2].split(",")), Path(sys.argv[3]))
    else:
        main()
