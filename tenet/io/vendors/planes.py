"""A folder of TIFF files of one plane each, whose names differ by numbers alone."""

import re
from itertools import islice, pairwise
from pathlib import Path

from tenet.errors import TenetError, one_line
from tenet.io.frames import MOST_FRAMES, Place, stack_of_files
from tenet.io.stack import Stack
from tenet.io.tiff import read_plane_header
from tenet.io.tiff_structure import check_tiff_structure

_SUFFIXES = (".tif", ".tiff", ".btf")
#: What stands before the number of a channel, a time point or a plane.
_MARKS = {
    "C": ("c", "ch", "chan", "channel", "w"),
    "T": ("t", "time", "timepoint", "frame"),
    "Z": ("z", "slice", "plane", "zplane"),
}
_NUMBER = re.compile(r"([A-Za-z]*)[-_ =]?(\d+)")


def is_folder_of_planes(folder: Path) -> bool:
    """Whether every TIFF of a folder is one plane of the same size, and there are at least two.

    Their names differ by numbers alone. A folder of stacks shows in its first file that it is none.
    """
    try:
        files = _tiffs(folder)
        if len(files) < 2 or len({re.sub(r"\d+", "#", file.name) for file in files}) > 1:
            return False
        sizes = set()
        for file in files:
            structure = check_tiff_structure(file)
            sizes.add((structure.pages, structure.fewest_pixels))
            if structure.pages > 1 or len(sizes) > 1:
                return False
        read_plane_header(files[0])  # ImageJ and OME may say that one page, or one file, is a stack
    except (TenetError, OSError):
        return False
    return True


def open_planes(
    path: Path, channel: int | None, planes_are: str | None = None, time: int | None = None
) -> Stack:
    """Open a folder of planes; see `tenet.io.open.open_stack`.

    One number in the names counts planes. Of several, the letters before each say what it counts:
    z, c (or ch) and t.
    """
    files = _tiffs(path)
    planes = dict(zip(_places(path, files), ((file, 0) for file in files), strict=True))
    found, optics = read_plane_header(files[0])
    return stack_of_files(path, planes, channel, planes_are, time, found, optics)


def _tiffs(folder: Path) -> list[Path]:
    """List the TIFF files of a folder by name, without hidden ones."""
    try:
        files = [f for f in islice(folder.iterdir(), MOST_FRAMES) if not f.name.startswith(".")]
    except OSError as error:
        raise TenetError(f"{folder}: the folder cannot be read ({one_line(error)})") from None
    return sorted(file for file in files if file.name.lower().endswith(_SUFFIXES))


def _places(path: Path, files: list[Path]) -> list[Place]:
    """Return channel, time point and plane of each file by the numbers in its name."""
    fields = [_NUMBER.findall(file.name.partition(".")[0]) for file in files]
    numbers = [[int(digits) for _, digits in of_file] for of_file in fields]
    varying = [k for k in range(len(numbers[0])) if len({row[k] for row in numbers}) > 1]
    axes = {k: _axis(fields[0][k][0]) for k in varying}
    unknown = [k for k in varying if axes[k] is None]
    if len(unknown) == 1 and "Z" not in axes.values():
        axes[unknown[0]] = "Z"
    if None in axes.values() or len(set(axes.values())) < len(axes):
        raise TenetError(
            f"{path}: {len(varying)} numbers of its file names count something ({files[0].name}, "
            f"…, {files[-1].name}); write z, c or t before each, as in image_z001_c1_t01.tif"
        )
    of = {axis: k for k, axis in axes.items()}
    if "Z" in of:
        _check_gaps(path, sorted({row[of["Z"]] for row in numbers}))

    def number(axis: str, row: list[int]) -> int:
        return row[of[axis]] if axis in of else 0

    return [(number("C", row), number("T", row), number("Z", row)) for row in numbers]


def _axis(letters: str) -> str | None:
    return next((axis for axis, marks in _MARKS.items() if letters.lower() in marks), None)


def _check_gaps(path: Path, numbers: list[int]) -> None:
    """Refuse planes whose numbers are not equally spaced, because a plane is then missing."""
    steps = [b - a for a, b in pairwise(numbers)]
    if len(set(steps)) > 1:
        k = next(k for k, step in enumerate(steps) if step > min(steps))
        raise TenetError(
            f"{path}: planes between {numbers[k]} and {numbers[k + 1]} are missing; "
            "copy all files of the stack"
        )
