"""The entries of ScanImage in the header of a TIFF: channels, slices, frames, and lengths.

Versions 3 (``state.acq.…``), 4 and 5 (``scanimage.SI5.…``) and 2015 (``scanimage.SI.…``) write into
the description of each page, 2016 and later (``SI.…``) into the tag of the software. Pages follow
each other by channel, then by frame of a slice, then by slice, then by volume; flyback frames stand
at the end of a volume.
"""

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tenet.errors import TenetError
from tenet.io.calibration import Calibration
from tenet.io.records import parse_json
from tenet.io.stack import Reader

#: ScanImage drives microscopes of two photons. Its headers give neither the wavelength nor the NA.
PHOTONS = 2

# Spaces are removed afterwards, because a pattern that removes spaces takes quadratic time.
_ENTRY = re.compile(r"^[ \t]*(?:scanimage\.)?((?:SI\d?|state)\.[\w.]+)[ \t]*=(.*)$", re.M)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|\.\d+|inf\b|nan\b)|\btrue\b|\bfalse\b", re.I)
_WORDS = {"true": 1.0, "false": 0.0}


class Header(dict[str, str]):
    """Entries of a ScanImage header by name, with values in the notation of MATLAB."""

    def numbers(self, *names: str) -> list[float]:
        """Return the numbers of the first of some entries that has numbers."""
        for name in names:
            found = _NUMBER.findall(self.get(name, "")[:100_000].lower())
            if found:
                return [_WORDS[word] if word in _WORDS else float(word) for word in found]
        return []

    def number(self, *names: str) -> float | None:
        """Return the first finite number of some entries."""
        found = self.numbers(*names)
        return found[0] if found and math.isfinite(found[0]) else None

    def count(self, *names: str) -> int | None:
        """Return the first number of some entries, if the number can count things."""
        found = self.number(*names)
        return int(found) if found is not None and 1 <= found <= 1e9 else None


@dataclass(frozen=True)
class Recording:
    """How the pages of a ScanImage file are one stack.

    Attributes
    ----------
    channels, slices, frames : int
        Channels saved, slices, and pages of each slice (1 where ScanImage has averaged them).
    """

    channels: int
    slices: int
    frames: int


@dataclass(frozen=True)
class ScanImageReader:
    """One channel of a recording: the mean of the frames of each slice.

    `pages` reads all pages of the file as planes.
    """

    pages: Reader
    recording: Recording
    channel: int

    def read(self, z: slice, y: slice, x: slice) -> npt.NDArray[Any]:
        """Read slices, rows and columns."""
        frames = self.recording.frames
        if frames == 1:
            return self._frame(0, z, y, x)
        total = self._frame(0, z, y, x).astype(np.float64)
        for k in range(1, frames):
            total += self._frame(k, z, y, x)
        return np.asarray(total / frames)

    def at(self, channel: int, time: int) -> "ScanImageReader":
        """Return the reader of another channel; a recording has one time point."""
        return replace(self, channel=channel)

    def _frame(self, k: int, z: slice, y: slice, x: slice) -> npt.NDArray[Any]:
        step = self.recording.channels * self.recording.frames
        first = self.channel + k * self.recording.channels
        return self.pages.read(slice(first + z.start * step, z.stop * step, step), y, x)


def scanimage_header(software: str, description: str) -> Header | None:
    """Return the entries of a ScanImage header, or None if there are none.

    Parameters
    ----------
    software, description : str
        Tags of the first page.
    """
    for text in (software, description):
        entries = _ENTRY.findall(text.replace("\r", "\n"))
        if entries:
            return Header((name, value.strip()) for name, value in entries)
    return None


@dataclass(frozen=True)
class _Plan:
    """The plan in a header: pages of a slice (None: all that there are), flyback at the end."""

    channels: int
    slices: int
    frames: int | None
    flyback: int = 0


