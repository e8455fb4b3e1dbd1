"""Enhanced stacks in files: what tells them from other images, and what stands beside them."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tifffile

from tenet.errors import TenetError
from tenet.io.folders import stack_name
from tenet.io.ome_tiff import parse_ome
from tenet.io.ome_zarr import is_zarr
from tenet.io.open import open_stack
from tenet.io.records import read_json_object
from tenet.io.zarr_files import ZarrFiles

CHANNELS = ("shape", "brightness")
#: Probability that a voxel is on the wrong side of the threshold.
UNCERTAINTY = "uncertainty"
#: Threshold of a result whose own is not known.
THRESHOLD = 0.5
#: Record beside all results of a folder.
SETTINGS = "settings.json"


def of_channel(names: Sequence[str], channel: int, channels: int) -> list[str]:
    """Names of the channels of a result that are of one raw channel of several.

    Examples
    --------
    >>> of_channel(CHANNELS, 1, channels=2)
    ['shape c1', 'brightness c1']
    >>> of_channel(CHANNELS, 1, channels=1)
    ['shape', 'brightness']
    """
    return [f"{name} c{channel}" if channels > 1 else name for name in names]


def by_raw_channel(names: Sequence[str]) -> dict[int | None, list[str]]:
    """Names of the channels of a result by raw channel; empty if they are not those of a result.

    Examples
    --------
    >>> by_raw_channel(["shape c0", "brightness c0", "shape c2", "brightness c2"])
    {0: ['shape c0', 'brightness c0'], 2: ['shape c2', 'brightness c2']}
    >>> by_raw_channel(["shape", "brightness"])
    {None: ['shape', 'brightness']}
    >>> by_raw_channel(["red", "green"])
    {}
    """
    raw = [re.fullmatch(rf"{CHANNELS[0]}(?: c(\d{{1,9}}))?", name) for name in names]
    found = [int(match[1]) if match[1] else None for match in raw if match]
    for kinds in (CHANNELS, (*CHANNELS, UNCERTAINTY)):
        each = {c: [k if c is None else f"{k} c{c}" for k in kinds] for c in found}
        if len(each) == len(found) and list(names) == [name for c in found for name in each[c]]:
            return each
    return {}


def result_channels(path: Path) -> tuple[str, ...]:
    """Names of the channels of an enhanced stack; empty for every other file.

    An image of several raw channels has those of each; see `by_raw_channel`.

    Examples
    --------
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from tenet.io.writing import write_ome_tiff
    >>> result = np.zeros((2, 4, 8, 8), np.float32)
    >>> write_ome_tiff("result.ome.tif", result, (0.2, 0.2, 0.2), CHANNELS)
    >>> result_channels(Path("result.ome.tif"))
    ('shape', 'brightness')
    >>> result_channels(Path("stack.tif"))
    ()
    """
    try:
        if not path.name.lower().endswith((".tif", ".tiff", ".zarr")):
            return ()
        if open_stack(path, channel=0, time=0).channels < len(CHANNELS):
            return ()
        names = _names_in_zarr(path) if is_zarr(path) else _names_in_tiff(path)
    except TenetError:
        return ()
    return names if by_raw_channel(names) else ()


def _names_in_tiff(path: Path) -> tuple[str, ...]:
    with tifffile.TiffFile(path) as tiff:
        xml = tiff.ome_metadata
    elements = parse_ome(path, xml).iter() if xml else iter(())
    return tuple(e.get("Name", "") for e in elements if e.tag.rpartition("}")[2] == "Channel")


def _names_in_zarr(path: Path) -> tuple[str, ...]:
    attributes = ZarrFiles(path).json(".zattrs")
    omero = attributes.get("omero") if isinstance(attributes, Mapping) else None
    channels = omero.get("channels") if isinstance(omero, Mapping) else None
    found = channels if isinstance(channels, list) else []
    return tuple(str(c.get("label")) for c in found if isinstance(c, Mapping))


def result_record(path: Path) -> dict[str, Any]:
    """What `tenet enhance` has written about a result, or about all results of its folder.

    Empty where there is nothing.

    Raises
    ------
    TenetError
        If a record is damaged.
    """
    for file in (path.with_name(f"{stack_name(path)}.json"), path.with_name(SETTINGS)):
        if file.is_file():
            return read_json_object(file)
    return {}


def threshold_in(record: Mapping[str, Any]) -> float | None:
    """The threshold in a record of `result_record`, from 0 to 1; None where there is none.

    Examples
    --------
    >>> threshold_in({"calibration": {"threshold": 0.45}}), threshold_in({"threshold": 0.3})
    (0.45, 0.3)
    >>> threshold_in({}) is None
    True
    """
    calibration = record.get("calibration")
    found = (calibration if isinstance(calibration, Mapping) else record).get("threshold")
    return float(found) if isinstance(found, int | float) and 0 < found < 1 else None


def record_of_channel(record: Mapping[str, Any], channel: int) -> Mapping[str, Any]:
    """The record of the first part of a raw channel, in that of a result of several.

    Examples
    --------
    >>> parts = [{"channel": 0, "threshold": 0.5}, {"channel": 1, "threshold": 0.4}]
    >>> record_of_channel({"parts": parts}, 1)["threshold"]
    0.4
    """
    parts = record.get("parts")
    for part in parts if isinstance(parts, list) else []:
        if isinstance(part, Mapping) and part.get("channel") == channel:
            return part
    return record


def step_in(record: Mapping[str, Any]) -> float | None:
    """How far the planes of the raw stack are apart in µm, by a record; None where it is not there.

    Examples
    --------
    >>> step_in({"voxel_size_um": [1.0, 0.2, 0.2]})
    1.0
    """
    size = record.get("voxel_size_um")
    step = size[0] if isinstance(size, list) and size else None
    return float(step) if isinstance(step, int | float) and step > 0 else None
