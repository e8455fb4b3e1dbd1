"""ThorImage (Thorlabs): Experiment.xml beside a TIFF for each plane, or beside one raw file."""

import math
import re
from itertools import islice
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from tenet.errors import TenetError
from tenet.io.axes import axes_with_planes, find_layout
from tenet.io.calibration import Calibration
from tenet.io.frames import MOST_FRAMES, Page, Place, stack_of_files
from tenet.io.optics import Optics, inscribed
from tenet.io.stack import ContiguousReader, Stack
from tenet.io.xml import companion, count, first, read_xml

ROOT = "ThorImageExperiment"
#: Channel, two numbers of a tile, plane, time point: ``ChanA_0001_0001_0002_0001.tif``.
_PLANE = re.compile(r"(\w+?)_(\d{3,6})_(\d{3,6})_(\d{3,6})_(\d{3,6})\.tiff?", re.I | re.ASCII)
_RAW = re.compile(r"Image_\d+_\d+\.raw", re.I | re.ASCII)
_STREAMING = 1
_MOST_SIDE, _MOST_CHANNELS = 2**20, 4


def open_thor(
    path: Path, channel: int | None, planes_are: str | None = None, time: int | None = None
) -> Stack:
    """Open a recording of ThorImage; see `tenet.io.open.open_stack`."""
    xml = companion(path, ROOT) if path.is_dir() else path
    experiment = read_xml(xml)
    files = sorted(islice(xml.parent.iterdir(), MOST_FRAMES))
    raw = [file for file in files if _RAW.fullmatch(file.name)]
    planes = {file: found for file in files if (found := _PLANE.fullmatch(file.name))}
    if raw and not planes:
        if len(raw) > 1:
            raise TenetError(
                f"{path}: it holds {len(raw)} raw files; give a folder with one of them"
            )
        return _open_raw(path, raw[0], experiment, channel, planes_are, time)
    if len({found.groups()[1:3] for found in planes.values()}) > 1:
        raise TenetError(f"{path}: it holds several tiles; export one tile as OME-TIFF")
    names = sorted({found[1] for found in planes.values()})
    pages: dict[Place, Page] = {
        (names.index(found[1]), int(found[5]), int(found[4])): (file, 0)
        for file, found in planes.items()
    }
    return stack_of_files(
        path, pages, channel, planes_are, time, _calibration(experiment), (_optics(experiment),)
    )


def _open_raw(
    path: Path,
    raw: Path,
    experiment: Element,
    channel: int | None,
    planes_are: str | None,
    time: int | None,
) -> Stack:
    """Open a raw file: 16 bits a pixel; channels are innermost, then planes, then time points."""
    lsm = first(experiment, "LSM")
    rows, columns = (count(path, lsm, f"pixel{axis}", 0, _MOST_SIDE) for axis in "YX")
    times, planes, flyback = _counts(path, experiment)
    frames, rest = divmod(raw.stat().st_size, max(1, 2 * rows * columns))
    channels, left = divmod(frames, max(1, times * (planes + flyback)))
    if rest or left or not 1 <= channels <= _MOST_CHANNELS:
        raise TenetError(
            f"{path}: Experiment.xml says {times} time points, {planes} planes (and {flyback} of "
            f"flyback) of {rows} × {columns} pixels, and {raw.name} holds {frames} frames: "
            "it stopped early or is truncated; copy it again, or export it as OME-TIFF"
        )
    shape = (times, planes + flyback, channels, rows, columns)
    kept = (times, planes, channels, rows, columns)
    axes = axes_with_planes(path, "TZCYX", kept, planes_are)
    sizes = find_layout(path, axes, kept, channel, time)
    reader = ContiguousReader(raw, "<u2", 0, shape, "C", sizes.layout)
    found = _calibration(experiment)
    return Stack(
        path, sizes.zyx_shape, np.dtype("<u2"), found.voxel_size_um, reader, found.note,
        sizes.channels, sizes.times,
        channel_optics=(_optics(experiment),) * sizes.channels, channel=channel or 0,
    )  # fmt: skip


def _counts(path: Path, experiment: Element) -> tuple[int, int, int]:
    """Return time points, planes, and flyback frames of each volume."""
    stage, streaming = first(experiment, "ZStage"), first(experiment, "Streaming")
    steps = count(path, stage, "steps", 1, MOST_FRAMES)
    if count(path, first(experiment, "CaptureMode"), "mode", 0, 9) != _STREAMING:
        planes = steps if stage.get("enable", "1") != "0" else 1
        return count(path, first(experiment, "Timelapse"), "timepoints", 1, 2**31), planes, 0
    frames = count(path, streaming, "frames", 1, 2**31)
    if streaming.get("zFastEnable", "0") == "0":
        return frames, 1, 0
    flyback = count(path, streaming, "flybackFrames", 0, MOST_FRAMES)
    return max(1, frames // max(1, steps + flyback)), steps, flyback


def _calibration(experiment: Element) -> Calibration:
    pixel = _length(first(experiment, "LSM").get("pixelSizeUM"))
    return Calibration(_length(first(experiment, "ZStage").get("stepSizeUM")), pixel, pixel)


def _optics(experiment: Element) -> Optics:
    objective = first(experiment, "Magnification")
    na, index = inscribed(objective.get("name", ""))
    given = objective.get("numericalAperture", "")
    return Optics.read(na=given or na, immersion_indices=(index,))


def _length(text: str | None) -> float | None:
    try:
        length = abs(float(text or ""))
    except ValueError:
        return None
    return length if math.isfinite(length) and length > 0 else None
