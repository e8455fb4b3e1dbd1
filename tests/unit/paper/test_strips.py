"""Panels of points: every value is drawn, and means and intervals are those of the table."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from tenet.paper.figures.strips import from_zero, grouped_strips, strip_plot
from tenet.paper.figures.style import METHODS

SHOWN = {"tenet": [0.5, 0.7, 0.9], "rltv": [0.2, 0.2, 0.2]}


def drawn(values: dict[str, list[float]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A table whose means and intervals are not those of its values, and the values."""
    about = {"condition": "beads", "quantity": "iou"}
    table = pd.DataFrame(
        [
            {**about, "method": "tenet", "value": 0.61, "low": 0.45, "high": 0.63},
            {**about, "method": "rltv", "value": 0.3, "low": np.nan, "high": np.nan},
        ]
    )
    rows = [{**about, "method": m, "value": v} for m, some in values.items() for v in some]
    return table, pd.DataFrame(rows)


def rows_of(axes: Axes) -> list[np.ndarray]:
    """Places of the points of each row."""
    return [
        np.asarray(points.get_offsets())
        for points in axes.collections
        if isinstance(points, PathCollection)
    ]


def test_every_value_is_a_point_and_the_mean_is_that_of_the_table() -> None:
    axes = Figure().add_subplot()
    strip_plot(axes, *drawn(SHOWN), "beads", "iou", list(SHOWN), labels=True)
    for level, points in enumerate(rows_of(axes)):
        assert sorted(points[:, 0]) == list(SHOWN.values())[level]
        # Above their mean, nearer to it than to the row above, and not on one another.
        assert np.abs(points[:, 1] - (level - 0.3)).max() < 0.15
        assert len(set(points[:, 1])) == 3
    means = [bars.lines[0].get_xdata()[0] for bars in axes.containers]
    assert means == [0.61, 0.3]
    assert axes.containers[0].lines[2][0].get_segments()[0][:, 0] == pytest.approx([0.45, 0.63])
    assert axes.containers[1].lines[2] == ()  # no interval
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [METHODS[method].label for method in SHOWN]


def test_points_lie_where_they_lay_and_random_numbers_go_on_as_if_nothing_was_drawn() -> None:
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.rand()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    places = []
    for _ in range(2):
        axes = Figure().add_subplot()
        grouped_strips(axes, *drawn(SHOWN), "iou", {"beads": "Beads"}, list(SHOWN))
        places.append(np.concatenate(rows_of(axes)))
    assert np.array_equal(*places)
    assert np.random.rand() == expected  # noqa: NPY002


def test_a_method_without_values_leaves_its_row_empty() -> None:
    axes = Figure().add_subplot()
    strip_plot(axes, *drawn({"rltv": [0.2]}), "beads", "iou", list(SHOWN), labels=False)
    (points,) = rows_of(axes)
    assert points[0] == pytest.approx([0.2, 0.7])
    assert len(axes.containers) == 2


def test_the_largest_value_has_room_for_its_marker() -> None:
    axes = Figure().add_subplot()
    axes.plot([2.5, 2.5], [0, 1], "o")
    from_zero(axes)
    left, right = axes.get_xlim()
    assert left == 0
    assert right > 2.6
