"""The widget *Enhance*: a layer or a file becomes a sharp, segmented volume."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from napari import Viewer
from napari.layers import Image
from napari.qt.threading import create_worker
from napari.utils.notifications import show_error, show_warning
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from tenet.errors import TenetError
from tenet.io.folders import stack_name
from tenet.io.open import open_stack
from tenet.io.stack import Stack, check_voxel_size
from tenet.napari.form import MicroscopeForm
from tenet.napari.layers import (
    KEY,
    MICROMETRES,
    LayerData,
    array_of,
    check_layer,
    data_of,
    placed,
    placed_on,
    result_layers,
    voxel_size_of_layer,
)
from tenet.napari.psf_plot import PSFPlot
from tenet.napari.reader import get_reader
from tenet.napari.work import (
    Result,
    Task,
    check_memory,
    enhanced,
    file_of,
    in_words,
    microscope_of,
    optics_of,
)
from tenet.types import Triple, VoxelSize

#: Most planes, rows and columns of a preview.
PREVIEW_ZYX: Triple = (48, 128, 128)
PREVIEW = "preview"


class Cancelled(Exception):
    """The user has cancelled the work."""


class _Messages(QObject):
    """What the thread of the work tells the window."""

    stage = Signal(str, int, int)


class EnhanceWidget(QScrollArea):
    """Enhance the chosen layer, or a crop of it, with the model of every microscope.

    Parameters
    ----------
    viewer : napari.Viewer
        Has the layers, and gets those of the result.
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self.viewer = viewer
        self.worker: Any = None
        self._stop = threading.Event()
        self._files: WeakKeyDictionary[Any, Stack | None] = WeakKeyDictionary()
        self._messages = _Messages()
        self._messages.stage.connect(self._show_stage)
        self._build()
        for events in (viewer.layers.events.inserted, viewer.layers.events.removed):
            events.connect(self._list_layers)
        stop = self._stop
        self.destroyed.connect(lambda *_: stop.set())
        self._list_layers()

    def _build(self) -> None:
        self.layers = QComboBox()
        self.layers.currentIndexChanged.connect(lambda *_: self._show_layer())
        self.open_button = _button("Open…", "open a stack that TENET reads", self._ask_for_file)
        self.form = MicroscopeForm()
        self.form.changed.connect(self._show_microscope)
        self.find_psf = QCheckBox("look for the PSF in the stack")
        self.find_psf.setChecked(True)
        self.uncertainty = QCheckBox("uncertainty")
        self.uncertainty.setToolTip("probability that a voxel is segmented wrongly")
        self.every_time = QCheckBox("all time points")
        self.every_time.setToolTip("of a series; otherwise the time point that is shown")
        self.every_time.hide()
        self.preview_button = _button(
            "Preview", "enhance a crop: what is in view, or the middle", lambda: self.start(True)
        )
        self.enhance_button = _button("Enhance", "enhance the whole stack", self.start)
        self.cancel_button = _button("Cancel", "stop; nothing is added", self.cancel)
        self.cancel_button.setEnabled(False)
        self.bar = QProgressBar()
        self.bar.hide()
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.psf = PSFPlot()
        self.psf.hide()
        inside = QWidget()
        layout = QVBoxLayout(inside)
        layout.addLayout(_beside(self.layers, self.open_button, stretch=0))
        layout.addWidget(self.form)
        layout.addLayout(_beside(self.find_psf, self.uncertainty))
        layout.addWidget(self.every_time)
        layout.addLayout(_beside(self.preview_button, self.enhance_button, self.cancel_button))
        layout.addWidget(self.bar)
        layout.addWidget(self.status)
        layout.addWidget(self.psf)
        layout.addStretch(1)
        self.setWidget(inside)
        self.setWidgetResizable(True)
        self.setMinimumWidth(330)

    # What is chosen -------------------------------------------------------------------------------

    @property
    def layer(self) -> Any:
        """The chosen layer; None if there is none."""
        return self.layers.currentData()

    def choose(self, layer: Any) -> None:
        """Choose an image layer of the viewer."""
        self.layers.setCurrentIndex(self.layers.findData(layer))

    def _list_layers(self, *_: Any) -> None:
        """List the images that may be raw stacks; the chosen one stays, else the newest is."""
        chosen = self.layer
        raw = [
            layer
            for layer in self.viewer.layers
            if isinstance(layer, Image) and "result" not in layer.metadata.get(KEY, {})
        ]
        self.layers.blockSignals(True)
        self.layers.clear()
        for layer in raw:
            self.layers.addItem(layer.name, layer)
        kept = chosen in raw
        self.layers.setCurrentIndex(raw.index(chosen) if kept else len(raw) - 1)
        self.layers.blockSignals(False)
        if not kept:
            self._show_layer()

    def _show_layer(self) -> None:
        """Fill in what the layer and its file say."""
        self.form.forget()
        layer = self.layer
        self.every_time.setVisible(layer is not None and layer.ndim == 4)
        if layer is None:
            self.form.show_voxel_size(None)
        else:
            file = self._file()
            size_um = voxel_size_of_layer(layer) or (file.voxel_size_um if file else None)
            self.form.show_voxel_size(size_um)
        self._show_microscope()

    def _file(self) -> Stack | None:
        """The file of the chosen layer, which is looked at once."""
        if self.layer not in self._files:
            self._files[self.layer] = file_of(self.layer)
        return self._files[self.layer]

    def _show_microscope(self) -> None:
        """Fill in the optics, or say what is wrong with the layer."""
        try:
            self.form.show_optics(microscope_of(self._task()))
        except TenetError as error:
            self.status.setText(str(error))
        else:
            self.status.setText("")

    def _times(self, *, preview: bool = False) -> slice:
        """Time points of a series that are enhanced: all, or the one that is shown."""
        if self.every_time.isChecked() and not preview:
            return slice(None)
        layer = self.layer
        shown = int(np.round(layer.world_to_data(self.viewer.dims.point)[0]))
        shown = min(max(shown, 0), len(data_of(layer)) - 1)
        return slice(shown, shown + 1)

    def _task(self) -> Task:
        """The whole of the chosen layer, of all its time points.

        Raises
        ------
        TenetError
            If the layer is no stack, or has no voxel size.
        """
        layer = self.layer
        check_layer(layer)
        size_um = self.form.voxel_size_um
        if size_um is None:
            raise TenetError(f"{layer.name} has no voxel size: give z, y and x, in µm")
        check_voxel_size(size_um, layer.name)
        return Task(
            layer.name,
            data_of(layer),
            size_um,
            self.form.told,
            optics_of(layer, self._file()),
            structure_um=self.form.structure_um,
            find_psf=self.find_psf.isChecked(),
            uncertainty=self.uncertainty.isChecked(),
        )

    def _ask_for_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open a stack")
        if path:
            self.open(Path(path))

    def open(self, path: Path) -> None:
        """Open the channels of a file as layers, and choose the first.

        A result of TENET is opened as the reader opens it.
        """
        try:
            if read := get_reader(str(path)):
                self._add(read(str(path)))
                return
            first = open_stack(path, channel=0, time=0)
            stacks = [first.at(n, 0, f"_c{n}" if n else "") for n in range(first.channels)]
            arrays = [array_of(stack) for stack in stacks]
        except TenetError as error:
            self._refuse(error)
            return
        layers = []
        for stack, array in zip(stacks, arrays, strict=True):
            name = stack_name(path) + (f" c{stack.channel}" if len(stacks) > 1 else "")
            layer = Image(array, name=name, metadata={KEY: {"optics": stack.optics}})
            if stack.voxel_size_um is not None:
                place = placed(stack.voxel_size_um, series=stack.times > 1)
                layer.scale, layer.units = place["scale"], place["units"]
            self.viewer.add_layer(layer)
            layers.append(layer)
        self.choose(layers[0])

    # The work -------------------------------------------------------------------------------------

    def start(self, preview: bool = False) -> None:
        """Start to enhance the chosen layer, or a crop of it; one message says what is wrong.

        Parameters
        ----------
        preview : bool
            Whether to enhance a crop alone.
        """
        if self.worker is not None:
            return
        try:
            task = self._task()
            microscope_of(task)
            layer = self.layer
            window = self._crop(layer) if preview else (slice(0, None),) * 3
            if layer.ndim == 4:
                window = (self._times(preview=preview), *window)
            task = replace(task, data=task.data[window])
            check_memory(task)
        except TenetError as error:
            self._refuse(error)
            return
        start = [axis.start or 0 for axis in window]
        self._scale(layer, task.voxel_size_um)
        self._stop.clear()
        self.worker = create_worker(self._work, task, _start_thread=False)
        self.worker.returned.connect(
            lambda result: self._show_result(result, layer, start, preview=preview)
        )
        self.worker.errored.connect(lambda error: self.status.setText(f"failed: {error}"))
        self.worker.finished.connect(self._end)
        self._running(True)
        self.worker.start()

    def _scale(self, layer: Any, size_um: VoxelSize) -> None:
        """Give a layer the voxel size that the form shows, so that the result lies on the layer."""
        own_um = voxel_size_of_layer(layer)
        if own_um is None or not np.allclose(own_um, size_um, rtol=1e-3):
            before = layer.ndim - 3
            layer.scale = (*layer.scale[:before], *size_um)
            layer.units = (*layer.units[:before], *MICROMETRES)
            self.viewer.reset_view()

    def cancel(self) -> None:
        """Stop the work at its next step; nothing is added to the viewer."""
        self._stop.set()
        self.status.setText("cancelling…")

    def _work(self, task: Task) -> Result | str | None:
        """Enhance in another thread: the result, or what is wrong, or None if cancelled."""

        def stage(work: str, done: int, total: int) -> None:
            if self._stop.is_set():
                raise Cancelled
            self._messages.stage.emit(work, done, total)

        try:
            return enhanced(task, stage)
        except Cancelled:
            return None
        except TenetError as error:
            return str(error)

    def _crop(self, layer: Any) -> tuple[slice, ...]:
        """Planes, rows and columns of a preview: the middle of the view, or of the stack."""
        shape = data_of(layer).shape[-3:]
        low, high = np.zeros(3, int), np.array(shape)
        shown = self.viewer.dims
        plane = tuple(shown.displayed) == (shown.ndim - 2, shown.ndim - 1)
        if shown.ndisplay == 2 and plane and not layer.multiscale:
            low[1:] = np.clip(layer.corner_pixels[0, -2:], 0, high[1:])
            high[1:] = np.clip(layer.corner_pixels[1, -2:] + 1, 0, high[1:])
        size = np.minimum(PREVIEW_ZYX, shape)
        start = np.clip((low + high - size) // 2, 0, shape - size)
        return tuple(slice(int(a), int(a + n)) for a, n in zip(start, size, strict=True))

    def _running(self, runs: bool) -> None:
        for button in (self.preview_button, self.enhance_button):
            button.setEnabled(not runs)
        self.cancel_button.setEnabled(runs)
        self.bar.setVisible(runs)
        self.bar.setRange(0, 0)
        if runs:
            self.status.setText("starting…")

    def _end(self) -> None:
        self.worker = None
        self._running(False)
        if self._stop.is_set():
            self.status.setText("cancelled: nothing was added")

    def _show_stage(self, work: str, done: int, total: int) -> None:
        if self._stop.is_set():
            return
        # One part of one tells nothing: the bar then only moves.
        self.bar.setRange(0, total if total > 1 else 0)
        self.bar.setValue(done)
        self.status.setText(f"{work}…")

    def _refuse(self, error: TenetError | str) -> None:
        message = in_words(str(error))
        self.status.setText(message)
        show_error(message)

    # The result -----------------------------------------------------------------------------------

    def _show_result(
        self, result: Result | str | None, layer: Any, start: Sequence[int], *, preview: bool
    ) -> None:
        if isinstance(result, str):
            self._refuse(result)
        if not isinstance(result, Result) or self._stop.is_set():
            return
        name = f"{layer.name} {PREVIEW}" if preview else layer.name
        place = placed_on(layer, start, result.scale)
        for old in [old for old in self.viewer.layers if _is_preview(old, layer.name)]:
            self.viewer.layers.remove(old)
        self._add(result_layers(name, result.channels, result.threshold, place, result.found))
        self.psf.draw_psf(result.psf_before, result.psf_after, result.psf_voxel_size_um)
        self.psf.show()
        self.status.setText(_summary(result))
        for warning in result.warnings:
            show_warning(f"{name}: {warning}")

    def _add(self, layers: list[LayerData]) -> None:
        for data, looks, kind in layers:
            getattr(self.viewer, f"add_{kind}")(data, **looks)


def _is_preview(layer: Any, name: str) -> bool:
    return layer.metadata.get(KEY, {}).get("result") == f"{name} {PREVIEW}"


def _summary(result: Result) -> str:
    """What was found, in a few lines."""
    like = result.found["likeness"]
    size = " × ".join(f"{n:.3g}" for n in result.found["fine_voxel_size_um"])
    kept = result.found["told"] == result.found["found"]
    lines = [
        f"{size} µm, segmented at p ≥ {result.threshold:.2g}",
        f"{100 * like['explained']:.0f} % of the stack explained, "
        f"{100 * like['wrong']:.0f} % of the segmentation likely wrong",
        "PSF as told" if kept else "PSF found in the stack",
        *(f"⚠ {warning}" for warning in result.warnings),
    ]
    return "\n".join(lines)


def _button(words: str, tip: str, clicked: Any) -> QPushButton:
    button = QPushButton(words)
    button.setToolTip(tip)
    button.clicked.connect(lambda *_: clicked())
    return button


def _beside(*widgets: QWidget, stretch: int = 1) -> QHBoxLayout:
    layout = QHBoxLayout()
    for number, widget in enumerate(widgets):
        layout.addWidget(widget, stretch if number else 1)
    return layout
