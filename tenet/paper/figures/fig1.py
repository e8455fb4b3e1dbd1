"""Figure 1: the method, drawn from a real example."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Polygon
from numpy.typing import NDArray

from tenet.enhance.enhance import enhance_array, psf_before_and_after
from tenet.enhance.views import levels
from tenet.errors import TenetError
from tenet.io.intensities import normalise
from tenet.io.open import open_stack
from tenet.model.trained import TrainedModel
from tenet.paper.figures.notes import simulation_note, wrapped
from tenet.paper.figures.page import Page, View, in_style
from tenet.paper.figures.style import SMALL, WIDTH
from tenet.paper.figures.tables import existing

EXPERIMENT = "fig2_phantoms"
_SIDE = 96  # pixels of the example, at most
#: Colour of what has no brightness: the network says nothing of brightness outside of the shape.
_OUTSIDE = "#33415c"


@in_style
def figure1(results: Path) -> Figure:
    """Draw the way of a stack: network, shape and brightness, PSF, reconstruction, loss.

    The example is the first stack of figure 2.
    """
    views, psf = _example(results)
    note = wrapped(simulation_note(results, EXPERIMENT))
    side, high = 0.95, 0.95 * views["input"].aspect
    top = 0.55
    page = Page(top + 2 * high + 1.25, note)
    middle = top + high / 2
    below = top + high + 0.42
    places = {
        "input": (0.2, below if "estimate" in views else middle),
        "estimate": (0.2, top),
        "shape": (2.75, top),
        "brightness": (2.75, below),
        "sharp": (4.05, middle),
        "reconstruction": (6.05, middle),
    }
    titles = {
        "input": "Raw stack",
        "estimate": "Deconvolved",
        "shape": "Shape",
        "brightness": "Brightness of the shape",
        "sharp": "Shape × brightness",
        "reconstruction": "Reconstruction",
    }
    for name, (left, above) in places.items():
        if name not in views:
            continue
        axes = page.axes(left, above, side, high)
        views[name].draw(axes, bar=name == "input")
        for drawn in axes.images:
            drawn.set_cmap(drawn.get_cmap().with_extremes(bad=_OUTSIDE))
        axes.set_title(titles[name], pad=2.5, fontsize=SMALL)
    _psf(page, psf, 5.2, middle + high / 2)

    sheet = page.axes(0, 0, WIDTH, page.height)
    sheet.set(xlim=(0, WIDTH), ylim=(page.height, 0), zorder=-1)
    sheet.axis("off")
    centre = middle + high / 2
    _network(sheet, 1.35, 2.45, centre, 0.55)
    if "estimate" in views:
        _arrow(sheet, (1.18, top + high / 2), (1.36, centre - 0.12))
        _arrow(sheet, (1.18, below + high / 2), (1.36, centre + 0.12))
        _arrow(sheet, (0.2 + side / 2, below - 0.2), (0.2 + side / 2, top + high + 0.02))
    else:
        _arrow(sheet, (1.18, centre), (1.36, centre))
    _arrow(sheet, (2.44, centre - 0.12), (2.72, top + high / 2))
    _arrow(sheet, (2.44, centre + 0.12), (2.72, below + high / 2))
    _arrow(sheet, (3.73, top + high / 2), (4.02, centre - 0.1))
    _arrow(sheet, (3.73, below + high / 2), (4.02, centre + 0.1))
    _arrow(sheet, (5.03, centre), (5.2, centre))
    _arrow(sheet, (5.82, centre), (6.02, centre))
    low = top + 2 * high + 0.62
    compared = ("input", "reconstruction")
    for x, above in ((places[name][0] + side / 2, places[name][1]) for name in compared):
        sheet.plot([x, x], [above + high + 0.04, low], color="#D55E00", linewidth=1.0)
    ends = [places[name][0] + side / 2 for name in compared]
    sheet.plot(ends, [low, low], color="#D55E00", linewidth=1.0)
    words = "compared, weighted by the noise: fine-tuning needs no ground truth of the stack"
    sheet.text(sum(ends) / 2, low + 0.05, words, ha="center", va="top", color="#D55E00")
    sheet.text(1.9, centre + 0.72, "3-D U-Net", ha="center", va="top", fontsize=SMALL)
    sheet.text(5.5, centre + 0.85, "blur by the PSF,\nevery s-th plane", ha="center", va="top")
    page.text(
        0.2, 0.1, "Sections along y and z (z downwards); everything but the raw stack is TENET's"
    )
    return page.figure


def _example(results: Path) -> tuple[dict[str, View], NDArray[np.float32]]:
    """Sections (zy) of the raw stack, of the model's results, and of the PSF."""
    folder = existing(results / f"models/{EXPERIMENT}/all/model.pt").parent
    trained = TrainedModel.load(folder)
    model = trained.network
    path = existing(results / f"acquisitions/{EXPERIMENT}/noise/00.ome.tif")
    stack = open_stack(path)
    if stack.voxel_size_um is None:
        raise TenetError(f"{path}: it records no voxel size; simulate again")
    rows, columns = (slice(0, min(n, _SIDE)) for n in stack.zyx_shape[1:])
    planes = slice(0, min(stack.zyx_shape[0], _SIDE))
    image = normalise(stack.read(planes, rows, columns), trained.intensity_range(stack))
    shape, brightness = enhance_array(model, image)
    sharp = shape * brightness
    with torch.no_grad():
        blurred = model.blur(shape.shape)(torch.from_numpy(sharp)[None, None])[0, 0].numpy()
        whole = torch.from_numpy(image)[None, None]
        estimate = model.deconvolve(whole) if model.params.deconvolution_steps else None
    x = int(shape.sum(axis=(0, 1)).argmax())
    z, y, _ = stack.voxel_size_um
    fine = (z / model.params.scale, y)
    sections = {
        "input": (image, (z, y)),
        "shape": (shape, fine),
        "brightness": (np.where(shape >= model.params.threshold, brightness, np.nan), fine),
        "sharp": (sharp, fine),
        "reconstruction": (blurred, (z, y)),
    }
    if estimate is not None:
        sections["estimate"] = (estimate[0, 0].numpy(), fine)
    views = {
        name: View(
            "", volume[:, :, x], pixel, levels(volume[:, :, x][np.isfinite(volume[:, :, x])])
        )
        for name, (volume, pixel) in sections.items()
    }
    _, psf, _ = psf_before_and_after(model)
    return views, psf[:, :, psf.shape[2] // 2]


def _psf(page: Page, psf: NDArray[np.float32], left: float, centre: float) -> None:
    height = 1.3
    width = min(0.6, height * psf.shape[1] / psf.shape[0] * 2)
    axes = page.axes(left + (0.6 - width) / 2, centre - height / 2, width, height)
    axes.imshow((psf / psf.max()) ** 0.5, cmap="gray", aspect="auto")
    axes.set(xticks=[], yticks=[])
    axes.set_title("PSF (learned)", pad=2.5, fontsize=SMALL)


def _network(axes: Axes, left: float, right: float, centre: float, half: float) -> None:
    """An hourglass on its side, for the sizes of the features of a U-Net."""
    waist, middle = 0.35 * half, (left + right) / 2
    outline = [
        (left, centre - half),
        (middle, centre - waist),
        (right, centre - half),
        (right, centre + half),
        (middle, centre + waist),
        (left, centre + half),
    ]
    axes.add_patch(Polygon(outline, facecolor="#56B4E9", alpha=0.35, edgecolor="#0072B2"))


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=7, color="0.2", linewidth=0.9)
    )
