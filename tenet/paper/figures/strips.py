"""Panels of points with means and intervals.

seaborn draws the points. The means and their intervals are those of the tables of results, whose
bootstrap is over images, and not seaborn's own.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from tenet.paper.figures.style import LOOKS, Method

#: How far the points of a row lie above its mean, and how far they spread, as parts of a row.
ABOVE, SPREAD = 0.3, 0.1


class Row(NamedTuple):
    """A row of a panel: where it is, its points, and the row of a table with mean and interval."""

    level: float
    points: pd.Series
    mean: pd.Series | None
    look: Method


def draw_rows(axes: Axes, rows: Sequence[Row], *, size: float = 2.5) -> None:
    """Draw the points of each row, and below them the mean with its interval as a bar."""
    points = pd.concat(
        [
            pd.DataFrame({"x": row.points, "y": row.level - ABOVE, "colour": row.look.colour})
            for row in rows
        ]
    )
    scatter(axes, points, jitter=SPREAD, size=size, alpha=0.6, linewidth=0)
    for row in rows:
        if row.mean is not None:
            mean_bar(axes, row.mean, row.level, row.look, size=2 * size)


def scatter(axes: Axes, points: pd.DataFrame, *, along: str = "x", **looks: Any) -> None:
    """Draw points (columns x, y, colour) that may spread across the axis of their values."""
    if points.empty:
        return
    with _same_every_time():
        sns.stripplot(
            points,
            x="x",
            y="y",
            hue="colour",
            palette={colour: colour for colour in points["colour"].unique()},
            orient="h" if along == "x" else "v",
            native_scale=True,
            legend=False,
            zorder=2,  # below the means
            ax=axes,
            **looks,
        )
    axes.set(xlabel="", ylabel="")


@contextmanager
def _same_every_time() -> Iterator[None]:
    """Seed NumPy's global state for the jitter of seaborn, and restore the state afterwards."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


def mean_bar(axes: Axes, row: pd.Series, level: float, look: Method, *, size: float) -> None:
    """Mark the mean of a table's row, with its interval as a bar, at a level of the y axis."""
    axes.errorbar(
        row["value"],
        level,
        xerr=interval_lengths(row),
        fmt=look.marker,
        color=look.colour,
        markeredgecolor="white",
        markeredgewidth=0.5,
        markersize=size,
        capsize=2.5,
    )


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
    rows = [
        Row(
            level,
            values_of(values, condition, method, quantity),
            table_row(table, condition, method, quantity),
            LOOKS[method],
        )
        for level, method in enumerate(methods)
    ]
    draw_rows(axes, rows)
    name_rows(axes, [LOOKS[method].label for method in methods], shown=labels)


def name_rows(axes: Axes, names: Sequence[str], *, shown: bool) -> None:
    """Rows 0, 1, … from the top, with their names unless a panel to the left shows them."""
    axes.set(
        yticks=range(len(names)),
        yticklabels=names if shown else [],
        ylim=(len(names) - 0.4, -0.6),
    )


def from_zero(axes: Axes) -> None:
    """Begin at 0, and end where the largest value has room for its marker."""
    axes.set_xlim(0, 1.06 * axes.dataLim.x1)


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
    step = len(methods) + 0.5
    rows = [
        Row(
            i * step + j,
            values_of(values, condition, method, quantity),
            table_row(table, condition, method, quantity),
            LOOKS[method],
        )
        for i, condition in enumerate(labels)
        for j, method in enumerate(methods)
    ]
    draw_rows(axes, rows, size=2)
    ticks = [i * step + (len(methods) - 1) / 2 for i in range(len(labels))]
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


def values_of(values: pd.DataFrame, condition: str, method: str, quantity: str) -> pd.Series:
    """The values of all images behind a row of a table."""
    chosen: pd.Series = values.loc[
        (values["condition"] == condition)
        & (values["method"] == method)
        & (values["quantity"] == quantity),
        "value",
    ]
    return chosen


def interval_lengths(row: pd.Series) -> list[list[float]] | None:
    """Distances from a mean to the ends of its interval; None where there is none."""
    if not np.isfinite(row["low"]):
        return None
    # A percentile interval may leave out the mean itself.
    below, above = row["value"] - row["low"], row["high"] - row["value"]
    return [[max(float(below), 0.0)], [max(float(above), 0.0)]]


def two_lines(label: str) -> str:
    """Break a label after its comma, or before its parenthesis."""
    return label.replace(", ", ",\n").replace(" (", "\n(")
