"""Bidirectional scans: rows that were scanned backwards lie beside the others; found and corrected.

A resonant or galvanometric mirror that records on its way back as well puts every second row a
fraction of a pixel to several pixels beside the rows between.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len, rfft
from scipy.ndimage import shift

from tenet.errors import TenetError
from tenet.io.stack import Reader, Stack

#: Largest offset in pixels, and the step at which offsets are compared.
MOST, STEP = 12.0, 0.02
#: Planes that are looked at, evenly spaced.
PLANES = 32
#: Columns on either side of a crop from which a shifted row is interpolated.
MARGIN = 8

ScanOffset = float | Literal["find"]


def parse_scan_offset(text: str) -> ScanOffset:
    """Read an offset as users write it.

    Raises
    ------
    TenetError
        If it is neither ``find`` nor a number within ±`MOST`.

    Examples
    --------
    >>> parse_scan_offset("find"), parse_scan_offset("-1.5")
    ('find', -1.5)
    """
    if text == "find":
        return "find"
    try:
        pixels = float(text)
    except ValueError:
        raise TenetError(f"{text}: give find, or a number of pixels") from None
    if not abs(pixels) <= MOST:
        raise TenetError(
            f"{pixels:g} pixels are beyond {MOST:g}: give what the image shows, or find"
        )
    return pixels


def find_scan_offset(stack: Stack) -> float:
    """Find how far the odd rows of a stack (the second, the fourth …) lie to the right.

    Each odd row is compared with the mean of the rows above and below. The offset is where their
    cross-correlation, summed over all rows of some planes, is highest.

    Parameters
    ----------
    stack : Stack

    Returns
    -------
    float
        Pixels, from −`MOST` to `MOST`.

    Raises
    ------
    TenetError
        If the stack has fewer than three rows, or shows no structure.

    Examples
    --------
    >>> import tenet
    >>> abs(find_scan_offset(tenet.open_stack("stack.tif"))) < 1
    True
    """
    planes, rows, columns = stack.zyx_shape
    if rows < 3:
        raise TenetError(f"{stack.label}: {rows} rows are too few to compare odd and even ones")
    length = next_fast_len(columns + 2 * int(MOST), real=True)
    spectrum = np.zeros(length // 2 + 1, complex)
    for plane in np.unique(np.linspace(0, planes - 1, PLANES).astype(int)).tolist():
        image = np.nan_to_num(stack.read(z=slice(plane, plane + 1))[0].astype(np.float64))
        odd = image[1 : rows - 1 : 2]
        between = (image[0 : rows - 2 : 2] + image[2:rows:2]) / 2
        odd, between = (part - part.mean(axis=1, keepdims=True) for part in (odd, between))
        spectrum += (rfft(odd, length) * np.conj(rfft(between, length))).sum(axis=0)
    if not np.abs(spectrum).max() > 0:
        raise TenetError(f"{stack.label}: no scan offset can be found where nothing is seen")
    most = min(MOST, columns / 4)
    offsets = np.arange(-round(most / STEP), round(most / STEP) + 1) * STEP
    waves = np.exp(2j * np.pi * np.outer(offsets, np.arange(len(spectrum))) / length)
    # Shifted rows overlap the less, the farther they are shifted.
    correlation = (waves @ spectrum).real / (columns - np.abs(offsets))
    return float(offsets[np.argmax(correlation)])


def without_scan_offset(stack: Stack, offset: ScanOffset | None) -> Stack:
    """Return a stack whose odd rows are shifted back, by a known offset or by the one found.

    Rows are interpolated by cubic splines; a whole number of pixels is exact. A crop costs what the
    crop is large.

    Parameters
    ----------
    stack : Stack
    offset : float or "find" or None
        Pixels that the odd rows lie to the right; None and 0 leave the stack as it is.

    Raises
    ------
    TenetError
        As `find_scan_offset` raises; or if the offset is not within ±`MOST`.
    """
    if offset is None:
        return stack
    pixels = find_scan_offset(stack) if offset == "find" else float(offset)
    if not abs(pixels) <= MOST:
        raise TenetError(
            f"{stack.label}: a scan offset of {pixels:g} pixels is beyond {MOST:g}: give one that "
            "the image shows, or `find`"
        )
    if pixels == 0:
        return stack
    columns = stack.zyx_shape[2]
    reader = _Shifted(stack._reader, pixels, columns)
    return replace(stack, dtype=np.dtype(np.float32), _reader=reader, scan_offset_px=pixels)


@dataclass(frozen=True)
class _Shifted:
    """A reader whose odd rows are shifted to the left."""

    reader: Reader
    pixels: float
    columns: int

    def at(self, channel: int, time: int) -> "_Shifted":
        return replace(self, reader=self.reader.at(channel, time))

    def read(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        around = int(np.ceil(abs(self.pixels))) + MARGIN
        start, stop = max(x.start - around, 0), min(x.stop + around, self.columns)
        wide = np.asarray(self.reader.read(z, y, slice(start, stop)), dtype=np.float32)
        image = wide[:, :, x.start - start : x.stop - start].copy()
        odd = slice(1 - y.start % 2, None, 2)
        if wide[:, odd].size:
            order = 0 if float(self.pixels).is_integer() else 3
            rows = shift(wide[:, odd], (0, 0, -self.pixels), order=order, mode="nearest")
            image[:, odd] = rows[:, :, x.start - start : x.stop - start]
        return image
