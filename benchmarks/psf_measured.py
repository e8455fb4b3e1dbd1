"""The PSF family fitted to a measured PSF: widths and residual, before and after.

    python benchmarks/psf_measured.py MEASURED.tif OUT.png

The measured PSF is one-photon, wide-field, NA 0.85, in air, of 520 nm, on voxels of 0.3, 0.13 and
0.13 µm (z, y, x). Nominal is the even pupil of that NA; its place, brightness and background are
fitted, as always. The family adds fill, spherical aberration, a free NA, and a blur across by the
bead and the camera. Widths are those of the voxels through the maximum, of measured and fitted
images alike. The residual is root mean square over the voxels within 2.6 µm of the axis along y and
x, as a share of the maximum. `round` is the residual of the best PSF that is round about the axis,
whatever its form: what is below that, such as coma, no radial PSF can explain.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.optimize import least_squares

from tenet.metrics.widths import fwhm
from tenet.physics.optics import Optics, focused

VOXEL_SIZE_UM = (0.3, 0.13, 0.13)
NOMINAL = Optics(NA=0.85, wavelength_um=0.52, ni=1.0, ni0=1.0)
HALF_PX = 20
#: What may be fitted: start, least and most.
KNOBS = {
    "NA": (0.8, 0.5, 0.95),
    "fill": (1.2, 0.4, 20.0),
    "spherical_waves": (0.1, -0.6, 0.6),
    "blur_um": (0.06, 0.0, 0.3),
}
FAMILY = tuple(KNOBS)
PLACE = ((0.0, -1.5, 1.5), (0.0, -0.3, 0.3), (0.0, -0.3, 0.3))  # z, y and x in µm
ROUND_CENTRE_PX = (-0.39, -0.36)  # y and x, where that residual is least
SUB = (np.arange(3) - 1) / 3  # a pixel collects light over its area

Volume = NDArray[np.float64]


class Fit(NamedTuple):
    """A fitted microscope, its image of a point, and how far that is from the measured one.

    `image` and `measured` have shape (planes, rows, columns), with maximum about 1 and without
    background; `residual` is root mean square.
    """

    optics: Optics
    blur_um: float
    image: Volume
    measured: Volume
    residual: float


def read(path: Path) -> Volume:
    """The voxels around the brightest, with maximum 1."""
    stack = tifffile.imread(path).astype(float)
    _, y, x = np.unravel_index(int(stack.argmax()), stack.shape)
    crop = stack[:, y - HALF_PX : y + HALF_PX + 1, x - HALF_PX : x + HALF_PX + 1]
    return crop / crop.max()


def image_of(
    optics: Optics, blur_um: float, zyx_shape: Sequence[int], centre_um: Sequence[float]
) -> Volume:
    """A point at `centre_um` from the middle of a grid, as pixels see it; not yet scaled."""
    z, y, x = (
        (np.arange(n) - n // 2) * step - at
        for n, step, at in zip(zyx_shape, VOXEL_SIZE_UM, centre_um, strict=True)
    )
    r_um = np.arange(0, 1.6 * HALF_PX * VOXEL_SIZE_UM[1], 0.01)
    table = focused(optics)(z, r_um)
    rows = (y[:, None] + SUB * VOXEL_SIZE_UM[1]).ravel()
    columns = (x[:, None] + SUB * VOXEL_SIZE_UM[2]).ravel()
    radius_um = np.hypot(rows[:, None], columns)
    planes = np.stack([np.interp(radius_um, r_um, row) for row in table])
    pixels = planes.reshape(len(z), len(y), 3, len(x), 3).mean((2, 4))
    return gaussian_filter(pixels, blur_um / np.array([np.inf, *VOXEL_SIZE_UM[1:]]))


def fitted(measured: Volume, free: Sequence[str]) -> Fit:
    """Fit the place and the knobs `free`; brightness and background follow by least squares."""
    # Numbers are moved by 1, so that the relative steps of the derivatives fit those near 0 too.
    start, least, most = 1 + np.array([*PLACE, *(KNOBS[name] for name in free)]).T

    def modelled(numbers: NDArray[np.float64]) -> tuple[Optics, float, Volume, float]:
        place, knobs = numbers[:3] - 1, dict(zip(free, (numbers[3:] - 1).tolist(), strict=True))
        blur_um = knobs.pop("blur_um", 0.0)
        optics = Optics(**{**NOMINAL._asdict(), **knobs})
        image = image_of(optics, blur_um, measured.shape, place.tolist())
        columns = np.stack([image.ravel(), np.ones(image.size)], 1)
        brightness, background = np.linalg.lstsq(columns, measured.ravel(), rcond=None)[0]
        return optics, blur_um, brightness * image, float(background)

    def residuals(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        _, _, image, background = modelled(numbers)
        return (image + background - measured).ravel()

    found = least_squares(residuals, start, bounds=(least, most), diff_step=1e-3)
    optics, blur_um, image, background = modelled(found.x)
    return Fit(optics, blur_um, image, measured - background, _rms(found.fun))


def round_residual(measured: Volume, centre_px: Sequence[float]) -> float:
    """Residual of the best form in each plane that depends on the radius alone."""
    y, x = (np.arange(n) - n // 2 - at for n, at in zip(measured.shape[1:], centre_px, strict=True))
    radius = np.hypot(y[:, None], x).ravel()
    knots = np.concatenate([np.arange(0, 8, 0.5), np.arange(8, 1.5 * HALF_PX)])
    hats = np.stack([np.interp(radius, knots, hat) for hat in np.eye(len(knots))], 1)
    planes = measured.reshape(len(measured), -1).T
    return _rms(hats @ np.linalg.lstsq(hats, planes, rcond=None)[0] - planes)


def _rms(difference: Volume) -> float:
    return float(np.sqrt(np.mean(difference**2)))


def widths_um(image: Volume) -> tuple[float, float]:
    """Full widths at half maximum along z and across (the mean of y and x) through the maximum."""
    z, y, x = np.unravel_index(int(image.argmax()), image.shape)
    across = [fwhm(image[z, :, x], VOXEL_SIZE_UM[1]), fwhm(image[z, y], VOXEL_SIZE_UM[2])]
    return float(fwhm(image[:, y, x], VOXEL_SIZE_UM[0])), float(np.mean(across))


def draw(path: Path, before: Fit, after: Fit) -> None:
    """Sections, residuals and profiles of two fits."""
    figure, axes = plt.subplots(2, 3, figsize=(11, 6), layout="constrained")
    step_z, _, step_x = VOXEL_SIZE_UM
    shape = after.image.shape
    z_um = (np.arange(shape[0]) - shape[0] // 2) * step_z
    x_um = (np.arange(shape[2]) - shape[2] // 2) * step_x
    extent = (x_um[0], x_um[-1], z_um[-1], z_um[0])
    for row, (name, fit) in enumerate((("nominal", before), ("fitted", after))):
        axes[row, 0].semilogy(z_um, fit.measured[:, HALF_PX, HALF_PX].clip(1e-4), "ko", ms=3)
        axes[row, 0].semilogy(z_um, fit.image[:, HALF_PX, HALF_PX].clip(1e-4))
        axes[row, 0].set(title=f"{name}: along z", xlabel="z (µm)", ylim=(1e-3, 1.5))
        axes[row, 1].semilogy(x_um, fit.measured[shape[0] // 2, HALF_PX].clip(1e-4), "ko", ms=3)
        axes[row, 1].semilogy(x_um, fit.image[shape[0] // 2, HALF_PX].clip(1e-4))
        axes[row, 1].set(title=f"{name}: across", xlabel="x (µm)", ylim=(1e-3, 1.5))
        difference = (fit.measured - fit.image)[:, HALF_PX]
        shown = axes[row, 2].imshow(
            difference, cmap="RdBu", vmin=-0.15, vmax=0.15, extent=extent, aspect="auto"
        )
        axes[row, 2].set(title=f"measured - {name}, xz; rms {fit.residual:.4f}", xlabel="x (µm)")
        figure.colorbar(shown, ax=axes[row, 2])
    figure.savefig(path, dpi=100)


def main(path: Path, out: Path) -> None:
    """Print what each fit gives, and draw the first and the last."""
    measured = read(path)
    fits = {
        "nominal": fitted(measured, []),
        "fill, spherical": fitted(measured, ["fill", "spherical_waves"]),
        "NA, fill, spherical": fitted(measured, ["NA", "fill", "spherical_waves"]),
        "all and blur": fitted(measured, FAMILY),
    }
    z_um, xy_um = widths_um(fits["nominal"].measured)
    print(f"measured: FWHM {z_um:.2f} along z, {xy_um:.2f} µm across")
    for name, fit in fits.items():
        (z_um, xy_um), optics = widths_um(fit.image), fit.optics
        print(
            f"{name}: FWHM {z_um:.2f} along z, {xy_um:.2f} µm across; residual {fit.residual:.4f}; "
            f"NA {optics.NA:.3f}, fill {optics.fill:.2f}, spherical {optics.spherical_waves:+.3f}, "
            f"blur {fit.blur_um:.2f} µm"
        )
    print(f"round: residual {round_residual(measured, ROUND_CENTRE_PX):.4f}")
    draw(out, fits["nominal"], fits["all and blur"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
