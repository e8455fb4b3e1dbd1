"""What the figures share: methods and their looks, a page in inches, views, strips, notes.

Sizes are those of a page: 7.2 inches wide, type of 6.5 points or more. Every method has one name,
one colour (told apart by colour-blind readers, after Okabe & Ito) and one marker, in `METHODS`.
Images that stand side by side have one physical scale.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import patheffects, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from tenet.enhance.views import bar_length_um, levels, save, show_view
from tenet.errors import TenetError
from tenet.io.stack import Stack
from tenet.paper.figures.style import SMALL, STYLE, WIDTH


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


def slab_view(title: str, stack: Stack, x: slice, results: Path) -> View:
    """Projection of a slab along x; black is the lowest value, white the 99.9th percentile."""
    if stack.voxel_size_um is None:
        raise TenetError(f"{stack.path}: it records no voxel size; make {results} anew")
    image = np.concatenate(
        [stack.read(slice(z, z + 64), slice(None), x).max(axis=2) for z in _starts(stack, 64)]
    )
    return View(title, image, stack.voxel_size_um[:2], levels(image))


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
