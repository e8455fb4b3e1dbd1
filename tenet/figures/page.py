"""What the figures share: methods and their looks, a page in inches, views, strips, notes.

Sizes are those of a page: 7.2 inches wide, type of 6.5 points or more. Every method has one name,
one colour (told apart by colour-blind readers, after Okabe & Ito) and one marker, in `METHODS`.
Images that stand side by side have one physical scale.
"""

import json
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import patheffects, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from tenet import metrics, pictures
from tenet.errors import TenetError
from tenet.evaluation import (
    published_as_method,
    read_acquisition,
)
from tenet.io.records import read_table
from tenet.io.stack import Stack
from tenet.phantoms import SUFFIX as PHANTOM
from tenet.phantoms import open_phantom

VoxelSize = tuple[float, float, float]


class Method(NamedTuple):
    """How a method is named and drawn."""

    label: str
    colour: str
    marker: str


METHODS: Mapping[str, Method] = {
    "tenet": Method("TENET", "#0072B2", "o"),
    "pretrained": Method("TENET, not fine-tuned", "#56B4E9", "s"),
    "tenet_published": Method("TENET (published)", "0.45", "h"),
    "rltv": Method("RLTV (tuned)", "#D55E00", "^"),
    "rltv_paper": Method("RLTV (paper)", "#E69F00", "v"),
    "care": Method("CARE", "#009E73", "P"),
    "neuroclear": Method("Neuroclear", "#CC79A7", "X"),
}
#: What is measured beside the methods.
LOOKS: Mapping[str, Method] = {
    "raw": Method("Raw stack", "black", "D"),
    "truth": Method("Truth", "0.55", "*"),
    **METHODS,
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
THEORY: dict[str, Any] = {"color": "0.35", "linewidth": 0.8, "linestyle": (0, (4, 2))}

#: Height of a row of a strip plot, in inches.
STRIP = 0.28
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


@dataclass(frozen=True)
class View:
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
            scale_bar(axes)


def slab_view(title: str, stack: Stack, x: slice, results: Path) -> View:
    """Projection of a slab along x; black is the lowest value, white the 99.9th percentile."""
    if stack.voxel_size_um is None:
        raise TenetError(f"{stack.path}: it records no voxel size; make {results} anew")
    image = np.concatenate(
        [stack.read(slice(z, z + 64), slice(None), x).max(axis=2) for z in _starts(stack, 64)]
    )
    return View(title, image, stack.voxel_size_um[:2], pictures.levels(image))


def fullest_slab(truth: NDArray[np.uint8], width: int = 40) -> slice:
    """The slab along x, this many pixels thick, with the most structure: it shows most."""
    width = min(width, truth.shape[2])
    filled = np.convolve(truth.sum(axis=(0, 1), dtype=np.int64), np.ones(width), "valid")
    first = int(filled.argmax())
    return slice(first, first + width)


def _starts(stack: Stack, step: int) -> range:
    return range(0, stack.zyx_shape[0], step)


class Page:
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


def strip_plot(
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
        look = LOOKS[method]
        chosen = values[
            (values["condition"] == condition)
            & (values["quantity"] == quantity)
            & (values["method"] == method)
        ]["value"]
        beside = level - 0.26 + (np.arange(len(chosen)) % 3 - 1) * 0.06
        axes.plot(chosen, beside, "o", color=look.colour, alpha=0.6, ms=2.5, mec="none")
        row = table_row(table, condition, method, quantity)
        if row is None:
            continue
        error = interval_lengths(row)
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
        yticklabels=[LOOKS[m].label for m in methods] if labels else [],
        ylim=(len(methods) - 0.4, -0.6),
    )


def wide_axis(axes: Axes) -> None:
    """Begin at 0; go on by decades, from the least value's, where values span more than one."""
    least, most = axes.dataLim.minposx, axes.dataLim.x1
    if most > 10 * least:
        decade = 10.0 ** math.floor(math.log10(least))
        axes.set_xscale("symlog", linthresh=decade, linscale=0.6)
        axes.set_xlim(right=1.5 * most)
    axes.set_xlim(left=0)


def grouped_strips(
    axes: Axes,
    table: pd.DataFrame,
    values: pd.DataFrame,
    quantity: str,
    labels: Mapping[str, str],
    methods: Sequence[str],
) -> None:
    """For each condition (and its label) a row per method: images as points, the mean as a bar."""
    ticks = []
    for i, condition in enumerate(labels):
        for j, method in enumerate(methods):
            level = i * (len(methods) + 0.5) + j
            look = METHODS[method]
            chosen = values[
                (values["condition"] == condition)
                & (values["method"] == method)
                & (values["quantity"] == quantity)
            ]["value"]
            axes.plot(chosen, [level - 0.25] * len(chosen), "o", color=look.colour, alpha=0.6, ms=2)
            row = table_row(table, condition, method, quantity)
            if row is not None:
                axes.errorbar(
                    row["value"],
                    level,
                    xerr=interval_lengths(row),
                    fmt=look.marker,
                    color=look.colour,
                    capsize=2.5,
                )
        ticks.append(i * (len(methods) + 0.5) + (len(methods) - 1) / 2)
    axes.set(
        yticks=ticks,
        yticklabels=list(labels.values()),
        ylim=(ticks[-1] + len(methods) / 2 + 0.2, -0.7),
    )


def published_marks(
    axes: Axes, table: pd.DataFrame, condition: str, methods: Sequence[str], quantity: str = "iou"
) -> None:
    """A diamond in the row of each method that the paper has a number of."""
    for level, method in enumerate(methods):
        published = published_value(table, condition, method, quantity)
        if published is not None:
            diamond(axes, published, level + 0.3)


def published_value(
    table: pd.DataFrame, condition: str, method: str, quantity: str = "iou"
) -> float | None:
    """The paper's number; its IoU of RLTV was taken at the best threshold of each image."""
    for name in (quantity, "oracle_iou") if quantity == "iou" else (quantity,):
        row = table_row(table, condition, method, name)
        if row is not None and np.isfinite(row["published"]):
            return float(row["published"])
    return None


def diamond(axes: Axes, x: float, y: float) -> None:
    """Mark a published value."""
    axes.plot(x, y, "D", mfc="none", mec="black", mew=0.8, ms=3.6, zorder=5)


def diamond_handle(label: str) -> Line2D:
    """The mark of published values for a legend."""
    return Line2D(
        [], [], marker="D", linestyle="", mfc="none", mec="black", mew=0.8, ms=3.6, label=label
    )


def method_handle(method: str, *, line: bool = False) -> Line2D:
    """The look of a method for a legend."""
    look = LOOKS[method]
    return Line2D(
        [], [], color=look.colour, marker=look.marker, label=look.label, ls="-" if line else ""
    )


def table_row(table: pd.DataFrame, condition: str, method: str, quantity: str) -> pd.Series | None:
    """A row of a table, or None if it has none such."""
    chosen = table[
        (table["condition"] == condition)
        & (table["method"] == method)
        & (table["quantity"] == quantity)
    ]
    return None if chosen.empty else chosen.iloc[0]


def interval_lengths(row: pd.Series) -> list[list[float]] | None:
    """Distances from a mean to the ends of its interval; None where there is none."""
    if not np.isfinite(row["low"]):
        return None
    # A percentile interval may leave out the mean itself.
    below, above = row["value"] - row["low"], row["high"] - row["value"]
    return [[max(float(below), 0.0)], [max(float(above), 0.0)]]


def scale_bar(axes: Axes, *, at_left: bool = False) -> None:
    """A bar in the lower right corner, or left, with its length in µm."""
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    width, height = right - left, bottom - top
    length = pictures.bar_length_um(width * 1.5)
    end = left + 0.06 * width + length if at_left else right - 0.06 * width
    level = bottom - 0.05 * height
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


def two_lines(label: str) -> str:
    """Break a label at its comma."""
    return label.replace(", ", ",\n")


def shown_methods(table: pd.DataFrame) -> list[str]:
    """Methods of a table, in the order of `METHODS`."""
    methods = [method for method in METHODS if (table["method"] == method).any()]
    if not methods:
        raise TenetError(f"the table has none of the methods {', '.join(METHODS)}")
    return methods


def all_metrics(results: Path, figure: str) -> pd.DataFrame:
    """Every value behind a figure, with the condition that its table has."""
    paths = [
        path
        for path in sorted((results / "metrics").glob(f"{figure}_*.csv"))
        if not path.stem.endswith("_sweep")
    ]
    if not paths:
        raise TenetError(f"{results}/metrics: there are no values of {figure}; evaluate first")
    values = pd.concat([read_csv(path) for path in paths], ignore_index=True)
    condition = values["experiment"].str.removeprefix(f"{figure}_")
    if figure == "fig2":
        condition = condition + "_" + values["part"]
    return published_as_method(values.assign(condition=condition))


def read_csv(path: Path) -> pd.DataFrame:
    """Read a table, or say that it has to be made first."""
    return read_table(existing(path))


def existing(path: Path) -> Path:
    """Return the path of a file, or say that it is missing."""
    if not path.exists():
        raise TenetError(f"{path}: this file is missing; run what makes it first")
    return path


# Notes at the foot --------------------------------------------------------------------------------


def notes(
    results: Path, experiment: str, table: pd.DataFrame, quantity: str, simulated: bool | None
) -> list[str]:
    """Who does best, and where the images come from."""
    simulation = simulation_note(results, experiment) if simulated is not False else []
    return wrapped([*winners(table, quantity), *budget_note(results, experiment), *simulation])


def budget_note(results: Path, experiment: str) -> list[str]:
    """How long the baselines were trained that learn, and which results lie elsewhere."""
    words, elsewhere = [], []
    for method in ("care", "neuroclear"):
        folds = sorted((results / f"baselines/{method}/{experiment}").glob("*/settings.json"))
        if not folds:
            continue
        records = [json.loads(path.read_text(encoding="utf-8")) for path in folds]
        settings = records[0]["settings"]
        steps = settings["n_epochs"] * settings["steps_per_epoch"]
        label = METHODS[method].label
        most = max(int(record.get("trainings", 1)) for record in records)
        again = f", up to {most} times" if most > 1 else ""
        words.append(f"{label} for {steps} steps (batch size {settings['batch_size']}){again}")
        if not all(record["registered"] for record in records):
            elsewhere.append(label)
    lines = [f"Trained: {', '.join(words)}."] if words else []
    if elsewhere:
        lines.append(f"{' and '.join(elsewhere)} could not be registered: more training is needed.")
    return lines


def wrapped(lines: Sequence[str]) -> list[str]:
    """Break lines that are wider than the page."""
    return [part for line in lines for part in textwrap.wrap(line, NOTE_CHARACTERS)]


def simulation_note(results: Path, experiment: str, phantoms: str | None = None) -> list[str]:
    """Say that images are simulated and how, if they are; `phantoms` if of another experiment."""
    acquisition = results / f"acquisitions/{experiment}/acquisition.json"
    if not acquisition.exists():
        return []
    record = read_acquisition(acquisition)
    return [_simulation(results, experiment, phantoms or experiment, record)]


def winners(table: pd.DataFrame, quantity: str) -> Iterator[str]:
    """The best method of each condition, by name, whichever it is."""
    if quantity == "total_loss":
        best = best_method(table, "beads", quantity)
        if best:
            yield f"Lowest mean total loss of a bead: {best}."
        return
    chosen_on = "(threshold of each method chosen on held-out phantoms)"
    phantoms = [
        f"{words} {best}"
        for part, words in PARTS.items()
        if (best := best_method(table, f"phantoms_{part}", quantity))
    ]
    if phantoms:
        yield f"Highest mean IoU on phantoms {chosen_on}: {'; '.join(phantoms)}."
    for part, words in PARTS.items():
        lines = [
            f"{angle} {best}"
            for name, angle in ANGLES.items()
            if (best := best_method(table, f"{name}_{part}", quantity))
        ]
        if lines:
            yield f"Highest mean IoU on lines {words}: {'; '.join(lines)}."


def best_method(table: pd.DataFrame, condition: str, quantity: str) -> str | None:
    """Method of the best mean, with TENET's mean and rank beside it if it is another."""
    chosen = table[
        (table["quantity"] == quantity)
        & (table["condition"] == condition)
        & table["method"].isin(list(METHODS))
    ]
    means = chosen.set_index("method")["value"].dropna()
    if means.empty:
        return None
    means = means.sort_values(ascending=quantity == "total_loss")
    best = str(means.index[0])
    words = f"{METHODS[best].label} {means[best]:.2f}"
    if best == "tenet" or "tenet" not in means:
        return words
    place = list(means.index).index("tenet") + 1
    return f"{words} (TENET {means['tenet']:.2f}, place {place} of {len(means)})"


def _simulation(results: Path, experiment: str, phantom_set: str, record: Mapping[str, Any]) -> str:
    """Say that images are simulated, how many, and by which microscope."""
    phantoms = sorted((results / f"phantoms/{phantom_set}").glob(f"*{PHANTOM}"))
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
