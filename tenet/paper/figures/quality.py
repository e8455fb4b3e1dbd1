"""The quality bench: every method on stacks whose truth is known, and what TENET gains."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tenet.errors import TenetError
from tenet.metrics.shapes import BEAD_VOLUME_UM3
from tenet.paper.evaluate.summary import EVERY_CONDITION
from tenet.paper.figures.notes import best_method, budget_note, thresholds_note, wrapped
from tenet.paper.figures.page import Page, View, column_width, in_style
from tenet.paper.figures.phantoms import ShownPhantom
from tenet.paper.figures.strips import (
    grouped_strips,
    interval_lengths,
    method_handle,
    strip_plot,
    table_row,
    wide_axis,
)
from tenet.paper.figures.style import METHODS, STRIP
from tenet.paper.figures.tables import all_metrics, read_csv, shown_methods

PHANTOMS = "quality"
CONDITIONS = {
    "matched": "nominal",
    "na_low": "aperture − 20 %",
    "na_high": "aperture + 20 %",
    "noisy": "noise × 2",
    "motion": "motion",
    "angle00": "lines, 0°",
    "angle45": "lines, 45°",
    "angle90": "lines, 90°",
}
BEADS = "beads"
QUANTITIES = {
    "total_loss": ("Total loss", 0.0),
    "volume_um3": ("Volume (µm³)", BEAD_VOLUME_UM3),
    "sphericity": ("Sphericity", 1.0),
    "z_xy_ratio": ("z/xy ratio", 1.0),
}
#: Beads of some methods are forty times too large.
WIDE = ("total_loss", "volume_um3")
#: Methods whose names fit into a line of the legend.
MOST_IN_A_LINE = 7
#: Methods that the gain of TENET is drawn over.
RIVALS = ("rltv", "pretrained")
#: The first panel shows the first of these conditions that the table has.
SHOWN, SHOWN_UNDER = ("rltv", "pretrained", "tenet"), ("na_low", "matched")


@in_style
def quality_figure(results: Path) -> Figure:
    """Draw an example, the IoU of every method by condition, TENET's gains, and the beads."""
    table = read_csv(results / "tables/quality.csv")
    labels = {
        name: words for name, words in CONDITIONS.items() if (table["condition"] == name).any()
    }
    if not labels:
        raise TenetError("the table has no condition of the quality bench; evaluate one first")
    methods = shown_methods(table)
    views, under = _views(results, labels)
    height = min(column_width(len(views)) * views[0].aspect, 2.6)
    b = 0.45 + height + 0.62
    tall = 0.09 * len(labels) * (len(methods) + 0.5)
    lines = 1 + (len(methods) > MOST_IN_A_LINE)
    c = b + tall + 0.95 + 0.15 * lines
    with_beads = (table["condition"] == BEADS).any()
    with_bead = shown_methods(table[table["condition"] == BEADS]) if with_beads else []
    low = STRIP * len(with_bead) if with_beads else -0.9
    note = wrapped(
        [
            *_notes(table, labels),
            *budget_note(results, f"quality_{next(iter(labels))}", table),
            "All stacks are simulated: lines, rods and beads of 2 µm, taken by the nominal "
            "microscope of the models, or by another microscope.",
        ]
    )
    page = Page(c + low + 0.55, note)

    page.heading("a", 0.08, f"Simulated phantom, {CONDITIONS[under]}: yz projection of a slab")
    page.views(views, 0.45, height)

    page.heading("b", b - 0.3, "IoU: points images, bars mean and 95 % interval")
    axes = page.axes(1.15, b, 3.3, tall)
    grouped_strips(axes, table, all_metrics(results, "quality"), "iou", labels, methods)
    axes.set(xlabel="IoU", xlim=(0, 1))
    page.text(4.75, b - 0.27, "TENET's IoU less that of")
    _gains(page.axes(4.75, b, 2.2, tall), table, labels, axes)
    handles = [method_handle(method) for method in methods]
    page.legend(handles, 0.9, b + tall + 0.42, lines=lines)

    if with_beads:
        page.heading("c", c - 0.3, "2 µm beads, a microscope that is not the nominal one")
        values = all_metrics(results, "quality")
        for index, (quantity, (label, theory)) in enumerate(QUANTITIES.items()):
            axes = page.axes(1.5 + index * 1.42, c, 1.28, low)
            strip_plot(axes, table, values, BEADS, quantity, with_bead, labels=index == 0)
            axes.set(xlabel=label)
            if quantity in WIDE:
                wide_axis(axes)
            else:
                axes.set_xlim(left=0)
                axes.xaxis.set_major_locator(MaxNLocator(3, prune="upper"))
            if theory:
                axes.axvline(theory, color="0.35", linewidth=0.8, linestyle=(0, (4, 2)))
    return page.figure


