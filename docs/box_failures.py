"""Draw where the model of every microscope fails; all stacks are simulated.

    python docs/box_failures.py [FOLDER]

FOLDER, by default docs/images, gets box_failures.png. Prints the IoU of each stack, and what
`tenet enhance` says of it.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray

from tenet.enhance.enhance import enhance_array
from tenet.io.array import stack_in_memory
from tenet.io.intensities import normalise, warnings_of
from tenet.io.optics import Optics
from tenet.learn.serve import serve
from tenet.metrics.segmentation import iou
from tenet.model.shipped import shipped_model
from tenet.model.trained import TrainedModel
from tenet.settings.load import load_experiment
from tenet.settings.own_stack import sample_experiment
from tenet.types import VoxelSize

TRUTH, RESULT = "#0072b2", "#e69f00"  # Okabe and Ito


@dataclass(frozen=True)
class Case:
    """A structure, and the microscope that sees it."""

    name: str
    light: NDArray[np.float32]
    optics: Optics
    voxel_size_um: VoxelSize


def lines(shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Lines of seven voxels across the axis, as on the quality bench."""
    light = np.zeros(shape, np.float32)
    z, y, _ = np.indices(shape, sparse=True)
    for depth, row in ((40, 30), (60, 66), (84, 40), (100, 78)):
        light[np.broadcast_to((z - depth) ** 2 + (y - row) ** 2 <= 3.5**2, shape)] = 0.9
    return light


def cells(shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Balls that touch, as packed nuclei."""
    light = np.zeros(shape, np.float32)
    z, y, x = np.indices(shape, sparse=True)
    rng = np.random.default_rng(0)
    for depth in range(14, shape[0], 26):
        for row in range(14, shape[1], 26):
            for column in range(14, shape[2], 26):
                centre = np.array([depth, row, column]) + rng.integers(-3, 4, 3)
                far = sum((a - c) ** 2 for a, c in zip((z, y, x), centre, strict=True))
                light[far <= 13**2] = rng.uniform(0.5, 1)
    return light


CASES = (
    Case("thick lines, PSF of 13 µm", lines((144, 96, 96)), Optics(0.3, 0.5, 1.33, 1),
         (1.0, 1 / 3, 1 / 3)),
    Case("packed balls", cells((96, 96, 96)), Optics(0.8, 0.92, 1.33, 2), (0.8, 0.2, 0.2)),
)  # fmt: skip


def main() -> None:
    """Draw each case from the side."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images")
    model = TrainedModel.load(shipped_model())
    figure, axes = plt.subplots(len(CASES), 2, figsize=(6.4, 5.4), layout="constrained")
    for row, case in zip(axes, CASES, strict=True):
        optics = case.optics
        told = sample_experiment(
            load_experiment("box"), case.voxel_size_um, where=case.name, na=optics.na,
            wavelength_um=optics.wavelength_um, immersion_index=None, photons=optics.photons,
        ).params  # fmt: skip
        microscope = model.network.for_microscope(told).microscope()
        with torch.no_grad():
            light = torch.from_numpy(case.light)[None, None]
            seen = microscope.record(microscope.expose(light), torch.Generator().manual_seed(0))
        stack = stack_in_memory(seen[0, 0].numpy())
        served, range_, found = serve(model, stack, case.voxel_size_um, optics)
        image = normalise(stack.read(), range_)
        shape = enhance_array(served.network, image)[0] >= served.threshold
        truth = case.light > 0
        measured = iou(shape, truth)
        said = [*found["likeness"]["warnings"], *warnings_of(range_, float(shape.mean()))]
        print(f"{case.name}: IoU {measured:.2f}, {found['likeness']}, {said or 'no warning'}")
        # All axes are drawn to one scale.
        z_um, y_um = (n * um for n, um in zip(image.shape[:2], case.voxel_size_um[:2], strict=True))
        extent = (0, y_um, z_um, 0)
        column = image.shape[2] // 2
        white = float(np.percentile(image[:, :, column], 99.9))
        row[0].imshow(image[:, :, column], "gray", vmin=0, vmax=white, extent=extent)
        row[0].set_title(f"{case.name}, raw (simulated)", fontsize=8)
        row[1].imshow(image[:, :, column], "gray", vmin=0, vmax=2 * white, extent=extent)
        for volume, colour, style in ((truth, TRUTH, "-"), (shape, RESULT, "--")):
            section = volume[:, :, column].astype(float)
            fine_um = case.voxel_size_um[0] / served.params.scale, y_um / section.shape[1]
            at = [(np.arange(n) + 0.5) * um for n, um in zip(section.shape, fine_um, strict=True)]
            row[1].contour(at[1], at[0], section, [0.5], colors=colour, linestyles=style)
        row[1].set_title(f"truth (blue), result (orange, dashed): IoU {measured:.2f}", fontsize=8)
        for panel in row:
            panel.set(xlabel="y (µm)", ylabel="z (µm)")
    figure.savefig(folder / "box_failures.png", dpi=150)


if __name__ == "__main__":
    main()
