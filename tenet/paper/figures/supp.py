"""Supplement: beads with one loss left out, doubled or added, and with a Gaussian PSF."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tenet.errors import TenetError
from tenet.metrics.shapes import BEAD_VOLUME_UM3
from tenet.paper.evaluate.definitions import PUBLISHED_DEFINITION
from tenet.paper.evaluate.summary import DIFFERENCE, FEWEST_IMAGES, sweep_intervals
from tenet.paper.evaluate.tables import REFERENCE, REFERENCE_EXPERIMENT
from tenet.paper.figures.notes import published_note, simulation_note, wrapped
from tenet.paper.figures.page import Page, in_style
from tenet.paper.figures.strips import Row, diamond, draw_rows, mean_bar, name_rows, table_row
from tenet.paper.figures.style import METHODS, SMALL, STRIP, THEORY
from tenet.paper.figures.tables import read_csv

#: The published method, on the beads of the ablations, with nothing changed.
AS_PUBLISHED = "as_published"
LABELS = {
    REFERENCE: "nothing changed",
    AS_PUBLISHED: METHODS["tenet_published"].label,
    "no_ewc": "without EWC",
    "no_psf": "without PSF loss",
    "no_vq": "without VQ loss",
    "x2_ewc": "EWC × 2",
    "x2_psf": "PSF loss × 2",
    "x2_vq": "VQ loss × 2",
    "mrf": "with MRF",
    "gaussian_psf": "Gaussian PSF",
}
#: Names in the paper's table of beads.
PUBLISHED_VARIANTS = {
    REFERENCE: "tenet",
    AS_PUBLISHED: "tenet",
    "no_ewc": "without ewc loss",
    "no_psf": "without psf loss",
    "no_vq": "without vq loss",
    "x2_ewc": "x2 ewc loss",
    "x2_psf": "x2 psf loss",
    "x2_vq": "x2 vq loss",
    "mrf": "x1_mrf",
}
QUANTITIES = {
    "total_loss": ("Total loss", 0.0),
    "volume_um3": ("Volume (µm³)", BEAD_VOLUME_UM3),
    "sphericity": ("Sphericity", 1.0),
    "z_xy_ratio": ("z/xy ratio", 1.0),
}


@in_style
def supplement(
    results: Path,
    *,
    simulated: bool | None = None,
    published_beads: Path | str | None = None,
    seed: int = 0,
) -> Figure:
    """Draw the bead measures of every ablation, what it changes, sweeps and training curves.

    Beside the ablations stands the published method with nothing changed, where it is in the run.

    An ablation whose difference to the reference may be chance is drawn in grey, and the figure
    says so.

    Parameters
    ----------
    simulated : bool, optional
        Whether the images are simulated; by default if there are simulated ones in the results.
    published_beads : Path, optional
        The paper's measures of each bead (CSV: variant, roi, and `QUANTITIES`).
    seed : int
        Of the bootstrap over images behind the bands of the sweeps.
    """
    table = read_csv(results / "tables/supp_ablations.csv")
    shown = [c for c in table["condition"].unique() if PUBLISHED_DEFINITION not in c]
    shown = [
        name for name in (*shown, AS_PUBLISHED) if _summary(table, name, "total_loss") is not None
    ]
    names = [name for name in LABELS if name in shown]
    names += sorted(set(shown) - set(names))
    if not names:
        raise TenetError("the table has none of the ablations; evaluate them first")
    values = pd.concat([_beads(results, name, "").assign(name=name) for name in names])
    changed = [name for name in names if name not in (REFERENCE, AS_PUBLISHED)]
    seen = values[values["name"].isin(changed)]["part"].unique()
    values = values[values["part"].isin(seen)]
    colours = dict(zip(names, colormaps["tab20"](np.arange(20)), strict=False))
    paper = None if published_beads is None else read_csv(Path(published_beads))
    tall = STRIP * len(names)
    b = 0.5 + tall + 0.95
    c = b + STRIP * len(changed) + 0.8
    d = c + 1.2 + 0.75
    simulation = simulation_note(results, REFERENCE_EXPERIMENT) if simulated is not False else []
    note = wrapped([*_notes(results, table, changed), *published_note(table), *simulation])
    page = Page(d + 1.3 + 0.5, note)

    page.heading("a", 0.1, "2 µm beads: points beads, bars mean and 95 % interval over images")
    for index, (quantity, (label, theory)) in enumerate(QUANTITIES.items()):
        axes = page.axes(1.15 + index * 1.52, 0.5, 1.38, tall)
        _rows(axes, table, values, names, quantity, labels=index == 0)
        axes.axvline(theory, color="0.35", linewidth=0.8, linestyle=(0, (4, 2)))
        _published(axes, table, paper, names, quantity)
        axes.set(xlabel=label)
        _limits(axes, table, names, quantity)
        axes.xaxis.set_major_locator(MaxNLocator(3, prune="upper"))
    shown_of_paper = "" if paper is None else ", grey points its beads"
    page.text(
        1.15,
        0.5 + tall + 0.36,
        f"dashed: ideal · ◇ published, by the paper's definition at threshold 0.5{shown_of_paper}",
    )

    words = (
        f"Total loss less that of '{LABELS[REFERENCE]}', on the same beads: mean and 95 % interval"
    )
    page.heading("b", b - 0.24, f"{words} over images")
    _differences(page.axes(1.15, b, 2.6, STRIP * len(changed)), table, changed)

    page.heading("c", c - 0.24, "Against the threshold, with 95 % intervals over images")
    sweeps = {}
    for name in (name for name in names if name != AS_PUBLISHED):  # figure 3 has its sweep
        sweep = _beads(results, name, "_sweep")
        sweep = sweep[sweep["part"].isin(seen)]
        sweeps[name] = sweep_intervals(sweep, np.random.default_rng(seed))
    for index, (quantity, (label, theory)) in enumerate(QUANTITIES.items()):
        axes = page.axes(0.5 + index * 1.74, c, 1.3, 1.2)
        for name, lines in sweeps.items():
            line = lines[lines["quantity"] == quantity].sort_values("threshold")
            axes.plot(line["threshold"], line["value"], color=colours[name], label=_label(name))
            axes.fill_between(
                line["threshold"], line["low"], line["high"], color=colours[name], alpha=0.12, lw=0
            )
        axes.axhline(theory, color="0.35", linewidth=0.8, linestyle=(0, (4, 2)))
        axes.set(xlabel="Threshold", ylabel=label, xlim=(0, 1))
        axes.set_ylim(bottom=0)

    page.heading("d", d - 0.24, "Validation loss while fine-tuning, a line for each fold")
    axes = page.axes(0.55, d, 3.6, 1.3)
    for name in (name for name in names if name != AS_PUBLISHED):  # its loss is another one
        for path in sorted((results / f"models/{_experiment(name)}").glob("*/history.csv")):
            if path.parent.name in seen:
                history = read_csv(path)
                axes.plot(history["epoch"], history["validation"], color=colours[name])
    axes.set(xlabel="Epoch", ylabel="Loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, labels = page.figure.axes[-2].get_legend_handles_labels()
    axes.legend(handles, labels, loc="upper left", bbox_to_anchor=(1.05, 1.02), borderaxespad=0)
    return page.figure


def _differences(axes: Axes, table: pd.DataFrame, names: list[str]) -> None:
    """A row for each ablation: what it changes, in words as well; in grey what may be chance."""
    axes.axvline(0, **THEORY)
    for level, name in enumerate(names):
        row = table_row(table, name, "tenet", f"total_loss{DIFFERENCE}")
        told = row is not None and _told_apart(row)
        look = METHODS["tenet"] if told else METHODS["tenet"]._replace(colour="0.6")
        if row is not None:
            mean_bar(axes, row, level, look, size=5)
        axes.annotate(
            _verdict(row),
            (1, level),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            color="black" if told else "0.4",
            fontsize=SMALL,
            va="center",
        )
    name_rows(axes, [_label(name) for name in names], shown=True)
    axes.set(xlabel="Difference of the total loss (right of 0: worse)")
    axes.xaxis.set_major_locator(MaxNLocator(5))


def _told_apart(row: pd.Series) -> bool:
    """Whether the interval of a difference leaves out 0."""
    return bool(row["low"] > 0 or row["high"] < 0)


def _verdict(row: pd.Series | None) -> str:
    """What the interval of a difference says."""
    if row is None:
        return "'nothing changed' was not evaluated"
    value = f"{row['value']:+z.3f}"
    if not np.isfinite(row["low"]):
        return f"{value}: fewer than {FEWEST_IMAGES} images, too few to tell"
    interval = f"{value} ({row['low']:+z.3f} to {row['high']:+z.3f})"
    if not _told_apart(row):
        return f"{interval}: no difference found at this scale"
    return f"{interval}: {'worse' if row['value'] > 0 else 'better'}"


def _experiment(name: str) -> str:
    return REFERENCE_EXPERIMENT if name in (REFERENCE, AS_PUBLISHED) else f"supp_{name}"


def _method(name: str) -> str:
    return "tenet_published" if name == AS_PUBLISHED else "tenet"


def _beads(results: Path, name: str, kind: str) -> pd.DataFrame:
    """Measures or, for ``"_sweep"``, threshold sweep of the beads of a row."""
    table = read_csv(results / f"metrics/{_experiment(name)}{kind}.csv")
    return table[table["method"] == _method(name)]


def _summary(table: pd.DataFrame, name: str, quantity: str) -> pd.Series | None:
    """Find the summary of a row."""
    condition = REFERENCE if name == AS_PUBLISHED else name
    return table_row(table, condition, _method(name), quantity)


def _label(name: str) -> str:
    return LABELS.get(name, name.replace("_", " "))


def _rows(
    axes: Axes,
    table: pd.DataFrame,
    values: pd.DataFrame,
    names: list[str],
    quantity: str,
    *,
    labels: bool,
) -> None:
    """A row for each name: beads as points, the mean with its interval as a bar."""
    rows = [
        Row(
            level,
            values[(values["name"] == name) & (values["quantity"] == quantity)]["value"],
            _summary(table, name, quantity),
            METHODS[_method(name)],
        )
        for level, name in enumerate(names)
    ]
    draw_rows(axes, rows)
    name_rows(axes, [_label(name) for name in names], shown=labels)


def _published(
    axes: Axes, table: pd.DataFrame, paper: pd.DataFrame | None, names: list[str], quantity: str
) -> None:
    """The paper's mean, or that of its beads, as a diamond; the beads as points."""
    for level, name in enumerate(names):
        beads = pd.Series(dtype=float)
        if paper is not None and name in PUBLISHED_VARIANTS:
            beads = paper[paper["variant"] == PUBLISHED_VARIANTS[name]][quantity]
        axes.plot(
            beads, [level + 0.28] * len(beads), "o", color="0.6", alpha=0.4, ms=1.8, mec="none"
        )
        row = _summary(table, name, quantity)
        value = float("nan") if row is None else float(row["published"])
        value = value if np.isfinite(value) else float(beads.mean())
        if np.isfinite(value):
            diamond(axes, value, level + 0.28)


