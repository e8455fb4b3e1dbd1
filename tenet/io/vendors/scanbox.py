"""Scanbox (Neurolabware): pixels in NAME.sbx, and what they mean in NAME.mat."""

import contextlib
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from tenet.errors import TenetError, one_line
from tenet.io.axes import axes_with_planes, check_shape, find_layout
from tenet.io.calibration import Calibration
from tenet.io.optics import Optics, inscribed
from tenet.io.records import regular_file
from tenet.io.stack import ContiguousReader, InvertedReader, Stack, micrometres

#: Scanbox drives microscopes of two photons.
PHOTONS = 2
#: Bytes of the MAT file, and of all that is compressed in it, at most.
_MOST_MAT, _MOST_INFLATED = 2**26, 2**27
_COMPRESSED = 15
#: Channels by the number that the file gives: both, or one of them.
_CHANNELS = {1: 2, 2: 1, 3: 1}
_WHITE = 2**16 - 1


def open_scanbox(
    path: Path, channel: int | None, planes_are: str | None = None, time: int | None = None
) -> Stack:
    """Open a recording of Scanbox; see `tenet.io.open.open_stack`.

    With a tunable lens, frames are planes and then time points. Without it, they are time points.
    """
    info = _info(path, path.with_suffix(".mat"))
    rows, columns = (int(n) for n in _numbers(info, "sz")[:2] or (0, 0))
    channels = _count(path, info)
    check_shape(path, (1, rows, columns))
    depths = _numbers(info, "otwave_um")
    lens = len(depths) or len(_numbers(info, "otwave"))
    planes = max(1, lens) if any(_numbers(info, "volscan")) else 1
    frames, rest = divmod(path.stat().st_size, max(1, 2 * channels * rows * columns))
    times = frames // planes
    if rest or times < 1:
        raise TenetError(
            f"{path}: its {path.stat().st_size} bytes are no whole number of frames of {channels} "
            f"× {rows} × {columns} pixels, of which a volume has {planes}: the file is truncated; "
            "copy it again"
        )
    shape = (times, planes, rows, columns, channels)
    axes = axes_with_planes(path, "TZYXC", shape, planes_are)
    sizes = find_layout(path, axes, shape, channel, time)
    stored = ContiguousReader(path, "<u2", 0, shape, "C", sizes.layout)
    found = _calibration(info, depths if planes > 1 else [])
    return Stack(
        path, sizes.zyx_shape, np.dtype("<u2"), found.voxel_size_um,
        InvertedReader(stored, _WHITE), found.note, sizes.channels, sizes.times,
        channel_optics=(_optics(info),) * sizes.channels, channel=channel or 0,
    )  # fmt: skip


def _info(path: Path, mat: Path) -> Any:
    """Read the structure ``info`` of the MAT file."""
    if not mat.exists():
        raise TenetError(f"{path}: {mat.name} is not beside it; copy both files of the recording")
    regular_file(mat, most_bytes=_MOST_MAT)
    _check_inflated(mat)
    from scipy.io import loadmat  # importing it takes a while, and few files need it

    try:
        # Numbers, texts and structures alone: SciPy runs nothing of a MAT file.
        found = loadmat(mat, variable_names=["info"], squeeze_me=True, struct_as_record=False)
    # On a damaged file the parser raises many kinds of errors.
    except Exception as error:
        raise TenetError(
            f"{mat}: the MAT file cannot be read ({one_line(error)}); copy it again"
        ) from error
    if not hasattr(found.get("info"), "sz"):
        raise TenetError(f"{mat}: it holds no `info` of Scanbox; give the file of the recording")
    return found["info"]


def _check_inflated(mat: Path) -> None:
    """Refuse a MAT file whose compressed parts are far larger than the file of a recording."""
    content, place, total = mat.read_bytes(), 128, 0
    while place + 8 <= len(content) and total <= _MOST_INFLATED:
        kind, size = struct.unpack_from("<II", content, place)
        place += 8
        if kind == _COMPRESSED:
            with contextlib.suppress(zlib.error):  # SciPy says what is wrong
                part = zlib.decompressobj().decompress(
                    content[place : place + size], _MOST_INFLATED - total + 1
                )
                total += len(part)
        place += size
    if total > _MOST_INFLATED:
        raise TenetError(f"{mat}: it grows beyond {_MOST_INFLATED} bytes; no recording does")


def _count(path: Path, info: Any) -> int:
    """Return the number of channels: newer versions count them, older ones name them."""
    newer = _numbers(getattr(info, "chan", None), "nchan")
    older = _numbers(info, "channels")
    number = int(newer[0]) if newer else _CHANNELS.get(int(older[0]) if older else 0, 0)
    if not 1 <= number <= 4:
        raise TenetError(f"{path}: its MAT file does not say how many channels it holds")
    return number


def _calibration(info: Any, depths: list[float]) -> Calibration:
    """Return the lengths: pixels at the magnification, and the distance of the lens's depths."""
    steps = np.abs(np.diff(depths))
    even = steps.size > 0 and np.allclose(steps, steps[0], rtol=0.1)
    x, y = _numbers(info, "dxcal"), _numbers(info, "dycal")
    entries = np.atleast_1d(np.asarray(getattr(info, "calibration", None), dtype=object))
    place = _numbers(getattr(info, "config", None), "magnification")
    if not (x and y) and place and 1 <= place[0] <= len(entries):
        entry = entries[int(place[0]) - 1]  # MATLAB counts from 1
        x, y = _numbers(entry, "x"), _numbers(entry, "y")
    return Calibration(
        float(np.median(steps)) or None if even else None,
        y[0] if y and y[0] > 0 else None,
        x[0] if x and x[0] > 0 else None,
    )


def _optics(info: Any) -> Optics:
    na, index = inscribed(str(getattr(info, "objective", "")))
    nm = _numbers(getattr(info, "config", None), "wavelength")
    return Optics.read(
        na=na,
        wavelength_um=micrometres(nm[0], "nm") if nm else None,
        immersion_indices=(index,),
        photons=PHOTONS,
    )


def _numbers(structure: Any, name: str) -> list[float]:
    """Return the finite numbers of an entry; none where there is no such entry."""
    try:
        found = np.atleast_1d(np.asarray(getattr(structure, name, []), dtype=float)).ravel()
    except (TypeError, ValueError):
        return []
    return [float(number) for number in found[:10_000] if np.isfinite(number)]
