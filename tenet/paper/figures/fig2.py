"""Figure 2: phantoms and lines at an angle to the optical axis."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import ndimage

from tenet.errors import TenetError
from tenet.paper.figures.notes import notes
from tenet.paper.figures.page import Page, View, column_width, frame, in_style
from tenet.paper.figures.phantoms import ShownPhantom
from tenet.paper.figures.strips import (
    diamond,
    diamond_handle,
    interval_lengths,
    method_handle,
    published_marks,
    published_value,
    scatter,
    strip_plot,
    table_row,
    two_lines,
    values_of,
)
from tenet.paper.figures.style import ANGLES, METHODS, PARTS, SMALL, STRIP, WIDTH
from tenet.paper.figures.tables import all_metrics, read_csv, shown_methods

#: Side of a zoom as a share of the image's.
_ZOOM = 0.4


@in_style
def figure2(results: Path, simulated: bool | None = None) -> Figure:
    """Draw phantoms and the angle study: images, and IoU of every method."""
    table = read_csv(results / "tables/fig2_iou.csv")
    values = all_metrics(results, "fig2")
    methods = shown_methods(table)
    angles = [name for name in ANGLES if (table["condition"] == f"{name}_noise").any()]

    views = _phantom_views(results, "fig2_phantoms", methods)
    column = column_width(len(views))
    height = column * min(views[0].aspect, 2.6)
    rows = _angle_views(results, table, angles, methods)
    across = max((len(r) for r in rows), default=1)
    side = min((WIDTH - 0.57 - 0.06 * (across - 1)) / across, 1.1)
    angle_side = side * min(max((r[0].aspect for r in rows), default=0), 1.5)
    a, b = 0.55, 0.55 + height + 0.06 + column + 0.42
    strip = STRIP * len(methods)
    d = b + strip + 0.98
    e = d + len(rows) * (angle_side + 0.08) + 0.4
    bottom = e + 1.6 + 0.2 if rows else d + 0.5
    note = notes(results, "fig2_phantoms", table, "iou", simulated)
    page = Page(bottom + 0.3, note)

    part = PARTS["noise"]
    page.heading("a", 0.08, f"Phantom, {part}: yz projection of a slab (z downwards), zoom below")
    box = _zoom_box(views[1])
    for axes in page.views(views, a, height):
        frame(axes, box, "#F0E442")
    for view, axes in zip(views, page.row(len(views), a + height + 0.06, column), strict=True):
        view.draw(axes, within=box, bar=view is views[0])

    for index, (name, words) in enumerate(PARTS.items()):
        left = 1.45 if index == 0 else 4.6
        axes = page.axes(left, b, 2.45, strip)
        page.heading("bc"[index], b - 0.22, left=0.05 if index == 0 else 4.3)
        condition = f"phantoms_{name}"
        strip_plot(axes, table, values, condition, "iou", methods, labels=index == 0)
        axes.set(xlabel="IoU", xlim=(0, 1))
        axes.set_title(f"Phantoms, {words}", pad=3)
        published_marks(axes, table, condition, methods)
    if table["published"].notna().any():
        page.text(
            1.45,
            b + strip + 0.36,
            "points: images · bars: mean, 95 % interval · ◇ published, full scale "
            "(all but TENET: best threshold of each image)",
        )

    if rows:
        page.heading(
            "d", d - 0.36, f"Lines at an angle to the optical axis, {part}: yz projections"
        )
    for row, (angle, row_views) in enumerate(zip(angles, rows, strict=True)):
        for index, view in enumerate(row_views):
            top = d + row * (angle_side + 0.08)
            axes = page.axes(0.42 + index * (side + 0.06), top, side, angle_side)
            view.draw(axes, bar=index == 0 and row == 0)
            if row == 0:
                axes.set_title(view.title, pad=2, fontsize=SMALL)
            if index == 0:
                axes.text(
                    -0.06, 0.5, ANGLES[angle], transform=axes.transAxes, ha="right", va="center"
                )
    if rows:
        page.heading("e", e - 0.24)
        _angle_axes(page.axes(0.55, e, 4.7, 1.6), table, values, angles, methods)
    return page.figure


def _phantom_views(
    results: Path, experiment: str, methods: Sequence[str], part: str = "noise"
) -> list[View]:
    """Input, truth and every method: yz projections of one slab of the first phantom."""
    shown = ShownPhantom.first(results / f"phantoms/{experiment}")
    raw = shown.stack(results / f"acquisitions/{experiment}/{part}")
    predicted = {
        method: shown.stack(results / f"predictions/{experiment}/{method}/{part}", channel=0)
        for method in methods
    }
    size_um = next(iter(predicted.values())).voxel_size_um
    if size_um is None:
        raise TenetError(f"predictions of {experiment} record no voxel size; predict again")
    return [
        shown.view("Input", raw),
        shown.truth_view(size_um[:2]),
        *(shown.view(two_lines(METHODS[m].label), stack) for m, stack in predicted.items()),
    ]


def _angle_views(
    results: Path, table: pd.DataFrame, angles: Sequence[str], methods: Sequence[str]
) -> list[list[View]]:
    rows = []
    for angle in angles:
        there = set(table[table["condition"] == f"{angle}_noise"]["method"])
        chosen = [method for method in methods if method in there]
        rows.append(_phantom_views(results, f"fig2_{angle}", chosen))
    return rows


def _zoom_box(truth: View) -> tuple[float, float, float]:
    """Left, top and side in µm of the square that is most nearly half structure."""
    height, width = truth.size_um
    side = _ZOOM * min(height, width)
    box = [max(1, round(side / pixel)) for pixel in truth.pixel_um]
    share = ndimage.uniform_filter(truth.image, box)
    rows, columns = truth.image.shape
    inside = (
        slice(box[0] // 2, rows - box[0] // 2),
        slice(box[1] // 2, columns - box[1] // 2),
    )
    score = (share * (1 - share))[inside]
    z, y = np.unravel_index(int(score.argmax()), score.shape)
    top, left = z * truth.pixel_um[0], y * truth.pixel_um[1]
    return float(min(left, width - side)), float(min(top, height - side)), float(side)


def _angle_axes(
    axes: Axes,
    table: pd.DataFrame,
    values: pd.DataFrame,
    angles: Sequence[str],
    methods: Sequence[str],
) -> None:
    """IoU at each angle: filled with noise, open without; a point for each seed; published ones."""
    step = 0.8 / len(methods)
    seeds = []
    for i, angle in enumerate(angles):
        for j, method in enumerate(methods):
            x = i + (j - (len(methods) - 1) / 2) * step
            look = METHODS[method]
            for part, face, aside in (("noise", look.colour, -1), ("no_noise", "white", 1)):
                row = table_row(table, f"{angle}_{part}", method, "iou")
                if row is None:
                    continue
                axes.errorbar(
                    x + aside * step / 5,
                    row["value"],
                    yerr=interval_lengths(row),
                    fmt=look.marker,
                    color=look.colour,
                    markerfacecolor=face,
                    markeredgewidth=0.8,
                    clip_on=False,
                )
                iou = values_of(values, f"{angle}_{part}", method, "iou")
                seeds.append(
                    pd.DataFrame({"x": x + aside * step / 5, "y": iou, "colour": look.colour})
                )
            published = published_value(table, f"{angle}_noise", method)
            if published is not None:
                diamond(axes, x - step / 5, published)
    strokes = {"marker": "_", "size": 3, "linewidth": 0.6, "clip_on": False}
    scatter(axes, pd.concat(seeds), along="y", jitter=False, **strokes)
    axes.set(
        xticks=range(len(angles)),
        xticklabels=[ANGLES[angle] for angle in angles],
        xlabel="Angle of the lines to the optical axis",
        ylabel="IoU",
        ylim=(0, 1),
        xlim=(-0.5, len(angles) - 0.5),
    )
    handles = [method_handle(method) for method in methods]
    handles += [
        Line2D([], [], marker="o", linestyle="", color="0.3", label="with noise"),
        Line2D([], [], marker="o", linestyle="", color="0.3", mfc="white", label="without noise"),
        Line2D([], [], marker="_", linestyle="", color="0.3", label="small strokes: seeds"),
    ]
    if table["published"].notna().any():
        handles.append(diamond_handle("published, with noise"))
    axes.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(1.02, 1.02),
        handletextpad=0.2,
        borderaxespad=0.2,
        labelspacing=0.3,
    )
