"""Files of one plane each: advice for such a file, and for a folder of such files."""

import re
from itertools import islice
from pathlib import Path

from tenet.errors import TenetError

#: Most files of a folder that are looked at.
_MOST_FILES = 20_000
_JOIN = "join them (in Fiji: File > Import > Image Sequence), save one TIFF, and give that"


def one_of_a_series(path: Path) -> str | None:
    """Say that a file is one of several whose names differ by a number; None for any other file."""
    pattern = _pattern(path)
    alike = [file for file in _tiffs(path.parent) if _pattern(file) == pattern]
    if len(alike) < 2:
        return None
    return (
        f"{path}: this is one plane, and one of {len(alike)} files of its kind in the folder; "
        f"give the folder, whose planes are a stack if they have one size, or {_JOIN}"
    )


def refuse_folder_of_tiffs(folder: Path) -> None:
    """Refuse a folder of TIFF files given for a stack.

    Raises
    ------
    TenetError
        If the folder holds TIFF files and no part of an OME-Zarr.
    """
    if any((folder / name).exists() for name in ("zarr.json", ".zgroup", ".zarray")):
        return
    files = _tiffs(folder)
    if files:
        raise TenetError(
            f"{folder}: this is a folder of {len(files)} TIFF files, not a stack; give one of the "
            f"files, or if each holds one plane, {_JOIN}"
        )


def _tiffs(folder: Path) -> list[Path]:
    return [
        file
        for file in islice(folder.iterdir(), _MOST_FILES)
        if file.name.lower().endswith((".tif", ".tiff", ".btf"))
    ]


def _pattern(file: Path) -> str:
    return re.sub(r"\d+", "#", file.name)
