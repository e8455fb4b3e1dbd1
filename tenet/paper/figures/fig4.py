"""Figure 4: neurons, their projections and how wide thin structures are."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tenet.data.folds import every_stack
from tenet.data.phantoms.store import SUFFIX as PHANTOM
from tenet.data.phantoms.store import open_phantom
from tenet.enhance.views import levels
from tenet.errors import TenetError
from tenet.io.open import open_stack
from tenet.io.stack import Stack
from tenet.paper.evaluate.structures import RAW, TRUTH, thin_places
from tenet.paper.evaluate.tables import PREDICTION
from tenet.paper.figures.notes import best_method, budget_note, simulation_note, wrapped
from tenet.paper.figures.page import Page, View, column_width, frame, in_style, scale_bar
from tenet.paper.figures.strips import from_zero, strip_plot, table_row, two_lines
from tenet.paper.figures.style import METHODS, SMALL, STRIP
from tenet.paper.figures.tables import read_csv, shown_methods

EXPERIMENT = "fig4_neurons"
QUANTITIES = {
    "fwhm_z_um": "Axial width (µm)",
    "fwhm_lateral_um": "Lateral width (µm)",
    "axial_ratio": "Axial / lateral width",
}
_ZOOM = 0.3  # side of a zoom, as a share of the image's


@in_style
def figure4(
    results: Path, *, data: Path | str | None = None, simulated: bool | None = None
) -> Figure:
    """Draw projections with two zooms, intensity profiles, and widths of thin structures.

    Parameters
    ----------
    data : Path, optional
        Raw stacks; by default the simulated ones of the results.
    simulated : bool, optional
        Whether these stacks are simulated; by default only where no `data` are given.
    """
    table = read_csv(results / "tables/fig4_neurons.csv")
    values = read_csv(results / f"metrics/{EXPERIMENT}.csv").assign(condition="neurons")
    methods = shown_methods(table)
    simulated = data is None if simulated is None else simulated
    folder = Path(data or results / f"acquisitions/{EXPERIMENT}")
    scene = _Scene.read(results, folder, simulated, methods)
    views = scene.views
    column = column_width(len(views))
    height = column * views[0].aspect
    a, b = 0.55, 0.55 + height + 2 * (column + 0.06) + 0.5
    c = b + 1.25 + 0.75
    rows = [m for m in (RAW, TRUTH) if (values["method"] == m).any()] + methods
    tall = STRIP * len(rows)
    simulation = simulation_note(results, EXPERIMENT) if simulated else []
    note = wrapped([*_best(table), *budget_note(results, EXPERIMENT, table), *simulation])
    page = Page(c + tall + 0.55, note)

    page.heading("a", 0.08, "Neurons: yz projection of a slab (z downwards), two zooms below")
    boxes = scene.boxes()
    row = page.row(len(views), a, height)
    for view, axes in zip(views, row, strict=True):
        view.draw(axes)
        axes.set_title(view.title, pad=2, fontsize=SMALL)
    scale_bar(row[0], at_left=scene.lower_right_taken())
    for which, (box, edge) in enumerate(zip(boxes, ("#F0E442", "#56B4E9"), strict=True)):
        for axes in row:
            frame(axes, box, edge)
        zooms = page.row(len(views), a + height + 0.06 + which * (column + 0.06), column)
        for view, zoom in zip(views, zooms, strict=True):
            view.draw(zoom, within=box, bar=view is views[0])
            for spine in zoom.spines.values():
                spine.set(visible=True, color=edge, linewidth=0.8)

    page.heading("b", b - 0.22, "Profiles through one thin process")
    for index, axis in enumerate("zy"):
        axes = page.axes(0.55 + index * 2.35, b, 1.85, 1.25)
        _profiles(axes, scene, axis)
        axes.set(xlabel=f"{axis} (µm)", ylabel="Intensity / maximum" if index == 0 else "")
        if index == 1:
            axes.legend(loc="upper left", bbox_to_anchor=(1.08, 1.05), borderaxespad=0)

    words = "Widths at half maximum, at the same thin places in every volume"
    known = (table["quantity"] == "iou").any()
    page.heading("c", c - 0.22, f"{words}, and fit with the truth" if known else words)
    shown = QUANTITIES | ({"iou": "IoU"} if known else {})
    step = 5.85 / len(shown)
    for index, (quantity, label) in enumerate(shown.items()):
        axes = page.axes(1.35 + index * step, c, step - 0.2, tall)
        strip_plot(axes, table, values, "neurons", quantity, rows, labels=index == 0)
        axes.set(xlabel=label)
        from_zero(axes)
        if quantity == "axial_ratio":
            axes.axvline(1.0, color="0.35", linewidth=0.8, linestyle=(0, (4, 2)))
    return page.figure


class _Scene:
    """One stack: its views, and lines through one of its thin places."""

    def __init__(
        self,
        views: list[View],
        lines: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]],
        fine_um: tuple[float, float, float],
        raw_um: tuple[float, float, float],
    ) -> None:
        self.views, self.lines = views, lines
        self.fine_um, self.raw_um = fine_um, raw_um

    @classmethod
    def read(cls, results: Path, folder: Path, simulated: bool, methods: Sequence[str]) -> "_Scene":
        top = results / f"predictions/{EXPERIMENT}"
        raw, target = every_stack(folder, top)[0]
        relative = target.relative_to(top)
        stacks = {m: open_stack(top / m / relative, channel=0) for m in methods}
        fine = next(iter(stacks.values()))
        if fine.voxel_size_um is None or raw.voxel_size_um is None:
            raise TenetError(f"{raw.path}: a voxel size is missing; predict again")
        scale = round(fine.zyx_shape[0] / raw.zyx_shape[0])
        places = thin_places(raw, 24)
        image = raw.read()
        half = min(20, raw.zyx_shape[2] // 6)
        # The slab with most thin places, and the one of them that stands out most.
        near = np.abs(places[:, None, 2] - places[None, :, 2]) <= half
        middle = int(places[int(near.sum(axis=1).argmax()), 2])
        slab = slice(max(middle - half, 0), middle + half)
        z, y, x = next(place for place in places if slab.start <= place[2] < slab.stop)
        fine_um, raw_um = fine.voxel_size_um, raw.voxel_size_um
        views = [_slab("Input", raw, slab, raw_um)]
        lines = {RAW: (image[:, y, x], image[z, :, x])}
        phantom = results / f"phantoms/{EXPERIMENT}/{relative.name.removesuffix(PREDICTION)}"
        path = phantom.with_name(phantom.name + PHANTOM)
        if simulated and path.exists():
            shape, _ = open_phantom(path).read(*[slice(None)] * 3)
            flat = shape[:, :, slab].max(axis=2).astype(np.float32)
            views.append(View("Truth", flat, fine_um[:2], (0, 1)))
        at = round(z * scale + (scale - 1) / 2)
        for method, stack in stacks.items():
            views.append(_slab(two_lines(METHODS[method].label), stack, slab, fine_um))
            volume = stack.read(slice(None), slice(None), slice(x, x + 1))[:, :, 0]
            lines[method] = (volume[:, y], volume[at])
        return cls(views, lines, fine_um, raw_um)

    def boxes(self) -> list[tuple[float, float, float]]:
        """Two squares (left, top, side in µm) of the input with most signal, apart."""
        view = self.views[0]
        height, width = view.size_um
        side = _ZOOM * min(height, width)
        pixels = [max(1, round(side / p)) for p in view.pixel_um]
        score = _window_means(view.image, pixels)
        found = []
        for _ in range(2):
            row, column = np.unravel_index(int(score.argmax()), score.shape)
            found.append(
                (float(column * view.pixel_um[1]), float(row * view.pixel_um[0]), float(side))
            )
            score[
                max(row - 2 * pixels[0], 0) : row + 2 * pixels[0],
                max(column - 2 * pixels[1], 0) : column + 2 * pixels[1],
            ] = -1
        return found

    def lower_right_taken(self) -> bool:
        """Whether a box lies where the scale bar would."""
        height, width = self.views[0].size_um
        return any(
            left + side > width / 2 and top + side > 0.75 * height
            for left, top, side in self.boxes()
        )


def _window_means(image: NDArray[np.float32], pixels: Sequence[int]) -> NDArray[np.float64]:
    """Mean of every window of so many pixels; by its upper left corner."""
    sums = np.pad(image.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    rows, columns = pixels
    whole: NDArray[np.float64] = (
        sums[rows:, columns:]
        - sums[:-rows, columns:]
        - sums[rows:, :-columns]
        + sums[:-rows, :-columns]
    ) / (rows * columns)
    return whole


def _slab(title: str, stack: Stack, x: slice, size_um: tuple[float, float, float]) -> View:
    image = stack.read(slice(None), slice(None), x).max(axis=2)
    return View(title, image, size_um[:2], levels(image))


def _profiles(axes: Axes, scene: _Scene, axis: str) -> None:
    """The same line through every volume, each scaled to its own maximum."""
    for method, lines in scene.lines.items():
        line = lines["zy".index(axis)]
        step = (scene.raw_um if method == RAW else scene.fine_um)["zy".index(axis)]
        position = (np.arange(len(line)) + 0.5) * step
        colour = "black" if method == RAW else METHODS[method].colour
        label = "Input" if method == RAW else METHODS[method].label
        base = float(np.median(line))
        scaled = (line - base) / max(float(line.max()) - base, 1e-9)
        axes.plot(position, scaled.clip(0), color=colour, label=label, lw=0.9)
    axes.set_ylim(0, 1.05)
    middle = scene.lines[RAW]["zy".index(axis)]
    peak = (int(middle.argmax()) + 0.5) * scene.raw_um["zy".index(axis)]
    reach = 30.0 if axis == "z" else 12.0
    end = len(middle) * scene.raw_um["zy".index(axis)]
    axes.set_xlim(max(peak - reach, 0), min(peak + reach, end))


def _best(table: pd.DataFrame) -> list[str]:
    """Words on the method that is nearest to the true widths, or else to isotropic widths."""
    chosen = table[(table["quantity"] == "axial_ratio") & table["method"].isin(list(METHODS))]
    # A method without a peak at most places is not compared at the few others.
    chosen = chosen[chosen["n"] >= chosen["n"].max() / 2]
    means = chosen.set_index("method")["value"].dropna()
    lines = []
    if not means.empty:
        truth = table_row(table, "neurons", TRUTH, "axial_ratio")
        ideal = 1.0 if truth is None else float(truth["value"])
        nearest = (means - ideal).abs().sort_values().index
        words = f"{METHODS[nearest[0]].label} {means[nearest[0]]:.2f}"
        if nearest[0] != "tenet" and "tenet" in means:
            place = list(nearest).index("tenet") + 1
            words += f" (TENET {means['tenet']:.2f}, place {place} of {len(means)})"
        aim = "1" if truth is None else f"the truth's {ideal:.2f}"
        lines.append(f"Axial over lateral width nearest to {aim}: {words}.")
    best = best_method(table, "neurons", "iou")
    if best:
        lines.append(f"Highest IoU with the truth: {best}.")
    gain = table_row(table, "neurons", "rltv", "iou_gain")
    if gain is not None and gain["n"] > 1:
        interval = f"{gain['value']:+z.3f} ({gain['low']:+z.3f} to {gain['high']:+z.3f})"
        told = gain["low"] > 0 or gain["high"] < 0
        end = "." if told else ": no difference found at this scale."
        volumes = f"{gain['n']:.0f} volumes"
        rltv = METHODS["rltv"].label
        lines.append(f"IoU of TENET less that of {rltv}: {interval}, {volumes}{end}")
    return lines
