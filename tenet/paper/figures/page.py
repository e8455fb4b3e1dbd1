"""What the figures share: methods and their looks, a page in inches, views, strips, notes.

Sizes are those of a page: 7.2 inches wide, type of 6.5 points or more. Every method has one name,
one colour (of Okabe & Ito, for colour-blind readers) and one marker, in `METHODS`. Images that
stand side by side have one physical scale.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import numpy as np
from matplotlib import patheffects, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from tenet.enhance.views import bar_length_um, save, show_view
from tenet.paper.figures.style import SMALL, STYLE, WIDTH

#: Between columns, in inches.
GAP = 0.08


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
            save(figure, Path(f"{path_without_suffix}{suffix}"), dpi=300)
            for suffix in (".pdf", ".png")
        ]


def show(figure: Figure, results: Path | str, name: str) -> Any:
    """Write a figure into the results, and return its image for a notebook."""
    from IPython.display import Image  # in notebooks alone

    _, png = save_figure(figure, Path(results) / name)
    return Image(png, width=864)


P = ParamSpec("P")


def in_style(
    draw: Callable[Concatenate[Path, P], Figure],
) -> Callable[Concatenate[Path | str, P], Figure]:
    """Draw a figure in the style of all; the root of all results may be given as text."""

    @functools.wraps(draw)
    def styled(results: Path | str, *args: P.args, **kwargs: P.kwargs) -> Figure:
        with rc_context(STYLE):
            return draw(Path(results), *args, **kwargs)

    return styled


def column_width(count: int, gap: float = GAP) -> float:
    """Width in inches of each of some columns that fill the page."""
    return (WIDTH - 0.3 - gap * (count - 1)) / count


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
        show_view(axes, self.image, self.pixel_um, limits=self.limits)
        if within:
            left, top, side = within
            axes.set(xlim=(left, left + side), ylim=(top + side, top))
        if bar:
            scale_bar(axes)


class Page:
    """A page on which axes are placed in inches from the upper left corner, with notes below."""

    def __init__(self, height: float, notes: Sequence[str]) -> None:
        self.height = height + 0.13 * len(notes)
        self.figure = Figure(figsize=(WIDTH, self.height))
        for index, line in enumerate(notes):
            self.text(0.15, height - 0.08 + 0.13 * index, line)

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

    def row(self, count: int, top: float, height: float, *, gap: float = GAP) -> list[Axes]:
        """Axes side by side across the page."""
        width = column_width(count, gap)
        return [self.axes(0.15 + i * (width + gap), top, width, height) for i in range(count)]

    def views(self, views: Sequence["View"], top: float, height: float) -> list[Axes]:
        """Images side by side across the page, with their titles; the first has a scale bar."""
        row = self.row(len(views), top, height)
        for axes, view in zip(row, views, strict=True):
            view.draw(axes, bar=axes is row[0])
            axes.set_title(view.title, pad=2, fontsize=SMALL)
        return row

    def heading(self, letter: str, top: float, words: str = "", *, left: float = 0.05) -> None:
        """Letter of a panel, and what it shows."""
        self.text(left, top, letter, fontsize=10, fontweight="bold")
        self.text(left + 0.2, top + 0.03, words)

    def text(self, left: float, top: float, words: str, **style: Any) -> None:
        """Words whose upper left corner is given."""
        known: dict[str, Any] = {"fontsize": SMALL, "va": "top"}
        self.figure.text(left / WIDTH, 1 - top / self.height, words, **(known | style))

    def legend(self, handles: Sequence[Line2D], left: float, top: float, *, lines: int = 1) -> None:
        """So many lines of legend."""
        self.figure.legend(
            handles=list(handles),
            ncols=math.ceil(len(handles) / lines),
            loc="upper left",
            bbox_to_anchor=(left / WIDTH, 1 - top / self.height),
            borderaxespad=0,
            borderpad=0,
            columnspacing=1.2,
            handletextpad=0.4,
        )


def frame(axes: Axes, box: tuple[float, float, float], colour: str) -> None:
    """Frame the square (left, top, side in µm) that is shown larger elsewhere."""
    left, top, side = box
    axes.add_patch(Rectangle((left, top), side, side, fill=False, edgecolor=colour, linewidth=0.8))


def scale_bar(axes: Axes, *, at_left: bool = False) -> None:
    """A bar in the lower right corner, or left, with its length in µm."""
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    width, height = right - left, bottom - top
    length = bar_length_um(width * 1.5)
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
