"""Figure 5: microglia around a tumour, divided into cells, and the shape of each."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tenet.data.folds import every_stack
from tenet.enhance.views import levels
from tenet.errors import TenetError
from tenet.io.open import open_stack
from tenet.io.stack import Stack
from tenet.paper.evaluate.structures import TRUTH
from tenet.paper.figures.notes import best_method, budget_note, simulation_note, wrapped
from tenet.paper.figures.page import Page, column_width, in_style, scale_bar
from tenet.paper.figures.strips import method_handle
from tenet.paper.figures.style import LOOKS, METHODS, SMALL
from tenet.paper.figures.tables import existing, read_csv

CELLS, TUMOUR = "fig5_microglia", "fig5_tumour"
QUANTITIES = {
    "volume_um3": "Volume (µm³)",
    "surface_um2": "Surface (µm²)",
    "sphericity": "Sphericity",
    "elongation": "Elongation (1: round)",
    "flatness": "Flatness (1: round)",
    "centre_to_surface_um": "Centre to surface (µm)",
}
#: Cells that are rounder than the true cells by this factor have lost their processes.
ROUNDER = 1.25
MAGENTA, GREEN = np.array((1.0, 0.2, 0.9)), np.array((0.2, 1.0, 0.3))


@in_style
def figure5(
    results: Path,
    *,
    data: Path | str | None = None,
    tumour_data: Path | str | None = None,
    simulated: bool | None = None,
) -> Figure:
    """Draw the raw and the enhanced stack, the cells, and the shapes of the cells.

    Parameters
    ----------
    data, tumour_data : Path, optional
        Raw stacks of the cells and of the tumour; by default the simulated ones of the results.
    simulated : bool, optional
        Whether these stacks are simulated; by default only where no `data` are given.
    """
    table = read_csv(results / "tables/fig5_cells.csv")
    cells = read_csv(results / f"tables/{CELLS}_cells.csv")
    simulated = data is None if simulated is None else simulated
    panels = _panels(
        results,
        {
            CELLS: Path(data or results / f"acquisitions/{CELLS}"),
            TUMOUR: Path(tumour_data or results / f"acquisitions/{TUMOUR}"),
        },
    )
    side = column_width(len(panels), 0.1)
    first = panels[0]
    below = side * first.height_um / first.width_um
    a = 0.5
    b = a + side + below + 0.55
    simulation = simulation_note(results, CELLS) if simulated else []
    note = wrapped([*_counts(table), *budget_note(results, CELLS, table), *simulation])
    page = Page(b + 2 * 1.65 + 0.5, note)

    words = (
        "Microglia (green) and tumour (magenta): both white: projections along z, and along y below"
    )
    page.heading("a", 0.08, words)
    along_z = page.row(len(panels), a, side, gap=0.1)
    along_y = page.row(len(panels), a + side + 0.04, below, gap=0.1)
    for panel, upper, lower in zip(panels, along_z, along_y, strict=True):
        panel.draw(upper, "xy")
        upper.set_title(panel.title, pad=2, fontsize=SMALL)
        panel.draw(lower, "xz")
    scale_bar(along_z[0])

    page.heading(
        "b", b - 0.24, "Each cell that no border cuts, against its distance from the tumour"
    )
    shown = [m for m in (TRUTH, "tenet", "tenet_published", "rltv") if (cells["method"] == m).any()]
    handles = [method_handle(m) for m in shown]
    page.legend(handles, 0.55, b + 2 * 1.65 + 0.1)
    whole = cells[~cells["touches_border"].astype(bool) & cells["method"].isin(shown)]
    for index, (quantity, label) in enumerate(QUANTITIES.items()):
        row, column = divmod(index, 3)
        axes = page.axes(0.55 + column * 2.35, b + row * 1.65, 1.85, 1.2)
        _scatter(axes, whole, quantity)
        axes.set(ylabel=label, xlabel="Distance from the tumour (µm)" if row else "")
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
    return page.figure


def _scatter(axes: Axes, cells: pd.DataFrame, quantity: str) -> None:
    """A quantity of each cell against its distance from the tumour."""
    if cells.empty:
        return
    methods = [method for method in LOOKS if (cells["method"] == method).any()]
    sns.scatterplot(
        cells,
        x="tumour_distance_um",
        y=quantity,
        hue="method",
        palette={method: LOOKS[method].colour for method in methods},
        style="method",
        markers={method: LOOKS[method].marker for method in methods},
        s=16,
        alpha=0.8,
        linewidth=0,
        legend=False,
        ax=axes,
    )


class _Panel:
    """Projections of a volume in colours."""

    def __init__(
        self,
        title: str,
        xy: NDArray[np.float64],
        xz: NDArray[np.float64],
        size_um: tuple[float, float, float],
    ) -> None:
        self.title, self.views, self.size_um = title, {"xy": xy, "xz": xz}, size_um
        self.height_um = xz.shape[0] * size_um[0]
        self.width_um = xz.shape[1] * size_um[2]

    def draw(self, axes: Axes, which: str) -> None:
        """Show a view at its physical size."""
        image = self.views[which]
        step = self.size_um[1] if which == "xy" else self.size_um[0]
        extent = (0.0, image.shape[1] * self.size_um[2], image.shape[0] * step, 0.0)
        axes.imshow(image, extent=extent, aspect="auto", interpolation="nearest")
        axes.set(xticks=[], yticks=[])


def _panels(results: Path, data: Mapping[str, Path]) -> list[_Panel]:
    """The raw stack, the enhanced stack, and the cells of the enhanced stack.

    `data` has the folder of the raw stacks of each experiment.
    """
    raws: list[Stack] = []
    enhanced: list[Stack] = []
    for experiment, folder in data.items():
        top = results / f"predictions/{experiment}"
        raw, target = every_stack(folder, top)[0]
        raws.append(raw)
        predicted = existing(top / "tenet" / target.relative_to(top))
        enhanced.append(open_stack(predicted, channel=0))
    size, fine = raws[0].voxel_size_um, enhanced[0].voxel_size_um
    if size is None or fine is None:
        raise TenetError(f"{raws[0].path}: a voxel size is missing; predict again")
    path = existing(results / f"metrics/{CELLS}_projections.npz")
    try:
        with np.load(path, allow_pickle=False) as file:
            labels = [file[f"tenet_cells_{letter}"] for letter in "zy"]
            tumour = [file[f"tenet_tumour_{letter}"] for letter in "zy"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise TenetError(f"{path} cannot be read ({error}); evaluate again") from None
    xy, xz = (_painted(*flat) for flat in zip(labels, tumour, strict=True))
    return [
        _Panel("Raw", *_two_colours(raws), size),
        _Panel("TENET, shape", *_two_colours(enhanced), fine),
        _Panel(f"{labels[0].max()} cells", xy, xz, fine),
    ]


def _two_colours(stacks: Sequence[Stack]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Projections along z and y of two channels, green and magenta."""
    views: list[list[NDArray[np.float64]]] = [[], []]
    for stack, colour in zip(stacks, (GREEN, MAGENTA), strict=True):
        for view, flat in zip(views, _maximum_projections(stack), strict=True):
            low, high = levels(flat)
            scaled = ((flat - low) / max(high - low, 1e-9)).clip(0, 1) ** 0.7
            view.append(scaled[..., None] * colour)
    xy, xz = (np.clip(sum(view), 0, 1) for view in views)
    return xy, xz


