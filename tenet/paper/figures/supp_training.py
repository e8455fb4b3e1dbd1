"""Supplement: how every network was trained, epoch by epoch."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from tenet.errors import TenetError
from tenet.paper.figures.notes import wrapped
from tenet.paper.figures.page import Page, in_style
from tenet.paper.figures.style import METHODS
from tenet.paper.figures.tables import read_csv

COLUMNS = 5
#: Folders of histories below the results, their titles, and the methods of their colours. Of two
#: folders in one another the inner one comes first.
KINDS = {
    "models/published": ("TENET (published)", "tenet_published"),
    "models": ("TENET", "tenet"),
    "baselines/care": ("CARE", "care"),
    "baselines/neuroclear": ("Neuroclear", "neuroclear"),
}


@in_style
def training_figure(results: Path, histories: Sequence[Path | str] | None = None) -> Figure:
    """Draw the training and validation loss of every model: pre-trained, fine-tuned, baselines.

    Parameters
    ----------
    histories : sequence of Path, optional
        The ``history.csv`` files to show; by default all that lie in the results.

    Raises
    ------
    TenetError
        If nothing was trained, or a history cannot be read.
    """
    if histories is None:
        histories = sorted(results.glob("models/**/history.csv"))
        histories += sorted(results.glob("baselines/**/history.csv"))
    panels = _grouped(results, [Path(path) for path in histories])
    if not panels:
        raise TenetError(f"{results}: there is no history of a training in it")
    note = wrapped(
        [
            "A line for each fold (one epoch is a dot, hollow for training). Losses differ in "
            "kind: pre-training is supervised on phantoms; fine-tuning is the negative "
            "log-likelihood of raw stacks with priors, below 0 where the noise is small (rehearsal "
            "on phantoms is left out), a mean over random crops in training, so that it may rise "
            "while that of the fixed validation crops falls; CARE's is an absolute error; that of "
            "Neuroclear's game need not fall. Vertical scales differ."
        ]
    )
    rows = -(-len(panels) // COLUMNS)
    page = Page(0.55 + rows * 1.2 + 0.25, note)
    handles = [
        Line2D([], [], color="0.3", linewidth=0.7, linestyle=":", label="training loss"),
        Line2D([], [], color="0.3", label="validation loss"),
    ]
    page.legend(handles, 0.3, 0.1)
    for index, (title, method, folds) in enumerate(panels):
        row, column = divmod(index, COLUMNS)
        axes = page.axes(0.36 + column * 1.4, 0.5 + row * 1.2, 0.95, 0.62)
        _panel(axes, folds, METHODS[method].colour)
        axes.set_title(title, pad=2, fontsize=6.5)
        if row == (len(panels) - 1 - column) // COLUMNS:
            axes.set_xlabel("Epoch", labelpad=1)
    return page.figure


def _grouped(results: Path, paths: Sequence[Path]) -> list[tuple[str, str, list[pd.DataFrame]]]:
    """Title, method and histories of each panel; the folds of a training share one."""
    panels: dict[tuple[int, str, int], tuple[str, str, list[pd.DataFrame]]] = {}
    for path in paths:
        folder = next((f for f in KINDS if path.is_relative_to(results / f)), None)
        if folder is None:
            raise TenetError(f"{path} lies outside of the models and baselines of {results}")
        kind, method = KINDS[folder]
        *named, last = path.parent.relative_to(results / folder).parts
        place = list(KINDS).index(folder)
        if last == "alignment":
            key, title = (0, f"{named[-1]} {last}", place), f"{named[-1]}\n{last}"
        elif named:
            key, title = (1 + place, "/".join(named), place), f"{named[-1]}\n{kind}"
        else:
            words = "pre-training, published" if method == "tenet_published" else "pre-training"
            key, title = (0, last, place), f"{last}\n{words}"
        panels.setdefault(key, (title, method, []))[2].append(read_csv(path))
    return [panels[key] for key in sorted(panels)]


def _panel(axes: Axes, histories: list[pd.DataFrame], colour: str) -> None:
    for history in histories:
        training = history["training"] - history.get("training_rehearsal", 0.0)
        marker = "o" if len(history) == 1 else None  # a line needs two epochs
        for values, style, width, fill in (
            (training, ":", 0.7, "white"),
            (history["validation"], "-", 0.9, colour),
        ):
            axes.plot(
                history["epoch"],
                values,
                style,
                color=colour,
                linewidth=width,
                marker=marker,
                markersize=3,
                markerfacecolor=fill,
            )
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    if all(len(history) == 1 for history in histories):
        axes.set_xticks([1])
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.tick_params(labelsize=6, pad=1, length=2)
