"""Supplement: stacks whose planes moved, with and without their alignment."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tenet.errors import TenetError
from tenet.paper.figures.notes import simulation_note, wrapped
from tenet.paper.figures.page import Page, View, column_width, in_style
from tenet.paper.figures.phantoms import ShownPhantom
from tenet.paper.figures.strips import grouped_strips, method_handle, table_row
from tenet.paper.figures.style import STRIP
from tenet.paper.figures.tables import all_metrics, read_csv, shown_methods

PHANTOMS = "fig2_phantoms"
#: Experiments by the treatment of the planes, and folders of the treated stacks.
TREATMENTS = {
    "none": ("as it is", "acquisitions/supp_motion_none"),
    "registered": ("registered by correlation", "registered/supp_motion_registered"),
    "aligned": ("aligned by a network", None),
}


@in_style
def motion_figure(results: Path) -> Figure:
    """Draw the effect of alignment on phantoms whose planes moved: images, IoU, and training."""
    table = read_csv(results / "tables/supp_motion_iou.csv")
    shown = [name for name in TREATMENTS if (table["condition"] == name).any()]
    if not shown:
        raise TenetError("the table has no stack that moved; evaluate supp_motion_none first")
    methods = shown_methods(table)
    views = _views(results, shown)
    height = column_width(len(views)) * min(views[0].aspect, 2.6)
    b = 0.55 + height + 0.5
    tall = STRIP * len(shown) * len(methods) * 0.8
    below = max(tall, 1.3)
    first = f"supp_motion_{shown[0]}"
    note = wrapped([_best(table), *simulation_note(results, first, PHANTOMS)])
    page = Page(b + below + 0.75, note)

    page.heading("a", 0.08, "Phantom, with noise: yz projection of a slab (z downwards)")
    page.views(views, 0.55, height)

    page.heading("b", b - 0.24, "IoU: points images, bars mean and 95 % interval")
    axes = page.axes(1.7, b, 2.3, tall)
    labels = {name: TREATMENTS[name][0] for name in shown}
    grouped_strips(axes, table, all_metrics(results, "supp_motion"), "iou", labels, methods)
    axes.set(xlabel="IoU", xlim=(0, 1))
    page.legend([method_handle(method) for method in methods], 1.5, b + tall + 0.38)

    history = _history(results)
    if history is not None:
        page.heading("c", b - 0.24, "Training of the alignment network", left=4.35)
        axes = page.axes(4.85, b, 2.2, 1.3)
        for part, style in (("training", ":"), ("validation", "-")):
            for name, colour in (
                ("pixelwise", "#0072B2"),
                ("perceptual", "#009E73"),
                ("segmentation", "#D55E00"),
            ):
                if f"{part}_{name}" in history:
                    axes.plot(
                        history["epoch"],
                        history[f"{part}_{name}"],
                        style,
                        color=colour,
                        label=f"{name}, {part}",
                    )
        axes.set(xlabel="Epoch", ylabel="Loss")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
    return page.figure


def _views(results: Path, shown: list[str]) -> list[View]:
    """One slab of the first phantom: the raw stack, the truth, and TENET after each treatment."""
    phantom = ShownPhantom.first(results / "phantoms" / PHANTOMS)
    views = []
    for treatment in shown:
        words, folder = TREATMENTS[treatment]
        if folder is not None:
            raw = phantom.stack(results / folder / "noise")
            views.append(phantom.view(f"Stack\n{_short(words)}", raw))
    predicted = {
        treatment: phantom.stack(
            results / f"predictions/supp_motion_{treatment}/tenet/noise", channel=0
        )
        for treatment in shown
    }
    size_um = next(iter(predicted.values())).voxel_size_um
    if size_um is None:
        raise TenetError("predictions of supp_motion record no voxel size; predict again")
    views.append(phantom.truth_view(size_um[:2]))
    for treatment, stack in predicted.items():
        views.append(phantom.view(f"TENET\n{_short(TREATMENTS[treatment][0])}", stack))
    return views


def _short(words: str) -> str:
    """Name of a treatment, without its tool."""
    return words.partition(" by ")[0]


def _best(table: pd.DataFrame) -> str:
    """Mean IoU of TENET after each treatment, the best first, and before fine-tuning."""
    means, before = (
        {
            TREATMENTS[name][0]: float(row["value"])
            for name in TREATMENTS
            if (row := table_row(table, name, method, "iou")) is not None
        }
        for method in ("tenet", "pretrained")
    )
    ranked = sorted(means.items(), key=lambda item: -item[1])
    return (
        "Mean IoU of TENET: "
        + "; ".join(words + _value(value, before.get(words)) for words, value in ranked)
        + "."
    )


def _value(value: float, before: float | None) -> str:
    return f" {value:.2f}" + (f" (not fine-tuned {before:.2f})" if before is not None else "")


def _history(results: Path) -> pd.DataFrame | None:
    """Losses of the alignment network, if one was trained."""
    paths = sorted((results / "models").glob("*_align/alignment/history.csv"))
    return read_csv(paths[0]) if paths else None
