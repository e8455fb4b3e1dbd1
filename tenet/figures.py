"""The figures of the paper, drawn from the files of a results folder alone.

Sizes are those of a page: 7.2 inches wide, type of 6.5 points or more. Every method has one name,
one colour (told apart by colour-blind readers, after Okabe & Ito) and one marker, in `METHODS`.
Images that stand side by side have one physical scale.
"""

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import patheffects, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Rectangle
from numpy.typing import NDArray
from scipy import ndimage

from tenet import metrics, pictures
from tenet.config import parse_params
from tenet.errors import TenetError
from tenet.evaluation import (
    PREDICTION,
    Region,
    bead_region,
    find_image,
    read_acquisition,
    read_rois,
    read_threshold,
    sweep_intervals,
    true_centre,
)
from tenet.inference import psf_before_and_after
from tenet.optics import psf_volume
from tenet.phantoms import SUFFIX as PHANTOM
from tenet.phantoms import open_phantom
from tenet.simulation import refocused
from tenet.training.store import load_model
from tenet.volumes import Stack, open_stack

VoxelSize = tuple[float, float, float]


class Method(NamedTuple):
    """How a method is named and drawn."""

    label: str
    colour: str
    marker: str


METHODS: Mapping[str, Method] = {
    "tenet": Method("TENET", "#0072B2", "o"),
    "pretrained": Method("TENET, not fine-tuned", "#56B4E9", "s"),
    "rltv": Method("RLTV (tuned)", "#D55E00", "^"),
    "rltv_paper": Method("RLTV (paper)", "#E69F00", "v"),
}
PARTS = {"noise": "with noise", "no_noise": "without noise"}
ANGLES = {"angle00": "0°", "angle45": "45°", "angle90": "90°"}
BEAD_QUANTITIES = {
    "volume_um3": ("Volume (µm³)", metrics.BEAD_VOLUME_UM3),
    "sphericity": ("Sphericity", 1.0),
    "z_xy_ratio": ("z/xy ratio", 1.0),
}
PSFS = {
    "initial": ("before", METHODS["pretrained"].colour, "-"),
    "learned": ("after", METHODS["tenet"].colour, "-"),
    "true": ("true", "black", "--"),
}

WIDTH = 7.2  # inches: two columns
#: Characters of a note that fit the width.
NOTE_CHARACTERS = 140
FONT_SIZE, SMALL = 7.0, 6.5
STYLE: dict[Any, Any] = {
    **pictures.STYLE,
    "font.size": FONT_SIZE,
    "axes.titlesize": FONT_SIZE,
    "axes.labelsize": FONT_SIZE,
    "axes.linewidth": 0.6,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.fontsize": SMALL,
    "lines.linewidth": 1.1,
    "lines.markersize": 4,
}
_THEORY: dict[str, Any] = {"color": "0.35", "linewidth": 0.8, "linestyle": (0, (4, 2))}

#: Thickness of the projected slab, in pixels, and side of a zoom as a share of the image's.
_SLAB, _ZOOM = 40, 0.4
#: Volumes of the paper's phantoms; smaller ones are called demo scale.
_PAPER_VOXELS = 1200 * 500 * 500


def save_figure(figure: Figure, path_without_suffix: Path) -> list[Path]:
    """Write a figure as PDF, without a date, and as PNG with 300 dots per inch.

    Parameters
    ----------
    figure : Figure
    path_without_suffix : Path
        ``results/fig2`` gives ``results/fig2.pdf`` and ``results/fig2.png``.

    Returns
    -------
    list of Path
        The two files.
    """
    with rc_context(STYLE):
        return [
            pictures.save(figure, Path(f"{path_without_suffix}{suffix}"), dpi=300)
            for suffix in (".pdf", ".png")
        ]


# Figure 2 -----------------------------------------------------------------------------------------


