"""What the configuration says of a source of raw stacks in the record."""

import fnmatch
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from tenet.io.folders import is_stack, stack_name
from tenet.types import Triple, VoxelSize


@dataclass(frozen=True)
class Source:
    """What the configuration says of a source, and what the experiments that use it need.

    Attributes
    ----------
    name : str
    folder : str
        Name of the folder in an archive; empty for loose files of the record.
    archives : tuple of str
        Patterns of archives' names, in the order in which they are tried.
    files, partner : str
        Patterns of the stacks' names, and of the stacks that each belongs with; a pattern without
        a suffix is compared with names without suffixes. No partner if empty.
    channel, planes_are
        As in `open_stack`; `planes_are` only where a file does not say what its planes are.
    voxel_size_um : tuple of float, or None
        Voxel size (z, y, x) in µm that goes before what files say.
    limit : int or None
        Most stacks, in natural order.
    numbering : {"digits", "order"}
        Whether an image's number is the last digits of its name, or its place in natural order.
    first_image : int
        Added to that number.
    least_zyx : tuple of int
        Planes, rows and columns of a crop: smaller stacks are left out.
    expected_um : dict of str to tuple of float
        Voxel sizes that experiments are trained for, each with one that is.
    rois : tuple of str
        Tables of regions around beads.
    """

    name: str
    folder: str
    archives: tuple[str, ...] = ("*",)
    files: str = "*"
    partner: str = ""
    channel: int | None = None
    planes_are: Literal["C", "T"] | None = None
    voxel_size_um: VoxelSize | None = None
    limit: int | None = None
    numbering: Literal["digits", "order"] = "digits"
    first_image: int = 0
    least_zyx: Triple = (1, 1, 1)
    expected_um: Mapping[str, VoxelSize] | None = None
    rois: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Source":
        """Read what `stacks.source_specification` wrote."""
        found: dict[str, Any] = json.loads(text)
        for field in fields(cls):
            if isinstance(found.get(field.name), list):
                found[field.name] = tuple(found[field.name])
        return cls(**found)


# Names of files ----------------------------------------------------------------------------------


def fits(path: Path, pattern: str) -> bool:
    """Whether a file may be a stack whose name fits a pattern.

    A pattern without a suffix is compared with the name without its own.
    """
    return (path.suffix.lower() == ".pt" or is_stack(path)) and any(
        fnmatch.fnmatchcase(name, pattern) for name in (path.name, stack_name(path))
    )


def shared_name(path: Path, pattern: str) -> str:
    """Name without its suffix and without what a pattern's end adds to it: ``m1_C1`` is m1.

    So files of one image, whose names differ at the end, have the same name.
    """
    name = stack_name(path)
    tail = stack_name(Path(pattern or "*")).rpartition("*")[2]
    return name.removesuffix(tail).rstrip(" _-.") or name


def natural(path: Path) -> list[tuple[int, int, str]]:
    """Key that sorts image2 before image10, and numbers before letters."""
    parts = re.split(r"(\d+)", path.name)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts if p]
