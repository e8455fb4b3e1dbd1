"""The widgets in a window of the real napari."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("napari.layers", reason="napari is missing: pip install '.[napari]'")

from napari.layers import Labels
from napari.utils.notifications import notification_manager
from npe2.io_utils import read_get_reader
from qtpy.QtWidgets import QApplication

from tenet.io.optics import Optics
from tenet.io.writing import write_ome_tiff, writer_for
from tenet.learn import search
from tenet.napari import enhance, work
from tenet.napari.layers import voxel_size_of_layer
from tenet.napari.sample import OPTICS, VOXEL_SIZE_UM

UNITS = ("µm", "µm", "µm")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def widget(viewer: Any) -> Any:
    return viewer.window.add_plugin_dock_widget("tenet", "Enhance")[1]


@pytest.fixture
def said(viewer: Any) -> Iterator[list[str]]:
    """What the window tells the user, but for what napari itself says of units."""
    messages: list[str] = []

    def keep(notification: Any) -> None:
        if "units" not in notification.message:
            messages.append(notification.message)

    notification_manager.notification_ready.connect(keep)
    yield messages
    notification_manager.notification_ready.disconnect(keep)


def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        QApplication.processEvents()
        time.sleep(0.01)


def done(widget: Any) -> Callable[[], bool]:
    return lambda: widget.worker is None


def test_a_part_of_the_sample_is_enhanced(
    viewer: Any, widget: Any, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (raw,) = viewer.open_sample("tenet", "dendrites")
    assert widget.layer is raw
    assert widget.form.voxel_size_um == VOXEL_SIZE_UM
    assert (widget.form.na.value(), widget.form.photons.currentData()) == (OPTICS.na, 2)
    assert widget.form.sources["na"].text() == "from the file"
    widget.uncertainty.setChecked(True)
    monkeypatch.setattr(enhance, "PREVIEW_ZYX", (12, 40, 40))
    monkeypatch.setattr(search, "MOST_EVEN", 6)  # fewer tries take less time
    monkeypatch.setattr(search, "MOST_TRIED", 8)
    results: list[work.Result] = []
    widget.start(preview=True)
    widget.worker.returned.connect(results.append)
    assert widget.cancel_button.isEnabled()
    assert not widget.enhance_button.isEnabled()
    wait_until(done(widget))
    assert widget.enhance_button.isEnabled()
    light, shape, uncertainty, segmented = viewer.layers[1:]
    assert [layer.name.split("preview ")[1] for layer in (light, shape, uncertainty)] == [
        "brightness", "shape", "uncertainty",
    ]  # fmt: skip
    assert isinstance(segmented, Labels)
    # The middle of the stack, on cubes of 0.2 µm.
    low, high = (np.array(n) * VOXEL_SIZE_UM for n in ((6, 44, 44), (18, 84, 84)))
    for layer in viewer.layers[1:]:
        assert layer.data.shape == (48, 40, 40)
        np.testing.assert_allclose(layer.scale, 0.2)
        assert layer.units == raw.units
        edges = np.array([layer.data_to_world(n) for n in ((-0.5,) * 3, (47.5, 39.5, 39.5))])
        np.testing.assert_allclose(
            edges, [low - VOXEL_SIZE_UM / np.array(2), high - VOXEL_SIZE_UM / np.array(2)]
        )
    crop = raw.data[6:18, 44:84, 44:84].repeat(4, axis=0)
    inside = segmented.data.astype(bool)
    assert crop[inside].mean() > 2 * crop[~inside].mean()
    assert 0 <= uncertainty.data.min() <= uncertainty.data.max() <= 1
    assert len(widget.psf.figure.axes) == 3
    assert "of the stack explained" in widget.status.text()
    assert said == []
    # A second preview takes the place of the first, and is of what the user tells.
    tasks: list[work.Task] = []
    monkeypatch.setattr(enhance, "enhanced", lambda task, _: tasks.append(task) or results[0])
    widget.find_psf.setChecked(False)
    widget.form.na.setValue(0.6)
    assert widget.form.sources["na"].text() == "yours"
    widget.form.thickness.setValue(1.5)
    widget.start(preview=True)
    wait_until(done(widget))
    assert len(viewer.layers) == 5
    assert (tasks[0].optics, tasks[0].file_optics) == (Optics(na=0.6), OPTICS)
    assert (tasks[0].structure_um, tasks[0].find_psf, tasks[0].uncertainty) == (1.5, False, True)
    assert results[0].found["structure_um"] is None
    # Thicker than any phantom.
    widget.form.thickness.setValue(100)
    assert "leave the thickness out" in widget.status.text()


def test_work_that_is_cancelled_leaves_nothing(
    viewer: Any, widget: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer.open_sample("tenet", "dendrites")
    seen: list[tuple[str, int, int]] = []
    widget._messages.stage.connect(lambda *stage: seen.append(stage))
    widget.start()
    wait_until(lambda: any(work == "looking for the PSF" and n > 1 for work, n, _ in seen))
    widget.cancel()
    wait_until(done(widget))
    assert max(n / total for work, n, total in seen if work == "looking for the PSF") < 0.5
    assert len(viewer.layers) == 1
    assert "cancelled" in widget.status.text()
    assert widget.enhance_button.isEnabled()


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((32, 32), {}, "is one plane"),
        ((12, 32, 32, 3), {"rgb": True}, "is a colour picture"),
        ((2, 2, 12, 32, 32), {}, "has 5 axes"),
        ((12, 32, 32), {}, "has no voxel size"),
        ((5, 32, 32), {"scale": (1, 0.2, 0.2)}, "5 planes of 32 × 32 pixels are too few"),
        ((12, 32, 32), {"scale": (0.1, 0.2, 0.2)}, "finer than its pixels"),
        (
            (12, 32, 32),
            {"scale": (1, 0.2, 0.2), "units": ("mm",) * 3},
            "is not one of a light microscope",
        ),
    ],
    ids=["2-D", "colour", "5-D", "no scale", "few planes", "flat", "unit"],
)
def test_a_layer_that_is_no_stack_is_refused_in_one_line(
    viewer: Any, widget: Any, said: list[str], shape: Any, options: dict[str, Any], message: str
) -> None:
    viewer.add_image(np.ones(shape, np.float32), name="bad", **options)
    assert message in widget.status.text()
    widget.start()
    wait_until(done(widget))
    assert len(said) == 1
    assert said[0].startswith("bad")
    assert message in said[0]
    assert "\n" not in said[0]
    assert len(viewer.layers) == 1


@pytest.mark.parametrize(("value", "message"), [(np.inf, "infinite"), (7, "all intensities are 7")])
def test_intensities_that_are_no_image_are_refused_in_one_line(
    viewer: Any, widget: Any, said: list[str], value: float, message: str
) -> None:
    viewer.add_image(np.full((12, 32, 32), value), name="bad", scale=(1, 0.2, 0.2))
    widget.start()
    wait_until(done(widget))
    assert len(said) == 1
    assert said[0].startswith("bad")
    assert message in said[0]
    assert len(viewer.layers) == 1


def test_labels_and_results_are_no_raw_stacks(viewer: Any, widget: Any, said: list[str]) -> None:
    viewer.add_labels(np.ones((12, 32, 32), int))
    assert widget.layer is None
    widget.start()
    assert said == ["there is no image layer: open a stack, or a sample of TENET"]


def test_a_file_brings_voxel_size_and_channels(viewer: Any, widget: Any, tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 99, (2, 9, 32, 32)).astype(np.uint16)
    write_ome_tiff(tmp_path / "cells.ome.tif", data, (0.9, 0.3, 0.3))
    widget.open(tmp_path / "cells.ome.tif")
    assert [layer.name for layer in viewer.layers] == ["cells c0", "cells c1"]
    np.testing.assert_array_equal(viewer.layers[1].data, data[1])
    assert widget.layer is viewer.layers[0]
    assert widget.form.voxel_size_um == (0.9, 0.3, 0.3)
    assert widget.form.sources["wavelength_um"].text() == "usual value"
    assert widget.form.sources["na"].text() == "guessed from the pixels"
    widget.open(tmp_path / "missing.tif")
    assert "no such file" in widget.status.text()
    assert len(viewer.layers) == 2


def test_time_points_are_enhanced_one_or_all(
    viewer: Any, widget: Any, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = np.random.default_rng(0).integers(0, 99, (3, 9, 32, 32)).astype(np.uint16)
    with writer_for(tmp_path / "cells.ome.tif", (1, 9, 32, 32), (0.9, 0.3, 0.3), times=3) as file:
        for time_point in range(3):
            file.add((0, 0, 0), data[time_point][None].astype(np.float32), time=time_point)
    widget.open(tmp_path / "cells.ome.tif")
    (raw,) = viewer.layers
    np.testing.assert_array_equal(raw.data, data)
    assert (widget.layer, widget.every_time.isHidden()) == (raw, False)
    assert widget.form.voxel_size_um == (0.9, 0.3, 0.3)
    tasks: list[work.Task] = []

    def halves(task: work.Task, stage: Any) -> work.Result:
        """The data themselves, on a grid of three planes each: what a result looks like."""
        tasks.append(task)
        light = np.asarray(task.data, np.float32).repeat(3, axis=-3) / 99
        found = {
            "likeness": {"explained": 1.0, "wrong": 0.0}, "fine_voxel_size_um": [0.3, 0.3, 0.3],
            "told": {}, "found": {},
        }  # fmt: skip
        psf = np.ones((3, 3, 3), np.float32) / 27
        channels = {"shape": light, "brightness": light}
        return work.Result(channels, 3, 0.5, found, psf, psf, (0.3, 0.3, 0.3), [])

    monkeypatch.setattr(enhance, "enhanced", halves)
    viewer.dims.set_point(0, 1)
    for everything, times in ((False, slice(1, 2)), (True, slice(0, 3))):
        widget.every_time.setChecked(everything)
        widget.start()
        wait_until(done(widget))
        np.testing.assert_array_equal(tasks[-1].data, data[times])
        shape = viewer.layers[-2]
        assert shape.data.shape == (len(data[times]), 27, 32, 32)
        # Fine plane 1 lies on plane 0, at the same time point.
        world = raw.data_to_world((times.start, 0, 0, 0))
        np.testing.assert_allclose(shape.data_to_world((0, 1, 0, 0)), world, atol=1e-6)
    assert said == []


def test_a_series_of_results_is_opened(viewer: Any, tmp_path: Path) -> None:
    names = [f"{kind} c{c}" for c in (0, 2) for kind in ("shape", "brightness")]
    result = np.random.default_rng(0).random((3, 4, 9, 16, 16)).astype(np.float32)
    path, size_um = tmp_path / "cells.ome.zarr", (0.3, 0.3, 0.3)
    with writer_for(path, (4, 9, 16, 16), size_um, names, times=3) as file:
        for time_point in range(3):
            file.add((0, 0, 0), result[time_point], time=time_point)
    parts = [{"channel": c, "threshold": t, "voxel_size_um": [0.9, 0.3, 0.3]}
             for c, t in ((0, 0.4), (2, 0.6))]  # fmt: skip
    (tmp_path / "cells.json").write_text(json.dumps(parts[0] | {"parts": parts}))
    viewer.open(path, plugin="tenet")
    assert [layer.name for layer in viewer.layers] == [
        f"cells {c} {what}"
        for c, t in (("c0", 0.4), ("c2", 0.6))
        for what in ("brightness", "shape", f"segmented (p ≥ {t})")
    ]
    np.testing.assert_allclose(viewer.layers[4].data, result[:, 2], atol=1e-6)
    np.testing.assert_array_equal(viewer.layers[5].data, result[:, 2] >= 0.6)
    assert tuple(viewer.layers[4].translate) == pytest.approx((0, -0.3, 0, 0))


def test_a_result_is_opened(viewer: Any, widget: Any, tmp_path: Path) -> None:
    result = np.random.default_rng(0).random((2, 9, 16, 16)).astype(np.float32)
    write_ome_tiff(tmp_path / "cells.ome.tif", result, (0.3, 0.3, 0.3), ("shape", "brightness"))
    viewer.open(tmp_path / "cells.ome.tif", plugin="tenet")
    widget.open(tmp_path / "cells.ome.tif")
    assert [type(layer).__name__ for layer in viewer.layers] == ["Image", "Image", "Labels"] * 2
    assert widget.layer is None  # no raw stack


def test_what_is_no_result_is_read_by_napari_itself(viewer: Any, tmp_path: Path) -> None:
    raw = tmp_path / "raw.ome.tif"
    write_ome_tiff(raw, np.ones((9, 16, 16), np.uint16), (0.3, 0.3, 0.3))
    with pytest.raises(Exception, match="tenet"):
        viewer.open(raw, plugin="tenet")
    assert len(viewer.layers) == 0
    ((data, *_),), reader = read_get_reader([str(raw)], stack=False)
    assert (reader.plugin_name, data.shape) == ("napari", (9, 16, 16))


def test_a_layer_of_another_reader_takes_what_its_file_says(
    viewer: Any, widget: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = np.random.default_rng(0).integers(0, 99, (9, 32, 32)).astype(np.uint16)
    write_ome_tiff(tmp_path / "cells.ome.tif", data, (0.9, 0.3, 0.3))
    (raw,) = viewer.open(tmp_path / "cells.ome.tif", plugin="napari")
    raw.scale, raw.units = (1, 1, 1), ("pixel",) * 3  # as most readers leave it
    widget._show_layer()
    assert widget.layer is raw
    assert widget.form.voxel_size_um == (0.9, 0.3, 0.3)
    monkeypatch.setattr(enhance, "enhanced", lambda *_: "nothing is done")
    widget.start()
    wait_until(done(widget))
    assert voxel_size_of_layer(raw) == (0.9, 0.3, 0.3)


def test_a_preview_is_of_what_is_in_view(
    viewer: Any, widget: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = viewer.add_image(np.ones((12, 200, 200)), scale=(1, 0.2, 0.2), units=UNITS)
    monkeypatch.setattr(enhance, "PREVIEW_ZYX", (10, 20, 30))
    assert widget._crop(raw) == (slice(1, 11), slice(90, 110), slice(85, 115))
    viewer.camera.zoom *= 20
    viewer.camera.center = (0, 30 * 0.2, 150 * 0.2)
    wait_until(lambda: raw.corner_pixels[0, 2] > 100)
    plane, row, column = (axis.start for axis in widget._crop(raw))
    assert (plane, abs(row + 10 - 30) <= 2, abs(column + 15 - 150) <= 2) == (1, True, True)
    viewer.camera.center = (0, 0, 0)
    wait_until(lambda: raw.corner_pixels[0, 2] == 0)
    assert [axis.start for axis in widget._crop(raw)] == [1, 0, 0]


def test_a_result_that_memory_does_not_hold_is_refused(
    viewer: Any, widget: Any, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer.add_image(np.ones((12, 32, 32)), name="large", scale=(1, 0.2, 0.2))
    monkeypatch.setattr(work, "BYTES_PER_VOXEL", 2**40)
    widget.start()
    assert "of memory" in said[0]
    assert widget.worker is None


def test_a_closed_widget_leaves_the_viewer_alone(viewer: Any, said: list[str]) -> None:
    dock, _ = viewer.window.add_plugin_dock_widget("tenet", "Enhance")
    viewer.window.remove_dock_widget(dock)
    QApplication.processEvents()
    viewer.add_image(np.zeros((12, 32, 32)), scale=(1, 0.2, 0.2), units=UNITS)
    QApplication.processEvents()
    assert said == []


def test_two_layers_are_compared(viewer: Any) -> None:
    _, compare = viewer.window.add_plugin_dock_widget("tenet", "Compare")
    compare.side_by_side()
    assert "two layers" in compare.message.text()
    before, other, after = (
        viewer.add_image(np.zeros((9, 16, 16)), name=name) for name in ("a", "b", "c")
    )
    other.visible = False
    compare.choose(after, before)
    compare.side_by_side()
    assert viewer.grid.enabled
    assert [layer.visible for layer in viewer.layers] == [True, False, True]
    places = [viewer.grid.position(viewer.layers.index(n), viewer.layers) for n in (after, before)]
    assert places == [(0, 0), (0, 1)]
    compare.choose(before, after)
    compare.slider.setValue(25)
    assert not viewer.grid.enabled
    assert (before.opacity, after.opacity) == (0.75, 0.25)
    compare.fade_button.click()
    compare.slider.setValue(100)
    assert (before.opacity, after.opacity) == (0, 1)
    viewer.layers.remove(before)
    compare.end_button.click()
    assert (other.visible, after.opacity, after.blending) == (False, 1, "translucent_no_depth") or (
        after.opacity == 1
    )