@rc_context(STYLE)
def figure2(results: Path | str, simulated: bool | None = None) -> Figure:
    """Draw phantoms and the angle study: images, and IoU of every method.

    Parameters
    ----------
    results : Path
        Root of all results.
    simulated : bool, optional
        Whether to say that the images are simulated; by default what the acquisition says.

    Returns
    -------
    Figure

    Raises
    ------
    TenetError
        If a file is missing.
    """
    results = Path(results)
    table = _read_csv(results / "tables/fig2_iou.csv")
    values = _all_metrics(results, "fig2")
    methods = _shown(table)
    angles = [name for name in ANGLES if (table["condition"] == f"{name}_noise").any()]

    views = _phantom_views(results, "fig2_phantoms", methods)
    column = (WIDTH - 0.3 - 0.08 * (len(views) - 1)) / len(views)
    height = column * min(views[0].aspect, 2.6)
    zoom_height = column
    rows = _angle_views(results, angles, methods)
    side = 0.86
    angle_side = side * min(max((r[0].aspect for r in rows), default=0), 1.5)
    a, b = 0.55, 0.55 + height + 0.06 + zoom_height + 0.42
    d = b + 1.15 + 0.98
    bottom = d + max(len(rows) * (angle_side + 0.08) + 0.1, 0.5 if not rows else 2.2)
    note = _notes(results, "fig2_phantoms", table, "iou", simulated)
    page = _Page(bottom + 0.3 + 0.13 * len(note))

    page.letter("a", 0.05, 0.08)
    part = PARTS["noise"]
    page.text(0.25, 0.11, f"Phantom, {part}: yz projection of a slab (z downwards), zoom below")
    box = _zoom_box(views[1])
    for index, view in enumerate(views):
        left = 0.15 + index * (column + 0.08)
        axes = page.axes(left, a, column, height)
        view.draw(axes, bar=index == 0)
        axes.set_title(view.title, pad=2, fontsize=SMALL)
        axes.add_patch(
            Rectangle(box[:2], box[2], box[2], fill=False, edgecolor="#F0E442", linewidth=0.8)
        )
        axes = page.axes(left, a + height + 0.06, column, zoom_height)
        view.draw(axes, within=box, bar=index == 0)

    for index, (name, words) in enumerate(PARTS.items()):
        left = 1.45 if index == 0 else 4.6
        axes = page.axes(left, b, 2.45, 1.15)
        page.letter("bc"[index], 0.05 if index == 0 else 4.3, b - 0.22)
        condition = f"phantoms_{name}"
        _strip(axes, table, values, condition, "iou", methods, labels=index == 0)
        axes.set(xlabel="IoU", xlim=(0, 1))
        axes.set_title(f"Phantoms, {words}", pad=3)
        _published_marks(axes, table, condition, methods)
    if table["published"].notna().any():
        page.text(
            1.45,
            b + 1.15 + 0.36,
            "points: images · bars: mean, 95 % interval · ◇ published, full scale "
            "(RLTV: best threshold of each image)",
        )

    if rows:
        page.letter("d", 0.05, d - 0.36)
        page.text(0.25, d - 0.33, f"Lines at an angle to the optical axis, {part}: yz projections")
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
        page.letter("e", 4.2, d - 0.36)
        axes = page.axes(4.75, d, 2.35, len(rows) * (angle_side + 0.08) - 0.98)
        _angle_axes(axes, table, angles, methods)
    page.notes(note)
    return page.figure


@dataclass(frozen=True)
class _View:
    """A flat image with the size of its pixels (rows, columns) and the values of its colours."""

    title: str
    image: NDArray[np.float32]
    pixel_um: tuple[float, float]
    limits: tuple[float, float]

    @property
    def size_um(self) -> tuple[float, float]:
        """Height and width."""
        rows, columns = self.image.shape
        return rows * self.pixel_um[0], columns * self.pixel_um[1]

    @property
    def aspect(self) -> float:
        """Height over width."""
        return self.size_um[0] / self.size_um[1]

    def draw(
        self, axes: Axes, *, within: tuple[float, float, float] | None = None, bar: bool = False
    ) -> None:
        """Draw the image, or the square (left, top, side in µm) of it."""
        pictures.show_view(axes, self.image, self.pixel_um, limits=self.limits)
        if within:
            left, top, side = within
            axes.set(xlim=(left, left + side), ylim=(top + side, top))
        if bar:
            _scale_bar(axes)


