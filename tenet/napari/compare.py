"""The widget *Compare*: two layers, side by side or one fading into the other."""

from typing import Any

from napari import Viewer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)

#: Steps of the slider.
STEPS = 100


class CompareWidget(QWidget):
    """Show two layers alone: side by side with one view, or one fading into the other.

    Parameters
    ----------
    viewer : napari.Viewer
        Gets its layers back as they were when the comparison ends.
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self.viewer = viewer
        self._before: dict[Any, dict[str, Any]] = {}
        self._grid: dict[str, Any] = {}
        self._fading: tuple[Any, Any] | None = None
        self.left, self.right = QComboBox(), QComboBox()
        self.side_button = QPushButton("Side by side")
        self.fade_button = QPushButton("Fade")
        self.end_button = QPushButton("End")
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, STEPS)
        self.slider.setValue(STEPS // 2)
        self.message = QLabel()
        self.message.setWordWrap(True)
        self._build()
        for events in (viewer.layers.events.inserted, viewer.layers.events.removed):
            events.connect(self._list_layers)
        self._list_layers()

    def _build(self) -> None:
        form = QFormLayout()
        form.addRow("before", self.left)
        form.addRow("after", self.right)
        buttons = QHBoxLayout()
        for button, clicked in (
            (self.side_button, self.side_by_side),
            (self.fade_button, self.fade),
            (self.end_button, self.end),
        ):
            button.clicked.connect(lambda *_, clicked=clicked: clicked())
            buttons.addWidget(button)
        self.slider.valueChanged.connect(self.fade)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addLayout(buttons)
        ends = QHBoxLayout()
        for end in (QLabel("before"), self.slider, QLabel("after")):
            ends.addWidget(end)
        layout.addLayout(ends)
        layout.addWidget(self.message)
        layout.addStretch(1)

    @property
    def pair(self) -> tuple[Any, Any] | None:
        """The two layers; None if they are not two."""
        left, right = self.left.currentData(), self.right.currentData()
        return None if left is None or left is right else (left, right)

    def choose(self, left: Any, right: Any) -> None:
        """Choose two layers of the viewer."""
        for box, layer in ((self.left, left), (self.right, right)):
            box.setCurrentIndex(box.findData(layer))

    def side_by_side(self) -> None:
        """Show the two layers beside one another; zoom, place and plane are those of both."""
        pair = self._alone()
        if pair is not None:
            grid, layers = self.viewer.grid, self.viewer.layers
            grid.shape, grid.stride, grid.enabled = (1, 2), 1, True
            if grid.position(layers.index(pair[0]), layers) != (0, 0):
                grid.stride = -1  # the other way round

    def fade(self, *_: Any) -> None:
        """Show the two layers on one another, as far as the slider says."""
        pair = self._fading if self._fading and self._fading == self.pair else self._alone()
        self._fading = pair
        if pair is not None:
            share = self.slider.value() / STEPS
            for layer, opacity in zip(pair, (1 - share, share), strict=True):
                layer.opacity, layer.blending = opacity, "additive"

    def end(self) -> None:
        """Show all layers as they were."""
        for layer, looks in self._before.items():
            for name, value in looks.items():
                setattr(layer, name, value)
        for name, value in self._grid.items():
            setattr(self.viewer.grid, name, value)
        self._before, self._grid, self._fading = {}, {}, None

    def _alone(self) -> tuple[Any, Any] | None:
        """Show two layers and no others, or say that they are not two."""
        self.end()
        pair = self.pair
        self.message.setText("" if pair else "Choose two layers: what was, and what became of it.")
        if pair is not None:
            self._before = {
                layer: {name: getattr(layer, name) for name in ("visible", "opacity", "blending")}
                for layer in self.viewer.layers
            }
            grid = self.viewer.grid
            self._grid = {name: getattr(grid, name) for name in ("shape", "stride", "enabled")}
            for layer in self.viewer.layers:
                layer.visible = layer in pair
        return pair

    def _list_layers(self, *_: Any) -> None:
        """List all layers; those chosen stay, else the first two images are."""
        layers = list(self.viewer.layers)
        for number, box in enumerate((self.left, self.right)):
            chosen = box.currentData()
            box.clear()
            for layer in layers:
                box.addItem(layer.name, layer)
            place = layers.index(chosen) if chosen in layers else min(number, len(layers) - 1)
            box.setCurrentIndex(place)
        self._before = {layer: looks for layer, looks in self._before.items() if layer in layers}
