"""Prairie View (Bruker): an XML file that names a TIFF for each plane."""

import math
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from tenet.errors import TenetError
from tenet.io.calibration import Calibration
from tenet.io.frames import Page, Place, beside, stack_of_files
from tenet.io.optics import Optics, inscribed, photons_of_mode
from tenet.io.stack import Stack
from tenet.io.xml import companion, elements, read_xml

ROOT = "PVScan"
#: Planes are equidistant if their distances differ by this share at most, because a motor jitters.
_JITTER = 0.1

#: Entries by name. Entries with indices are joined, as in ``micronsPerPixel_XAxis``.
State = dict[str, str]


def open_prairie(
    path: Path, channel: int | None, planes_are: str | None = None, time: int | None = None
) -> Stack:
    """Open a recording of Prairie View; see `tenet.io.open.open_stack`.

    The planes of a sequence with z are planes, and its sequences are time points. Of other
    sequences, all frames are time points.
    """
    xml = companion(path, ROOT) if path.is_dir() else path
    recording = read_xml(xml)
    planes: dict[Place, Page] = {}
    for place, file in _files(recording):
        if place in planes:
            raise TenetError(f"{path}: it names two files for one plane; export it as OME-TIFF")
        page = file.get("page", "1")
        number = int(page) - 1 if page.isascii() and page.isdigit() and len(page) < 9 else 0
        planes[place] = beside(path, xml.parent, file.get("filename", "")), max(number, 0)
    state = _state(recording)
    found = Calibration(
        _step(recording, state),
        _number(state.get("micronsPerPixel_YAxis")),
        _number(state.get("micronsPerPixel_XAxis")),
    )
    return stack_of_files(path, planes, channel, planes_are, time, found, (_optics(state),))


def _files(recording: Element) -> Iterator[tuple[Place, Element]]:
    """Go through the files, with channel, time point and plane of each."""
    frames = 0
    for number, sequence in enumerate(elements(recording, "Sequence")):
        inside = list(elements(sequence, "Frame"))
        if sequence.get("bidirectionalZ", "").lower() == "true" and number % 2:
            inside.reverse()
        of_z = "zseries" in sequence.get("type", "").replace("-", "").lower()
        for plane, frame in enumerate(inside):
            time, z = (number, plane) if of_z else (frames + plane, 0)
            for file in elements(frame, "File"):
                channel = file.get("channel", "1")
                yield (int(channel) if channel.isdecimal() else 1, time, z), file
        frames += len(inside)


def _state(recording: Element) -> State:
    """Return the state of the microscope at the start."""
    return _entries(next(elements(recording, "PVStateShard"), Element("none")))


def _entries(shard: Element) -> State:
    state = {}
    for entry in elements(shard, "PVStateValue", "Key"):
        name = entry.get("key", "")
        if "value" in entry.attrib:
            state[name] = entry.get("value", "")
        for inner in elements(entry, "IndexedValue"):
            state[f"{name}_{inner.get('index')}"] = inner.get("value", "")
        for group in elements(entry, "SubindexedValues"):
            for inner in elements(group, "SubindexedValue"):
                key = f"{name}_{group.get('index')}_{inner.get('subindex')}"
                state[key] = inner.get("value", "")
    return state


def _step(recording: Element, state: State) -> float | None:
    """Return the distance of planes: that of the positions, or what the state says."""
    sequence = next(elements(recording, "Sequence"), Element("none"))
    positions = [_position(state | _entries(frame)) for frame in elements(sequence, "Frame")]
    steps = np.abs(np.diff([position for position in positions if position is not None]))
    if steps.size and steps.size == len(positions) - 1 and steps.max() > 0:
        step = float(np.median(steps))
        return step if np.abs(steps - step).max() <= _JITTER * step else None
    return _number(state.get("micronsPerPixel_ZAxis"))


def _position(state: State) -> float | None:
    """Return the position along z: the sum of motor and piezo."""
    parts = [_number(v) for name, v in state.items() if name.startswith("positionCurrent_ZAxis")]
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


def _optics(state: State) -> Optics:
    """Return the optics; a wavelength of an infrared laser means two photons."""
    na, index = inscribed(state.get("objectiveLens", ""))
    lasers = [_number(v) for name, v in state.items() if name.startswith("laserWavelength")]
    wavelength = next((nm / 1000 for nm in lasers if nm), None)
    return Optics.read(
        na=state.get("objectiveLensNA") or na,
        wavelength_um=wavelength,
        immersion_indices=(index,),
        photons=photons_of_mode("", wavelength),
    )


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