def _phantom_views(
    results: Path, experiment: str, methods: Sequence[str], part: str = "noise"
) -> list[_View]:
    """Input, truth and every method: yz projections of one slab of the first phantom."""
    path = next(iter(sorted((results / f"phantoms/{experiment}").glob(f"*{PHANTOM}"))), None)
    if path is None:
        raise TenetError(f"{results}/phantoms/{experiment}: there is no phantom to draw")
    name = path.name.removesuffix(PHANTOM)
    raw = open_stack(_existing(results / f"acquisitions/{experiment}/{part}/{name}{PREDICTION}"))
    predicted = {
        method: open_stack(
            _existing(results / f"predictions/{experiment}/{method}/{part}/{name}{PREDICTION}"),
            channel=0,
        )
        for method in methods
    }
    size_um = next(iter(predicted.values())).voxel_size_um
    if size_um is None:
        raise TenetError(f"predictions of {experiment} record no voxel size; predict again")
    truth, _ = open_phantom(path).read(slice(None), slice(None), slice(None))
    # The slab with most structure shows most.
    width = min(_SLAB, truth.shape[2])
    filled = np.convolve(truth.sum(axis=(0, 1), dtype=np.int64), np.ones(width), "valid")
    x = slice(int(filled.argmax()), int(filled.argmax()) + width)
    views = [
        _view("Input", raw, x, results),
        _View("Truth", truth[:, :, x].max(axis=2).astype(np.float32), size_um[:2], (0, 1)),
    ]
    for method, stack in predicted.items():
        views.append(_view(_two_lines(METHODS[method].label), stack, x, results))
    return views


def _view(title: str, stack: Stack, x: slice, results: Path) -> _View:
    """Projection of a slab along x; black is the lowest value, white the 99.9th percentile."""
    if stack.voxel_size_um is None:
        raise TenetError(f"{stack.path}: it records no voxel size; make {results} anew")
    image = np.concatenate(
        [stack.read(slice(z, z + 64), slice(None), x).max(axis=2) for z in _starts(stack, 64)]
    )
    return _View(title, image, stack.voxel_size_um[:2], pictures.levels(image))


def _starts(stack: Stack, step: int) -> range:
    return range(0, stack.zyx_shape[0], step)


def _angle_views(results: Path, angles: Sequence[str], methods: Sequence[str]) -> list[list[_View]]:
    chosen = [method for method in ("tenet", "rltv") if method in methods]
    return [_phantom_views(results, f"fig2_{angle}", chosen) for angle in angles]


def _zoom_box(truth: _View) -> tuple[float, float, float]:
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
    axes: Axes, table: pd.DataFrame, angles: Sequence[str], methods: Sequence[str]
) -> None:
    """IoU at each angle: filled with noise, open without; published values as diamonds."""
    step = 0.8 / len(methods)
    for i, angle in enumerate(angles):
        for j, method in enumerate(methods):
            x = i + (j - (len(methods) - 1) / 2) * step
            look = METHODS[method]
            for part, face, aside in (("noise", look.colour, -1), ("no_noise", "white", 1)):
                row = _row(table, f"{angle}_{part}", method, "iou")
                if row is None:
                    continue
                axes.errorbar(
                    x + aside * step / 5,
                    row["value"],
                    yerr=_error(row),
                    fmt=look.marker,
                    color=look.colour,
                    markerfacecolor=face,
                    markeredgewidth=0.8,
                    clip_on=False,
                )
            published = _published(table, f"{angle}_noise", method)
            if published is not None:
                _diamond(axes, x - step / 5, published)
    axes.set(
        xticks=range(len(angles)),
        xticklabels=[ANGLES[angle] for angle in angles],
        xlabel="Angle of the lines to the optical axis",
        ylabel="IoU",
        ylim=(0, 1),
        xlim=(-0.5, len(angles) - 0.5),
    )
    handles = [_handle(method) for method in methods]
    handles += [
        Line2D([], [], marker="o", linestyle="", color="0.3", label="with noise"),
        Line2D([], [], marker="o", linestyle="", color="0.3", mfc="white", label="without noise"),
    ]
    if table["published"].notna().any():
        handles.append(_diamond_handle("published, with noise"))
    axes.legend(
        handles=handles,
        ncols=2,
        loc="upper center",
        bbox_to_anchor=(0.42, -0.15),
        handletextpad=0.2,
        columnspacing=0.8,
        borderaxespad=0.2,
        labelspacing=0.2,
    )


# Figure 3 -----------------------------------------------------------------------------------------


