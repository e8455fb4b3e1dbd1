"""Compressions of a TIFF that are read. No strip decodes to more bytes than its page declares.

Decoders of zlib, LZW and their like fill a buffer of the size that the page declares. An image
inside a strip (JPEG, JPEG 2000) has a size of its own, which is compared with the page before the
image is decoded. Other formats of images are refused.
"""

import struct
from pathlib import Path
from typing import BinaryIO

from tenet.errors import TenetError

#: CCITT, LZW, deflate, PackBits, LZMA, and zstd, by their numbers in TIFF.
_BOUNDED = {1, 2, 3, 4, 5, 8, 32773, 32946, 34925, 34926, 50000}
_JPEG, _JPEG_2000 = {7, 34892, 33007}, {33003, 33004, 33005, 34712}
#: Bytes of a strip that hold the size of its image, and pixels it may have beyond the strip.
_HEADER_BYTES, _MORE_PIXELS = 2**16, 2**20


def check_codes(
    path: Path, file: BinaryIO, compression: int, offsets: list[int], piece_pixels: int
) -> None:
    """Check that the strips or tiles of a page can be decoded within their size.

    Parameters
    ----------
    path : Path
    file : binary file
        The open TIFF.
    compression : int
        Its number in the TIFF.
    offsets : list of int
        Where the strips or tiles begin.
    piece_pixels : int
        Pixels of a strip or tile.

    Raises
    ------
    TenetError
        If the compression is not read, or an image is larger than its strip or tile.
    """
    if compression in _BOUNDED:
        return
    if compression not in _JPEG | _JPEG_2000:
        raise TenetError(
            f"{path}: its compression (number {compression}) is not read; "
            "save it without, or with zlib or LZW"
        )
    size = _jpeg_pixels if compression in _JPEG else _jpeg_2000_pixels
    for offset in offsets:
        file.seek(offset)
        if size(file.read(_HEADER_BYTES)) > 4 * piece_pixels + _MORE_PIXELS:
            raise TenetError(
                f"{path}: a strip or tile holds an image far larger than itself; export it again"
            )


def _jpeg_pixels(code: bytes) -> int:
    """Return rows times columns in the frame header of a JPEG; 0 where there is none."""
    place = 2
    while place + 9 <= len(code) and code[place] == 0xFF:
        marker, length = code[place + 1], int.from_bytes(code[place + 2 : place + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            rows, columns = struct.unpack_from(">HH", code, place + 5)
            return int(rows * columns)
        # Fill bytes are followed one by one, so that no fill byte hides a header.
        place += 1 if marker == 0xFF else 2 + length
    return 0


def _jpeg_2000_pixels(code: bytes) -> int:
    """Return rows times columns in the code stream of a JPEG 2000; 0 where there is none."""
    place = code.find(b"\xff\x4f\xff\x51")
    if place < 0 or place + 16 > len(code):
        return 0
    columns, rows = struct.unpack_from(">II", code, place + 8)
    return int(rows * columns)
