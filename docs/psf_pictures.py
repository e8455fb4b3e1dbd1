"""Draw the pictures of "Is my PSF right?" and print its table; all stacks are simulated.

    python docs/psf_pictures.py [FOLDER]

FOLDER, by default docs/images, gets psf_lines.png, psf_profiles.png and psf_dendrites.png.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from tenet.data.phantoms.neurites import draw_dendrite
from tenet.data.phantoms.tubes import piece_voxels
from tenet.metrics.widths import fwhm
from tenet.paper.real.beams import BLUR_REACH_UM, Beam
from tenet.paper.real.camera import acquire
from tenet.settings.schema import ModelParams

TOLD = ModelParams(
    NA=0.8,
    wavelength=0.92,
    ni=1.33,
    ni0=1.33,
    photons=2,
    res_axial=1.0,
    res_lateral=0.12,
    scale=8,
    psf_sampling="continuous",
)
BEAMS = {
    "even pupil": Beam(None),
    "fill 0.7": Beam(0.7),
    "fill 0.4": Beam(0.4),
    "fill 0.7, aberrated": Beam(0.7, 0.25),
}
COLOURS = ("#0072b2", "#e69f00", "#d55e00", "#009e73")  # Okabe and Ito
HALF_WIDTHS = (1.5, 2.0, 3.0, 4.0)
#: Light beside the shaft of a real dendrite (docs/measurements/dendrite.md), at `HALF_WIDTHS`.
REAL = (0.24, 0.14, 0.065, 0.030)
SHAPE = (160, 120, 240)
#: How much brighter than the detector can show the saturated stack is.
TOO_BRIGHT = 4
#: Of a dendrite that lies across the axis.
SEED = 57


def line_seen(psf: NDArray[np.float32]) -> NDArray[np.float32]:
    """A line along y, as (Z, X)."""
    return psf.sum(1)


def depths_um(profile: NDArray[np.floating], step_um: float) -> NDArray[np.floating]:
    """Depths, with 0 between the two places where there is half of the most light."""
    above = np.flatnonzero(profile >= profile.max() / 2)
    return (np.arange(len(profile)) - (above[0] + above[-1]) / 2) * step_um


def light_at(profile: NDArray[np.floating], step_um: float) -> tuple[float, list[float], float]:
    """FWHM in µm of a line, its light at `HALF_WIDTHS`, and its share beyond two of them."""
    width_um, z_um = float(fwhm(profile, step_um)), depths_um(profile, step_um)
    light = profile / profile.max()
    at = [np.interp([-n * width_um / 2, n * width_um / 2], z_um, light) for n in HALF_WIDTHS]
    beyond = light[np.abs(z_um) > width_um].sum() / light.sum()
    return width_um, [float(sides.mean()) for sides in at], float(beyond)


def main() -> None:
    """Draw and print."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images")
    step_um, _, pixel_um = TOLD.fine_voxel_size_um
    psfs = {name: beam.psf(TOLD, BLUR_REACH_UM) for name, beam in BEAMS.items()}
    lines = {name: line_seen(psf.numpy()) for name, psf in psfs.items()}
    centre = {name: line[:, line.shape[1] // 2] for name, line in lines.items()}

    print("| beam | FWHM along z | light at 1.5, 2, 3, 4 half widths | beyond two |")
    print("|---|---|---|---|")
    for name, profile in centre.items():
        width, at, beyond = light_at(profile, step_um)
        cells = ", ".join(f"{value:.3f}" for value in at)
        print(f"| {name} | {width:.2f} µm | {cells} | {beyond:.0%} |")

    figures = {
        "psf_lines": of_lines(lines, step_um, pixel_um),
        "psf_profiles": of_profiles(centre, step_um),
        "psf_dendrites": of_dendrites(psfs),
    }
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=150)


Views = Mapping[str, NDArray[np.floating]]


def side_by_side(
    views: Views, size_um: tuple[float, float], title: str, rows: int = 1, **shown: Any
) -> Figure:
    """Views (Z, X) of some size in µm (z, x), beside one another."""
    figure, axes = plt.subplots(
        rows,
        len(views) // rows,
        figsize=(7.2, 1.1 + 1.5 * rows),
        constrained_layout=True,
        squeeze=False,
    )
    z_um, x_um = size_um
    for axis, (name, view) in zip(axes.flat, views.items(), strict=True):
        image = axis.imshow(view, extent=(0, x_um, z_um, 0), **shown)
        axis.set_title(name, fontsize=7)
    for axis in axes[-1]:
        axis.set_xlabel("x (µm)")
    for axis in axes[:, 0]:
        axis.set_ylabel("z (µm)")
    figure.suptitle(title, fontsize=9)
    if "norm" in shown:
        figure.colorbar(image, ax=axes, label="light", shrink=0.8)
    return figure


def of_lines(lines: Views, step_um: float, pixel_um: float) -> Figure:
    """The light of a line, on a logarithmic scale."""
    shown = {}
    for name, line in lines.items():
        (z, x), reach_z, reach_x = (
            np.array(line.shape) // 2,
            round(8 / step_um),
            round(2 / pixel_um),
        )
        middle = line[z - reach_z : z + reach_z + 1, x - reach_x : x + reach_x + 1]
        shown[name] = np.maximum(middle / middle.max(), 1e-3)
    title = "Simulated: a line across the axis, seen from the side"
    return side_by_side(shown, (16, 4), title, cmap="magma", norm=LogNorm(1e-3, 1), aspect="auto")


def of_profiles(profiles: Views, step_um: float) -> Figure:
    """The light of a line along z, and that of a real shaft."""
    figure, axis = plt.subplots(figsize=(4.6, 3.2), constrained_layout=True)
    for (name, profile), colour in zip(profiles.items(), COLOURS, strict=True):
        width_um, z_um = float(fwhm(profile, step_um)), depths_um(profile, step_um)
        light = profile / profile.max()
        axis.semilogy(z_um / (width_um / 2), light, color=colour, label=name)
    both = np.concatenate([-np.array(HALF_WIDTHS), HALF_WIDTHS])
    axis.plot(both, REAL * 2, "ko", ms=4, label="shaft of a real dendrite")
    axis.set(xlim=(-6, 6), ylim=(2e-3, 1.2))
    axis.set(xlabel="z (half widths at half maximum)", ylabel="light")
    axis.legend(fontsize=7, frameon=False, loc="lower center")
    return figure


def of_dendrites(psfs: Mapping[str, Tensor]) -> Figure:
    """Stacks of a drawn dendrite, and one that is saturated."""
    size_um = np.multiply(SHAPE, TOLD.fine_voxel_size_um)
    piece = draw_dendrite(size_um, np.random.default_rng(SEED))
    voxels, share = piece_voxels(piece, TOLD.fine_voxel_size_um, SHAPE)
    light = np.zeros(int(np.prod(SHAPE)), np.float32)
    np.maximum.at(light, voxels, share)
    truth = light.reshape(SHAPE)
    shown: dict[str, NDArray[np.floating]] = {"truth": truth.max(1) * 255}
    for name, psf in psfs.items():
        levels = acquire(truth, psf, TOLD.scale, np.random.default_rng(1)).astype(float)
        shown[name] = levels.max(1).repeat(TOLD.scale, 0)
        if name == "fill 0.7":
            bright = np.minimum(TOO_BRIGHT * levels, 255).max(1).repeat(TOLD.scale, 0)
    shown["fill 0.7, saturated"] = bright
    title = "Simulated: a drawn dendrite, seen from the side"
    return side_by_side(shown, (size_um[0], size_um[2]), title, 2, cmap="gray", vmin=0, vmax=255)


if __name__ == "__main__":
    main()