@rc_context(STYLE)
def figure3(
    results: Path | str,
    *,
    data: Path | None = None,
    rois: Path | None = None,
    simulated: bool | None = None,
    seed: int = 0,
) -> Figure:
    """Draw beads of 2 µm: sections, shape against the threshold, volumes and the PSF.

    Parameters
    ----------
    results : Path
        Root of all results.
    data, rois : Path, optional
        Raw stacks and table of beads; by default the simulated ones of the results, and where there
        are none, ``resources/zenodo/beads`` and ``resources/bead_rois.csv``.
    simulated : bool, optional
        Whether to say that the images are simulated; by default what the acquisition says.
    seed : int
        Of the bootstrap over images behind the bands of the sweeps.

    Returns
    -------
    Figure

    Raises
    ------
    TenetError
        If a file is missing.
    """
    results = Path(results)
    table = _read_csv(results / "tables/fig3_beads.csv")
    values = _all_metrics(results, "fig3")
    sweep = _read_csv(results / "metrics/fig3_beads_sweep.csv")
    methods = _shown(table)
    acquisition = results / "acquisitions/fig3_beads"
    here = (acquisition / "acquisition.json").exists()
    data = data or (acquisition / "noise" if here else Path("resources/zenodo/beads"))
    rois = rois or (acquisition / "rois.csv" if here else Path("resources/bead_rois.csv"))
    sections = _bead_sections(results, data, rois, methods)
    psfs = _psfs(results)

    column = (WIDTH - 0.3 - 0.1 * (len(sections) - 1)) / len(sections)
    height = column * sections[0].view.aspect
    a, b = 0.55, 0.55 + height + 0.5
    c = b + 1.35 + 0.85
    tall = 1.7
    note = _notes(results, "fig3_beads", table, "total_loss", simulated)
    page = _Page(c + tall + 0.45 + 0.13 * len(note))

    page.letter("a", 0.05, 0.08)
    page.text(
        0.25, 0.11, "A bead of 2 µm, xz. Dashed: its true size; line: contour at the threshold"
    )
    for index, section in enumerate(sections):
        axes = page.axes(0.15 + index * (column + 0.1), a, column, height)
        section.draw(axes, bar=index == 0)

    page.letter("b", 0.05, b - 0.22)
    page.legend([_handle(m, line=True) for m in methods], 0.55, b - 0.22)
    lines = sweep_intervals(sweep, np.random.default_rng(seed))
    for index, (quantity, (label, theory)) in enumerate(BEAD_QUANTITIES.items()):
        axes = page.axes(0.55 + index * 2.35, b, 1.85, 1.35)
        _sweep_axes(axes, lines[lines["quantity"] == quantity], table, values, methods, quantity)
        axes.axhline(theory, **_THEORY)
        axes.set(xlabel="Threshold / range of scores", ylabel=label, xlim=(0, 1))
        axes.set_ylim(bottom=0)

    page.letter("c", 0.05, c - 0.3)
    axes = page.axes(1.45, c, 2.1, 1.35)
    _strip(axes, table, values, "beads", "volume_um3", methods, labels=True)
    axes.axvline(metrics.BEAD_VOLUME_UM3, **_THEORY)
    _published_marks(axes, table, "beads", methods, "volume_um3")
    axes.set(xlabel="Volume (µm³)")
    axes.set_xlim(left=0)
    words = f"dashed: {metrics.BEAD_VOLUME_UM3:.2f} µm³, a sphere of 2 µm"
    axes.set_title(words, pad=3, fontsize=SMALL)
    if table["published"].notna().any():
        page.text(0.25, c + 1.35 + 0.36, "points: beads · bars: mean, 95 % interval · ◇ published")

    page.letter("d", 3.72, c - 0.3)
    across = psfs["initial"].volume.shape[2] * psfs["initial"].voxel_size_um[2]
    words = f"The PSF of TENET: xz ({across:.2g} µm across), and its axial profile"
    page.text(3.92, c - 0.26, words)
    _psf_axes(page, psfs, 4.15, c + 0.05, tall, table)
    page.notes(note)
    return page.figure


@dataclass(frozen=True)
class _Section:
    """An xz section through a bead; the contour is at the threshold, the circle at the centre."""

    view: _View
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
                metrics.BEAD_DIAMETER_UM / 2,
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


def _bead_sections(results: Path, data: Path, rois: Path, methods: Sequence[str]) -> list[_Section]:
    """Raw image and predictions of the bead whose TENET volume is the median one."""
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
        centre = true_centre(results / "phantoms/fig3_beads", roi, scale)
        region = bead_region(centre, stack.zyx_shape, scale)
        label = _two_lines(METHODS[method].label)
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
    view = _View(title, image, pixel_um, pictures.levels(image))
    return _Section(view, (centre_um[0], centre_um[1]), threshold, colour)


