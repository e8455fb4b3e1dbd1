"""The microscope in the widget *Enhance*: voxel size and optics, and where each value is from."""

from dataclasses import asdict

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QFormLayout, QHBoxLayout, QLabel, QWidget

from tenet.io.optics import KnownOptics, Optics
from tenet.types import VoxelSize

#: What the sources of a value are called.
SOURCES = {
    "options": "yours",
    "file": "from the file",
    "guess": "guessed from the pixels",
    "model": "usual value",
}


class MicroscopeForm(QWidget):
    """Fields for voxel size, optics and the thickness of structures.

    Attributes
    ----------
    changed : Signal
        Emitted when the user has changed a value.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.voxels = [_number(4, 0.01, "?", f"voxel size along {axis}, in µm") for axis in "zyx"]
        self.na = _number(2, 0.05, "guess", "numerical aperture of the objective")
        self.wavelength = _number(3, 0.01, "?", "wavelength of the excitation, in µm")
        self.immersion = _number(3, 0.01, "?", "refractive index of the immersion medium")
        self.photons = QComboBox()
        for words, photons in (("1", 1), ("2", 2)):
            self.photons.addItem(words, photons)
        self.photons.setToolTip("photons of one excitation: 2 for two-photon microscopes")
        self.sources: dict[str, QLabel] = {}
        self._yours: set[str] = set()
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addRow("voxel z, y, x (µm)", _row(*self.voxels))
        self._fields = {
            "na": self.na,
            "wavelength_um": self.wavelength,
            "immersion_index": self.immersion,
            "photons": self.photons,
        }
        names = ("NA", "wavelength (µm)", "immersion index", "photons")
        for words, (name, field) in zip(names, self._fields.items(), strict=True):
            self.sources[name] = QLabel()
            self.sources[name].setStyleSheet("color: gray")
            layout.addRow(words, _row(field, self.sources[name]))
            signal = field.activated if name == "photons" else field.valueChanged
            signal.connect(lambda *_, name=name: self._told(name))
        self.thickness = _number(2, 0.1, "?", "mean thickness of the structures, in µm")
        layout.addRow("thickness (µm)", self.thickness)
        for voxel in (*self.voxels, self.thickness):
            voxel.valueChanged.connect(lambda *_: self.changed.emit())

    def _told(self, name: str) -> None:
        """Remember that a value is the user's. An NA of 0 is to be guessed again."""
        if name == "na" and not self.na.value():
            self._yours.discard(name)
        else:
            self._yours.add(name)
        self.changed.emit()

    def forget(self) -> None:
        """Begin anew, as for another stack: no value is the user's."""
        self._yours.clear()
        self.thickness.blockSignals(True)
        self.thickness.setValue(0)
        self.thickness.blockSignals(False)

    def show_voxel_size(self, size_um: VoxelSize | None) -> None:
        """Show a voxel size along z, y and x in µm; None: it is not known."""
        for field, size in zip(self.voxels, size_um or (0.0, 0.0, 0.0), strict=True):
            field.blockSignals(True)
            field.setValue(size)
            field.blockSignals(False)

    def show_optics(self, known: KnownOptics) -> None:
        """Show optics, and where each value is from."""
        for name, value in asdict(known.optics).items():
            field = self._fields[name]
            field.blockSignals(True)
            if isinstance(field, QComboBox):
                field.setCurrentIndex(field.findData(value or 2))
            else:
                field.setValue(value or 0.0)
            field.blockSignals(False)
            self.sources[name].setText(SOURCES.get(known.sources.get(name, ""), ""))

    @property
    def voxel_size_um(self) -> VoxelSize | None:
        """Voxel size along z, y and x in µm; None if one of them is missing."""
        z, y, x = (field.value() for field in self.voxels)
        return (z, y, x) if z and y and x else None

    @property
    def structure_um(self) -> float | None:
        """Mean thickness of the structures in µm; None if it is not known."""
        return self.thickness.value() or None

    @property
    def told(self) -> Optics:
        """The values that are the user's."""
        values = {
            name: field.currentData() if isinstance(field, QComboBox) else field.value()
            for name, field in self._fields.items()
            if name in self._yours
        }
        return Optics(**values)


def _number(decimals: int, step: float, unknown: str, tip: str) -> QDoubleSpinBox:
    """A field for a number above 0, where 0 stands for an unknown one."""
    field = QDoubleSpinBox()
    field.setDecimals(decimals)
    field.setRange(0, 1000)
    field.setSingleStep(step)
    field.setSpecialValueText(unknown)
    field.setKeyboardTracking(False)
    field.setToolTip(tip)
    return field


def _row(*widgets: QWidget) -> QWidget:
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget, 1)
    return row