def _limits(axes: Axes, table: pd.DataFrame, names: list[str], quantity: str) -> None:
    """Fit the axis to the ablations; a mean of the published method beyond it is told instead."""
    known = [(name, _summary(table, name, quantity)) for name in names]
    means = {name: float(row["value"]) for name, row in known if row is not None}
    published = means.pop(AS_PUBLISHED, 0.0)
    beads = [line for line in axes.lines if line.get_color() == "0.6"]  # the paper's
    drawn = np.concatenate([[0.0], *(np.asarray(line.get_xdata(), float) for line in beads)])
    right = 1.1 * max(*means.values(), float(drawn.max()), QUANTITIES[quantity][1])
    if published <= right:
        axes.set_xlim(left=0)
        return
    axes.set_xlim(0, right)
    axes.text(right, names.index(AS_PUBLISHED), f"{published:.3g} →", fontsize=SMALL, ha="right")


def _notes(results: Path, table: pd.DataFrame, names: list[str]) -> list[str]:
    """Which ablations differ from the reference, unless the training leaves no difference."""
    path = next(iter(sorted((results / f"models/supp_{names[0]}").glob("*/provenance.json"))), None)
    if path is not None and '"mode": "decoder"' in path.read_text(encoding="utf-8"):
        return [
            "PSF and noise alone were fine-tuned here: losses of the network (EWC, VQ, MRF) move "
            "nothing, and their rows are alike."
        ]
    rows = {name: table_row(table, name, "tenet", f"total_loss{DIFFERENCE}") for name in names}
    told = [_label(name) for name, row in rows.items() if row is not None and _told_apart(row)]
    differ = f"differ from '{LABELS[REFERENCE]}' beyond chance"
    if not told:
        return [f"None of {len(names)} changes can be told to {differ} at this scale."]
    return [f"Of {len(names)} changes {len(told)} {differ}: {', '.join(told)}."]