def find_recording(
    path: Path, header: Header, pages: int, planes_are: str | None = None
) -> Recording:
    """Find how the pages of a file are channels, frames and slices.

    Parameters
    ----------
    path : Path
    header : Header
    pages : int
        Pages of the file.
    planes_are : {"C", "T"}, optional
        Whether the channels or the frames are the planes of a recording without slices.

    Raises
    ------
    TenetError
        If the pages are not one stack: a time series, or a recording that stopped early.
    """
    plan = _plan(header)
    frames_found, rest = divmod(pages, plan.channels)
    said = f"{pages} pages, {plan.channels} channels, {plan.slices} slices"
    if planes_are and plan.slices > 1:
        raise TenetError(f"{path}: it has planes besides those along axis {planes_are} ({said})")
    if planes_are == "T":
        return Recording(plan.channels, frames_found, 1)
    if planes_are == "C" and frames_found == 1:
        return Recording(1, plan.channels, 1)
    if plan.slices == 1 and frames_found > 1:
        raise TenetError(
            f"{path}: this is a time series of one plane from ScanImage ({said}); give a z stack, "
            "or --planes-are T if its frames are in truth planes"
        )
    frames = plan.frames or max(1, frames_found // plan.slices)
    extra = frames_found - plan.slices * frames
    if rest or extra < 0:
        raise TenetError(
            f"{path}: ScanImage planned {plan.slices} slices of {frames} frames in {plan.channels} "
            f"channels, and the file has {pages} pages: it stopped early, or goes on in further "
            "files; export the complete planes as one stack"
        )
    if extra > plan.flyback:
        raise TenetError(
            f"{path}: this is a time series of volumes from ScanImage ({said}, {frames} frames a "
            "slice); export one volume, or their mean"
        )
    return Recording(plan.channels, plan.slices, frames)


def _plan(header: Header) -> _Plan:
    if any(name.startswith("state.") for name in header):
        return _plan_3(header)
    if any(re.match(r"SI\d", name) for name in header):
        return _plan_5(header)
    return _plan_2015(header)


def _plan_3(header: Header) -> _Plan:
    saved = header.count("state.acq.numberOfChannelsSave")
    switches = [header.count(f"state.acq.savingChannel{k}") or 0 for k in range(1, 5)]
    frames = header.count("state.acq.numberOfFrames")
    averaged = header.count("state.acq.numAvgFramesSave")
    # Versions before 3.8 have only a switch: all frames of a slice are averaged, or none.
    if averaged is None and header.count("state.acq.averaging"):
        averaged = frames
    return _Plan(
        saved or max(1, sum(switches)),
        header.count("state.acq.numberOfZSlices") or 1,
        _pages_of_a_slice(frames, averaged),
    )


def _plan_5(header: Header) -> _Plan:
    def names(name: str) -> tuple[str, str]:
        return f"SI5.{name}", f"SI4.{name}"

    fast = header.count(*names("fastZEnable"))
    frames = 1 if fast else header.count(*names("acqNumFrames"))
    return _Plan(
        max(1, len(header.numbers(*names("channelsSave")))),
        header.count(*names("stackNumSlices")) or 1,
        _pages_of_a_slice(frames, header.count(*names("acqNumAveragedFrames"))),
        (header.count(*names("fastZNumDiscardFrames")) or 0) if fast else 0,
    )


def _plan_2015(header: Header) -> _Plan:
    stack = "SI.hStackManager."
    fast = header.count("SI.hFastZ.enable")
    # While the stack is off, slices and flyback frames are those of an earlier recording.
    off = header.number(f"{stack}enable") == 0 and not fast
    slices = header.count(f"{stack}actualNumSlices", f"{stack}numSlices", f"{stack}slicesPerAcq")
    with_flyback = header.count(f"{stack}numFramesPerVolumeWithFlyback")
    without = header.count(f"{stack}numFramesPerVolume")
    if with_flyback and without:
        flyback = max(0, with_flyback - without)
    else:
        flyback = (header.count("SI.hFastZ.numDiscardFlybackFrames") or 0) if fast else 0
    return _Plan(
        max(1, len(header.numbers("SI.hChannels.channelSave", "SI.hChannels.channelsActive"))),
        1 if off else slices or 1,
        _pages_of_a_slice(
            header.count(f"{stack}framesPerSlice"), header.count("SI.hScan2D.logAverageFactor")
        ),
        0 if off else flyback,
    )


def _pages_of_a_slice(frames: int | None, averaged: int | None) -> int | None:
    """Return the number of pages of a slice; None where the header does not say."""
    if frames is None or averaged is None:
        return frames
    return frames // averaged if frames % averaged == 0 else None


# Lengths ------------------------------------------------------------------------------------------


def scanimage_calibration(header: Header, rows: int, columns: int) -> Calibration:
    """Return the distance of slices, and that of rows and columns from the field of view.

    The header gives the corners of the field in µm, or in degrees of scan angle with the
    objective's µm per degree. Both hold at the zoom of the recording. Versions before 2015 do not
    give the field.

    Parameters
    ----------
    header : Header
    rows, columns : int
        Of a page.
    """
    step = _z_step(header)
    height, width = _field_um(header)
    return Calibration(
        step if step else None,
        height / rows if height else None,
        width / columns if width else None,
    )


def _z_step(header: Header) -> float | None:
    """Return the distance of slices in µm; None where the slices are not equidistant."""
    stack = "SI.hStackManager."
    if "arbitrary" in header.get(f"{stack}stackDefinition", ""):
        steps = np.abs(np.diff(header.numbers(f"{stack}arbitraryZs")))
        if not steps.size or not np.allclose(steps, steps[0], rtol=1e-3):
            return None
        return float(steps[0])
    step = header.number(
        f"{stack}actualStackZStepSize",
        f"{stack}stackZStepSize",
        "SI5.stackZStepSize",
        "SI4.stackZStepSize",
        "state.acq.zStepSize",
    )
    return abs(step) if step is not None else None


def _field_um(header: Header) -> tuple[float, float]:
    """Return height and width of the field in µm; zeros where the header gives neither."""
    if header.count("SI.hRoiManager.mroiEnable"):
        return 0.0, 0.0  # the pages show a region of the field
    scale = 1.0
    corners = header.numbers("SI.hRoiManager.imagingFovUm")
    if len(corners) != 8:
        corners = header.numbers("SI.hRoiManager.imagingFovDeg")
        scale = header.number("SI.objectiveResolution") or 0.0
    if len(corners) != 8 or not all(map(math.isfinite, corners)):
        return 0.0, 0.0
    upper_left, upper_right, lower_right = np.reshape(corners, (4, 2))[:3]
    height = scale * math.dist(upper_right, lower_right)
    return height, scale * math.dist(upper_left, upper_right)


def check_one_region(path: Path, header: Header, rois: str) -> None:
    """Refuse pages that hold several regions of interest, one under the other.

    Parameters
    ----------
    path : Path
    header : Header
    rois : str
        The tag of the artist, where versions of 2016 and later keep the regions.

    Raises
    ------
    TenetError
        If there are several regions, or their number is not known.
    """
    if not header.count("SI.hRoiManager.mroiEnable"):
        return
    regions = _regions(path, rois)
    if regions != 1:
        raise TenetError(
            f"{path}: each page holds {regions or 'several'} regions of interest (mROI) one under "
            "the other; export one region as a stack"
        )


def _regions(path: Path, rois: str) -> int:
    """Return the number of regions of interest; 0 where the number is not known."""
    found: Any = parse_json(rois, where=f"{path}: the tag of its regions") if rois.strip() else {}
    for name in ("RoiGroups", "imagingRoiGroup", "rois"):
        found = found.get(name) if isinstance(found, dict) else None
    return len(found) if isinstance(found, list) else int(isinstance(found, dict))