def _gains(axes: Axes, table: pd.DataFrame, labels: dict[str, str], beside: Axes) -> None:
    """TENET's IoU less that of its rivals, in the rows of the plot beside."""
    rivals = [method for method in RIVALS if (table["method"] == method).any()]
    for tick, condition in zip(beside.get_yticks(), labels, strict=True):
        for place, method in enumerate(rivals):
            row = table_row(table, condition, method, "iou_gain")
            if row is None:
                continue
            look = METHODS[method]
            axes.errorbar(
                row["value"],
                tick + (place - (len(rivals) - 1) / 2) * 1.6,
                xerr=interval_lengths(row),
                fmt=look.marker,
                color=look.colour,
                capsize=2.5,
            )
    axes.axvline(0, color="0.35", linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set(
        yticks=beside.get_yticks(), yticklabels=[], ylim=beside.get_ylim(), xlabel="IoU gained"
    )
    axes.legend(
        handles=[method_handle(method) for method in rivals],
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=2,
        borderpad=0,
        columnspacing=1.0,
        handletextpad=0.3,
    )


def _views(results: Path, labels: dict[str, str]) -> tuple[list[View], str]:
    """One slab of the first phantom: the raw stack, the results of methods, and the truth."""
    under = next((name for name in SHOWN_UNDER if name in labels), next(iter(labels)))
    experiment = f"quality_{under}"
    shown = ShownPhantom.first(results / "phantoms" / PHANTOMS)
    raw = shown.stack(results / f"acquisitions/{experiment}/noise")
    views = [shown.view("Stack", raw)]
    for method in SHOWN:
        folder = results / f"predictions/{experiment}/{method}"
        if folder.is_dir():
            stack = shown.stack(folder / "noise", channel=0)
            views.append(shown.view(METHODS[method].label, stack))
    if raw.voxel_size_um is None:
        raise TenetError(f"{raw.path}: it records no voxel size; simulate again")
    dz, dy, _ = raw.voxel_size_um
    views.append(shown.truth_view((dz * raw.zyx_shape[0] / shown.truth.shape[0], dy)))
    return views, under


def _notes(table: pd.DataFrame, labels: dict[str, str]) -> list[str]:
    """The best method of each condition, and the gain of TENET over all conditions."""
    lines = [
        f"Highest mean IoU {thresholds_note(table)}: "
        + "; ".join(
            f"{words} {best}"
            for name, words in labels.items()
            if (best := best_method(table, name, "iou"))
        )
        + "."
    ]
    gains = [
        f"{METHODS[method].label} {row['value']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f})"
        for method in RIVALS
        if (row := table_row(table, EVERY_CONDITION, method, "iou_gain")) is not None
    ]
    if gains:
        lines.append(f"TENET's IoU less that of, over all conditions: {'; '.join(gains)}.")
    best = best_method(table, BEADS, "total_loss")
    if best:
        lines.append(f"Lowest mean total loss of a bead: {best}.")
    return lines