def _maximum_projections(
    stack: Stack, planes: int = 16
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Maxima of a stack along z and along y, read a few planes at a time."""
    along_z = np.full(stack.zyx_shape[1:], -np.inf, dtype=np.float32)
    along_y = []
    for start in range(0, stack.zyx_shape[0], planes):
        part = stack.read(slice(start, start + planes))
        np.maximum(along_z, part.max(axis=0), out=along_z)
        along_y.append(part.max(axis=1))
    return along_z, np.concatenate(along_y)


def _painted(labels: NDArray[np.int32], tumour: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Projected cells, a colour each, over the tumour in grey."""
    palette = colormaps["tab20"](np.arange(20))[:, :3]
    image = np.where(tumour[..., None], 0.35, 0.0) * np.ones(3)
    image[labels > 0] = palette[(labels[labels > 0] - 1) % len(palette)]
    return image


def _counts(table: pd.DataFrame) -> list[str]:
    """How many cells each method finds, and how well its mask fits the truth."""
    chosen = table[table["condition"] == "microglia"]
    numbers = chosen[chosen["quantity"] == "cells"].set_index("method")["value"]
    words = [
        f"{LOOKS[method].label} {numbers[method]:.0f}"
        for method in (TRUTH, *METHODS)
        if method in numbers
    ]
    lines = [f"Cells found: {', '.join(words)}."] if words else []
    best = best_method(table, "microglia", "iou")
    if best:
        lines.append(f"Highest IoU with the true cells: {best}.")
    sphericity, volume = (
        chosen[chosen["quantity"] == quantity].set_index("method")["value"]
        for quantity in ("sphericity", "volume_um3")
    )
    if {TRUTH, "tenet"} <= set(sphericity.dropna().index):
        lost = sphericity["tenet"] > ROUNDER * sphericity[TRUTH]
        lines.append(
            f"{'Processes are lost: sphericity' if lost else 'Sphericity'} of TENET's cells "
            f"{sphericity['tenet']:.2f}, of the true cells {sphericity[TRUTH]:.2f} "
            f"(volume {volume['tenet']:.0f} and {volume[TRUTH]:.0f} µm³)."
        )
    return lines
