"""The chain of pages of a TIFF, followed to its end before anything else reads the file.

tifffile logs a broken chain and returns the planes before the break, so that a truncated stack
would pass as a shorter stack. tifffile also trusts the size that a page declares.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from tenet.errors import TenetError
from tenet.io.records import MOST_BYTES, regular_file
from tenet.io.tiff_codes import check_codes

#: Most pages of a stack, and most tags of a page.
MOST_PAGES, MOST_TAGS = 2**17, 4096
#: A decoded plane may always have this many bytes. A larger plane may have at most so many times
#: the bytes of the file.
PLANE_BYTES, MOST_RATIO = 2**27, 200
#: A tile may always have this many bytes. A larger tile may have at most four times the bytes of
#: the plane.
TILE_BYTES = 2**24

#: The end of the names of TIFFs of Zeiss, some of whose tags are not those of a TIFF.
LSM = ".lsm"

#: Bytes per value of each TIFF data type.
# fmt: off
_TYPE_BYTES = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
    16: 8, 17: 8, 18: 8,
}
# fmt: on
_INTEGERS = {1, 3, 4, 6, 7, 8, 9, 13, 16, 17, 18}
_COLUMNS, _ROWS, _BITS, _COMPRESSION, _SAMPLES = 256, 257, 258, 259, 277
_ROWS_PER_STRIP, _PLANAR, _TILE_COLUMNS, _TILE_ROWS = 278, 284, 322, 323
_STRIP_OFFSETS, _STRIP_BYTES, _TILE_OFFSETS, _TILE_BYTES = 273, 279, 324, 325
_DEPTH, _TILE_DEPTH = 32997, 32998
_PLACES = (_STRIP_OFFSETS, _STRIP_BYTES, _TILE_OFFSETS, _TILE_BYTES)
_READ = {
    *(_COLUMNS, _ROWS, _BITS, _COMPRESSION, _SAMPLES, _ROWS_PER_STRIP, _PLANAR),
    *(_TILE_COLUMNS, _TILE_ROWS, _DEPTH, _TILE_DEPTH, *_PLACES),
}

Numbers = npt.NDArray[np.uint64]
Tags = dict[int, Numbers]


@dataclass(frozen=True)
class TiffStructure:
    """The chain of pages of a file.

    Attributes
    ----------
    pages : int
    fewest_pixels : int
        Pixels of the smallest page.
    """

    pages: int
    fewest_pixels: int


def check_tiff_structure(path: Path) -> TiffStructure:
    """Follow the chain of pages of a TIFF and check that all data of the pages lie in the file.

    Parameters
    ----------
    path : Path

    Returns
    -------
    TiffStructure

    Raises
    ------
    TenetError
        If the file is no TIFF, is truncated, promises more than it can hold, or its chain goes
        round in a circle.
    """
    size = regular_file(path)
    with path.open("rb") as file:
        form = _form(path, file.read(4))
        try:
            file.seek(form.first_page)
            (offset,) = struct.unpack(form.number, file.read(struct.calcsize(form.number)))
            seen: set[int] = set()
            fewest_pixels = 2**63
            while offset:
                if offset in seen:
                    raise TenetError(
                        f"{path}: its chain of pages goes round in a circle; export it again"
                    )
                if len(seen) == MOST_PAGES:
                    raise TenetError(
                        f"{path}: more than {MOST_PAGES} pages are no stack; "
                        "export one time point as a file of its own"
                    )
                seen.add(offset)
                tags, offset = _read_page(path, file, offset, size, form)
                fewest_pixels = min(fewest_pixels, _check_page(path, file, tags, size))
        except (struct.error, EOFError) as error:
            raise TenetError(truncated(path)) from error
    if not seen:
        raise TenetError(f"{path}: there is no image in the file; export it again")
    return TiffStructure(len(seen), fewest_pixels)


def truncated(path: Path) -> str:
    """Say that a file is shorter than its header promises."""
    return f"{path}: the file is truncated (its header promises more data); copy or export it again"


@dataclass(frozen=True)
class _Form:
    """The notation of numbers in a file: classic or Big, little or big endian."""

    endian: str
    first_page: int
    count: str
    entry: str
    number: str


def _form(path: Path, magic: bytes) -> _Form:
    endian = {b"II": "<", b"MM": ">"}.get(magic[:2])
    version = struct.unpack(f"{endian}H", magic[2:])[0] if endian and len(magic) == 4 else 0
    if version == 42:
        return _Form(str(endian), 4, f"{endian}H", f"{endian}HHI4s", f"{endian}I")
    if version == 43:
        return _Form(str(endian), 8, f"{endian}Q", f"{endian}HHQ8s", f"{endian}Q")
    raise TenetError(f"{path}: this is not a TIFF file, whatever its name says")


def _read_page(path: Path, file: BinaryIO, offset: int, size: int, form: _Form) -> tuple[Tags, int]:
    """Read the tags of a page with the places of its data, and the offset of the next page.

    Raises
    ------
    EOFError, struct.error
        If a part of the page lies beyond the end of the file.
    """
    if offset >= size:
        raise EOFError
    file.seek(offset)
    (entries,) = struct.unpack(form.count, file.read(struct.calcsize(form.count)))
    entry_bytes = struct.calcsize(form.entry)
    if offset + entries * entry_bytes > size:
        raise EOFError
    if entries > MOST_TAGS:
        raise TenetError(f"{path}: a page of {entries} tags is damaged; copy or export it again")
    directory = file.read(entries * entry_bytes)
    (next_offset,) = struct.unpack(form.number, file.read(struct.calcsize(form.number)))
    tags: Tags = {}
    lsm = path.suffix.lower() == LSM
    for tag, kind, count, value in struct.iter_unpack(form.entry, directory):
        length = count * _TYPE_BYTES.get(kind, 0)
        start = None
        # The program of Zeiss keeps the bits of two channels elsewhere.
        if length > len(value) or (lsm and (tag, count) == (_BITS, 2)):
            (start,) = struct.unpack(form.number, value)
            if start + length > size:
                raise EOFError
            if length > MOST_BYTES and tag not in _PLACES:
                raise TenetError(
                    f"{path}: a header of {length / 2**20:.0f} MiB (tag {tag}) is no header of a "
                    "stack; export it again"
                )
        if tag in _READ and kind in _INTEGERS and count:
            if start is not None:
                file.seek(start)
                value = file.read(length)
            unsigned = f"{form.endian}u{_TYPE_BYTES[kind]}"
            tags[tag] = np.frombuffer(value[:length], unsigned).astype(np.uint64)
    return tags, int(next_offset)


def _check_page(path: Path, file: BinaryIO, tags: Tags, size: int) -> int:
    """Check that the data of a page lie in the file and are enough for the size of the page.

    Returns the pixels of a plane.
    """
    number = {tag: int(values[0]) for tag, values in tags.items()}
    rows, columns = number.get(_ROWS, 0), number.get(_COLUMNS, 0)
    if rows == 0 or columns == 0:
        raise TenetError(f"{path}: the image is empty (a page without pixels); export it again")
    tiled = _TILE_OFFSETS in tags
    offsets = tags.get(_TILE_OFFSETS if tiled else _STRIP_OFFSETS)
    lengths = tags.get(_TILE_BYTES if tiled else _STRIP_BYTES)
    if offsets is None:
        raise TenetError(f"{path}: a page does not say where its data lie; export it again")
    compression = number.get(_COMPRESSION, 1)
    if path.suffix.lower() == LSM and compression != 1:
        lengths = None  # an LSM gives the lengths of its data before compression
    if lengths is not None:
        _check_places(path, offsets, lengths, size)

    samples = number.get(_SAMPLES, 1)
    bits = tags.get(_BITS, np.ones(1, np.uint64))
    pixel_bits = sum(map(int, bits)) if bits.size == samples else int(bits[0]) * samples
    depth = max(1, number.get(_DEPTH, 1))
    plane_bytes = depth * rows * math.ceil(columns * pixel_bits / 8)
    if compression != 1:
        check_plane(path, rows, columns, plane_bytes, size)
        piece_pixels = _check_pieces(path, number, offsets.size, pixel_bits)
        check_codes(path, file, compression, offsets.tolist(), piece_pixels)
        return rows * columns
    stored = int(lengths.sum()) if lengths is not None else size - int(offsets[0])
    if stored < plane_bytes:
        raise TenetError(
            f"{path}: a plane of {rows} × {columns} pixels needs {plane_bytes} bytes, and the "
            f"file holds {stored} of them: it is truncated or damaged; copy or export it again"
        )
    return rows * columns


def check_plane(path: Path, rows: int, columns: int, plane_bytes: int, stored: int) -> None:
    """Refuse a plane that is far larger than compressed data of so many bytes can be.

    Raises
    ------
    TenetError
        If the plane has more than `PLANE_BYTES`, and more than `MOST_RATIO` times `stored`.
    """
    if plane_bytes > max(PLANE_BYTES, MOST_RATIO * stored):
        raise TenetError(
            f"{path}: a plane of {rows} × {columns} pixels cannot be in a file of {stored} "
            "bytes; export it again"
        )


def _check_pieces(path: Path, number: Mapping[int, int], found: int, pixel_bits: int) -> int:
    """Check the sizes of the strips or tiles of a compressed page, and that none is missing.

    Returns the pixels of one strip or tile.
    """
    depth = max(1, number.get(_DEPTH, 1))
    plane = (depth, number[_ROWS], number[_COLUMNS])
    piece = (1, min(number.get(_ROWS_PER_STRIP, plane[1]), plane[1]), plane[2])
    if _TILE_OFFSETS in number:
        piece = (
            max(1, number.get(_TILE_DEPTH, 1)),
            number.get(_TILE_ROWS, 0),
            number.get(_TILE_COLUMNS, 0),
        )
    if 0 in piece:
        raise TenetError(f"{path}: a page has strips or tiles without pixels; export it again")
    if math.prod(piece) * pixel_bits // 8 > max(TILE_BYTES, 4 * math.prod(plane) * pixel_bits // 8):
        raise TenetError(
            f"{path}: tiles of {piece[1]} × {piece[2]} pixels are no part of a plane of "
            f"{plane[1]} × {plane[2]}; export it again"
        )
    pieces = math.prod(math.ceil(n / part) for n, part in zip(plane, piece, strict=True))
    pieces *= number.get(_SAMPLES, 1) if number.get(_PLANAR, 1) == 2 else 1
    if found < pieces:
        raise TenetError(
            f"{path}: a plane lacks {pieces - found} of its {pieces} strips or tiles; "
            "export it again"
        )
    return math.prod(piece)


def _check_places(path: Path, offsets: Numbers, lengths: Numbers, size: int) -> None:
    """Check the places of the strips or tiles of a page.

    Raises
    ------
    EOFError
        If one of them lies beyond the end of the file.
    """
    if offsets.size != lengths.size:
        raise TenetError(
            f"{path}: a page gives the places of {offsets.size} strips or tiles and the lengths of "
            f"{lengths.size}; export it again"
        )
    if not lengths.all():
        raise TenetError(f"{path}: a plane holds no data; export the stack again")
    # The numbers are unsigned and have up to 64 bits. Neither side may overflow.
    if (lengths > size).any() or (offsets > np.uint64(size) - lengths).any():
        raise EOFError
