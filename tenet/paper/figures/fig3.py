"""Figure 3: beads of 2 µm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import NDArray

from tenet.enhance.enhance import psf_before_and_after
from tenet.enhance.views import bar_length_um, levels
from tenet.errors import TenetError
from tenet.io.stack import Stack
from tenet.metrics.shapes import BEAD_DIAMETER_UM, BEAD_VOLUME_UM3
from tenet.metrics.widths import fwhm
from tenet.model.trained import TrainedModel
from tenet.paper.evaluate.beads import Region, bead_region, find_image, read_rois, true_centre
from tenet.paper.evaluate.summary import sweep_intervals
from tenet.paper.evaluate.tables import PREDICTION, read_acquisition, read_threshold
from tenet.paper.figures.notes import notes
from tenet.paper.figures.page import Page, View, column_width, in_style
from tenet.paper.figures.strips import (
    method_handle,
    published_marks,
    strip_plot,
    table_row,
    two_lines,
    wide_axis,
)
from tenet.paper.figures.style import (
    BEAD_QUANTITIES,
    METHODS,
    PSFS,
    SMALL,
    STRIP,
    THEORY,
)
from tenet.paper.figures.tables import all_metrics, read_csv, shown_methods
from tenet.physics.optics import psf_volume
from tenet.settings.schema import parse_params
from tenet.types import VoxelSize


@in_style
def figure3(
    results: Path,
    *,
    data: Path | str | None = None,
    rois: Path | str | None = None,
    simulated: bool | None = None,
    seed: int = 0,
) -> Figure:
    """Draw beads of 2 µm: sections, shape against the threshold, volumes and the PSF.

    Parameters
    ----------
    data, rois : Path, optional
        Raw stacks and table of beads; by default the simulated ones of the results.
    simulated : bool, optional
        Whether these images are simulated; by default only where no `data` are given.
    seed : int
        Of the bootstrap over images behind the bands of the sweeps.
    """
    table = read_csv(results / "tables/fig3_beads.csv")
    values = all_metrics(results, "fig3")
    sweep = read_csv(results / "metrics/fig3_beads_sweep.csv")
    methods = shown_methods(table)
    acquisition = results / "acquisitions/fig3_beads"
    simulated = data is None if simulated is None else simulated
    data, rois = Path(data or acquisition / "noise"), Path(rois or acquisition / "rois.csv")
    phantoms = results / "phantoms/fig3_beads" if simulated else None
    sections = _bead_sections(results, data, rois, phantoms, methods)
    psfs = _psfs(results)

    column = column_width(len(sections), 0.1)
    height = column * sections[0].view.aspect
    a, b = 0.55, 0.55 + height + 0.5
    c = b + 1.35 + 0.85
    tall = max(1.7, STRIP * len(methods) + 0.35)
    note = notes(results, "fig3_beads", table, "total_loss", simulated)
    page = Page(c + tall + 0.45, note)

    page.heading(
        "a", 0.08, "A bead of 2 µm, xz. Dashed: its true size; line: contour at the threshold"
    )
    for section, axes in zip(sections, page.row(len(sections), a, height, gap=0.1), strict=True):
        section.draw(axes, bar=section is sections[0])

    page.heading("b", b - 0.22)
    page.legend([method_handle(m, line=True) for m in methods], 0.55, b - 0.22)
    lines = sweep_intervals(sweep, np.random.default_rng(seed))
    for index, (quantity, (label, theory)) in enumerate(BEAD_QUANTITIES.items()):
        axes = page.axes(0.55 + index * 2.35, b, 1.85, 1.35)
        _sweep_axes(axes, lines[lines["quantity"] == quantity], table, values, methods, quantity)
        axes.axhline(theory, **THEORY)
        axes.set(xlabel="Threshold / range of scores", ylabel=label, xlim=(0, 1))
        if quantity == "volume_um3":  # some are forty times too large
            axes.set(yscale="log", ylim=(theory / 5, None))
        else:
            axes.set_ylim(bottom=0)

    page.heading("c", c - 0.3)
    axes = page.axes(1.45, c, 2.1, tall - 0.35)
    strip_plot(axes, table, values, "beads", "volume_um3", methods, labels=True)
    axes.axvline(BEAD_VOLUME_UM3, **THEORY)
    published_marks(axes, table, "beads", methods, "volume_um3")
    axes.set(xlabel="Volume (µm³)")
    wide_axis(axes)
    words = f"dashed: {BEAD_VOLUME_UM3:.2f} µm³, a sphere of 2 µm"
    axes.set_title(words, pad=3, fontsize=SMALL)
    if table["published"].notna().any():
        page.text(0.25, c + tall + 0.01, "points: beads · bars: mean, 95 % interval · ◇ published")

    across = psfs["initial"].volume.shape[2] * psfs["initial"].voxel_size_um[2]
    words = f"The PSF of TENET: xz ({across:.2g} µm across), and its axial profile"
    page.heading("d", c - 0.3, words, left=3.72)
    _psf_axes(page, psfs, 4.15, c + 0.05, tall, table)
    return page.figure


@dataclass(frozen=True)
class _Section:
    """An xz section through a bead; the contour is at the threshold, the circle at the centre."""

    view: View
    centre_um: tuple[float, float]
    threshold: float | None
    colour: str

    def draw(self, axes: Axes, *, bar: bool) -> None:
        self.view.draw(axes, bar=bar)
        axes.set_title(self.view.title, pad=2, fontsize=SMALL)
        z, x = self.centre_um
        axes.add_patch(
            Circle(
                (x, z),
                BEAD_DIAMETER_UM / 2,
                fill=False,
                edgecolor="#F0E442",
                linewidth=0.9,
                linestyle=(0, (3, 2)),
            )
        )
        image, at = self.view.image, self.threshold
        if at is not None and image.min() < at <= image.max():
            rows, columns = (
                (np.arange(n) + 0.5) * step
                for n, step in zip(image.shape, self.view.pixel_um, strict=True)
            )
            axes.contour(columns, rows, image, levels=[at], colors=self.colour, linewidths=0.9)


def _bead_sections(
    results: Path, data: Path, rois: Path, phantoms: Path | None, methods: Sequence[str]
) -> list[_Section]:
    """Raw image and predictions of the bead whose TENET volume is the median one.

    `phantoms` know the centres of simulated beads.
    """
    roi = _typical_roi(results, rois)
    image = int(roi["image"])
    raw = find_image(data, image, (PREDICTION, ".tif"))
    sections: list[_Section] = []
    region: Region | None = None
    for method in methods:
        top = results / "predictions/fig3_beads"
        folder = top / method / f"fold{roi['fold']}"
        folder = folder if folder.is_dir() else top / method / "all"
        stack = find_image(folder, image)
        if stack.voxel_size_um is None:
            raise TenetError(f"{stack.path}: it records no voxel size; predict again")
        scale = round(stack.zyx_shape[0] / raw.zyx_shape[0])
        centre = true_centre(phantoms, roi, scale)
        region = bead_region(centre, stack.zyx_shape, scale)
        label = two_lines(METHODS[method].label)
        threshold = read_threshold(folder, top)
        sections.append(
            _section(stack, region, label, stack.voxel_size_um, threshold, METHODS[method].colour)
        )
        if method != methods[0]:
            continue
        z, y, x = region.crop
        coarse = slice(z.start // scale, z.stop // scale)
        middle = (region.centre_zyx[0] - (scale - 1) / 2) / scale
        on_coarse = Region((coarse, y, x), (middle, *region.centre_zyx[1:]))
        size_um = (stack.voxel_size_um[0] * scale, *stack.voxel_size_um[1:])
        first = _section(raw, on_coarse, "Raw", size_um, None, "white")
        sections.insert(0, first)
    return sections


def _section(
    stack: Stack,
    region: Region,
    title: str,
    size_um: VoxelSize,
    threshold: float | None,
    colour: str,
) -> _Section:
    z, y, x = region.crop
    row = min(y.start + round(region.centre_zyx[1]), y.stop - 1)
    image = stack.read(z, slice(row, row + 1), x)[:, 0]
    pixel_um = (size_um[0], size_um[2])
    # The centre of pixel i lies (i + ½) pixels from the border of the image.
    centre_um = tuple((region.centre_zyx[axis] + 0.5) * size_um[axis] for axis in (0, 2))
    view = View(title, image, pixel_um, levels(image))
    return _Section(view, (centre_um[0], centre_um[1]), threshold, colour)


def _typical_roi(results: Path, rois: Path) -> dict[Any, Any]:
    table = read_rois(rois)
    values = read_csv(results / "metrics/fig3_beads.csv")
    chosen = values[(values["quantity"] == "volume_um3") & (values["method"] == "tenet")]
    if chosen.empty:
        return table.iloc[0].to_dict()
    ordered = chosen.sort_values(["value", "roi"])
    roi = ordered["roi"].iloc[(len(ordered) - 1) // 2]
    return table[table["roi"] == int(roi)].iloc[0].to_dict()


def _sweep_axes(
    axes: Axes,
    lines: pd.DataFrame,
    table: pd.DataFrame,
    values: pd.DataFrame,
    methods: Sequence[str],
    quantity: str,
) -> None:
    """A quantity against the threshold, with the value at the chosen threshold as a marker."""
    # The sweep ends at 95 % of the range.
    most = lines.groupby("method")["threshold"].max() / 0.95
    lines = lines.assign(share=lines["threshold"] / lines["method"].map(most))
    swept = [method for method in methods if method in most]
    if not swept:
        return
    colours = {method: METHODS[method].colour for method in swept}
    looks = {"hue_order": swept, "palette": colours, "errorbar": None, "legend": False}
    sns.lineplot(lines, x="share", y="value", hue="method", ax=axes, **looks)
    for method in swept:
        look, line = METHODS[method], lines[lines["method"] == method].sort_values("threshold")
        band = (line["share"], line["low"], line["high"])
        axes.fill_between(*band, color=look.colour, alpha=0.2, lw=0)
        row = table_row(table, "beads", method, quantity)
        chosen = values[(values["method"] == method) & (values["quantity"] == "threshold")]["value"]
        if row is not None and not chosen.empty:
            at = chosen.mean() / most[method]
            axes.plot(at, row["value"], look.marker, color=look.colour, mec="white", mew=0.5)


class _PSF(NamedTuple):
    volume: NDArray[np.float32]
    voxel_size_um: VoxelSize


def _psfs(results: Path) -> dict[str, _PSF]:
    """PSF before, after, and the true one where the images are simulated; of the first fold."""
    models = sorted((results / "models/fig3_beads").glob("*/model.pt"))
    if not models:
        raise TenetError(f"{results}/models/fig3_beads: there is no model; fine-tune first")
    model = TrainedModel.load(models[0].parent)
    before, after, size_um = psf_before_and_after(model.network)
    psfs = {"initial": _PSF(before, size_um), "learned": _PSF(after, size_um)}
    record = results / "acquisitions/fig3_beads/acquisition.json"
    if record.exists():
        params = parse_params(read_acquisition(record)["microscope"], where=str(record))
        true = psf_volume(params.focused_psf(), before.shape, size_um)
        psfs["true"] = _PSF(true, size_um)
    return psfs


def _psf_axes(
    page: "Page",
    psfs: Mapping[str, _PSF],
    left: float,
    top: float,
    height: float,
    table: pd.DataFrame,
) -> None:
    """The PSFs side by side, and the profiles along z through their maxima."""
    first = next(iter(psfs.values()))
    planes, _, columns = first.volume.shape
    width = min(0.45, height * columns * first.voxel_size_um[2] / planes / first.voxel_size_um[0])
    half_z = planes * first.voxel_size_um[0] / 2
    half_x = columns * first.voxel_size_um[2] / 2
    for index, (which, psf) in enumerate(psfs.items()):
        axes = page.axes(left + index * (max(width, 0.36) + 0.05), top, width, height)
        cut = psf.volume[:, psf.volume.shape[1] // 2]
        axes.imshow(
            cut / cut.max(),
            cmap="gray",
            norm=PowerNorm(0.5, 0, 1),
            extent=(-half_x, half_x, half_z, -half_z),
            aspect="auto",
        )
        axes.set_title(PSFS[which][0], pad=2, fontsize=SMALL)
        axes.set(xticks=[], yticks=[])
        if index == 0:
            step = bar_length_um(2 * half_z)
            axes.set_yticks([-step, 0, step], [f"{-step:g}", "0", f"{step:g} µm"])
    start = left + len(psfs) * (max(width, 0.36) + 0.05) + 0.36
    axes = page.axes(start, top + 0.45, 7.1 - start, height - 0.45)
    for which, psf in psfs.items():
        name, colour, style = PSFS[which]
        _, y, x = np.unravel_index(int(np.argmax(psf.volume)), psf.volume.shape)
        profile = psf.volume[:, y, x] / psf.volume.max()
        position = (np.arange(planes) - (planes - 1) / 2) * psf.voxel_size_um[0]
        label = f"{name}: FWHM {_width_words(table, which, profile, psf.voxel_size_um[0])}"
        axes.plot(position, profile, style, color=colour, label=label)
    axes.axhline(0.5, color="0.7", linewidth=0.6)
    axes.set(xlabel="z (µm)", ylabel="PSF / maximum", ylim=(0, 1.05))
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.03, 1.0),
        borderaxespad=0.1,
        handlelength=1.2,
        labelspacing=0.2,
    )


def _width_words(
    table: pd.DataFrame, which: str, profile: NDArray[np.floating[Any]], step_um: float
) -> str:
    """Axial FWHM: the mean over folds of the table, else that of the profile shown."""
    row = table_row(table, which, "tenet", "psf_axial_fwhm_um")
    width = fwhm(profile, step_um) if row is None else float(row["value"])
    return f"{width:.2f} µm" if np.isfinite(width) else "wider than shown"