def _typical_roi(results: Path, rois: Path) -> dict[Any, Any]:
    table = read_rois(rois)
    values = _read_csv(results / "metrics/fig3_beads.csv")
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
    for method in methods:
        look, line = METHODS[method], lines[lines["method"] == method].sort_values("threshold")
        if line.empty:
            continue
        # The sweep ends at 95 % of the range.
        share = line["threshold"] / line["threshold"].max() * 0.95
        axes.plot(share, line["value"], color=look.colour)
        axes.fill_between(share, line["low"], line["high"], color=look.colour, alpha=0.2, lw=0)
        row = _row(table, "beads", method, quantity)
        chosen = values[(values["method"] == method) & (values["quantity"] == "threshold")]["value"]
        if row is not None and not chosen.empty:
            at = chosen.mean() / line["threshold"].max() * 0.95
            axes.plot(at, row["value"], look.marker, color=look.colour, mec="white", mew=0.5)


class _PSF(NamedTuple):
    volume: NDArray[np.float32]
    voxel_size_um: VoxelSize


def _psfs(results: Path) -> dict[str, _PSF]:
    """PSF before, after, and the true one where the images are simulated; of the first fold."""
    models = sorted((results / "models/fig3_beads").glob("*/model.pt"))
    if not models:
        raise TenetError(f"{results}/models/fig3_beads: there is no model; fine-tune first")
    model, _ = load_model(models[0].parent)
    before, after, size_um = psf_before_and_after(model)
    psfs = {"initial": _PSF(before, size_um), "learned": _PSF(after, size_um)}
    record = results / "acquisitions/fig3_beads/acquisition.json"
    if record.exists():
        params = parse_params(read_acquisition(record)["microscope"], where=str(record))
        true = psf_volume(refocused(params), before.shape, size_um)
        psfs["true"] = _PSF(true, size_um)
    return psfs


