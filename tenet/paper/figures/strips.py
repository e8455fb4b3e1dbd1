"""Panels of points with means and intervals."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from tenet.paper.figures.style import LOOKS, METHODS


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


def two_lines(label: str) -> str:
    """Break a label at its comma."""
    return label.replace(", ", ",\n")