def _psf_axes(
    page: "_Page",
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
            step = pictures.bar_length_um(2 * half_z)
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
    row = _row(table, which, "tenet", "psf_axial_fwhm_um")
    width = metrics.fwhm(profile, step_um) if row is None else float(row["value"])
    return f"{width:.2f} µm" if np.isfinite(width) else "wider than shown"


# What both figures share --------------------------------------------------------------------------


class _Page:
    """A page on which axes are placed in inches from the upper left corner."""

    def __init__(self, height: float) -> None:
        self.figure = Figure(figsize=(WIDTH, height))
        self.height = height

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes of a size in inches."""
        return self.figure.add_axes(
            (
                left / WIDTH,
                1 - (top + height) / self.height,
                width / WIDTH,
                height / self.height,
            )
        )

    def letter(self, letter: str, left: float, top: float) -> None:
        """Panel letter."""
        self.text(left, top, letter, fontsize=10, fontweight="bold")

    def text(self, left: float, top: float, words: str, **style: Any) -> None:
        """Words whose upper left corner is given."""
        known: dict[str, Any] = {"fontsize": SMALL, "va": "top"}
        self.figure.text(left / WIDTH, 1 - top / self.height, words, **(known | style))

    def legend(self, handles: Sequence[Line2D], left: float, top: float) -> None:
        """One line of legend."""
        self.figure.legend(
            handles=list(handles),
            ncols=len(handles),
            loc="upper left",
            bbox_to_anchor=(left / WIDTH, 1 - top / self.height),
            borderaxespad=0,
            borderpad=0,
            columnspacing=1.2,
            handletextpad=0.4,
        )

    def notes(self, lines: Sequence[str]) -> None:
        """Lines at the foot."""
        for index, line in enumerate(lines):
            self.text(0.15, self.height - 0.08 - 0.13 * (len(lines) - index), line)


def _strip(
    axes: Axes,
    table: pd.DataFrame,
    values: pd.DataFrame,
    condition: str,
    quantity: str,
    methods: Sequence[str],
    *,
    labels: bool,
) -> None:
    """A row per method: every image as a point, the mean with its interval as a bar."""
    for level, method in enumerate(methods):
        look = METHODS[method]
        chosen = values[
            (values["condition"] == condition)
            & (values["quantity"] == quantity)
            & (values["method"] == method)
        ]["value"]
        beside = level - 0.26 + (np.arange(len(chosen)) % 3 - 1) * 0.06
        axes.plot(chosen, beside, "o", color=look.colour, alpha=0.6, ms=2.5, mec="none")
        row = _row(table, condition, method, quantity)
        if row is None:
            continue
        error = _error(row)
        axes.errorbar(
            row["value"],
            level,
            xerr=error,
            fmt=look.marker,
            color=look.colour,
            markeredgecolor="white",
            markeredgewidth=0.5,
            markersize=5,
            capsize=2.5,
        )
    axes.set(
        yticks=range(len(methods)),
        yticklabels=[METHODS[m].label for m in methods] if labels else [],
        ylim=(len(methods) - 0.4, -0.6),
    )


def _published_marks(
    axes: Axes, table: pd.DataFrame, condition: str, methods: Sequence[str], quantity: str = "iou"
) -> None:
    """A diamond in the row of each method that the paper has a number of."""
    for level, method in enumerate(methods):
        published = _published(table, condition, method, quantity)
        if published is not None:
            _diamond(axes, published, level + 0.3)


def _published(
    table: pd.DataFrame, condition: str, method: str, quantity: str = "iou"
) -> float | None:
    """The paper's number; its IoU of RLTV was taken at the best threshold of each image."""
    for name in (quantity, "oracle_iou") if quantity == "iou" else (quantity,):
        row = _row(table, condition, method, name)
        if row is not None and np.isfinite(row["published"]):
            return float(row["published"])
    return None


def _diamond(axes: Axes, x: float, y: float) -> None:
    axes.plot(x, y, "D", mfc="none", mec="black", mew=0.8, ms=3.6, zorder=5)


def _diamond_handle(label: str) -> Line2D:
    return Line2D(
        [], [], marker="D", linestyle="", mfc="none", mec="black", mew=0.8, ms=3.6, label=label
    )


def _handle(method: str, *, line: bool = False) -> Line2D:
    look = METHODS[method]
    return Line2D(
        [], [], color=look.colour, marker=look.marker, label=look.label, ls="-" if line else ""
    )


def _row(table: pd.DataFrame, condition: str, method: str, quantity: str) -> pd.Series | None:
    chosen = table[
        (table["condition"] == condition)
        & (table["method"] == method)
        & (table["quantity"] == quantity)
    ]
    return None if chosen.empty else chosen.iloc[0]


def _error(row: pd.Series) -> list[list[float]] | None:
    """Distances from a mean to the ends of its interval; None where there is none."""
    if not np.isfinite(row["low"]):
        return None
    # A percentile interval may leave out the mean itself.
    below, above = row["value"] - row["low"], row["high"] - row["value"]
    return [[max(float(below), 0.0)], [max(float(above), 0.0)]]


def _scale_bar(axes: Axes) -> None:
    """A bar in the lower right corner, with its length in µm."""
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    width, height = right - left, bottom - top
    length = pictures.bar_length_um(width * 1.5)
    end, level = right - 0.06 * width, bottom - 0.05 * height
    rim = patheffects.withStroke
    axes.plot(
        [end - length, end],
        [level, level],
        color="white",
        linewidth=1.8,
        solid_capstyle="butt",
        path_effects=[rim(linewidth=2.8, foreground="black")],
    )
    axes.annotate(
        f"{length:g} µm",
        (end - length / 2, level),
        xytext=(0, 2.5),
        textcoords="offset points",
        color="white",
        fontsize=SMALL,
        ha="center",
        va="bottom",
        path_effects=[rim(linewidth=1.5, foreground="black")],
    )


def _two_lines(label: str) -> str:
    return label.replace(", ", ",\n")


def _shown(table: pd.DataFrame) -> list[str]:
    """Methods of a table, in the order of `METHODS`."""
    methods = [method for method in METHODS if (table["method"] == method).any()]
    if not methods:
        raise TenetError(f"the table has none of the methods {', '.join(METHODS)}")
    return methods


def _all_metrics(results: Path, figure: str) -> pd.DataFrame:
    """Every value behind a figure, with the condition that its table has."""
    paths = [
        path
        for path in sorted((results / "metrics").glob(f"{figure}_*.csv"))
        if not path.stem.endswith("_sweep")
    ]
    if not paths:
        raise TenetError(f"{results}/metrics: there are no values of {figure}; evaluate first")
    values = pd.concat([_read_csv(path) for path in paths], ignore_index=True)
    condition = values["experiment"].str.removeprefix(f"{figure}_")
    if figure == "fig2":
        condition = condition + "_" + values["part"]
    return values.assign(condition=condition)


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise TenetError(f"{path}: the table cannot be read ({error}); make it first") from None


def _existing(path: Path) -> Path:
    if not path.exists():
        raise TenetError(f"{path}: this file is missing; run what makes it first")
    return path


# Notes at the foot --------------------------------------------------------------------------------


def _notes(
    results: Path, experiment: str, table: pd.DataFrame, quantity: str, simulated: bool | None
) -> list[str]:
    """Who does best, and where the images come from."""
    lines = list(_winners(table, quantity))
    acquisition = results / f"acquisitions/{experiment}/acquisition.json"
    if simulated is None:
        simulated = acquisition.exists()
    if simulated:
        lines.append(_simulation(results, experiment, read_acquisition(acquisition)))
    return [part for line in lines for part in textwrap.wrap(line, NOTE_CHARACTERS)]


def _winners(table: pd.DataFrame, quantity: str) -> Iterator[str]:
    """The best method of each condition, by name, whichever it is."""
    if quantity == "total_loss":
        best = _best(table, "beads", quantity)
        if best:
            yield f"Lowest mean total loss of a bead: {best}."
        return
    chosen_on = "(threshold of each method chosen on held-out phantoms)"
    phantoms = [
        f"{words} {best}"
        for part, words in PARTS.items()
        if (best := _best(table, f"phantoms_{part}", quantity))
    ]
    if phantoms:
        yield f"Highest mean IoU on phantoms {chosen_on}: {'; '.join(phantoms)}."
    for part, words in PARTS.items():
        lines = [
            f"{angle} {best}"
            for name, angle in ANGLES.items()
            if (best := _best(table, f"{name}_{part}", quantity))
        ]
        if lines:
            yield f"Highest mean IoU on lines {words}: {'; '.join(lines)}."


def _best(table: pd.DataFrame, condition: str, quantity: str) -> str | None:
    """Method of the best mean, with TENET's mean beside it if it is another."""
    chosen = table[
        (table["quantity"] == quantity)
        & (table["condition"] == condition)
        & table["method"].isin(list(METHODS))
    ]
    means = chosen.set_index("method")["value"].dropna()
    if means.empty:
        return None
    best = str(means.idxmin() if quantity == "total_loss" else means.idxmax())
    words = f"{METHODS[best].label} {means[best]:.2f}"
    return (
        words
        if best == "tenet" or "tenet" not in means
        else f"{words} (TENET {means['tenet']:.2f})"
    )


def _simulation(results: Path, experiment: str, record: Mapping[str, Any]) -> str:
    """Say that images are simulated, how many, and by which microscope."""
    phantoms = sorted((results / f"phantoms/{experiment}").glob(f"*{PHANTOM}"))
    what, scale = "", ""
    if phantoms:
        shape = open_phantom(phantoms[0]).zyx_shape
        size = " × ".join(map(str, shape))
        plural = "s" if len(phantoms) > 1 else ""
        what = f"{len(phantoms)} volume{plural} of {size} voxels"
        scale = ", demo scale" if np.prod(shape) < _PAPER_VOXELS else ""
    hidden = dict(record["microscope"])
    words = [what] if what else []
    assumed = _assumed(results, experiment)
    lengths = ("wavelength", "ti0", "tg", "pZ")
    keys = ("NA", "ni", "ns", "ng", "photons", *lengths)
    different = [k for k in keys if k in assumed and hidden.get(k) != assumed[k]]

    def said(params: Mapping[str, Any], keys: Sequence[str]) -> str:
        return ", ".join(f"{k} {params[k]:g}{' µm' if k in lengths else ''}" for k in keys)

    told = said(hidden, different or ["NA"])
    if different:
        told += f" (assumed {said(assumed, different)})"
    elif assumed:
        told += " (as assumed)"
    words.append(f"hidden PSF: {told}")
    if record.get("motion_px"):
        words.append(f"planes shifted by {record['motion_px']:g} px (SD)")
    return f"Simulated acquisitions{scale}: {'; '.join(words)}."


def _assumed(results: Path, experiment: str) -> dict[str, Any]:
    """The microscope that the fine-tuned model was told of."""
    for path in sorted((results / f"models/{experiment}").glob("*/experiment.json")):
        try:
            return dict(json.loads(path.read_text(encoding="utf-8"))["params"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TenetError(f"{path} cannot be read ({error}); fine-tune again") from None
    return {}
